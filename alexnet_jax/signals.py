"""Being told to stop: SIGTERM, SIGINT, SIGUSR1 (which Slurm sends as a warning) and SIGHUP (a closed terminal).

A thread of its own listens, as Python's handlers wait for whatever the main thread computes: where
there is nothing to save, the process ends at once, whatever it is doing.
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
    """Told to stop, and all is saved: the process ends with STATUS, and the same command goes on."""


STATUS = 75  # EX_TEMPFAIL of sysexits.h, by which a scheduler knows what to start again


@dataclass
class Stop:
    """Whether a signal has asked to stop."""

    name: str | None = None  # of the first signal, once one has come


class _Listening:
    """Who is to be told of a signal, if anybody is."""

    stop: Stop | None = None


def listen() -> None:
    """From now on a signal is a wish to whoever asked with `stop_signals`; else, or at a second one, it ends all.

    Then the status is 128 and the signal's number, as shells have it. SIGHUP that is ignored, as it is
    under nohup, stays so. To be called once, by the main thread.
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
        # The main thread may be within a print.
        os.write(sys.stderr.fileno(), f"error: stopped at once by {name}\n".encode())
        os._exit(128 + number)
    stop.name = name


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Within it the first signal is a wish, for its reader to act on."""
    stop, before = Stop(), _Listening.stop
    _Listening.stop = stop
    try:
        yield stop
    finally:
        _Listening.stop = before
