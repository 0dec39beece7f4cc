"""The loop: data in, step, report, validate, checkpoint."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import pipeline, prepare
from alexnet_jax.data.batch import Batch
from alexnet_jax.data.prepared import Prepared
from alexnet_jax.devices import towers
from alexnet_jax.messages import UserError, say
from alexnet_jax.modes import Invocation, evaluate
from alexnet_jax.runs import finetune, report
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.config import OF_TRAINING, check_batches, network_of, recipe_of
from alexnet_jax.runs.folder import (
    Run,
    create_run,
    open_run,
    require_same_config,
    require_writable,
    run_exists,
    set_run_aside,
)
from alexnet_jax.training import optimizer
from alexnet_jax.training.step import Recipe, abstract_state, all_finite, compiled_steps, create_state, dead_units


def run(config: ConfigDict, invocation: Invocation) -> dict[str, Any]:
    """`--mode=train`: a new run, or a run gone on with from its newest checkpoint."""
    workdir = invocation.workdir
    require_writable(workdir)
    mesh = towers.make_mesh(config.mesh.data, config.mesh.model, config.model.towers)
    check_batches(config, mesh.shape[towers.DATA])
    if run_exists(workdir) and not invocation.restart:
        require_same_config(config, open_run(workdir), OF_TRAINING, "gone on with")
    starts = invocation.restart or not run_exists(workdir) or not Checkpoints(workdir).steps()
    # Asked before the pictures are prepared, for hours perhaps; the number of classes changes no layer's name.
    donor = finetune.donor(config, network_of(config, config.model.classes or 2)) if starts else None
    source = prepare.open_or_prepare(config)
    source.examples(config.evaluate.split)
    classes = config.model.classes or len(source.classes)
    if len(source.classes) < 2:
        raise UserError(f"{source.name} has one class, and two at least can be told apart; set --config.data.name")
    if classes < len(source.classes):
        raise UserError(
            f"config.model.classes is {classes} and {source.name} has {len(source.classes)} classes; "
            "set --config.model.classes to at least that, or to 0"
        )
    steps_per_epoch = pipeline.steps_per_epoch(source, config.data.train_split, config.train.batch_size)
    recipe = recipe_of(config, classes, steps_per_epoch)
    if invocation.restart:
        set_run_aside(workdir)
    if run_exists(workdir):
        found = open_run(workdir)
    else:
        found = create_run(workdir, config, prepare.preprocessing(source, config), source.classes)
    return Training(config, source, recipe, mesh, found, steps_per_epoch, donor).run()


class Training:
    """One run from where it stands to its end."""

    def __init__(
        self,
        config: ConfigDict,
        source: Prepared,
        recipe: Recipe,
        mesh: Any,
        found: Run,
        epoch: int,
        donor: Run | None,
    ) -> None:
        """Compiles nothing yet; restores the newest checkpoint that can be read.

        Args:
          epoch: steps in one.
          donor: the run whose layers a new run starts from.
        """
        self.config, self.source, self.recipe, self.mesh, self.found = config, source, recipe, mesh, found
        self.steps_per_epoch = epoch
        self.last_step = config.train.steps or max(1, round(config.train.epochs * epoch))
        self.train_step, self.eval_step = compiled_steps(recipe, mesh, config.evaluate.views)
        self.all_finite = jax.jit(all_finite)
        self.mean_image = towers.replicate(found.preprocessing.mean_image, mesh)
        self.checkpoints = Checkpoints(found.workdir, set_aside=True)
        steps = self.checkpoints.steps()[::-1]
        if steps:
            self.step, self.state = self.checkpoints.restore(abstract_state(recipe, mesh), steps)
        else:
            self.step, self.state = 0, create_state(recipe, mesh)
            if donor:
                params = finetune.params_from(donor, self.state.params, finetune.excepted(config), mesh)
                self.state = self.state.replace(params=params)
        self.stall_said = False

    def run(self) -> dict[str, Any]:
        """Trains to the end. Returns the mode's result."""
        meter = Meter(self.config.train.batch_size)
        if self.has_ended():
            say(f"the run in {self.found.workdir} is finished at step {self.step}; --restart begins anew")
        else:
            say(f"{'going on with the' if self.step else 'a new'} run in {self.found.workdir} from step {self.step}")
            try:
                self._train(meter)
            except FloatingPointError as error:
                steps = self.checkpoints.steps()
                good = f"the checkpoint of step {steps[-1]} is the last good one" if steps else "there is no checkpoint"
                raise UserError(
                    f"{error}: training stopped, and {good}; lower --config.optimizer.learning_rate (another --workdir "
                    "or --restart begins anew)"
                ) from error
            except OSError as error:
                raise UserError(
                    f"{error.filename or self.found.workdir} cannot be written ({error.strerror or error}); make room "
                    "or mend the folder, and the same command goes on"
                ) from error
        return self._result(meter)

    def has_ended(self) -> bool:
        """Whether all steps are done, or the plateau rule has ended training."""
        return self.step >= self.last_step or optimizer.has_ended(self.state.plateau, self.recipe.schedule)

    def _train(self, meter: "Meter") -> None:
        self.report = report.Report(self.found.workdir, self.step, self.last_step, self.steps_per_epoch)
        try:
            with stop_signals() as stop:
                self._steps(meter, stop)
        finally:
            self.checkpoints.close()
            self.report.close()

    def _steps(self, meter: "Meter", stop: list[str]) -> None:
        statistics = self.found.preprocessing
        every = self.config.train.checkpoint_every
        for batch in pipeline.training_batches(self.source, self.config, statistics, self.step, self.last_step):
            placed = towers.put_batch(Batch(**batch), self.mesh)
            self.state, metrics = self.train_step(self.state, placed, self.mean_image)
            self.step += 1
            meter.add(self.step, metrics)
            self.report.stepped()
            epoch_ends = self.step % self.steps_per_epoch == 0
            validates = epoch_ends or self.step == self.last_step
            stopped = "".join(stop[:1])  # read once: a signal may come at any time
            saves = bool(stopped) or (every > 0 and self.step % every == 0)
            if validates or self.step % self.config.train.log_every == 0:
                self._report(meter, placed)
            if validates:
                self._validate(epoch_ends)
            elif saves:
                self._save(None)
            if stopped:
                raise UserError(
                    f"stopped by {stopped} after step {self.step}, which is saved; the same command goes on"
                )
            if validates or saves:
                meter.pause()
            # Asked after an evaluation only: the answer waits for the step.
            if epoch_ends and optimizer.has_ended(self.state.plateau, self.recipe.schedule):
                self.report.say(f"the plateau rule ends training at step {self.step}")
                return

    def _report(self, meter: "Meter", batch: Batch) -> None:
        means, images_per_second = meter.take()
        loss = means["loss"]
        batch_size = self.config.train.batch_size
        self.report.training(self.step, means, meter.learning_rate, images_per_second, batch_size)
        guess = math.log(self.recipe.architecture.classes)
        after = self.config.train.stall_steps
        if after and self.step >= after and abs(loss / guess - 1) < 0.01 and not self.stall_said:
            self.stall_said = True
            dead = jax.jit(dead_units, static_argnums=0)(self.recipe, self.state.params, batch, self.mean_image)
            shares = ", ".join(f"{name} {float(share):.0%}" for name, share in dead.items())
            self.report.say(
                f"WARNING: a stall. After {self.step} steps the loss is {loss:.4f}, still that of guessing, "
                f"ln({self.recipe.architecture.classes}) = {guess:.4f}. Usual causes: pixels scaled to 0..1 instead of "
                "0..255; biases of 1 with weights too small for narrow layers (config.model.hidden_bias, "
                "config.model.weight_stddev); files sorted by class and not shuffled. Units that are zero on a whole "
                f"batch: {shares}."
            )
            meter.pause()

    def _validate(self, epoch_ends: bool) -> None:
        batches = evaluate.batches_of(self.config, self.source)
        metrics = evaluate.whole_set(self.eval_step, self.state.params, batches, self.mean_image, self.mesh)
        self.report.validation(self.step, metrics)
        if epoch_ends:
            plateau = optimizer.after_evaluation(self.state.plateau, metrics["top1_error"], self.recipe.schedule)
            self.state = self.state.replace(plateau=towers.replicate(plateau, self.mesh))
        self._save({name: metrics[name] for name in ("loss", "top1_error", "top5_error")})

    def _save(self, metrics: dict[str, float] | None) -> None:
        if not self.all_finite(self.state.params):
            raise FloatingPointError(f"a weight after step {self.step} is not a finite number")
        self.checkpoints.save(self.step, self.state, metrics)

    def _result(self, meter: "Meter") -> dict[str, Any]:
        checkpoints = Checkpoints(self.found.workdir)
        best = checkpoints.best_step()
        metrics = checkpoints.metrics(best) if best is not None else None
        checkpoints.close()
        lines = [line for line in report.read_metrics(self.found.workdir) if "train/loss" in line]
        last = lines[-1] if lines else None
        return {
            "step": self.step,
            "epoch": self.step / self.steps_per_epoch,
            "loss": last["train/loss"] if last else None,
            "top1_error": metrics["top1_error"] if metrics else None,
            "top5_error": metrics["top5_error"] if metrics else None,
            "best_step": best,
            "images_per_second": meter.images_per_second or (last["images_per_second"] if last else 0.0),
            "workdir": str(self.found.workdir),
        }


class Meter:
    """Losses and speed since the last report; reads each step's loss while the next one runs."""

    def __init__(self, batch_size: int) -> None:
        """Counts from now; the first step, which compiles, counts for no speed."""
        self._batch_size = batch_size
        self._pending: tuple[int, dict[str, jax.Array]] | None = None
        self._first_rate = 0.0  # with compilation; for want of a better one
        self._seen: list[tuple[float, float]] = []  # loss and top-1 error of each step
        self._start, self._steps = time.perf_counter(), 0
        self._total_seconds, self._total_steps = 0.0, 0
        self.learning_rate = 0.0

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Takes a step that was dispatched. Raises FloatingPointError as `settle`, of the one before."""
        self.settle()
        self._pending = step, metrics

    def settle(self) -> None:
        """Waits for the step taken last. Raises FloatingPointError if its loss is NaN or infinite."""
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        loss = float(metrics["loss"])
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss of step {step} is {loss}")
        self._seen.append((loss, float(metrics["top1_error"])))
        self.learning_rate = float(metrics["learning_rate"])
        self._steps += 1
        if not self._first_rate:
            self._first_rate = self._batch_size / (time.perf_counter() - self._start)
            self.pause()

    def take(self) -> tuple[dict[str, float], float]:
        """The mean `loss` and `top1_error` and the images a second since the last call, which begin anew."""
        self.settle()
        seconds = time.perf_counter() - self._start
        rate = self._steps * self._batch_size / seconds if self._steps else self._first_rate
        self._total_seconds, self._total_steps = self._total_seconds + seconds, self._total_steps + self._steps
        loss, top1_error = np.mean(self._seen, axis=0)
        self._seen = []
        self.pause()
        return {"loss": float(loss), "top1_error": float(top1_error)}, rate

    def pause(self) -> None:
        """Begins the time anew: what came before was no training."""
        self._start, self._steps = time.perf_counter(), 0

    @property
    def images_per_second(self) -> float:
        """Over all of the training so far; 0 before the first step."""
        return self._total_steps * self._batch_size / self._total_seconds if self._total_steps else self._first_rate


@contextmanager
def stop_signals() -> Iterator[list[str]]:
    """A list that gets the name of a SIGTERM or SIGINT; a second signal acts as ever."""
    caught: list[str] = []
    before: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        caught.append(signal.Signals(number).name)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, handle)
    try:
        yield caught
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
