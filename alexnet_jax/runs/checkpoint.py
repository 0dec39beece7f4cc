"""A run's checkpoints: the newest three and the best. Orbax writes and reads the arrays, and does so only here.

checkpoints/STEP/state/           the TrainState, which Orbax alone can read, too
checkpoints/STEP/progress.json    what else the next step depends on
checkpoints/STEP/digests.json     of the files above
checkpoints/STEP/validation.json  once the step has been validated
"""

import fcntl
import hashlib
import json
import math
import os
import shutil
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from alexnet_jax.devices import cluster
from alexnet_jax.messages import UserError, say
from alexnet_jax.runs import parts
from alexnet_jax.runs.checkpoint_integrity import PROGRESS, damage_of, run_of, seal
from alexnet_jax.runs.holding import held, leave_out_what_fails_late

Tree = TypeVar("Tree")  # of arrays, or of what stands for them
NEWEST = 3
VALIDATION = "validation.json"
OF_VALIDATION = ("loss", "top1_error", "top5_error")
ROOM = 1.05  # times the arrays' bytes: what a checkpoint needs on disk


@dataclass(frozen=True)
class Progress:
    """What the next step depends on beside the state."""

    seen: list[list[float]] = field(default_factory=list)  # loss, top-1 error, examples of each step since a report
    skipped: int = 0  # batches that were left out, as one among them made numbers that are not finite
    rewinds: int = 0  # how often that was


@dataclass(frozen=True)
class Checkpoint:
    """One that was read."""

    step: int
    state: Any
    progress: Progress
    validation: dict[str, float] | None  # `loss`, `top1_error`, `top5_error`; None: not validated yet
    plateau_knows: bool  # whether the state's plateau has counted the validation


class Checkpoints:
    """The checkpoints in a run's folder, by step."""

    def __init__(self, workdir: Path, writes: bool = False) -> None:
        """Opens `checkpoints/` in the run's folder, which must be absolute.

        Args:
          writes: as the one process that does: makes the folder, and removes what was left half written.

        Raises:
          UserError: it is to be written, and cannot.
        """
        self._folder, self._damaged = workdir / "checkpoints", workdir / "damaged"
        self._run = run_of(workdir)
        self._said: set[int] = set()  # steps whose damage was named
        self._writes = writes and cluster.index() == 0  # all but each process's own part of the arrays
        self._writer: ocp.AsyncCheckpointer | None = None
        self._saving: int | None = None  # the step that is being written
        if writes:
            self._require_writable()
            if self._writes:
                self._remove_unfinished()
            options = ocp.options.AsyncOptions(
                post_finalization_callback=partial(seal, self._folder, self._run, parts.of_others),
                barrier_sync_fn=parts.barrier(self._folder),
            )
            leave_out_what_fails_late()
            self._writer = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler(), async_options=options)

    def _require_writable(self) -> None:
        reason = "no permission to write there"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or str(error)
        if not self._folder.is_dir() or not os.access(self._folder, os.W_OK | os.X_OK):
            raise UserError(f"'{self._folder}' cannot be written ({reason}); see to it that it can, or use --restart")

    def _remove_unfinished(self) -> None:
        """Of a process that was killed, or of a disk that was full: nothing in it can be used."""
        for path in self._folder.glob("*orbax-checkpoint-tmp*"):
            say(f"the checkpoint '{path.name}' was not written to its end, and is removed")
            shutil.rmtree(path, ignore_errors=True)

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in rising order. Raises UserError if the folder cannot be read."""
        try:
            return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(
                f"'{self._folder}' cannot be read ({error.strerror}); see to it that it can, or name another run"
            ) from error

    def metrics(self, step: int) -> dict[str, float] | None:
        """The validation's `loss`, `top1_error` and `top5_error` at the step; None if there was none."""
        return self._validation(step)[0]

    def _validation(self, step: int) -> tuple[dict[str, float] | None, bool]:
        """The metrics, and whether the state's plateau has counted them, as earlier versions of the program have it."""
        ours, earlier = self._folder / str(step) / VALIDATION, self._folder / str(step) / "metrics" / "metrics"
        path = ours
        try:
            path = ours if ours.exists() else earlier
            found = json.loads(path.read_text())
            digest = _digest_of(found) if path == ours else None
            if digest != (found.pop("digest") if path == ours else None) or found.pop("step", step) != step:
                raise ValueError("it is not what was written")
            return {name: _finite(found[name]) for name in OF_VALIDATION}, path == earlier
        except (FileNotFoundError, NotADirectoryError):
            return None, False
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if step not in self._said:
                say(f"'{path}' cannot be used ({error!r}): step {step} counts as not validated")
                self._said.add(step)
            return None, False

    def best_step(self) -> int | None:
        """The validated step of lowest top-1 error; of those, of lowest loss; None without any."""
        merits = [
            (-metrics["top1_error"], -metrics["loss"], step) for step in self.steps() if (metrics := self.metrics(step))
        ]
        return max(merits)[2] if merits else None

    def save(self, step: int, state: PyTree, progress: Progress) -> None:
        """Begins to save; it goes on in the background.

        Raises:
          OSError: the disk has too little room, or what was being saved could not be.
        """
        assert self._writer is not None
        self.finish()
        target = self._folder / str(step)
        if cluster.from_process(0, "looks for a checkpoint", self._there(target)):
            return
        needed = ROOM * sum(x.nbytes for x in jax.tree.leaves(state))
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise OSError(f"it needs {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free")
        if cluster.index() == 0:
            beside = self._folder / f".{PROGRESS}"  # put into the checkpoint before that gets its name
            beside.write_text(json.dumps({"step": step, **asdict(progress)}))
        self._saving = step
        try:
            self._writer.save(target, args=ocp.args.Composite(state=ocp.args.StandardSave(state)))
        except Exception as error:
            raise self._not_saved(error) from error

    def _there(self, target: Path) -> str:
        """Whether the checkpoint is there, as it was written; one that is not is set aside. Not empty: it is."""
        if cluster.index() or not target.exists():
            return ""
        if damage_of(target, self._run) is None:
            return "yes"
        self._set_aside(int(target.name))
        return ""

    def finish(self) -> None:
        """Waits until all is written, and removes what is not to be kept. Raises OSError if it could not be written."""
        if self._writer is None or self._saving is None:
            return
        try:
            self._writer.wait_until_finished()
        except Exception as error:  # Orbax's threads raise many kinds
            raise self._not_saved(error) from error
        self._saving = None
        self._prune()

    def _not_saved(self, error: Exception) -> OSError:
        """Raises what it is where another process is the cause."""
        self._saving = None
        if cluster.is_of_another(error):
            raise error
        for path in self._folder.glob("*orbax-checkpoint-tmp*") if self._writes else ():
            shutil.rmtree(path, ignore_errors=True)
        strerror = getattr(error, "strerror", None)
        full = "RESOURCE_EXHAUSTED" in str(error)
        return OSError(strerror or ("no space left on the disk" if full else str(error).splitlines()[0]))

    def validated(self, step: int, metrics: dict[str, float]) -> None:
        """Writes down what a validation of the step's checkpoint came to. Raises OSError if that cannot be."""
        self.finish()
        if not self._writes or not (self._folder / str(step)).is_dir():
            return
        found: dict[str, Any] = {"step": step, **{name: metrics[name] for name in OF_VALIDATION}}
        unfinished = self._folder / str(step) / f".{VALIDATION}"
        with open(unfinished, "w") as file:
            file.write(json.dumps({**found, "digest": _digest_of(found)}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, unfinished.with_name(VALIDATION))
        self._prune()

    def _prune(self) -> None:
        """Removes all but the newest and the best; not what somebody is reading, whose time comes later."""
        steps = self.steps() if self._writes else []
        for step in set(steps) - {*steps[-NEWEST:], self.best_step()}:
            with held(self._folder / str(step), fcntl.LOCK_EX) as free:
                if free:
                    removed = self._folder / f".removed-{step}"
                    with suppress(OSError):
                        (self._folder / str(step)).rename(removed)
                    shutil.rmtree(removed, ignore_errors=True)

    def restore(self, abstract_state: Tree, which: str = "newest") -> Checkpoint:
        """The newest checkpoint whose files are as they were written, or the best; where that is damaged the newest.

        Args:
          abstract_state: shapes, types and shardings of a TrainState; or a dict of its `step` and `params` alone.
          which: newest or best.

        Raises:
          UserError: there is none, and the damaged ones stay where they are; or it is of another network.
        """
        damaged: list[int] = []
        while (step := self._next(which, damaged)) is not None:
            folder = self._folder / str(step)
            with held(folder, fcntl.LOCK_SH):  # so that nobody removes it meanwhile
                damage = self._damage(folder)
                if damage is None:
                    # Asked before Orbax reads: of a read that fails it leaves parts behind that print tracebacks.
                    state, here = self._read(folder, step, abstract_state)
                    damage = next(filter(None, cluster.gathered("reads a checkpoint", here or "")), None)
                if damage is None:
                    if damaged:
                        say(f"going back to the checkpoint of step {step}")
                        self._set_all_aside(damaged)
                    progress = _progress_of(folder)
                    return Checkpoint(step, state, progress, *self._validation(step))
            if folder.is_dir():
                say(f"the checkpoint of step {step} is damaged ({damage})")
            damaged.append(step)
        raise UserError(
            f"no checkpoint in {self._folder} can be read; --restart sets the run aside and begins anew"
            if damaged
            else f"there is no checkpoint in {self._folder}; train first, or name another run"
        )

    def _next(self, which: str, damaged: list[int]) -> int | None:
        """The step of the checkpoint to try, which process 0 chooses; None where there is none left."""
        left = [step for step in self.steps()[::-1] if step not in damaged] if cluster.index() == 0 else []
        best = self.best_step() if left and which == "best" else None
        chosen = best if best in left else next(iter(left), None)
        named = cluster.from_process(0, "chooses a checkpoint", "" if chosen is None else str(chosen))
        return int(named) if named else None

    def _damage(self, folder: Path) -> str | None:
        """What is wrong with the checkpoint, if anything is, as process 0 finds it."""
        found = damage_of(folder, self._run) if cluster.index() == 0 else None
        return cluster.from_process(0, "looks at a checkpoint", found or "") or None

    def _read(self, folder: Path, step: int, abstract_state: Tree) -> tuple[Tree | None, str | None]:
        wanted = ocp.args.StandardRestore(abstract_state)
        if isinstance(abstract_state, dict):
            places = ocp.checkpoint_utils.construct_restore_args(abstract_state)
            wanted = ocp.args.PyTreeRestore(abstract_state, restore_args=places, partial_restore=True)
        try:
            _require_same_network(folder, abstract_state)
            with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
                state = reader.restore(folder, args=ocp.args.Composite(state=wanted)).state
        except UserError:
            raise
        except Exception as error:  # Orbax and what it stands on raise many kinds
            return None, f"it cannot be read: {str(error).splitlines()[0]}"
        its_own = int(jax.device_get(_fields(state)["step"]))
        return state, None if its_own == step else f"it is the one of step {its_own}"

    def _set_all_aside(self, steps: list[int]) -> None:
        if self._writes:
            for step in steps:
                self._set_aside(step)

    def _set_aside(self, step: int) -> None:
        """Moves a damaged checkpoint to `damaged/`, which keeps one, for the sake of the disk."""
        with suppress(OSError):
            shutil.rmtree(self._damaged, ignore_errors=True)
            self._damaged.mkdir(exist_ok=True)
            (self._folder / str(step)).rename(self._damaged / str(step))
        shutil.rmtree(self._folder / str(step), ignore_errors=True)

    def close(self) -> None:
        """Waits until all is written. Raises OSError if it could not be."""
        if self._writer is not None:
            try:
                self.finish()
            finally:
                self._writer.close()
                self._writer = None


def _require_same_network(checkpoint: Path, abstract_state: Any) -> None:
    """Raises UserError if the parameters' names or shapes are not those of the checkpoint, as its files tell."""
    with closing(ocp.StandardCheckpointHandler()) as handler:
        written = _shapes(handler.metadata(checkpoint / "state").tree["params"])
    wanted = _shapes(_fields(abstract_state)["params"])
    for name in sorted(written.keys() | wanted.keys()):
        if written.get(name) != wanted.get(name):
            files = " or ".join(f"'{checkpoint.parent.parent / file}'" for file in ("config.json", "classes.txt"))
            raise UserError(
                f"{files} is not of the network in '{checkpoint}', whose {name} is {written.get(name, 'not there')} "
                f"and by these {wanted.get(name, 'not there')}; put back what was there when the run began, or name "
                "another --workdir"
            )


def _fields(state: Any) -> dict[str, Any]:
    return state if isinstance(state, dict) else vars(state)


def _shapes(params: PyTree) -> dict[str, tuple[int, ...]]:
    named, _ = jax.tree_util.tree_flatten_with_path(params)
    return {jax.tree_util.keystr(keys, simple=True, separator="/"): tuple(x.shape) for keys, x in named}


def _progress_of(checkpoint: Path) -> Progress:
    """Checkpoints of earlier versions have none."""
    path = checkpoint / PROGRESS
    if not path.exists():
        return Progress()
    written = json.loads(path.read_text())
    return Progress(written["seen"], written["skipped"], written["rewinds"])


def _digest_of(found: dict[str, Any]) -> str:
    text = json.dumps({name: value for name, value in sorted(found.items()) if name != "digest"})
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"it has {value}")
    return float(value)
