"""A run's checkpoints, by Orbax, and by Orbax only here: the newest three and the best."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax import lax
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from alexnet_jax.messages import say

NEWEST = 3


class Checkpoints:
    """The checkpoints in a run's folder, by step; one with metrics has been validated."""

    def __init__(self, workdir: Path) -> None:
        """Opens `checkpoints/` in the run's folder, which must be absolute, and makes it if need be."""
        self._workdir = workdir
        self._folder = workdir / "checkpoints"
        best = BestN(get_metric_fn=_merit, n=1, keep_checkpoints_without_metrics=False)
        policy = AnyPreservationPolicy([LatestN(n=NEWEST), best])
        # best_fn has the metrics stored; which checkpoints stay is the policy's alone.
        options = ocp.CheckpointManagerOptions(best_fn=_merit, preservation_policy=policy)
        self._manager = ocp.CheckpointManager(self._folder, options=options)

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

    def restore(self, abstract_state: Any, steps: Iterable[int], set_aside: bool = False) -> tuple[int, Any] | None:
        """The first of the steps that can be read, and its state; None if none can.

        Args:
          abstract_state: shapes, types and shardings to restore into.
          set_aside: move a damaged checkpoint to `damaged/` in the run's folder.
        """
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state), fingerprint=ocp.args.JsonRestore())
        for step in steps:
            try:
                restored = self._manager.restore(step, args=args)
                if restored.fingerprint != _fingerprint(restored.state).tolist():
                    raise ValueError("its arrays are not those that were saved")
                return step, restored.state
            except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged checkpoint
                reason = str(error).split("\n")[0].split(". ")[0] or type(error).__name__
                say(f"the checkpoint of step {step} is damaged ({reason}); going back to the one before")
                if set_aside:
                    self._set_aside(step)
        return None

    def _set_aside(self, step: int) -> None:
        damaged = self._workdir / "damaged"
        damaged.mkdir(exist_ok=True)
        target = damaged / str(step)
        if target.exists():
            shutil.rmtree(target)
        (self._folder / str(step)).rename(target)
        self._manager.reload()

    def close(self) -> None:
        """Waits until all is written."""
        self._manager.wait_until_finished()
        self._manager.close()


@jax.jit
def _fingerprint(state: Any) -> jax.Array:
    """Each array's bits added up as integers: the same on every mesh, another if a bit is lost."""
    leaves = jax.tree.leaves(state)
    return jnp.stack([lax.bitcast_convert_type(x, jnp.uint32).sum(dtype=jnp.uint32) for x in leaves])


def _merit(metrics: dict[str, float]) -> Any:
    return (-metrics["top1_error"], -metrics["loss"])
