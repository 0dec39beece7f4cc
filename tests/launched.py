"""launch.py in a process that a fork server has started, which has imported nearly all that it needs."""

import gc
import os
import runpy
import signal
import sys
import time
from pathlib import Path

from alexnet_jax.devices import cluster

HANG = signal.SIGRTMIN  # see `hang`
MODES = ("train", "evaluate", "figures", "predict")
# What the server imports; this module comes last.
BEFORE = ["alexnet_jax.command_line", *(f"alexnet_jax.modes.{mode}" for mode in MODES), "tensorboard", __name__]

gc.freeze()  # no collection need look at what was imported, a million objects that never go
# Tracing makes so many objects that Python, left to its default, looks for rubbish a fifth of the time.
gc.set_threshold(50_000)


def hang(*_: object) -> None:
    """The main thread does nothing any more, as if it waited for a disk that is gone: between two steps of many."""
    watch = cluster._Here.watch
    if watch and watch._steady:
        time.sleep(1e6)
    signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, 0.01)


def run(arguments: list[str], out: str, err: str, cwd: str, environment: dict[str, str], page: bool) -> None:
    """Becomes launch.py.

    Args:
      out: the file that is its standard output.
      err: likewise.
      cwd: the folder in which it runs.
      environment: what is added to it.
      page: whether what is trained gets its page at the end.
    """
    signal.signal(HANG, hang)
    if not page:
        from alexnet_jax.modes import train

        train._leave_page = lambda *_: None
    for path, stream in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = ["launch.py", *arguments]
    runpy.run_path(str(Path(__file__).parent.parent / "launch.py"), run_name="__main__")
