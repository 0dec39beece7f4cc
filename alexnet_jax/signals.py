"""Signals that stop the program: SIGTERM, SIGINT, SIGUSR1 (Slurm's warning) and SIGHUP (a closed terminal).

A thread listens for them, because Python's own handlers wait until the main thread returns from C. So a process that
has nothing to save ends at once, whatever it is computing.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from alexnet_jax.messages import UserError

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


class Stopped(UserError):
    """A signal stopped the work after all was saved: the process ends with STATUS; the same command resumes."""


STATUS = 75  # EX_TEMPFAIL in sysexits.h, which tells a scheduler to start the job again


@dataclass
class Stop:
    """Whether a signal has asked to stop."""

    name: str | None = None  # the first signal's, once it has come


class _Listening:
    """The `Stop` that a signal sets, if `stop_signals` is in use."""

    stop: Stop | None = None


def listen() -> None:
    """From now on a signal sets the `Stop` of `stop_signals`; without it, or at a second signal, the process ends.

    The status is then 128 plus the signal's number, as in shells. SIGHUP stays ignored if it is, as under nohup. Call
    this once, from the main thread.
    """
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    for number in NUMBERS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave_it_to_the_thread)

    def wait() -> None:
        while True:
            number = os.read(heard, 1)[0]
            if number in NUMBERS:
                _heard(number)

    threading.Thread(target=wait, name="signals", daemon=True).start()


def _leave_it_to_the_thread(number: int, frame: FrameType | None) -> None:
    pass


def _heard(number: int) -> None:
    name, stop = signal.Signals(number).name, _Listening.stop
    if stop is None or stop.name:
        # Not `print`: the main thread may be inside one.
        os.write(sys.stderr.fileno(), f"error: stopped at once by {name}\n".encode())
        os._exit(128 + number)
    stop.name = name


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Yields the `Stop` that the first signal sets while the block runs; the caller has to look at it."""
    stop, before = Stop(), _Listening.stop
    _Listening.stop = stop
    try:
        yield stop
    finally:
        _Listening.stop = before
