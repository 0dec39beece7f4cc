"""The loop: a batch, an update, and then, each where it is due, report, validation, checkpoint."""

import math
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
from alexnet_jax.loop.agreed_stop import Orders
from alexnet_jax.loop.baselines import OneAnswer
from alexnet_jax.loop.meter import Meter, NotFinite
from alexnet_jax.loop.report import Report, Unheard, read_metrics
from alexnet_jax.loop.saving import Saver
from alexnet_jax.loop.tensorboard_images import Showing
from alexnet_jax.messages import UserError, say
from alexnet_jax.runs.checkpoint import Checkpoint, Checkpoints, Progress
from alexnet_jax.runs.folder import Run
from alexnet_jax.signals import stop_signals
from alexnet_jax.training import optimizer
from alexnet_jax.training.step import Recipe, TrainState, abstract_state, compiled_steps, dead_units, finite_layers


@dataclass(frozen=True)
class Programs:
    """What runs on the devices; each is compiled at its first call."""

    train_step: jax.stages.Wrapped
    eval_step: jax.stages.Wrapped
    finite_layers: jax.stages.Wrapped
    dead_units: jax.stages.Wrapped


def programs_of(recipe: Recipe, mesh: Mesh, views: int) -> Programs:
    """The programs for one network and mesh; validation on so many views."""
    train_step, eval_step = compiled_steps(recipe, mesh, views)
    options = towers.compiler_options(mesh, recipe.dtype)
    return Programs(
        train_step, eval_step, jax.jit(finite_layers), jax.jit(partial(dead_units, recipe), compiler_options=options)
    )


@dataclass
class Training:
    """One run from where it stands to its end."""

    config: ConfigDict
    source: PreparedSet
    recipe: Recipe
    mesh: Mesh
    programs: Programs
    this_run: Run
    mean_image: jax.Array  # float32 [resize, resize, 3], on every device
    steps_per_epoch: int
    checkpoints: Checkpoints
    saver: Saver
    showing: Showing
    meter: Meter
    step: int  # updates done
    state: TrainState
    guess: float  # nats; the loss of guessing
    one_answer: OneAnswer
    skipped: int  # batches that were left out
    rewinds: int  # how often some were
    validated: bool = False  # whether the state at this step has been
    stall_said: bool = False

    @property
    def last_step(self) -> int:
        """Updates in all."""
        return last_step_of(self.config, self.steps_per_epoch)

    def take_validation(self, found: Checkpoint) -> None:
        """Has the plateau rule know what the checkpoint's validation came to."""
        self.validated = found.validation is not None
        if found.validation:
            self._count(found.validation)

    def has_ended(self) -> bool:
        """Whether all steps are done and validated, or the plateau rule has ended training."""
        return (self.step >= self.last_step and self.validated) or self._plateau_has_ended()

    def train(self) -> None:
        """Trains to the end, or until a signal comes.

        Raises:
          Stopped: a signal came, and all is saved.
          UserError: a loss or a weight is not finite; the run's folder cannot be written.
        """
        workdir = self.this_run.workdir
        try:
            with closing(self.checkpoints), stop_signals() as stop:
                orders = Orders(stop, lambda: self.saver.time_is_up())
                while True:
                    try:
                        with closing(self._report_from_here()) as report:
                            self._loop(report, orders)
                        break
                    except NotFinite as bad:
                        self._rewind(bad)
                self.saver.finish()
        except OSError as error:
            raise UserError(
                f"{error.filename or workdir} cannot be written ({error.strerror or error}); make room "
                "or mend the folder, and the same command goes on"
            ) from error

    def _report_from_here(self) -> Report | Unheard:
        if cluster.index():
            return Unheard()
        return Report(
            *(self.this_run.workdir, self.step, self.last_step, self.steps_per_epoch, self.validated),
            *(self.recipe.architecture.classes, self.checkpoints.best_step),
        )

    def _loop(self, report: Report | Unheard, orders: Orders) -> None:
        """A batch, an update; report, validation and checkpoint where they are due; the end."""
        statistics, first, last = self.this_run.statistics, self.step + self.skipped, self.last_step + self.skipped
        rows = towers.rows(self.mesh, self.config.train.batch_size)
        # Nothing crosses between host and devices unasked, from the first step's compilation to the last checkpoint:
        # batches go by `device_put`, numbers come by `device_get`.
        with (
            pipeline.training_batches(self.source, self.config, statistics, first, last, rows) as batches,
            jax.transfer_guard("disallow"),
        ):
            # A run that was cut off in a validation has it first.
            if self.step and self._validation_is_due() and not self.validated and self._validate(report, orders):
                return
            begun = self.step
            for on_host in batches:
                batch = towers.put_batch(on_host, self.mesh)
                # Also before the update, in which all wait for whoever does not come to it.
                cluster.stands_at(self.step, steady=self.step > begun + 1)
                self._update(batch)
                report.stepped()
                stop, time_is_up = orders.at_next_place()
                reports = self._validation_is_due() or self.step % self.config.train.log_every == 0
                saves = stop is not None or time_is_up or self.saver.is_due(self.step)
                cluster.stands_at(self.step, steady=self.step > begun + 1 and not (reports or saves))
                if reports:
                    self._report(report, batch)
                if self._validation_is_due():
                    if self._validate(report, orders, time_is_up):
                        return
                elif saves:
                    self._save()
                if stop:
                    self._save()
                    raise self.saver.stopped(stop)

    def _epochs_end(self) -> bool:
        """Whether as many epochs end here as are validated together."""
        together = -(-self.config.evaluate.least_steps // self.steps_per_epoch) or 1
        return self.step % (together * self.steps_per_epoch) == 0

    def _validation_is_due(self) -> bool:
        return self._epochs_end() or self.step == self.last_step

    def _plateau_has_ended(self) -> bool:
        return optimizer.has_ended(jax.device_get(self.state.plateau), self.recipe.schedule)

    def _update(self, batch: Batch) -> None:
        self.state, metrics = self.programs.train_step(self.state, batch, self.mean_image)
        self.step, self.validated = self.step + 1, False
        self.meter.add(self.step, metrics)

    def _rewind(self, bad: NotFinite) -> None:
        """Goes back to the last checkpoint, to leave out the batches since. Raises UserError if that is not wanted."""
        with suppress(OSError):  # what is being written may be the one to go back to
            self.checkpoints.finish()
        steps = self.checkpoints.steps()
        finite = jax.device_get(self.programs.finite_layers(self.state.params))
        layers = [layer.name for layer in self.recipe.architecture.layers if not finite[layer.name]]
        where = f" (the first layer with a weight that is not finite is {layers[0]})" if layers else ""
        train = self.config.train
        if train.on_nan != "rewind" or self.rewinds >= train.rewinds or not steps:
            good = f"the checkpoint of step {steps[-1]} is the last good one" if steps else "there is no checkpoint"
            often = f", for all its {self.rewinds} rewinds" if self.rewinds else ""
            goes_on = train.on_nan != "rewind" and steps
            remedy = ", or go on past such batches with --config.train.on_nan=rewind" if goes_on else ""
            raise UserError(
                f"{bad}{where}: training stopped{often}, and {good}; lower --config.optimizer.learning_rate (another "
                f"--workdir or --restart begins anew){remedy}"
            ) from bad
        found = self.checkpoints.restore(abstract_state(self.recipe, self.mesh))
        left_out = bad.step - found.step
        say(
            f"{bad}{where}: back to the checkpoint of step {found.step}, and the {left_out} batches since are left out "
            f"(rewind {self.rewinds + 1} of {train.rewinds})"
        )
        self.step, self.state = found.step, found.state
        self.skipped, self.rewinds = found.progress.skipped + left_out, self.rewinds + 1
        self.meter = Meter(train.batch_size, found.progress.seen)
        self.saver = Saver(self.checkpoints, self.config, self.state, self.step)
        self.take_validation(found)

    def _report(self, report: Report | Unheard, batch: Batch) -> None:
        self.saver.keep_within(self.step)
        means, images_per_second = self.meter.take()
        batch_size = self.config.train.batch_size
        report.training(self.step, means, self.meter.learning_rate, images_per_second, batch_size)
        guess = self.guess
        after = self.config.train.stall_steps
        if after and self.step >= after and abs(means["loss"] / guess - 1) < 0.01 and not self.stall_said:
            self.stall_said = True
            self._say_stall(report, batch, means["loss"], guess)
        elif self.step == self.last_step and abs(means["loss"] / guess - 1) < 0.01 and not self.stall_said:
            dead = [name for name, share in self._dead_units(batch).items() if share == 1]
            if dead:
                report.say(
                    f"WARNING: all units of {', '.join(dead)} are zero on a whole batch, so nothing is learnt; raise "
                    "--config.model.hidden_bias, or lower --config.optimizer.learning_rate"
                )

    def _dead_units(self, batch: Batch) -> dict[str, float]:
        """The share of each layer's units that are zero on the whole batch; of layers with ReLUs."""
        dead = towers.on_host(self.programs.dead_units(self.state.params, batch, self.mean_image))
        return {name: float(share) for name, share in dead.items()}

    def _say_stall(self, report: Report | Unheard, batch: Batch, loss: float, guess: float) -> None:
        dead = self._dead_units(batch)
        shares = ", ".join(f"{name} {share:.0%}" for name, share in dead.items())
        of_relus = f" Units that are zero on a whole batch: {shares}." if shares else ""
        classes = self.recipe.architecture.classes
        report.say(
            f"WARNING: a stall. After {self.step} steps the loss is {loss:.4f}, still that of guessing, "
            f"{guess:.4f} by the classes' sizes (ln({classes}) = {math.log(classes):.4f} where all are equal). Usual "
            "causes: pixels scaled to 0..1 instead of 0..255; biases of 1 with weights too small for narrow layers "
            "(config.model.hidden_bias, config.model.weight_stddev); files sorted by class and not shuffled."
            f"{of_relus}"
        )
        self.meter.pause()

    def _validate(self, report: Report | Unheard, orders: Orders, time_is_up: bool = False) -> bool:
        """Loss and errors on the whole split; at the end of an epoch the plateau rule gets them.

        It is saved first, where that is worth it, so that nothing is lost with a validation that is cut off.

        Returns:
          Whether the plateau rule ends training.
        """
        if self.step == self.last_step or time_is_up or self.saver.is_due_at_validation(self.step):
            self._save()

        def until_stopped(batches: Iterable[Batch]) -> Iterator[Batch]:
            for batch in batches:
                stop, _ = orders.at_next_place()
                if stop:
                    self._save()
                    raise self.saver.stopped(stop)
                yield batch

        with validation.batches_of(self.config, self.source, self.mesh) as batches:
            examples, size = self.source.examples(self.config.evaluate.split), self.config.evaluate.batch_size
            some = until_stopped(validation.counted(batches, examples, size, "validation"))
            metrics = validation.whole_set(self.programs.eval_step, self.state.params, some, self.mean_image, self.mesh)
        report.validation(self.step, metrics)
        report.pictures(self.step, self.showing.pictures(self.state.params))
        if warning := self.one_answer.sentence(metrics["top1_error"]):
            report.say(warning)
        before, self.validated = self.state, True
        ends = False
        if self._epochs_end():
            self._count(metrics)
            ends = self._plateau_has_ended()
        if ends:
            report.say(f"the plateau rule ends training at step {self.step}")
            self._save(before)
        self.saver.validated(self.step, metrics)
        self.meter.pause()
        return ends

    def _count(self, metrics: dict[str, float]) -> None:
        """Has the plateau rule count a validation, if it was one at the end of an epoch."""
        if self._epochs_end():
            before = jax.device_get(self.state.plateau)
            plateau = optimizer.after_evaluation(before, metrics["top1_error"], self.recipe.schedule)
            self.state = replace(self.state, plateau=towers.replicate(plateau, self.mesh))

    def _save(self, state: TrainState | None = None) -> None:
        """Saves the state as it was before its validation. Raises NotFinite if a weight is not finite."""
        state = state or self.state
        seen = self.meter.seen()
        if not all(jax.device_get(self.programs.finite_layers(state.params)).values()):
            raise NotFinite(self.step, f"a weight after step {self.step} is not a finite number")
        self.saver.save(self.step, state, Progress(seen, self.skipped, self.rewinds))
        self.meter.pause()

    def result(self) -> dict[str, Any]:
        """Where the run stands, as the mode's JSON; `loss` and errors are of validation, at the best checkpoint."""
        checkpoints = Checkpoints(self.this_run.workdir)
        best = checkpoints.best_step()
        metrics = checkpoints.metrics(best) if best is not None else None
        lines = [line for line in read_metrics(self.this_run.workdir) if "train/loss" in line]
        last = lines[-1] if lines else None
        return {
            "step": self.step,
            "epoch": self.step / self.steps_per_epoch,
            "train_loss": last["train/loss"] if last else None,
            "best_step": best,
            **{name: metrics[name] if metrics else None for name in ("loss", "top1_error", "top5_error")},
            "ended_by": "steps" if self.step >= self.last_step else "plateau",
            "images_per_second": self.meter.images_per_second or (last["images_per_second"] if last else 0.0),
            "workdir": str(self.this_run.workdir),
        }
