"""When a run is saved, and what happens if saving fails."""

import math
import time

import jax
from ml_collections import ConfigDict

from alexnet_jax.devices import cluster
from alexnet_jax.messages import UserError, say
from alexnet_jax.runs.checkpoint import Checkpoints, Progress
from alexnet_jax.signals import Stopped
from alexnet_jax.training.step import TrainState

# A validation saves only if training has seen at least one picture for each 100 kB of a checkpoint since the last one:
# at full size 5,000 pictures (40 steps). So saving never takes longer than training, even where an epoch is one step.
# Counted in steps and not in seconds, so that equal runs save at equal steps.
BYTES_A_PICTURE = 100_000


class Saver:
    """Saves a run: at every `checkpoint_every`-th step, at validations, and every `checkpoint_minutes`.

    In a training of a single process a full disk ends nothing: a message says so, and saving is tried again.

    Attributes:
      step: of the newest checkpoint.
    """

    def __init__(self, checkpoints: Checkpoints, config: ConfigDict, state: TrainState, step: int) -> None:
        """Starts from a state that is saved, or is new.

        Args:
          step: updates done.
        """
        self._checkpoints, self._train = checkpoints, config.train
        size = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state))
        self._apart = math.ceil(size / BYTES_A_PICTURE / config.train.batch_size)  # steps, at validations
        self.step = step
        self._time = time.monotonic()
        self._failure = ""  # why the last save failed

    def is_due(self, step: int) -> bool:
        """Whether `checkpoint_every` names this step."""
        every = self._train.checkpoint_every
        return every > 0 and step % every == 0

    def time_is_up(self) -> bool:
        """Whether the last save is `checkpoint_minutes` old by this process's clock."""
        minutes = self._train.checkpoint_minutes
        return minutes > 0 and time.monotonic() - self._time > 60 * minutes

    def is_due_at_validation(self, step: int) -> bool:
        """Whether to save before a validation: also if the last checkpoint is many steps old."""
        return self.is_due(step) or step - self.step >= self._apart

    def keep_within(self, step: int) -> None:
        """Waits until the checkpoint is written if this step is more than `checkpoint_every` after the last whole one.

        So after a crash at most `checkpoint_every` logged steps are repeated. The devices go on meanwhile.
        """
        every = self._train.checkpoint_every
        if every and step - self._newest() > every:
            try:
                self._checkpoints.finish()
            except OSError as error:
                self._fail(error)

    def save(self, step: int, state: TrainState, progress: Progress) -> None:
        """Starts to save, unless the step is saved. A failure is a message, or UserError; see `_fail`."""
        if step == self.step and not self._failure:
            return
        self._time = time.monotonic()
        try:
            self._checkpoints.save(step, state, progress)
            self.step, self._failure = step, ""
        except OSError as error:
            self._fail(error)

    def validated(self, step: int, metrics: dict[str, float]) -> None:
        """Adds the validation to the step's checkpoint, if the step is saved."""
        if step == self.step:
            try:
                self._checkpoints.validated(step, metrics)
            except OSError as error:
                self._fail(error)

    def finish(self) -> None:
        """Waits until the checkpoint is written. Raises UserError if the last save failed."""
        try:
            self._checkpoints.finish()
        except OSError as error:
            self._fail(error)
        if self._failure:
            raise UserError(
                f"the last checkpoint could not be written ({self._failure}); make room, and repeat the same command "
                f"to continue from step {self._newest()}"
            )

    def stopped(self, signal: str) -> Stopped:
        """What ends a training that a signal stops, once everything is written. Raises UserError if that failed."""
        self.finish()
        return Stopped(
            f"stopped by {signal} after step {self.step}, which is saved; repeat the same command to continue"
        )

    def _newest(self) -> int:
        """The step of the newest whole checkpoint, or 0."""
        return max(self._checkpoints.steps(), default=0)

    def _fail(self, error: OSError) -> None:
        """Says that saving failed, once. Raises UserError in one of several processes."""
        reason = error.strerror or str(error)
        if cluster.count() > 1:  # the other processes' parts of the checkpoint would wait for this one's
            raise UserError(
                f"a checkpoint could not be written ({reason}); make room, and repeat the same command to continue "
                f"from step {self._newest()}"
            ) from error
        if not self._failure:
            say(f"a checkpoint could not be written ({reason}): training continues, and saving is tried again")
        self._failure = reason
        self.step = self._newest()
