"""The parts of a checkpoint that processes write side by side: each is digested by the process that wrote it.

It has the bytes at hand, and process 0, which writes the digests down, may find them only on a disk far away.
"""

import json
from pathlib import Path
from typing import Any, Protocol

from orbax.checkpoint import multihost

from alexnet_jax.devices import cluster
from alexnet_jax.runs.checkpoint_integrity import digest_of

WRITTEN = "async_write_complete"  # Orbax's name of the place where each process has written its part


class Barrier(Protocol):
    """A place that no process passes before all have come."""

    def __call__(self, *, key: str, timeout_ms: int) -> None:
        """Waits there."""


def barrier(folder: Path) -> Barrier | None:
    """Orbax's own barrier; before the one where all parts are written, this process's part is digested.

    None where one process writes alone, and Orbax has no barriers.

    Args:
      folder: the checkpoints'.
    """
    if cluster.count() == 1:
        return None
    orbax_barrier: Any = multihost.get_barrier_sync_fn()

    def with_digests(*, key: str, timeout_ms: int) -> None:
        if WRITTEN in key:
            step = int(key.split(WRITTEN)[1].split(".")[1])
            cluster.put(f"digests/{step}/{cluster.index()}", json.dumps(_own(folder, step)))
        orbax_barrier(key=key, timeout_ms=timeout_ms)

    return with_digests


def _own(folder: Path, step: int) -> dict[str, str]:
    """Of what this process has written, by the names that the files will have in the checkpoint."""
    found = {}
    for state in folder.glob(f"{step}.orbax-checkpoint-tmp*/state*"):
        for path in (*state.glob(f"ocdbt.process_{cluster.index()}/**/*"), *state.glob(f"*/process_{cluster.index()}")):
            if path.is_file():
                found[f"state/{path.relative_to(state)}"] = digest_of(path)
    return found


def of_others(step: int) -> dict[str, str]:
    """The digests of what the other processes have written of a checkpoint, by the files' names in it."""
    if cluster.count() == 1:
        return {}
    found: dict[str, str] = {}
    for text in cluster.got(f"digests/{step}").values():
        found |= json.loads(text)
    return found
