"""The training loop: batch, update; then, where they are due, report, validation and checkpoint."""

from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax.config.config import last_step_of
from alexnet_jax.data.batches import pipeline
from alexnet_jax.data.batches.batch import Batch
from alexnet_jax.data.prepared.prepared_set import PreparedSet
from alexnet_jax.devices import cluster, towers
from alexnet_jax.loop import validation
from alexnet_jax.loop.agreed_stop import Agreement
from alexnet_jax.loop.baselines import Baselines
from alexnet_jax.loop.meter import Meter, NotFinite
from alexnet_jax.loop.report import Report, SilentReport, read_metrics
from alexnet_jax.loop.saving import Saver
from alexnet_jax.loop.tensorboard_images import ValidationImages
from alexnet_jax.messages import UserError, say
from alexnet_jax.runs.checkpoint import Checkpoint, Checkpoints, Progress
from alexnet_jax.runs.folder import Run
from alexnet_jax.signals import stop_signals
from alexnet_jax.training import optimizer
from alexnet_jax.training.step import Recipe, TrainState, abstract_state, compiled_steps, dead_units, finite_layers


@dataclass(frozen=True)
class Setup:
    """What stays the same during a training."""

    config: ConfigDict
    run: Run
    source: PreparedSet
    recipe: Recipe
    mesh: Mesh
    steps_per_epoch: int

    @property
    def last_step(self) -> int:
        """The number of updates in the whole training."""
        return last_step_of(self.config, self.steps_per_epoch)


class Training:
    """A training from a checkpoint, or from new weights, to its end.

    Attributes:
      step: updates done.
    """

    def __init__(self, setup: Setup, checkpoints: Checkpoints, start: Checkpoint) -> None:
        """Prepares the training; computes nothing yet.

        Args:
          start: the checkpoint to go on from; for a new run, new weights at step 0.
        """
        self._setup, self._checkpoints = setup, checkpoints
        self._config, self._mesh = setup.config, setup.mesh
        # These programs are compiled at their first calls.
        self._train_step, self._eval_step = compiled_steps(setup.recipe, setup.mesh, setup.config.evaluate.views)
        self._finite_layers = jax.jit(finite_layers)
        options = towers.compiler_options(setup.mesh, setup.recipe.dtype)
        self._dead_units = jax.jit(partial(dead_units, setup.recipe), compiler_options=options)
        self._mean_image = towers.replicate(setup.run.statistics.mean_image, setup.mesh)
        self._images = ValidationImages(setup.config, setup.source, setup.recipe, setup.mesh, self._mean_image)
        self._baselines = Baselines(setup.source, setup.config, setup.recipe.architecture.classes)
        self._go_on_from(start)

    def _go_on_from(self, start: Checkpoint) -> None:
        self.step, self._state = start.step, start.state
        self._skipped, self._rewinds = start.progress.skipped, start.progress.rewinds
        self._meter = Meter(self._config.train.batch_size, start.progress.seen)
        self._saver = Saver(self._checkpoints, self._config, self._state, self.step)
        self._validated = start.validation is not None  # whether this state has been validated
        if start.validation:
            self._count(start.validation)  # the state was saved before its validation

    def has_ended(self) -> bool:
        """Whether all steps are done and validated, or the plateau rule has ended the training."""
        return (self.step >= self._setup.last_step and self._validated) or self._plateau_has_ended()

    def train(self) -> None:
        """Trains to the end, or until a signal comes.

        Raises:
          Stopped: a signal came; everything is saved.
          UserError: a loss or a weight is not finite, or the run's folder cannot be written.
        """
        try:
            with closing(self._checkpoints), stop_signals() as stop:
                agreement = Agreement(stop, lambda: self._saver.time_is_up())
                while True:
                    try:
                        report = self._report()
                        report.start()
                        with closing(report):
                            self._loop(report, agreement)
                        break
                    except NotFinite as error:
                        self._rewind(error)
                self._saver.finish()
        except OSError as error:
            raise UserError(
                f"{error.filename or self._setup.run.workdir} cannot be written ({error.strerror or error}); make room "
                "or repair the folder, and repeat the same command to continue"
            ) from error

    def _report(self) -> Report | SilentReport:
        if cluster.index():
            return SilentReport()
        return Report(
            *(self._setup.run.workdir, self.step, self._setup.last_step, self._setup.steps_per_epoch, self._validated),
            *(self._setup.recipe.architecture.classes, self._checkpoints.best_step),
        )

    def _loop(self, report: Report | SilentReport, agreement: Agreement) -> None:
        """Trains until the last step, the end by the plateau rule, or a signal."""
        setup, config = self._setup, self._config
        first, last = self.step + self._skipped, setup.last_step + self._skipped
        rows = towers.rows(self._mesh, config.train.batch_size)
        # Nothing crosses between host and devices unasked, from the first step's compilation to the last checkpoint:
        # batches go by `device_put`, numbers come by `device_get`.
        with (
            pipeline.training_batches(setup.source, config, setup.run.statistics, first, last, rows) as batches,
            jax.transfer_guard("disallow"),
        ):
            # A run that was stopped during a validation starts with that validation.
            if self.step and self._validation_is_due() and not self._validated and self._validate(report, agreement):
                return
            begun = self.step
            for on_host in batches:
                batch = towers.put_batch(on_host, self._mesh)
                # Also before the update: inside it the others would wait for a missing process.
                cluster.stands_at(self.step, steady=self.step > begun + 1)
                self._update(batch)
                report.stepped()
                stop, time_is_up = agreement.at_next_place()
                reports = self._validation_is_due() or self.step % config.train.log_every == 0
                saves = stop is not None or time_is_up or self._saver.is_due(self.step)
                cluster.stands_at(self.step, steady=self.step > begun + 1 and not (reports or saves))
                if reports:
                    self._report_training(report, batch)
                if self._validation_is_due():
                    if self._validate(report, agreement, time_is_up):
                        return
                elif saves:
                    self._save(self._state)
                if stop:
                    self._stop(stop)

    def _epochs_end(self) -> bool:
        """Whether as many epochs end here as are validated together."""
        together = -(-self._config.evaluate.least_steps // self._setup.steps_per_epoch) or 1
        return self.step % (together * self._setup.steps_per_epoch) == 0

    def _validation_is_due(self) -> bool:
        return self._epochs_end() or self.step == self._setup.last_step

    def _plateau_has_ended(self) -> bool:
        return optimizer.has_ended(jax.device_get(self._state.plateau), self._setup.recipe.schedule)

    def _update(self, batch: Batch) -> None:
        self._state, metrics = self._train_step(self._state, batch, self._mean_image)
        self.step, self._validated = self.step + 1, False
        self._meter.add(self.step, metrics)

    def _rewind(self, error: NotFinite) -> None:
        """Goes back to the last checkpoint and leaves out the batches since. Raises UserError if that is not wanted."""
        with suppress(OSError):  # the checkpoint that is being written may be the one to go back to
            self._checkpoints.finish()
        steps = self._checkpoints.steps()
        finite = jax.device_get(self._finite_layers(self._state.params))
        layers = [layer.name for layer in self._setup.recipe.architecture.layers if not finite[layer.name]]
        where = f" (the first layer with a weight that is not finite is {layers[0]})" if layers else ""
        train = self._config.train
        if train.on_nan != "rewind" or self._rewinds >= train.rewinds or not steps:
            good = f"the last good checkpoint is that of step {steps[-1]}" if steps else "there is no checkpoint"
            often = f" despite {self._rewinds} rewinds" if self._rewinds else ""
            can_rewind = train.on_nan != "rewind" and steps
            remedy = ", or skip such batches with --config.train.on_nan=rewind" if can_rewind else ""
            raise UserError(
                f"{error}{where}: training stopped{often}, and {good}; lower --config.optimizer.learning_rate (another "
                f"--workdir or --restart begins anew){remedy}"
            ) from error
        found = self._checkpoints.restore(abstract_state(self._setup.recipe, self._mesh))
        left_out, rewinds = error.step - found.step, self._rewinds + 1
        say(
            f"{error}{where}: back to the checkpoint of step {found.step}, and the {left_out} batches after it are "
            f"skipped (rewind {rewinds} of {train.rewinds})"
        )
        self._go_on_from(found)
        self._skipped, self._rewinds = found.progress.skipped + left_out, rewinds

    def _report_training(self, report: Report | SilentReport, batch: Batch) -> None:
        self._saver.keep_within(self.step)
        means, images_per_second = self._meter.take()
        batch_size = self._config.train.batch_size
        report.training(self.step, means, self._meter.learning_rate, images_per_second, batch_size)

        def dead_shares() -> dict[str, float]:
            shares = towers.on_host(self._dead_units(self._state.params, batch, self._mean_image))
            return {name: float(share) for name, share in shares.items()}

        is_last = self.step == self._setup.last_step
        if warning := self._baselines.stall_warning(self.step, means["loss"], is_last, dead_shares):
            report.say(warning)
            self._meter.pause()

    def _validate(self, report: Report | SilentReport, agreement: Agreement, time_is_up: bool = False) -> bool:
        """Measures loss and errors on the whole split; the plateau rule gets them at the end of an epoch.

        The state is saved first, where that is worth the time, so that a signal or a crash during the validation loses
        little.

        Returns:
          Whether the plateau rule ends the training.
        """
        if self.step == self._setup.last_step or time_is_up or self._saver.is_due_at_validation(self.step):
            self._save(self._state)
        metrics = self._measure(agreement)
        report.validation(self.step, metrics)
        report.pictures(self.step, self._images.pictures(self._state.params))
        if warning := self._baselines.one_answer_warning(metrics["top1_error"]):
            report.say(warning)
        before, self._validated = self._state, True
        self._count(metrics)
        ends = self._epochs_end() and self._plateau_has_ended()
        if ends:
            report.say(f"the plateau rule ends training at step {self.step}")
            self._save(before)
        self._saver.validated(self.step, metrics)
        self._meter.pause()
        return ends

    def _measure(self, agreement: Agreement) -> dict[str, float]:
        """Loss and errors on the whole split. Raises Stopped if a signal comes meanwhile."""

        def until_stopped(batches: Iterable[Batch]) -> Iterator[Batch]:
            for batch in batches:
                stop, _ = agreement.at_next_place()
                if stop:
                    self._stop(stop)
                yield batch

        with validation.batches_of(self._config, self._setup.source, self._mesh, "validation") as batches:
            params, eval_step = self._state.params, self._eval_step
            errors, _ = validation.whole_set(eval_step, params, until_stopped(batches), self._mean_image, self._mesh)
            return errors

    def _count(self, metrics: dict[str, float]) -> None:
        """Hands the plateau rule a validation at the end of an epoch; other validations do not count."""
        if self._epochs_end():
            before = jax.device_get(self._state.plateau)
            plateau = optimizer.after_evaluation(before, metrics["top1_error"], self._setup.recipe.schedule)
            self._state = replace(self._state, plateau=towers.replicate(plateau, self._mesh))

    def _save(self, state: TrainState) -> None:
        """Saves the state as it was before its validation. Raises NotFinite if a weight is not finite."""
        seen = self._meter.seen()
        if not all(jax.device_get(self._finite_layers(state.params)).values()):
            raise NotFinite(self.step, f"a weight after step {self.step} is not a finite number")
        self._saver.save(self.step, state, Progress(seen, self._skipped, self._rewinds))
        self._meter.pause()

    def _stop(self, signal: str) -> None:
        """Saves and raises Stopped."""
        self._save(self._state)
        raise self._saver.stopped(signal)

    def result(self) -> dict[str, Any]:
        """The JSON of `--mode=train`; its `loss` and errors are the validation's at the best checkpoint."""
        best = self._checkpoints.best_step()
        metrics = self._checkpoints.metrics(best) if best is not None else None
        workdir = self._setup.run.workdir
        lines = [line for line in read_metrics(workdir) if "train/loss" in line]
        last = lines[-1] if lines else None
        return {
            "step": self.step,
            "epoch": self.step / self._setup.steps_per_epoch,
            "train_loss": last["train/loss"] if last else None,
            "best_step": best,
            **{name: metrics[name] if metrics else None for name in ("loss", "top1_error", "top5_error")},
            "ended_by": "steps" if self.step >= self._setup.last_step else "plateau",
            "images_per_second": self._meter.images_per_second or (last["images_per_second"] if last else 0.0),
            "workdir": str(workdir),
        }
