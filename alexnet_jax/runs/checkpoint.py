"""A run's checkpoints, by Orbax, and by Orbax only here: the newest three and the best."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

import orbax.checkpoint as ocp
from jaxtyping import PyTree
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from alexnet_jax.messages import UserError, say

Tree = TypeVar("Tree")  # of arrays, or of what stands for them
NEWEST = 3
DIGESTS = "digests.json"  # in each checkpoint, of the files in its folders


class Checkpoints:
    """The checkpoints in a run's folder, by step; one with metrics has been validated."""

    def __init__(self, workdir: Path, set_aside: bool = False) -> None:
        """Opens `checkpoints/` in the run's folder, which must be absolute, and makes it if need be.

        Args:
          set_aside: move what is damaged or half written to `damaged/`, as the one who writes here.
        """
        self._workdir = workdir
        self._folder = workdir / "checkpoints"
        self._may_set_aside = set_aside
        self._sweep()
        best = BestN(get_metric_fn=_merit, n=1, keep_checkpoints_without_metrics=False)
        policy = AnyPreservationPolicy([LatestN(n=NEWEST), best])
        # best_fn has the metrics stored; which checkpoints stay is the policy's alone.
        options = ocp.CheckpointManagerOptions(
            best_fn=_merit,
            preservation_policy=policy,
            async_options=ocp.options.AsyncOptions(post_finalization_callback=partial(_seal, self._folder)),
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def _sweep(self) -> None:
        """Sets aside what a killed process left half written, which Orbax does not mention or stumbles over."""
        for path in sorted(self._folder.glob("*")):
            if "orbax-checkpoint-tmp" in path.name:
                if self._may_set_aside:
                    say(f"the checkpoint '{path.name}' was not written to its end; going back to the one before")
                    self._set_aside(path.name)
            elif path.name.isdigit() and not _metrics_are_whole(path):
                say(f"the checkpoint of step {path.name} is damaged (its metrics cannot be read)")
                self._set_aside(path.name)

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in rising order."""
        return sorted(self._manager.all_steps())

    def metrics(self, step: int) -> dict[str, float] | None:
        """The validation's `top1_error`, `top5_error` and `loss` at the step, if there was one."""
        return self._manager.metrics(step)

    def best_step(self) -> int | None:
        """The validated step of lowest top-1 error; of those, of lowest loss; None without any."""
        validated = [(step, self.metrics(step)) for step in self.steps()]
        merits = [(_merit(metrics), step) for step, metrics in validated if metrics]
        return max(merits)[1] if merits else None

    def save(self, step: int, state: PyTree, metrics: dict[str, float] | None) -> None:
        """Saves in the background, with the metrics of a validation if there was one."""
        args = ocp.args.Composite(state=ocp.args.StandardSave(state))
        self._manager.save(step, args=args, metrics=metrics)

    def restore(self, abstract_state: Tree, steps: Iterable[int]) -> tuple[int, Tree]:
        """The first of the steps whose files are as they were written, and its state.

        Args:
          abstract_state: shapes, types and shardings to restore into.

        Raises:
          UserError: there is none; the damaged ones stay where they are.
        """
        damaged = []
        for step in steps:
            # Asked before Orbax reads: of a read that fails it leaves parts behind that print tracebacks.
            if damage := _damage(self._folder / str(step)):
                say(f"the checkpoint of step {step} is damaged ({damage})")
                damaged.append(step)
                continue
            if damaged:
                say(f"going back to the checkpoint of step {step}")
            if damaged and self._may_set_aside:
                for bad in damaged:
                    self._set_aside(str(bad))
                self._manager.reload()
            args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
            return step, self._manager.restore(step, args=args).state
        raise UserError(
            f"no checkpoint in {self._folder} can be read; --restart sets the run aside and begins anew"
            if damaged
            else f"there is no checkpoint in {self._folder}; train first, or name another run"
        )

    def _set_aside(self, name: str) -> None:
        target = self._workdir / "damaged" / name
        target.parent.mkdir(exist_ok=True)
        if target.exists():
            shutil.rmtree(target)
        (self._folder / name).rename(target)

    def close(self) -> None:
        """Waits until all is written."""
        self._manager.wait_until_finished()
        self._manager.close()


def _seal(folder: Path) -> None:
    """Writes each file's digest beside them; Orbax calls it with all written, before the folder gets its name."""
    for unfinished in folder.glob("*orbax-checkpoint-tmp*"):
        (unfinished / DIGESTS).write_text(json.dumps(_digests(unfinished)))


def _digests(checkpoint: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(checkpoint.glob("*/**/*")):  # beside the folders lies what Orbax changes later
        if path.is_file():
            with path.open("rb") as file:
                digests[str(path.relative_to(checkpoint))] = hashlib.file_digest(file, "blake2b").hexdigest()
    return digests


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with the checkpoint's files, if anything is."""
    try:
        written = json.loads((checkpoint / DIGESTS).read_text())
        present = _digests(checkpoint)
    except (OSError, ValueError) as error:
        return f"its files cannot be read: {error}"
    if lost := written.keys() - present.keys():
        return f"its file {min(lost)} is lost"
    changed = [name for name in written if written[name] != present[name]]
    return f"its file {changed[0]} is not what was written" if changed else None


def _metrics_are_whole(checkpoint: Path) -> bool:
    path = checkpoint / "metrics" / "metrics"
    try:
        return not path.is_file() or "top1_error" in json.loads(path.read_text())
    except ValueError:
        return False


def _merit(metrics: dict[str, float]) -> tuple[float, float]:
    return (-metrics["top1_error"], -metrics["loss"])
