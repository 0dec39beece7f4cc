"""Which checkpoints stay: the newest three and the best by its validation. None is removed while it is read."""

import fcntl
import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from alexnet_jax.files import write_whole
from alexnet_jax.runs.checkpoint_integrity import DIGESTS_FILE

KEPT = 3  # of the newest
VALIDATION_FILE = "validation.json"  # in a checkpoint
METRICS = ("loss", "top1_error", "top5_error")  # of a validation


def write_validation(checkpoint: Path, metrics: Mapping[str, float]) -> None:
    """Writes validation.json into a checkpoint. Raises OSError.

    Args:
      metrics: `loss` in nats, `top1_error` and `top5_error` as fractions.
    """
    found = {"step": int(checkpoint.name), **{name: metrics[name] for name in METRICS}}
    text = json.dumps({**found, "digest": _digest_of(found)})
    write_whole(checkpoint / VALIDATION_FILE, text, fsync=True, one_writer=True)


def read_validation(checkpoint: Path) -> dict[str, float] | None:
    """The metrics in a checkpoint's validation.json; None if it was not validated.

    Raises:
      OSError, ValueError: the file cannot be read, or is not what was written for this step.
    """
    try:
        found = json.loads((checkpoint / VALIDATION_FILE).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not isinstance(found, dict) or found.get("digest") != _digest_of(found):
        raise ValueError("it has changed since it was written")
    if str(found["step"]) != checkpoint.name:
        raise ValueError(f"it belongs to step {found['step']}")
    if not all(math.isfinite(found[name]) for name in METRICS):
        raise ValueError("a number in it is not finite")
    return {name: float(found[name]) for name in METRICS}


def _digest_of(found: Mapping[str, Any]) -> str:
    text = json.dumps({name: value for name, value in sorted(found.items()) if name != "digest"})
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def best_of(validations: Mapping[int, Mapping[str, float]]) -> int | None:
    """The step of lowest top-1 error; among equals of lowest loss, then the latest; None without any.

    Args:
      validations: metrics by step.
    """
    merits = [(-metrics["top1_error"], -metrics["loss"], step) for step, metrics in validations.items()]
    return max(merits)[2] if merits else None


def remove_superseded(checkpoints: Path, steps: Sequence[int], best: int | None) -> None:
    """Removes all checkpoints but the newest and the best. One that is being read stays until the next call.

    Args:
      steps: of the checkpoints in the folder, in rising order.
      best: the step of the best; None if none was validated.
    """
    for step in set(steps) - {*steps[-KEPT:], best}:
        with locked(checkpoints / str(step), fcntl.LOCK_EX) as is_ours:
            if is_ours:
                removed = checkpoints / f".removed-{step}"
                with suppress(OSError):
                    (checkpoints / str(step)).rename(removed)
                shutil.rmtree(removed, ignore_errors=True)


@contextmanager
def locked(checkpoint: Path, how: int) -> Iterator[bool]:
    """Yields whether the lock was obtained, and proceeds without it where there is no file or no lock.

    Args:
      how: LOCK_SH, so that no other process removes the checkpoint meanwhile; or LOCK_EX, to remove it.
    """
    try:
        file = open(checkpoint / DIGESTS_FILE)
    except OSError:
        yield True
        return
    with file:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:
            pass
        yield True
