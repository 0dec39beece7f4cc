"""A checkpoint that is read is not removed; and what Orbax says late of one that failed is left out."""

import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alexnet_jax.runs.checkpoint_integrity import DIGESTS


@contextmanager
def held(checkpoint: Path, how: int) -> Iterator[bool]:
    """Whether the checkpoint is held while within; also where it, or a lock, is not to be had, it goes on."""
    try:
        file = open(checkpoint / DIGESTS)
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


def leave_out_what_fails_late() -> None:
    """Of a save that fails, as on a full disk, many parts do: all but the first are told to nobody, in tracebacks."""
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if (unraisable.exc_type, str(unraisable.exc_value)) != (RuntimeError, "Event loop is closed"):
            before(unraisable)

    sys.unraisablehook = hook
