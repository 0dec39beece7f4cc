"""A run's curves: its numbers by epoch, and the picture curves.png."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet_jax.training.step import TOP_K

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Line = dict[str, float]  # of metrics.jsonl
Points = list[tuple[float, float]]  # epochs and numbers
NAMES = ("train/loss", "validation/loss", "train/top1_error", "validation/top1_error", "validation/top5_error")
MARKED = 50  # validations at most whose points are marked; more would form a band


def points_by_epoch(lines: Sequence[Line], steps_per_epoch: float) -> dict[str, Points]:
    """The points of each curve, by the names in NAMES, in the order of the lines."""
    return {name: [(line["step"] / steps_per_epoch, line[name]) for line in lines if name in line] for name in NAMES}


def drops_of(lines: Sequence[Line]) -> list[int]:
    """The steps of the last report before each lower learning rate; the rate drops after such a step."""
    rates = [(int(line["step"]), line["learning_rate"]) for line in lines if "learning_rate" in line]
    return [step for (step, before), (_, rate) in pairwise(rates) if rate < before]


def draw_curves(lines: Sequence[Line], steps_per_epoch: int, path: Path, classes: int, best: int | None) -> None:
    """Draws loss and errors by epoch, with the drops of the learning rate and the best checkpoint.

    Args:
      classes: that are told apart; with five or fewer there is no top-5 error.
      best: the step of the best checkpoint.

    Raises:
      OSError: the picture cannot be written.
    """
    from matplotlib.figure import Figure  # takes a quarter of a second, which the first step need not wait for

    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, errors = figure.subplots(1, 2)
    points = points_by_epoch(lines, steps_per_epoch)
    marker = "." if len(points["validation/loss"]) <= MARKED else ""
    _plot(losses, points["train/loss"], "training", "tab:gray", linewidth=1)
    _plot(losses, points["validation/loss"], "validation", "tab:blue", marker)
    _plot(errors, _percent(points["train/top1_error"]), "top-1, training", "tab:gray", linewidth=1)
    _plot(errors, _percent(points["validation/top1_error"]), "top-1, validation", "tab:red", marker)
    if classes > TOP_K:
        _plot(errors, _percent(points["validation/top5_error"]), "top-5, validation", "tab:orange", marker)
    validations = points["validation/loss"], _percent(points["validation/top1_error"])
    for axes, label, validated in zip((losses, errors), ("loss (nats)", "error (%)"), validations, strict=True):
        for number, drop in enumerate(drops_of(lines)):
            name = "" if number else "lower rate"
            axes.axvline(drop / steps_per_epoch, color="black", linewidth=0.8, linestyle=":", label=name)
        for place in validated:
            if best is not None and place[0] == best / steps_per_epoch:
                axes.plot(*place, "*", color="black", markersize=11, label=f"best checkpoint, step {best}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    figure.suptitle(path.parent.name)
    figure.savefig(path, dpi=120)


def _plot(
    axes: "Axes", points: Points, label: str, colour: str, marker: str = "", linewidth: float | None = None
) -> None:
    if points:
        axes.plot(*zip(*points, strict=True), label=label, color=colour, marker=marker, linewidth=linewidth)


def _percent(points: Points) -> Points:
    return [(epoch, 100 * number) for epoch, number in points]
