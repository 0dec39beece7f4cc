"""The mean loss and error, and the speed, of the steps between two reports."""

import math
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np


class NotFinite(Exception):
    """A loss or a weight is NaN or infinite."""

    def __init__(self, step: int, what: str) -> None:
        """Names the step after which it was found."""
        super().__init__(what)
        self.step = step


class Meter:
    """Losses and speed since the last report; reads each step's numbers while the next step runs.

    Attributes:
      learning_rate: of the last step that was read; 0 before the first.
    """

    def __init__(self, batch_size: int, seen: Sequence[Sequence[float]] = ()) -> None:
        """Starts the clock; the first step, which compiles, does not count for the speed.

        Args:
          seen: the result of `seen` when a resumed run was saved.
        """
        self._batch_size = batch_size
        self._pending: tuple[int, Mapping[str, jax.Array]] | None = None
        self._first_rate = 0.0  # of the first step, with its compilation, until there is a better rate
        self._seen: list[tuple[float, ...]] = [tuple(step) for step in seen]  # loss, error and examples
        self._start, self._images = time.perf_counter(), 0
        self._total_seconds, self._total_images = 0.0, 0
        self.learning_rate = 0.0

    def add(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Takes a step that was dispatched, and waits for the step before it.

        Args:
          metrics: float32 scalars, among them `loss`, `top1_error` and `learning_rate`; for a batch that may be short
            also `examples`.

        Raises:
          NotFinite: the loss of the step before is NaN or infinite.
        """
        self.settle()
        self._pending = step, metrics

    def settle(self) -> None:
        """Waits for the step taken last. Raises NotFinite if its loss is NaN or infinite."""
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        numbers = jax.device_get(metrics)  # in one transfer
        loss = float(numbers["loss"])
        if not math.isfinite(loss):
            raise NotFinite(step, f"the loss of step {step} is {loss}")
        examples = int(numbers.get("examples", self._batch_size))
        self._seen.append((loss, float(numbers["top1_error"]), examples))
        self.learning_rate = float(numbers["learning_rate"])
        self._images += examples
        if not self._first_rate:
            self._first_rate = examples / (time.perf_counter() - self._start)
            self.pause()

    def take(self) -> tuple[dict[str, float], float]:
        """The mean `loss` and `top1_error` over the pictures since the last call, and the pictures per second."""
        self.settle()
        seconds = time.perf_counter() - self._start
        rate = self._images / seconds if self._images else self._first_rate
        self._total_seconds, self._total_images = self._total_seconds + seconds, self._total_images + self._images
        loss, top1_error, examples = np.transpose(self._seen)
        means = {"loss": loss, "top1_error": top1_error}
        self._seen = []
        self.pause()
        return {name: float(np.average(values, weights=examples)) for name, values in means.items()}, rate

    def seen(self) -> list[list[float]]:
        """Loss, top-1 error and examples of each step since the last report."""
        self.settle()
        return [list(step) for step in self._seen]

    def pause(self) -> None:
        """Restarts the clock, so that what came before does not count as training."""
        self._start, self._images = time.perf_counter(), 0

    @property
    def images_per_second(self) -> float:
        """The rate over the whole training so far; 0 before the first step."""
        return self._total_images / self._total_seconds if self._total_images else self._first_rate
