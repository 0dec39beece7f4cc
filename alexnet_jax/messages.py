"""What the program says to a person: progress on standard error, and mistakes in one sentence."""

import json
import os
import sys
import time
from typing import Any

SECONDS = 10.0  # between two lines of how far something is, in a log


class UserError(Exception):
    """A mistake of the user's: one sentence that names the flag, field or file, and the remedy."""


class _Quiet:
    """Whether this is one of many processes that do the same, and another one says it."""

    on = False


def leave_it_to_another() -> None:
    """From now on this process says nothing but why it ends: it does what another one does, and says."""
    _Quiet.on = True


def say(text: str) -> None:
    """Prints a line for people; standard output is kept for the result.

    What a file's name may hold and no line can, such as a line break or a terminal's command, is escaped.
    """
    if not _Quiet.on:
        say_of_the_end(text)


def say_error(sentence: str) -> None:
    """Prints why the program ends, if that is not as it should."""
    say_of_the_end(f"error: {sentence}")


def say_of_the_end(text: str) -> None:
    """Prints a line in any case."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:  # whoever listened has gone, as head does; what was begun goes on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def as_json(value: Any) -> str:
    """One line of JSON that every reader takes: bytes of names that are no UTF-8 become hexadecimal."""
    return json.dumps(_in_utf8(value))


def _in_utf8(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {_in_utf8(name): _in_utf8(inner) for name, inner in value.items()}
    return [_in_utf8(inner) for inner in value] if isinstance(value, (list, tuple)) else value


class Advance:
    """How far something is: a bar on a terminal, and in a log a line every ten seconds."""

    def __init__(self, what: str, total: int | None, unit: str, done: int = 0) -> None:
        """Begins at `done`.

        Args:
          total: in all; None where that is not known.
          unit: of what is counted, in the plural.
        """
        from tqdm import tqdm  # which most of what says something does not need

        self._what, self._total, self._unit = what, total, unit
        self._first, self._start, self._said = done, time.monotonic(), time.monotonic()
        self.done = done
        shape = {"total": total, "initial": done, "desc": what, "unit": f" {unit}"}
        self._bar = tqdm(**shape, disable=True if _Quiet.on else None, file=sys.stderr, smoothing=0.1, leave=False)

    def add(self, count: int = 1) -> None:
        """So many more."""
        self.done += count
        self._bar.update(count)
        now = time.monotonic()
        if self._bar.disable and now - self._said >= SECONDS:
            self._said = now
            rate = (self.done - self._first) / (now - self._start)
            of_all = f" of {self._total:,}" if self._total is not None else ""
            say(f"{self._what}: {self.done:,}{of_all} {self._unit}, {rate:,.1f} a second")

    def say(self, text: str) -> None:
        """A line for people, which leaves the bar whole."""
        with self._bar.external_write_mode(file=sys.stderr):
            say(text)

    def close(self) -> None:
        """Takes the bar away."""
        self._bar.close()

    def __enter__(self) -> "Advance":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
