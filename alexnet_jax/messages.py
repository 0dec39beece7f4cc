"""Messages for a person: progress on standard error, and mistakes in one sentence."""

import json
import os
import sys
import time
from typing import Any

SECONDS = 10.0  # between two lines about progress in a log


class UserError(Exception):
    """A user's mistake, as one sentence that names the flag, field or file, and the remedy."""


class _Quiet:
    """Whether this process is silent, because another process does the same work and reports it."""

    on = False


def leave_it_to_another() -> None:
    """From now on this process only says why it ends: another process does the same work and reports it."""
    _Quiet.on = True


def say(text: str) -> None:
    """Prints a line for people, on standard error; standard output is for the result.

    Characters that no line can hold, such as a line break or a terminal's command in a file's name, are escaped.
    """
    if not _Quiet.on:
        say_of_the_end(text)


def say_error(sentence: str) -> None:
    """Prints why the program fails."""
    say_of_the_end(f"error: {sentence}")


def say_of_the_end(text: str) -> None:
    """Prints a line, also from a silent process."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:  # the reader has gone, as `head` does; the work goes on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def as_json(value: Any) -> str:
    """One line of JSON that every reader accepts: bytes in names that are not UTF-8 become hexadecimal."""
    return json.dumps(_in_utf8(value))


def _in_utf8(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {_in_utf8(name): _in_utf8(inner) for name, inner in value.items()}
    return [_in_utf8(inner) for inner in value] if isinstance(value, (list, tuple)) else value


class Advance:
    """Progress: a bar on a terminal, or a line every ten seconds in a log."""

    def __init__(self, what: str, total: int | None, unit: str, done: int = 0) -> None:
        """Begins at `done`.

        Args:
          total: the count at the end; None if it is not known.
          unit: what is counted, in the plural.
        """
        from tqdm import tqdm  # most messages need no bar

        self._what, self._total, self._unit = what, total, unit
        self._first, self._start, self._said = done, time.monotonic(), time.monotonic()
        self.done = done
        shape = {"total": total, "initial": done, "desc": what, "unit": f" {unit}"}
        self._bar = tqdm(**shape, disable=True if _Quiet.on else None, file=sys.stderr, smoothing=0.1, leave=False)

    def add(self, count: int = 1) -> None:
        """Counts more as done."""
        self.done += count
        self._bar.update(count)
        now = time.monotonic()
        if self._bar.disable and now - self._said >= SECONDS:
            self._said = now
            rate = (self.done - self._first) / (now - self._start)
            of_all = f" of {self._total:,}" if self._total is not None else ""
            say(f"{self._what}: {self.done:,}{of_all} {self._unit}, {rate:,.1f} a second")

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        with self._bar.external_write_mode(file=sys.stderr):
            say(text)

    def close(self) -> None:
        """Removes the bar."""
        self._bar.close()

    def __enter__(self) -> "Advance":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
