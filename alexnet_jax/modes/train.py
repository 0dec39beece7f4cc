"""The loop: a batch, an update, and then, each where it is due, report, validation, checkpoint."""

import math
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax.data import pipeline, prepare
from alexnet_jax.data.batch import Batch
from alexnet_jax.data.prepared_set import PreparedSet
from alexnet_jax.devices import towers
from alexnet_jax.messages import UserError, say
from alexnet_jax.modes import Invocation, evaluate
from alexnet_jax.runs import finetune
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.config import OF_TRAINING, check_batches, network_of, recipe_of, run_exists
from alexnet_jax.runs.folder import (
    Run,
    create_run,
    open_run,
    require_same_classes,
    require_same_config,
    require_writable,
    set_run_aside,
)
from alexnet_jax.runs.meter import Meter
from alexnet_jax.runs.report import Report, read_metrics
from alexnet_jax.runs.signals import Stop, stop_signals
from alexnet_jax.training import optimizer
from alexnet_jax.training.step import (
    Recipe,
    TrainState,
    abstract_state,
    all_finite,
    compiled_steps,
    create_state,
    dead_units,
)


def run(config: ConfigDict, invocation: Invocation) -> dict[str, Any]:
    """`--mode=train`: a new run, or a run gone on with from its newest checkpoint."""
    workdir = invocation.workdir
    require_writable(workdir)
    mesh = towers.make_mesh(config.mesh.data, config.mesh.model, config.model.towers)
    check_batches(config, mesh.shape[towers.DATA])

    this_run = _run_to_go_on_with(config, invocation)
    starts = this_run is None or not Checkpoints(workdir).steps()
    # Asked before the pictures are prepared, for hours perhaps; the number of classes changes no layer's name.
    donor = finetune.donor(config, network_of(config, config.model.classes or 2)) if starts else None

    source = prepare.open_or_prepare(config)
    source.examples(config.evaluate.split)
    if this_run:
        require_same_classes(this_run, source.classes, source.name)
    classes = _number_of_classes(config, source)
    steps_per_epoch = pipeline.steps_per_epoch(source, config.data.train_split, config.train.batch_size)
    recipe = recipe_of(config, classes, steps_per_epoch)

    if invocation.restart:
        set_run_aside(workdir)
    if this_run is None:
        this_run = create_run(workdir, config, prepare.training_statistics(source, config), source.classes)
    checkpoints = Checkpoints(workdir, set_aside=True)
    step, state = _restored(checkpoints, recipe, mesh) or (0, _new_state(config, recipe, mesh, donor))

    training = Training(
        config=config,
        source=source,
        recipe=recipe,
        mesh=mesh,
        programs=programs_of(recipe, mesh, config.evaluate.views),
        this_run=this_run,
        mean_image=towers.replicate(this_run.statistics.mean_image, mesh),
        steps_per_epoch=steps_per_epoch,
        checkpoints=checkpoints,
        meter=Meter(config.train.batch_size),
        step=step,
        state=state,
    )
    if training.has_ended():
        say(f"the run in {workdir} is finished at step {step}; --restart begins anew")
    else:
        say(f"{'going on with the' if step else 'a new'} run in {workdir} from step {step}")
        training.train()
    return training.result()


def _run_to_go_on_with(config: ConfigDict, invocation: Invocation) -> Run | None:
    """The run that is in the folder; None where a new one begins. Raises UserError if its config differs."""
    if invocation.restart or not run_exists(invocation.workdir):
        return None
    there = open_run(invocation.workdir)
    require_same_config(config, there, OF_TRAINING, "gone on with")
    return there


def _number_of_classes(config: ConfigDict, source: PreparedSet) -> int:
    """The config's, or the dataset's. Raises UserError if it is too small."""
    classes = config.model.classes or len(source.classes)
    if len(source.classes) < 2:
        raise UserError(f"{source.name} has one class, and two at least can be told apart; set --config.data.name")
    if classes < len(source.classes):
        raise UserError(
            f"config.model.classes is {classes} and {source.name} has {len(source.classes)} classes; "
            "set --config.model.classes to at least that, or to 0"
        )
    return classes


def _restored(checkpoints: Checkpoints, recipe: Recipe, mesh: Mesh) -> tuple[int, TrainState] | None:
    """The step and the state of the newest checkpoint that can be read; None if the run has none yet."""
    newest_first = checkpoints.steps()[::-1]
    return checkpoints.restore(abstract_state(recipe, mesh), newest_first) if newest_first else None


def _new_state(config: ConfigDict, recipe: Recipe, mesh: Mesh, donor: Run | None) -> TrainState:
    """The state at step 0, with the layers of the run that it starts from, if it does."""
    state = create_state(recipe, mesh)
    if donor is None:
        return state
    params = finetune.params_from(donor, state.params, finetune.excepted(config), mesh)
    return replace(state, params=params)


@dataclass(frozen=True)
class Programs:
    """What runs on the devices; each is compiled at its first call."""

    train_step: jax.stages.Wrapped
    eval_step: jax.stages.Wrapped
    all_finite: jax.stages.Wrapped
    dead_units: jax.stages.Wrapped


def programs_of(recipe: Recipe, mesh: Mesh, views: int) -> Programs:
    """The programs for one network and mesh; validation on so many views."""
    train_step, eval_step = compiled_steps(recipe, mesh, views)
    options = towers.compiler_options(mesh)
    return Programs(
        train_step, eval_step, jax.jit(all_finite), jax.jit(partial(dead_units, recipe), compiler_options=options)
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
    meter: Meter
    step: int  # updates done
    state: TrainState
    stall_said: bool = False

    @property
    def last_step(self) -> int:
        """Updates in all."""
        return self.config.train.steps or max(1, round(self.config.train.epochs * self.steps_per_epoch))

    def has_ended(self) -> bool:
        """Whether all steps are done, or the plateau rule has ended training."""
        return self.step >= self.last_step or self._plateau_has_ended()

    def train(self) -> None:
        """Trains to the end, or until a signal comes.

        Raises:
          UserError: a signal came; a loss or a weight is not finite; the run's folder cannot be written.
        """
        workdir = self.this_run.workdir
        try:
            report = Report(workdir, self.step, self.last_step, self.steps_per_epoch)
            with closing(report), closing(self.checkpoints), stop_signals() as stop:
                self._loop(report, stop)
        except FloatingPointError as error:
            steps = self.checkpoints.steps()
            good = f"the checkpoint of step {steps[-1]} is the last good one" if steps else "there is no checkpoint"
            raise UserError(
                f"{error}: training stopped, and {good}; lower --config.optimizer.learning_rate (another --workdir "
                "or --restart begins anew)"
            ) from error
        except OSError as error:
            raise UserError(
                f"{error.filename or workdir} cannot be written ({error.strerror or error}); make room "
                "or mend the folder, and the same command goes on"
            ) from error

    def _loop(self, report: Report, stop: Stop) -> None:
        """A batch, an update; report, validation and checkpoint where they are due; the end."""
        statistics = self.this_run.statistics
        # Nothing crosses between host and devices unasked, from the first step's compilation to the last checkpoint:
        # batches go by `device_put`, numbers come by `device_get`.
        with (
            pipeline.training_batches(self.source, self.config, statistics, self.step, self.last_step) as batches,
            jax.transfer_guard("disallow"),
        ):
            for on_host in batches:
                batch = towers.put_batch(on_host, self.mesh)
                self._update(batch)
                report.stepped()
                stopped = stop.name  # read once: a signal may come at any time
                if self._validation_is_due() or self.step % self.config.train.log_every == 0:
                    self._report(report, batch)
                metrics = self._validate(report) if self._validation_is_due() else None
                if metrics or stopped or self._checkpoint_is_due():
                    self._save(metrics)
                if stopped:
                    raise UserError(
                        f"stopped by {stopped} after step {self.step}, which is saved; the same command goes on"
                    )
                # Asked after an evaluation only: the answer waits for the step.
                if self._epoch_ends() and self._plateau_has_ended():
                    report.say(f"the plateau rule ends training at step {self.step}")
                    return

    def _epoch_ends(self) -> bool:
        return self.step % self.steps_per_epoch == 0

    def _validation_is_due(self) -> bool:
        return self._epoch_ends() or self.step == self.last_step

    def _checkpoint_is_due(self) -> bool:
        every = self.config.train.checkpoint_every
        return every > 0 and self.step % every == 0

    def _plateau_has_ended(self) -> bool:
        return optimizer.has_ended(jax.device_get(self.state.plateau), self.recipe.schedule)

    def _update(self, batch: Batch) -> None:
        self.state, metrics = self.programs.train_step(self.state, batch, self.mean_image)
        self.step += 1
        self.meter.add(self.step, metrics)

    def _report(self, report: Report, batch: Batch) -> None:
        means, images_per_second = self.meter.take()
        batch_size = self.config.train.batch_size
        report.training(self.step, means, self.meter.learning_rate, images_per_second, batch_size)
        guess = math.log(self.recipe.architecture.classes)
        after = self.config.train.stall_steps
        if after and self.step >= after and abs(means["loss"] / guess - 1) < 0.01 and not self.stall_said:
            self.stall_said = True
            self._say_stall(report, batch, means["loss"], guess)

    def _say_stall(self, report: Report, batch: Batch, loss: float, guess: float) -> None:
        dead = jax.device_get(self.programs.dead_units(self.state.params, batch, self.mean_image))
        shares = ", ".join(f"{name} {float(share):.0%}" for name, share in dead.items())
        of_relus = f" Units that are zero on a whole batch: {shares}." if shares else ""
        report.say(
            f"WARNING: a stall. After {self.step} steps the loss is {loss:.4f}, still that of guessing, "
            f"ln({self.recipe.architecture.classes}) = {guess:.4f}. Usual causes: pixels scaled to 0..1 instead of "
            "0..255; biases of 1 with weights too small for narrow layers (config.model.hidden_bias, "
            f"config.model.weight_stddev); files sorted by class and not shuffled.{of_relus}"
        )
        self.meter.pause()

    def _validate(self, report: Report) -> dict[str, float]:
        """Loss and errors on the whole split, which the plateau rule gets at the end of an epoch."""
        with evaluate.batches_of(self.config, self.source) as batches:
            metrics = evaluate.whole_set(
                self.programs.eval_step, self.state.params, batches, self.mean_image, self.mesh
            )
        report.validation(self.step, metrics)
        if self._epoch_ends():
            before = jax.device_get(self.state.plateau)
            plateau = optimizer.after_evaluation(before, metrics["top1_error"], self.recipe.schedule)
            self.state = replace(self.state, plateau=towers.replicate(plateau, self.mesh))
        self.meter.pause()
        return {name: metrics[name] for name in ("loss", "top1_error", "top5_error")}

    def _save(self, metrics: dict[str, float] | None) -> None:
        """Saves a checkpoint, with the metrics of a validation. Raises FloatingPointError if a weight is not finite."""
        if not jax.device_get(self.programs.all_finite(self.state.params)):
            raise FloatingPointError(f"a weight after step {self.step} is not a finite number")
        self.checkpoints.save(self.step, self.state, metrics)
        self.meter.pause()

    def result(self) -> dict[str, Any]:
        """Where the run stands, as the mode's JSON."""
        with closing(Checkpoints(self.this_run.workdir)) as checkpoints:
            best = checkpoints.best_step()
            metrics = checkpoints.metrics(best) if best is not None else None
        lines = [line for line in read_metrics(self.this_run.workdir) if "train/loss" in line]
        last = lines[-1] if lines else None
        return {
            "step": self.step,
            "epoch": self.step / self.steps_per_epoch,
            "loss": last["train/loss"] if last else None,
            "top1_error": metrics["top1_error"] if metrics else None,
            "top5_error": metrics["top5_error"] if metrics else None,
            "best_step": best,
            "images_per_second": self.meter.images_per_second or (last["images_per_second"] if last else 0.0),
            "workdir": str(self.this_run.workdir),
        }
