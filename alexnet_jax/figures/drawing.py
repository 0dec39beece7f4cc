"""What all figures share: colours, sizes, and the three files of each figure."""

import csv
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from alexnet_jax import files
from alexnet_jax.messages import UserError, say

# The palette of Okabe and Ito, which colour-blind readers can tell apart.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#999999"
SEVERAL = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
WIDTH = 8.3  # inches: a README is 830 pixels wide
DPI = 200
STYLE: dict[Any, Any] = {
    "font.size": 8.5,  # points; no text is smaller than 7
    "axes.titlesize": 9.5,
    "axes.labelsize": 8.5,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,  # TrueType: text in the PDF can be selected
}


@dataclass(frozen=True)
class Place:
    """Where a figure goes: NAME.png, NAME.pdf and NAME.csv, or the page alone."""

    picture: Path  # absolute
    asked: str = ""  # the value of --output; empty if the figure goes to its default place

    def beside(self, ending: str) -> Path:
        """The path of another file of the figure, such as `.csv` or `-classes.csv`."""
        return self.picture.with_name(self.picture.stem + ending)


@contextmanager
def styled() -> Iterator[None]:
    """Draws figures in sizes for print. A character that the font lacks becomes a box, without a warning."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def plain(text: str, most: int = 0) -> str:
    """A name as a label: on one line, not read as a formula, and at most `most` characters long unless that is 0."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    if most and len(line) > most:
        tail = most // 3  # the names of many classes differ only at the end
        line = f"{line[: most - 1 - tail]}\N{HORIZONTAL ELLIPSIS}{line[len(line) - tail :]}"
    return line.replace("$", r"\$")


def save(figure: Figure, place: Place) -> str:
    """Writes the figure as PNG and PDF. Returns the path of the PNG. Raises UserError if they cannot be written."""
    with whole(place, place.beside(".pdf")) as unfinished:
        figure.savefig(unfinished, format="pdf", dpi=DPI, metadata={"CreationDate": None})
    with whole(place, place.picture) as unfinished:
        figure.savefig(unfinished, format="png", dpi=DPI)
    say(f"{place.picture}, and beside it .pdf and .csv")
    return str(place.picture)


def save_rows(place: Place, head: Sequence[str], rows: Iterable[Sequence[Any]], ending: str = ".csv") -> None:
    """Writes numbers as CSV beside the figure. Raises UserError if they cannot be written."""
    with whole(place, place.beside(ending)) as unfinished:
        with open(unfinished, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            table = csv.writer(file)
            table.writerow(head)
            table.writerows(rows)


@contextmanager
def whole(place: Place, path: Path) -> Iterator[Path]:
    """Like `files.whole`, but raises UserError if the file cannot be written."""
    try:
        with files.whole(path) as unfinished:
            yield unfinished
    except OSError as error:
        raise unwritable(place, path, error.strerror or str(error)) from error


def unwritable(place: Place, path: Path, reason: str) -> UserError:
    """The error for a file of the figure that cannot be written."""
    suffix = place.picture.suffix
    if place.asked:
        return UserError(
            f"--output={place.asked} cannot be written ({reason}); name a writable place with enough space"
        )
    return UserError(f"'{path}' cannot be written ({reason}); name another place with --output=FILE{suffix}")


def require_writable(place: Place) -> None:
    """Raises UserError if the folder cannot be made or written; called before anything is computed."""
    if reason := files.why_not_writable(place.picture.parent):
        raise unwritable(place, place.picture, reason)
