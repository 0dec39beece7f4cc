"""The confusion matrix, or the most confused pairs of classes, and the errors of each class."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_jax.data.prepared.prepared_set import PreparedSet, labels_of_split
from alexnet_jax.figures import drawing
from alexnet_jax.figures.drawing import Place, plain
from alexnet_jax.inference.neighbour_sources import stored_batches
from alexnet_jax.inference.net import Net
from alexnet_jax.messages import say
from alexnet_jax.network.views import VIEWS

MATRIX = 100  # the matrix is drawn for at most so many classes
NUMBERED = 20  # its cells show their numbers for at most so many classes
PAIRS = 30  # pairs drawn in place of the matrix
WORST = 30  # classes whose errors are drawn


@dataclass(frozen=True, eq=False)
class Confusions:
    """Counts over a split. Memory grows with the classes and the pairs that occur, not with all possible pairs.

    Attributes:
      true, guessed, count: int64 [pairs], each pair of classes that occurs, correct guesses included; sorted by class.
      examples, errors: int64 [classes].
    """

    classes: tuple[str, ...]
    true: np.ndarray
    guessed: np.ndarray
    count: np.ndarray
    examples: np.ndarray
    errors: np.ndarray

    @property
    def pairs(self) -> list[tuple[int, int, int]]:
        """(true class, guess, count) of all wrong guesses, the most frequent first."""
        wrong = self.true != self.guessed
        rows = zip(self.true[wrong].tolist(), self.guessed[wrong].tolist(), self.count[wrong].tolist(), strict=True)
        return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))

    @property
    def worst(self) -> list[int]:
        """The classes that have pictures, the highest error rate first."""
        there = np.flatnonzero(self.examples)
        return there[np.lexsort((there, -self.errors[there] / self.examples[there]))].tolist()

    def matrix(self) -> np.ndarray:
        """int64 [classes, classes], true class by guess. Only for few classes."""
        whole = np.zeros((len(self.classes),) * 2, np.int64)
        whole[self.true, self.guessed] = self.count
        return whole


def counted(labels: np.ndarray, guesses: np.ndarray, classes: tuple[str, ...]) -> Confusions:
    """Counts pairs of labels, int [pictures], and the network's first guesses, int [pictures]."""
    labels, guesses = labels.astype(np.int64), guesses.astype(np.int64)
    codes, count = np.unique(labels * len(classes) + guesses, return_counts=True)
    examples = np.bincount(labels, minlength=len(classes))
    errors = np.bincount(labels[labels != guesses], minlength=len(classes))
    true, guessed = np.divmod(codes, len(classes))
    return Confusions(classes, true, guessed, count.astype(np.int64), examples, errors)


def of_split(net: Net, source: PreparedSet, split: str) -> Confusions:
    """Predicts a whole split, on as many views as the run's config says, and counts.

    Raises:
      UserError: the network's probabilities are not finite.
    """
    views = net.config.evaluate.views
    size = net.batch_size(source.examples(split))
    say(f"predicting {source.examples(split)} pictures of {source.name}, {split}")
    parts = net.probabilities_of(stored_batches(net.config, source, split, size, whole=views == VIEWS), views)
    guesses = np.concatenate([_first(net, rows) for _, rows in parts])
    return counted(labels_of_split(source, split), guesses, net.classes)


def _first(net: Net, probabilities: np.ndarray) -> np.ndarray:
    """The likeliest class of each row; the first if several tie."""
    if not np.isfinite(probabilities).all():
        net.likeliest(np.full(1, np.nan))  # raises the error
    return probabilities.argmax(axis=1)


def make(title: str, found: Confusions, called: list[str], place: Place) -> dict[str, Any]:
    """Draws the matrix, or the most confused pairs, beside the errors of the worst classes. Returns the numbers.

    Args:
      called: the readable name of each class.
    """
    with drawing.styled():
        path = drawing.save(_drawn(title, found, called), place)
    names = found.classes
    seen = zip(found.true.tolist(), found.guessed.tolist(), found.count.tolist(), strict=True)
    drawing.save_rows(place, ("true", "guessed", "count"), ((names[a], names[b], count) for a, b, count in seen))
    drawing.save_rows(place, ("class", "examples", "errors", "error"), _errors(found), "-classes.csv")
    for one in _errors_as_json(found)[:5]:
        say(f"{one['class']}: {one['errors']} of {one['examples']} wrong")
    examples, errors = int(found.examples.sum()), int(found.errors.sum())
    result = {"figure": "confusion", "examples": examples, "errors": errors, "top1_error": errors / examples}
    if len(names) <= MATRIX:
        result["matrix"] = found.matrix().tolist()
    return {
        **result,
        "classes": len(names),
        "pairs": [{"true": names[a], "guessed": names[b], "count": count} for a, b, count in found.pairs[:PAIRS]],
        "errors_by_class": _errors_as_json(found),
        "picture": path,
    }


def _errors(found: Confusions) -> Iterator[tuple[Any, ...]]:
    for at in found.worst:
        examples, errors = int(found.examples[at]), int(found.errors[at])
        yield found.classes[at], examples, errors, errors / examples


def _errors_as_json(found: Confusions) -> list[dict[str, Any]]:
    """The errors of the worst classes; the CSV beside the picture has all."""
    rows = zip(range(max(WORST, MATRIX if len(found.classes) <= MATRIX else 0)), _errors(found), strict=False)
    return [{"class": name, "examples": examples, "errors": errors} for _, (name, examples, errors, _) in rows]


def _drawn(title: str, found: Confusions, called: list[str]) -> Figure:
    worst = found.worst[:WORST]
    pairs = found.pairs[:PAIRS]
    is_matrix = len(found.classes) <= MATRIX
    height = max(4.6 if is_matrix else 0.9 + 0.17 * len(pairs), 0.9 + 0.17 * len(worst))
    figure = Figure(figsize=(drawing.WIDTH, height), layout="constrained")
    figure.suptitle(plain(title, 110))
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    if is_matrix:
        _draw_matrix(left, found, called)
    else:
        labels = [f"{plain(called[a], 22)} → {plain(called[b], 22)}" for a, b, _ in pairs]
        _draw_bars(left, labels, [count for _, _, count in pairs], [f"{count}" for _, _, count in pairs])
        left.set_title(f"the {len(pairs)} most confused pairs, true → guessed")
        left.set_xlabel("pictures")
    shares = [100 * float(found.errors[at] / found.examples[at]) for at in worst]
    counts = [f"{found.errors[at]} of {found.examples[at]}" for at in worst]
    _draw_bars(right, [plain(called[at], 18) for at in worst], shares, counts)
    there = np.count_nonzero(found.examples)
    right.set_title(f"errors by class, the worst {len(worst)} of {there}" if len(worst) < there else "errors by class")
    right.set_xlabel("top-1 error (%)")
    return figure


def _draw_matrix(axes: Axes, found: Confusions, called: list[str]) -> None:
    """Rows are true classes; a shade is a share of its row, so that a class with few pictures is visible too."""
    matrix, count = found.matrix(), len(found.classes)
    shares = matrix / np.maximum(found.examples[:, None], 1)
    axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)  # a colour map that looks the same to colour-blind readers
    axes.set_xlabel("guessed")
    axes.set_ylabel("true")
    axes.set_title(
        "pictures by true class and guess" if count <= NUMBERED else "share of the true class: blue 0, yellow 1"
    )
    axes.spines[:].set_visible(False)
    every = -(-count // 36)
    places, size = range(0, count, every), 8 if count <= NUMBERED else 7
    names = [plain(called[at], 12) for at in places]
    is_long = max(map(len, names)) > 2
    axes.set_xticks(places, names, rotation=90 if is_long else 0, fontsize=size)
    axes.set_yticks(places, names, fontsize=size)
    if count <= NUMBERED:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            colour = "white" if shares[row, column] < 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=8)


def _draw_bars(axes: Axes, names: Iterable[str], numbers: list[Any], written: list[str]) -> None:
    """Draws a horizontal bar for each number, with its text at the end."""
    places = range(len(numbers))
    axes.barh(places, numbers, height=0.75, color=drawing.SKY)
    axes.set_yticks(places, list(names), fontsize=7.5)
    axes.set_ylim(max(len(numbers), 1) - 0.4, -0.6)
    most = max([*numbers, 0.01])
    axes.set_xlim(0, 1.3 * most)
    for place, number, text in zip(places, numbers, written, strict=True):
        axes.text(number + 0.02 * most, place, text, va="center_baseline", fontsize=7)
