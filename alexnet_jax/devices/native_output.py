"""What C++ libraries print, and what happens when they abort the process.

When the process that holds a cluster together is gone, JAX's runtime prints a page of addresses and aborts. Python code
cannot run before that: a handler of Python's waits for the main thread, which waits for another process; and the
runtime's own `missed_heartbeat_callback` fails with std::bad_cast in jaxlib 0.10. So a C signal handler runs Python in
the thread that aborts.
"""

import ctypes
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from typing import Any

TAIL = 8000  # bytes at the end of the libraries' output


class _Kept:
    """Must live as long as the process: C calls the handler."""

    handler: Any = None


def keep_apart(on_abort: Callable[[str], None]) -> None:
    """Hides what libraries print, and calls `on_abort` when a library aborts. To be called once.

    From now on only Python prints; the libraries' output goes to a file without a name.

    Args:
      on_abort: gets the end of the libraries' output, in the thread that aborts; the process ends when it returns.
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

    _Kept.handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)
    ctypes.CDLL(None).signal(signal.SIGABRT, _Kept.handler)
