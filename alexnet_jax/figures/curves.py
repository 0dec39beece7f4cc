"""Loss and errors of several runs by epoch, in one picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_jax.figures import drawing
from alexnet_jax.figures.drawing import Place, plain
from alexnet_jax.loop import report
from alexnet_jax.loop.curves import Points, points_by_epoch
from alexnet_jax.messages import UserError, say
from alexnet_jax.runs.folder import Run
from alexnet_jax.training.step import TOP_K

NAMES = ("train/loss", "validation/loss", "validation/top1_error", "validation/top5_error")
STYLES = ("-", "--", "-.", ":")  # the next style is taken when the colours are used up


@dataclass(frozen=True)
class Curves:
    """A run's numbers by epoch.

    Attributes:
      classes: the number of classes of the pictures.
      points: (epoch, number) pairs in the order of the steps, by the names in NAMES.
    """

    name: str
    workdir: Path
    classes: int
    points: dict[str, Points]

    @property
    def best(self) -> tuple[float, float] | None:
        """The epoch and the top-1 error of the best validation; None if the run was never validated."""
        found = self.points["validation/top1_error"]
        return min(found, key=lambda point: (point[1], point[0])) if found else None


def of_run(run: Run) -> Curves:
    """Reads a run's numbers from its metrics.jsonl. Raises UserError if it has none."""
    lines = report.read_metrics(run.workdir)
    with_epochs = [line for line in lines if line.get("epoch")]
    if not with_epochs:
        raise UserError(f"the run in {run.workdir} has no numbers yet (metrics.jsonl); train it first, or leave it out")
    steps_per_epoch = with_epochs[-1]["step"] / with_epochs[-1]["epoch"]
    points = points_by_epoch(lines, steps_per_epoch)
    return Curves(run.workdir.name, run.workdir, run.classes_in_data, {name: points[name] for name in NAMES})


def names_of(folders: Sequence[Path]) -> list[str]:
    """The names of the folders; folders with equal names get the parent's name in front."""
    names = [folder.name for folder in folders]
    return [
        f"{folder.parent.name}/{name}" if names.count(name) > 1 else name
        for name, folder in zip(names, folders, strict=True)
    ]


def make(runs: Sequence[Curves], place: Place) -> dict[str, Any]:
    """Draws all runs in one picture. Returns the last and the best numbers of each run."""
    names = names_of([one.workdir for one in runs])
    with drawing.styled():
        path = drawing.save(_drawn(runs, names), place)
    drawing.save_rows(place, ("run", "epoch", *NAMES), [row for one in runs for row in _rows(one)])
    results = []
    for name, one in zip(names, runs, strict=True):
        best = one.best
        error = f"best top-1 error {best[1]:.2%} at epoch {best[0]:.2f}" if best else "not validated yet"
        say(f"{name}: {error}")
        last = {what: points[-1][1] if points else None for what, points in one.points.items()}
        epoch = max(points[-1][0] for points in one.points.values() if points)
        found = {"best_top1_error": best[1] if best else None, "best_epoch": best[0] if best else None}
        results.append({"workdir": str(one.workdir), "epoch": epoch, **found, "last": last})
    return {"figure": "curves", "runs": results, "picture": path}


def _rows(one: Curves) -> list[list[Any]]:
    epochs = sorted({epoch for points in one.points.values() for epoch, _ in points})
    by_epoch = [dict(one.points[name]) for name in NAMES]
    return [[str(one.workdir), epoch, *(points.get(epoch, "") for points in by_epoch)] for epoch in epochs]


def _drawn(runs: Sequence[Curves], names: Sequence[str]) -> Figure:
    figure = Figure(figsize=(drawing.WIDTH, 3.6 + 0.18 * (-(-len(runs) // 3))), layout="constrained")
    losses, errors = figure.subplots(1, 2)
    several, top5 = len(runs) > 1, any(one.classes > TOP_K for one in runs)
    for number, (one, name) in enumerate(zip(runs, names, strict=True)):
        colour = drawing.SEVERAL[number % len(drawing.SEVERAL)]
        style = STYLES[number // len(drawing.SEVERAL) % len(STYLES)]
        _plot(losses, one.points["train/loss"], "training", color=colour, linestyle=style, linewidth=0.8, alpha=0.5)
        validation: dict[str, Any] = {"color": colour if several else drawing.VERMILION, "linestyle": style}
        _plot(losses, one.points["validation/loss"], "validation", linewidth=1.6, **validation)
        _plot(errors, one.points["validation/top1_error"], plain(name, 40), 100, linewidth=1.6, **validation)
        if one.classes > TOP_K:  # with five classes or fewer it is always 0
            _plot(errors, one.points["validation/top5_error"], "", 100, linewidth=0.8, **validation)
    for axes, label, title in (
        (losses, "loss (nats)", "thin: training, thick: validation"),
        (errors, "error (%)", f"validation, {'thick: ' if top5 else ''}top-1{', thin: top-5' if top5 else ''}"),
    ):
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.set_title(title)
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    handles, labels = errors.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _plot(axes: Axes, points: Points, label: str, scale: float = 1, **style: Any) -> None:
    if points:
        epochs, numbers = zip(*points, strict=True)
        marker = "." if len(points) < 40 and style["linewidth"] > 1 else ""
        axes.plot(epochs, [scale * number for number in numbers], label=label or None, marker=marker, **style)
