"""A run's checkpoints, by Orbax, and by Orbax only here: the newest three and the best."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax import lax
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from alexnet_jax.messages import UserError, say

NEWEST = 3


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
        options = ocp.CheckpointManagerOptions(best_fn=_merit, preservation_policy=policy)
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

    def save(self, step: int, state: Any, metrics: dict[str, float] | None) -> None:
        """Saves in the background, with the metrics of a validation if there was one."""
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), fingerprint=ocp.args.JsonSave(_fingerprint(state).tolist())
        )
        self._manager.save(step, args=args, metrics=metrics)

    def restore(self, abstract_state: Any, steps: Iterable[int]) -> tuple[int, Any]:
        """The first of the steps that can be read, and its state.

        Args:
          abstract_state: shapes, types and shardings to restore into.

        Raises:
          UserError: none of them can be read; they stay where they are.
        """
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state), fingerprint=ocp.args.JsonRestore())
        damaged = []
        for step in steps:
            try:
                restored = self._manager.restore(step, args=args)
                if restored.fingerprint != _fingerprint(restored.state).tolist():
                    raise ValueError("its arrays are not those that were saved")
            except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged checkpoint
                reason = str(error).split("\n")[0].split(". ")[0] or type(error).__name__
                say(f"the checkpoint of step {step} is damaged ({reason})")
                damaged.append(step)
                continue
            if damaged:
                say(f"going back to the checkpoint of step {step}")
            if damaged and self._may_set_aside:
                for bad in damaged:
                    self._set_aside(str(bad))
                self._manager.reload()
            return step, restored.state
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


def _metrics_are_whole(checkpoint: Path) -> bool:
    path = checkpoint / "metrics" / "metrics"
    try:
        return not path.is_file() or "top1_error" in json.loads(path.read_text())
    except ValueError:
        return False


@jax.jit
def _fingerprint(state: Any) -> jax.Array:
    """Each array's bits added up as integers: the same on every mesh, another if a bit is lost."""
    leaves = jax.tree.leaves(state)
    return jnp.stack([lax.bitcast_convert_type(x, jnp.uint32).sum(dtype=jnp.uint32) for x in leaves])


def _merit(metrics: dict[str, float]) -> Any:
    return (-metrics["top1_error"], -metrics["loss"])
