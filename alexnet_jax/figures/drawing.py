"""What all figures have in common: colours, sizes, and the three files that each leaves."""

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

# Okabe and Ito's, which the colour-blind tell apart, too.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#999999"
SEVERAL = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
WIDTH = 8.3  # inches: a README is 830 pixels wide
DPI = 200
STYLE: dict[Any, Any] = {
    "font.size": 8.5,  # points; none is smaller than 7
    "axes.titlesize": 9.5,
    "axes.labelsize": 8.5,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,  # text stays text
}


@dataclass(frozen=True)
class Place:
    """Where a figure goes: NAME.png, NAME.pdf and NAME.csv, or the page alone."""

    picture: Path  # absolute
    asked: str = ""  # what --output says; empty where it is the figure's own place

    def beside(self, ending: str) -> Path:
        """Of the figure's other files, such as `.csv` or `-classes.csv`."""
        return self.picture.with_name(self.picture.stem + ending)


@contextmanager
def styled() -> Iterator[None]:
    """Within it figures are drawn in sizes for print; what a font lacks is a box, and nobody is warned."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def plain(text: str, most: int = 0) -> str:
    """A name as a label: in one line, no formula in it, and no longer than `most` letters if that is given."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    if most and len(line) > most:
        tail = most // 3  # names of many classes differ in their ends
        line = f"{line[: most - 1 - tail]}\N{HORIZONTAL ELLIPSIS}{line[len(line) - tail :]}"
    return line.replace("$", r"\$")


def save(figure: Figure, place: Place) -> str:
    """Leaves the figure as PNG and PDF; the path of the PNG. Raises UserError if they cannot be written."""
    with whole(place, place.beside(".pdf")) as unfinished:
        figure.savefig(unfinished, format="pdf", dpi=DPI, metadata={"CreationDate": None})
    with whole(place, place.picture) as unfinished:
        figure.savefig(unfinished, format="png", dpi=DPI)
    say(f"{place.picture}, and beside it .pdf and .csv")
    return str(place.picture)


def save_rows(place: Place, head: Sequence[str], rows: Iterable[Sequence[Any]], ending: str = ".csv") -> None:
    """Leaves numbers as CSV beside the figure. Raises UserError if they cannot be written."""
    with whole(place, place.beside(ending)) as unfinished:
        with open(unfinished, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            table = csv.writer(file)
            table.writerow(head)
            table.writerows(rows)


@contextmanager
def whole(place: Place, path: Path) -> Iterator[Path]:
    """As `files.whole`. Raises UserError if the file cannot be written."""
    try:
        with files.whole(path) as unfinished:
            yield unfinished
    except OSError as error:
        raise unwritable(place, path, error.strerror or str(error)) from error


def unwritable(place: Place, path: Path, reason: str) -> UserError:
    """For a file of the figure's that cannot be written."""
    suffix = place.picture.suffix
    if place.asked:
        return UserError(
            f"--output={place.asked} cannot be written ({reason}); name a place that can, with room enough"
        )
    return UserError(f"'{path}' cannot be written ({reason}); name another place with --output=FILE{suffix}")


def require_writable(place: Place) -> None:
    """Raises UserError, before anything is computed, if the folder cannot be made or written."""
    if reason := files.why_not_writable(place.picture.parent):
        raise unwritable(place, place.picture, reason)
