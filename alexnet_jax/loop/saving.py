"""When a run is saved, and what happens where it cannot be."""

import math
import time
from typing import Any

import jax
from ml_collections import ConfigDict

from alexnet_jax.devices import cluster
from alexnet_jax.messages import UserError, say
from alexnet_jax.runs.checkpoint import Checkpoints, Progress
from alexnet_jax.signals import Stopped

# Of a checkpoint: so many are worth a picture's training. What is written at validations never outlasts training,
# also where an epoch is a step; counted in steps, so that the same run always saves at the same ones.
BYTES_A_PICTURE = 100_000


class Saver:
    """Saves a run: at every `checkpoint_every`-th step, at validations, and every `checkpoint_minutes`.

    A disk that is full ends no training of one process: it is said, and saving is tried again.
    """

    def __init__(self, checkpoints: Checkpoints, config: ConfigDict, state: Any, step: int) -> None:
        """Of a run that stands, and is saved if it is not new, at `step`."""
        self._checkpoints, self._train = checkpoints, config.train
        size = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state))
        self._apart = math.ceil(size / BYTES_A_PICTURE / config.train.batch_size)  # steps, at validations
        self.step = step  # the last one that was saved
        self._time = time.monotonic()
        self._failed = ""  # why the last try did

    def is_due(self, step: int) -> bool:
        """By the number of steps."""
        every = self._train.checkpoint_every
        return every > 0 and step % every == 0

    def time_is_up(self) -> bool:
        """Whether it is due by this process's clock."""
        minutes = self._train.checkpoint_minutes
        return minutes > 0 and time.monotonic() - self._time > 60 * minutes

    def is_due_at_validation(self, step: int) -> bool:
        """Also if the last checkpoint is so many steps back that another one is worth its writing."""
        return self.is_due(step) or step - self.step >= self._apart

    def keep_within(self, step: int) -> None:
        """Waits for what is being written, where a step that is told of would be too far from what is whole.

        So that of the steps in the log at most `checkpoint_every` are done again, wherever the run is killed; what
        is under way on the devices meanwhile goes on.
        """
        every, whole = self._train.checkpoint_every, self._checkpoints.steps()
        if every and step - (whole[-1] if whole else 0) > every:
            try:
                self._checkpoints.finish()
            except OSError as error:
                self._fail(error)

    def save(self, step: int, state: Any, progress: Progress) -> None:
        """Begins to save, unless the step is saved; says so if the disk does not let it."""
        if step == self.step and not self._failed:
            return
        self._time = time.monotonic()
        try:
            self._checkpoints.save(step, state, progress)
            self.step, self._failed = step, ""
        except OSError as error:
            self._fail(error)

    def validated(self, step: int, metrics: dict[str, float]) -> None:
        """Writes down the validation of a step, if that is saved."""
        if step == self.step:
            try:
                self._checkpoints.validated(step, metrics)
            except OSError as error:
                self._fail(error)

    def finish(self) -> None:
        """Waits until all is written. Raises UserError if the last step that was to be saved is not."""
        try:
            self._checkpoints.finish()
        except OSError as error:
            self._fail(error)
        if self._failed:
            there = self._checkpoints.steps()
            raise UserError(
                f"the last checkpoint could not be written ({self._failed}); make room, and the same command goes on "
                f"from step {there[-1] if there else 0}"
            )

    def stopped(self, name: str) -> Stopped:
        """The end by a signal, all being saved. Raises UserError if it is not."""
        self.finish()
        return Stopped(f"stopped by {name} after step {self.step}, which is saved; the same command goes on")

    def _fail(self, error: OSError) -> None:
        reason = error.strerror or str(error)
        if cluster.count() > 1:  # the others' parts of the checkpoint wait for this one's
            there = self._checkpoints.steps()
            raise UserError(
                f"a checkpoint could not be written ({reason}); make room, and the same command goes on from step "
                f"{there[-1] if there else 0}"
            ) from error
        if not self._failed:
            say(f"a checkpoint could not be written ({reason}): training goes on, and it is tried again")
        self._failed = reason
        there = self._checkpoints.steps()
        self.step = there[-1] if there else 0
