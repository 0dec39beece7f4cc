"""Libraries that are written in C++: what they print, and that they end the process when they lose the others."""

import ctypes
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from typing import Any

TAIL = 8000  # characters of what a library printed last


class _Kept:
    """What must live as long as the process: C calls it."""

    handler: Any = None


def keep_apart(on_abort: Callable[[str], None]) -> None:
    """From now on only Python prints; and where a library aborts, `on_abort` is called in its stead.

    JAX's runtime aborts with a page of addresses when the process that holds a cluster together is gone, and lets no
    Python hear of it before. What libraries print goes to a file without a name. To be called once.

    Args:
      on_abort: gets the end of what was printed, in the thread that aborts; the process ends when it returns.
    """
    printed = tempfile.TemporaryFile("w+b")
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        stream.flush()
        setattr(sys, name, os.fdopen(os.dup(number), "w", 1, encoding=stream.encoding, errors=stream.errors))
        os.dup2(printed.fileno(), number)

    def aborted(number: int) -> None:
        try:
            size = os.fstat(printed.fileno()).st_size
            tail = os.pread(printed.fileno(), TAIL, max(0, size - TAIL)).decode(errors="replace")
            on_abort(tail)
        finally:
            os._exit(128 + signal.SIGABRT)

    # Of C's own: a handler of Python's is called too late, by a main thread that may wait for another process.
    _Kept.handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)
    ctypes.CDLL(None).signal(signal.SIGABRT, _Kept.handler)
