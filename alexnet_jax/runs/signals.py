"""SIGTERM and SIGINT as a wish that the training loop reads between two steps."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any


@dataclass
class Stop:
    """Whether a signal has asked to stop."""

    name: str | None = None  # SIGTERM or SIGINT, once one has come


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Catches the first SIGTERM or SIGINT, for its reader to act on; a second one acts as ever."""
    stop = Stop()
    before: dict[int, Any] = {}  # handlers by their signals' numbers; what a handler may be, `signal` alone knows

    def act_as_ever() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        stop.name = signal.Signals(number).name
        act_as_ever()

    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, handle)
    try:
        yield stop
    finally:
        act_as_ever()
