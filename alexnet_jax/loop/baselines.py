"""The loss and error of guessing, and the warnings about a run that does no better."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Int64
from ml_collections import ConfigDict

from alexnet_jax.data.prepared.prepared_set import PreparedSet, labels_of_split

ONE_ANSWER = 5  # validations in a row with the error of one answer, after which a warning comes
NEAR = 0.01  # a loss within this share of the loss of guessing counts as guessing


class Baselines:
    """Compares a training with guessing; gives each warning once."""

    def __init__(self, source: PreparedSet, config: ConfigDict, classes: int) -> None:
        """Counts the pictures in each class.

        Args:
          classes: that the network tells apart.
        """
        self._classes, self._names, self._stall_steps = classes, source.classes, config.train.stall_steps
        self._loss = entropy(np.bincount(labels_of_split(source, config.data.train_split)))
        self._counts = np.bincount(labels_of_split(source, config.evaluate.split))
        self._stalled = False  # whether the warning about a stall was given
        self._times = 0  # validations in a row with the error of one answer

    def stall_warning(
        self, step: int, loss: float, is_last: bool, dead_units: Callable[[], Mapping[str, float]]
    ) -> str:
        """The warning about a loss that is still that of guessing, late or at the last step; else ''.

        Args:
          dead_units: computes the share of units that are zero on a whole batch, for each layer with ReLUs.
        """
        is_late = 0 < self._stall_steps <= step
        if self._stalled or not (is_late or is_last) or abs(loss / self._loss - 1) >= NEAR:
            return ""
        dead = dead_units()
        if not is_late:  # too early to speak of a stall, unless whole layers are dead
            all_dead = ", ".join(name for name, share in dead.items() if share == 1)
            return (
                f"WARNING: all units of {all_dead} are zero on a whole batch, so nothing is learnt; raise "
                "--config.model.hidden_bias, or lower --config.optimizer.learning_rate"
                if all_dead
                else ""
            )
        self._stalled = True
        shares = ", ".join(f"{name} {share:.0%}" for name, share in dead.items())
        units = f" Units that are zero on a whole batch: {shares}." if shares else ""
        return (
            f"WARNING: a stall. After {step} steps the loss is {loss:.4f}, still the loss for guessing by the classes' "
            f"sizes, {self._loss:.4f} (ln({self._classes}) = {math.log(self._classes):.4f} where all are equal). Usual "
            "causes: pixels scaled to 0..1 instead of 0..255; biases of 1 with weights too small for narrow layers "
            f"(config.model.hidden_bias, config.model.weight_stddev); files sorted by class and not shuffled.{units}"
        )

    def one_answer_warning(self, top1_error: float) -> str:
        """The warning that the network gives one answer to everything, after the validation that shows it; else ''."""
        total, largest = int(self._counts.sum()), int(self._counts.max())
        wrong = total - round((1 - top1_error) * total)
        self._times = self._times + 1 if wrong == total - largest else 0
        if self._times != ONE_ANSWER or len(self._counts) < 2:
            return ""
        return (
            f"WARNING: for {ONE_ANSWER} validations the error has been {top1_error:.2%}, the error for always "
            f"answering '{self._names[int(self._counts.argmax())]}', the largest class ({largest} of {total} "
            "pictures): the network may do nothing else. Give the other classes more pictures, or compare with an "
            "equal number for each class"
        )


def entropy(counts: Int64[np.ndarray, " classes"]) -> float:
    """The loss of guessing in nats for someone who knows only the classes' sizes; ln(classes) if they are equal."""
    shares = counts[counts > 0] / counts.sum()
    return -math.fsum(share * math.log(share) for share in shares)
