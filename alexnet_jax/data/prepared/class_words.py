"""words.txt, what people call the classes: a line for each class, with its name, a tab and its words."""

from collections.abc import Sequence
from pathlib import Path

WORDS_FILE = "words.txt"  # in a prepared set, and in an imported run


def write_words(folder: Path, classes: Sequence[str], words: Sequence[str]) -> None:
    """Writes the file. Raises OSError."""
    lines = (f"{name}\t{called}\n" for name, called in zip(classes, words, strict=True))
    (folder / WORDS_FILE).write_text("".join(lines), encoding="utf-8")


def read_words(folder: Path) -> dict[str, str]:
    """The words by the class's name; none if there is no such file, or it cannot be read."""
    try:
        lines = (folder / WORDS_FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    return dict(line.split("\t", 1) for line in lines if "\t" in line)
