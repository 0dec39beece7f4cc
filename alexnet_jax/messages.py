"""What the program says to a person: progress on standard error, and mistakes in one sentence."""

import os
import sys


class UserError(Exception):
    """A mistake of the user's: one sentence that names the flag, field or file, and the remedy."""


def say(text: str) -> None:
    """Prints a line for people; standard output is kept for the result.

    What a file's name may hold and no line can, such as a line break or a terminal's command, is escaped.
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:  # whoever listened has gone, as head does; what was begun goes on
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
