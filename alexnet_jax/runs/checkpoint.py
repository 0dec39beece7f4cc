"""The checkpoints of a run, which Orbax writes and reads.

checkpoints/STEP/state/           the TrainState; Orbax alone can read it, too
checkpoints/STEP/progress.json    what else the next step depends on
checkpoints/STEP/digests.json     the digests of the files above
checkpoints/STEP/validation.json  once the step has been validated
"""

import fcntl
import json
import shutil
import sys
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from alexnet_jax.devices import cluster
from alexnet_jax.files import why_not_writable
from alexnet_jax.messages import UserError, say
from alexnet_jax.runs.checkpoint_integrity import PROGRESS_FILE, barrier_with_digests, damage_of, run_of, seal
from alexnet_jax.runs.checkpoint_retention import (
    VALIDATION_FILE,
    best_of,
    locked,
    read_validation,
    remove_superseded,
    write_validation,
)

Tree = TypeVar("Tree")  # of arrays, or of what stands for them
UNFINISHED = "*orbax-checkpoint-tmp*"  # Orbax's names for checkpoints that it is writing
SPACE = 1.05  # times the arrays' bytes: what a checkpoint needs on disk


@dataclass(frozen=True)
class Progress:
    """What the next step depends on, apart from the state."""

    seen: list[list[float]] = field(default_factory=list)  # loss, top-1 error, examples of each step since a report
    skipped: int = 0  # batches left out because one of them gave numbers that are not finite
    rewinds: int = 0  # how often batches were left out


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read."""

    step: int
    state: Any
    progress: Progress
    validation: dict[str, float] | None  # `loss`, `top1_error`, `top5_error`; None: not validated yet


class Checkpoints:
    """The checkpoints in a run's folder, by step."""

    def __init__(self, workdir: Path) -> None:
        """Opens `checkpoints/` in the run's folder, for reading; changes nothing there.

        Args:
          workdir: absolute.
        """
        self._folder, self._damaged = workdir / "checkpoints", workdir / "damaged"
        self._run = run_of(workdir)
        self._reported: set[int] = set()  # steps whose validation.json was reported as damaged
        self._is_writer = False  # of all but the arrays, which each process writes in part
        self._orbax: ocp.AsyncCheckpointer | None = None
        self._saving: int | None = None  # the step that is being written
        self._progress = ""  # its progress.json

    def open_for_writing(self) -> "Checkpoints":
        """Makes the folder, and removes checkpoints that were not written to their end. Returns itself.

        Raises:
          UserError: the folder cannot be written.
        """
        self._is_writer = cluster.index() == 0
        self._make_folder()
        if self._is_writer:
            for path in self._folder.glob(UNFINISHED):
                say(f"the checkpoint '{path.name}' was not written completely, and is removed")
                shutil.rmtree(path, ignore_errors=True)
        _hide_tracebacks_after_a_failed_save()
        options = ocp.options.AsyncOptions(
            post_finalization_callback=self._seal, barrier_sync_fn=barrier_with_digests(self._folder)
        )
        self._orbax = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler(), async_options=options)
        return self

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            reason = why_not_writable(self._folder)
        except OSError as error:
            reason = error.strerror or str(error)
        if reason:
            raise UserError(f"'{self._folder}' cannot be written ({reason}); make it writable, or use --restart")

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in rising order. Raises UserError if the folder cannot be read."""
        try:
            return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(
                f"'{self._folder}' cannot be read ({error.strerror}); make it readable, or name another run"
            ) from error

    def metrics(self, step: int) -> dict[str, float] | None:
        """`loss`, `top1_error` and `top5_error` of the step's validation; None without a validation that can be used.

        The first time that a damaged validation.json is met, a message says so.
        """
        checkpoint = self._folder / str(step)
        try:
            return read_validation(checkpoint)
        except (OSError, ValueError) as error:
            if step not in self._reported:
                say(f"'{checkpoint / VALIDATION_FILE}' cannot be used ({error}): step {step} counts as not validated")
                self._reported.add(step)
            return None

    def best_step(self) -> int | None:
        """The validated step of lowest top-1 error; among equals of lowest loss; None without any."""
        return best_of({step: found for step in self.steps() if (found := self.metrics(step))})

    def save(self, step: int, state: PyTree, progress: Progress) -> None:
        """Starts to save in the background, unless the step has an undamaged checkpoint.

        Raises:
          OSError: the disk has too little space, or the previous checkpoint could not be written.
        """
        assert self._orbax is not None
        self.finish()
        checkpoint = self._folder / str(step)
        if cluster.from_process(0, "looks for a checkpoint", self._is_saved(checkpoint)):
            return
        needed = SPACE * sum(x.nbytes for x in jax.tree.leaves(state))
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise OSError(f"it needs {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free")
        self._saving, self._progress = step, json.dumps({"step": step, **asdict(progress)})
        try:
            self._orbax.save(checkpoint, args=ocp.args.Composite(state=ocp.args.StandardSave(state)))
        except Exception as error:
            raise self._failed_save(error) from error

    def _is_saved(self, checkpoint: Path) -> str:
        """'yes' if process 0 finds the checkpoint undamaged, or else ''; sets a damaged one aside."""
        if cluster.index() or not checkpoint.exists():
            return ""
        if damage_of(checkpoint, self._run) is None:
            return "yes"
        self._set_aside(int(checkpoint.name))
        return ""

    def _seal(self) -> None:
        """Called by Orbax on process 0 when all arrays are written, before it gives the checkpoint its name."""
        for unfinished in self._folder.glob(UNFINISHED):
            seal(unfinished, self._run, self._progress)

    def finish(self) -> None:
        """Waits until the checkpoint is written, and removes superseded ones. Raises OSError if writing failed."""
        if self._orbax is None or self._saving is None:
            return
        try:
            self._orbax.wait_until_finished()
        except Exception as error:  # Orbax's threads raise many kinds
            raise self._failed_save(error) from error
        self._saving = None
        self._remove_superseded()

    def _failed_save(self, error: Exception) -> OSError:
        """The error as an OSError. Raises the error itself if another process caused it."""
        self._saving = None
        if cluster.is_of_another(error):
            raise error
        for path in self._folder.glob(UNFINISHED) if self._is_writer else ():
            shutil.rmtree(path, ignore_errors=True)
        is_full = "RESOURCE_EXHAUSTED" in str(error)
        reason = "no space left on the disk" if is_full else str(error).partition("\n")[0]
        return OSError(getattr(error, "strerror", None) or reason)

    def validated(self, step: int, metrics: dict[str, float]) -> None:
        """Adds the validation's metrics to the step's checkpoint, if there is one. Raises OSError.

        Args:
          metrics: `loss` in nats, `top1_error` and `top5_error` as fractions.
        """
        self.finish()
        if self._is_writer and (self._folder / str(step)).is_dir():
            write_validation(self._folder / str(step), metrics)
            self._remove_superseded()

    def _remove_superseded(self) -> None:
        if self._is_writer:
            remove_superseded(self._folder, self.steps(), self.best_step())

    def restore(self, abstract_state: Tree, which: str = "newest") -> Checkpoint:
        """Reads the newest or the best checkpoint; where that is damaged, the newest undamaged one.

        Args:
          abstract_state: shapes, dtypes and shardings of a TrainState; or a dict with only its `step` and `params`.
          which: newest or best.

        Raises:
          UserError: no checkpoint can be read, and damaged ones stay where they are; or its network differs from
            `abstract_state`.
        """
        damaged: list[int] = []
        while (step := self._choose(which, damaged)) is not None:
            checkpoint = self._folder / str(step)
            with locked(checkpoint, fcntl.LOCK_SH):  # so that no other process removes it
                found, damage = self._read(checkpoint, abstract_state)
            if found is not None:
                if damaged:
                    say(f"going back to the checkpoint of step {step}")
                for other in damaged if self._is_writer else ():
                    self._set_aside(other)
                return found
            if checkpoint.is_dir():  # not removed by the process that writes
                say(f"the checkpoint of step {step} is damaged ({damage})")
            damaged.append(step)
        raise UserError(
            f"no checkpoint in {self._folder} can be read; --restart sets the run aside and begins anew"
            if damaged
            else f"there is no checkpoint in {self._folder}; train first, or name another run"
        )

    def _choose(self, which: str, damaged: list[int]) -> int | None:
        """The step of the checkpoint to try next, chosen by process 0; None if no other is left."""
        left = [step for step in self.steps()[::-1] if step not in damaged] if cluster.index() == 0 else []
        best = self.best_step() if left and which == "best" else None
        chosen = best if best in left else next(iter(left), None)
        told = cluster.from_process(0, "chooses a checkpoint", "" if chosen is None else str(chosen))
        return int(told) if told else None

    def _read(self, checkpoint: Path, abstract_state: Tree) -> tuple[Checkpoint | None, str]:
        """The checkpoint, or None and what is wrong with it: the same on all processes."""
        # Before Orbax reads: a read that fails leaves threads behind that print tracebacks.
        damage = (damage_of(checkpoint, self._run) if cluster.index() == 0 else None) or ""
        if damage := cluster.from_process(0, "looks at a checkpoint", damage):
            return None, damage
        step = int(checkpoint.name)
        state, damage = _read_state(checkpoint, abstract_state), ""
        if isinstance(state, Exception):
            damage = "it cannot be read: " + str(state).partition("\n")[0]
        elif (its_own := int(jax.device_get(_fields(state)["step"]))) != step:
            damage = f"it belongs to step {its_own}"
        if damage := next(filter(None, cluster.gathered("reads a checkpoint", damage)), ""):
            return None, damage
        written = json.loads((checkpoint / PROGRESS_FILE).read_text())
        progress = Progress(written["seen"], written["skipped"], written["rewinds"])
        return Checkpoint(step, state, progress, self.metrics(step)), ""

    def _set_aside(self, step: int) -> None:
        """Moves a damaged checkpoint to `damaged/`, in place of an earlier one: the disk need not hold several."""
        with suppress(OSError):
            shutil.rmtree(self._damaged, ignore_errors=True)
            self._damaged.mkdir(exist_ok=True)
            (self._folder / str(step)).rename(self._damaged / str(step))
        shutil.rmtree(self._folder / str(step), ignore_errors=True)

    def close(self) -> None:
        """Waits until the checkpoint is written. Raises OSError if writing failed."""
        if self._orbax is not None:
            try:
                self.finish()
            finally:
                self._orbax.close()
                self._orbax = None


def _read_state(checkpoint: Path, abstract_state: Tree) -> Tree | Exception:
    """The arrays, or why they cannot be read. Raises UserError if the checkpoint is of another network."""
    restore: Any = ocp.args.StandardRestore(abstract_state)
    if isinstance(abstract_state, dict):
        shardings = ocp.checkpoint_utils.construct_restore_args(abstract_state)
        restore = ocp.args.PyTreeRestore(abstract_state, restore_args=shardings, partial_restore=True)
    try:
        _require_same_network(checkpoint, abstract_state)
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
            return reader.restore(checkpoint, args=ocp.args.Composite(state=restore)).state
    except UserError:
        raise
    except Exception as error:  # Orbax and the libraries below it raise many kinds
        return error


def _require_same_network(checkpoint: Path, abstract_state: Any) -> None:
    """Raises UserError if the checkpoint's parameters have other names or shapes, as far as its metadata tells."""
    with closing(ocp.StandardCheckpointHandler()) as handler:
        written = _shapes(handler.metadata(checkpoint / "state").tree["params"])
    expected = _shapes(_fields(abstract_state)["params"])
    for name in sorted(written.keys() | expected.keys()):
        if written.get(name) != expected.get(name):
            files = " or ".join(f"'{checkpoint.parent.parent / file}'" for file in ("config.json", "classes.txt"))
            raise UserError(
                f"{files} describes another network than '{checkpoint}', where {name} is "
                f"{written.get(name, 'absent')}, not {expected.get(name, 'absent')}; put back the files that the run "
                "began with, or name another --workdir"
            )


def _fields(state: Any) -> dict[str, Any]:
    return state if isinstance(state, dict) else vars(state)


def _shapes(params: PyTree) -> dict[str, tuple[int, ...]]:
    named, _ = jax.tree_util.tree_flatten_with_path(params)
    return {jax.tree_util.keystr(keys, simple=True, separator="/"): tuple(x.shape) for keys, x in named}


def _hide_tracebacks_after_a_failed_save() -> None:
    """When a save fails, as on a full disk, many of Orbax's coroutines fail; only the first failure is reported."""
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if (unraisable.exc_type, str(unraisable.exc_value)) != (RuntimeError, "Event loop is closed"):
            before(unraisable)

    sys.unraisablehook = hook
