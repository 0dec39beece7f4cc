"""Figure 1: training error by epoch of the four-layer network, ReLUs against tanh units, over several seeds."""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_jax.loop import report
from alexnet_jax.messages import UserError, say
from alexnet_jax.runs.folder import open_run

TARGET = 0.25  # training error, the dotted line of the paper's figure
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)  # the learning rates that each activation is trained at
ACTIVATIONS = ("relu", "tanh")
NAMES = {"relu": "ReLUs", "tanh": "tanh units"}
SEEDS = 5  # runs at the fastest rate of each activation
WINDOW = 1000  # pictures in a mean, at least: with fewer the first crossing is luck


@dataclass(frozen=True)
class Curve:
    """A run's training error.

    Attributes:
      points: (epoch, error) pairs; the error is a fraction, a mean over at least `WINDOW` pictures around the epoch.
    """

    activation: str
    learning_rate: float
    seed: int
    data: str
    points: tuple[tuple[float, float], ...]

    @property
    def epochs_to_target(self) -> float:
        """The first epoch at which the error is at most the target; infinite if the error never is."""
        return next((epoch for epoch, error in self.points if error <= TARGET), math.inf)

    @property
    def merit(self) -> tuple[float, float]:
        """Sorts runs, the fastest first; among those that never reach the target, the lowest error first."""
        return self.epochs_to_target, min((error for _, error in self.points), default=1.0)


def compare(curves: Sequence[Curve], path: Path) -> dict[str, Any]:
    """Draws the runs at the fastest rate of each activation into `path`. Returns the numbers.

    The fastest rate is the one with the lowest median, among the rates that were run with the most seeds.

    Raises:
      UserError: an activation has no run.
    """
    best = {activation: fastest(curves, activation) for activation in ACTIVATIONS}
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(best, path)
    result: dict[str, Any] = {"figure": 1, "data": best["relu"][0].data, "pictures": WINDOW}
    for activation, runs in best.items():
        epochs = sorted(one.epochs_to_target for one in runs)
        result[f"{activation}_epochs"] = _finite(statistics.median(epochs))
        result[f"{activation}_epochs_of_seeds"] = {one.seed: _finite(one.epochs_to_target) for one in runs}
        result[f"{activation}_learning_rate"] = runs[0].learning_rate
        say(f"{TARGET:.0%} training error with {NAMES[activation]} at {runs[0].learning_rate:g}: {_epochs(runs)}")
    relu, tanh = (result[f"{activation}_epochs"] for activation in ACTIVATIONS)
    ratio = tanh / relu if relu and tanh else None
    said = f"{ratio:.1f} times fewer epochs with ReLUs" if ratio else "not both reached it"
    say(f"{said} (paper: 6), medians of {len(best['relu'])} and {len(best['tanh'])} seeds; {path}")
    return {**result, "ratio": ratio, "picture": str(path)}


def _finite(epochs: float) -> float | None:
    return epochs if math.isfinite(epochs) else None


def _epochs(runs: Sequence[Curve]) -> str:
    """The median and the range of the epochs to the target, as text."""
    epochs = sorted(one.epochs_to_target for one in runs)
    low, middle, high = (
        f"{one:.2f}" if math.isfinite(one) else "never" for one in (epochs[0], statistics.median(epochs), epochs[-1])
    )
    if middle == "never":
        return middle
    return f"{middle} epochs ({low} to {high})" if len(runs) > 1 else f"{middle} epochs"


def curve(folder: Path) -> Curve:
    """Opens a run and reads its training error. Raises UserError if it is not a run of the four-layer network."""
    return curve_of(folder, open_run(folder).config)


def curve_of(folder: Path, config: Mapping[str, Any]) -> Curve:
    """Reads the training error of the run in `folder`, trained with `config`. Raises UserError as `curve`."""
    model = config["model"]
    if model["network"] != "four_layers":
        raise UserError(f"--runs names {folder}, which is not a run of configs/cifar10.py; name only such runs")
    lines = [line for line in report.read_metrics(folder) if "train/top1_error" in line]
    points = smoothed(lines, config["train"]["batch_size"])
    rate, seed = config["optimizer"]["learning_rate"], config["train"]["seed"]
    return Curve(model["activation"], rate, seed, config["data"]["name"], points)


def smoothed(lines: Sequence[report.Line], batch_size: int) -> tuple[tuple[float, float], ...]:
    """The mean error over the fewest reports that cover `WINDOW` pictures, at the epoch in their middle."""
    steps, epochs, wrong = [0.0], [0.0], [0.0]  # at each report; `wrong` is the sum of the errors so far
    found = []
    for line in lines:
        wrong.append(wrong[-1] + line["train/top1_error"] * (line["step"] - steps[-1]))
        steps.append(line["step"])
        epochs.append(line["epoch"])
        first = [i for i, step in enumerate(steps) if (steps[-1] - step) * batch_size >= WINDOW]
        if first:
            since = first[-1]
            mean = (wrong[-1] - wrong[since]) / (steps[-1] - steps[since])
            found.append(((epochs[-1] + epochs[since]) / 2, mean))
    return tuple(found)


def fastest(curves: Sequence[Curve], activation: str) -> list[Curve]:
    """The runs at the fastest rate, sorted by seed. Raises UserError if no run has the activation."""
    by_rate: dict[float, list[Curve]] = defaultdict(list)
    for one in curves:
        if one.activation == activation and one.points:
            by_rate[one.learning_rate].append(one)
    if not by_rate:
        raise UserError(f"--runs has no run with {activation} units; train --config=configs/cifar10.py:{activation}")
    most = max(map(len, by_rate.values()))
    candidates = [sorted(runs, key=lambda one: one.merit) for runs in by_rate.values() if len(runs) == most]
    best = min(candidates, key=lambda runs: runs[len(runs) // 2].merit)
    return sorted(best, key=lambda one: one.seed)


def draw(best: dict[str, list[Curve]], path: Path) -> None:
    """Draws all runs of both activations, the median runs in bold with their crossing of the target line."""
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.subplots()
    last = 0.0
    for activation, style, colour in zip(ACTIVATIONS, ("-", "--"), ("tab:blue", "tab:orange"), strict=True):
        runs = sorted(best[activation], key=lambda one: one.merit)
        middle = runs[(len(runs) - 1) // 2]
        for one in runs:
            style_of_run: dict[str, Any] = {"alpha": 0.25, "linewidth": 1}
            if one is middle:
                label = f"{NAMES[activation]}, rate {one.learning_rate:g}: {TARGET:.0%} after {_epochs(runs)}"
                style_of_run = {"linewidth": 2, "label": label}
            axes.plot([e for e, _ in one.points], [100 * x for _, x in one.points], style, color=colour, **style_of_run)
        last = max(last, *(one.epochs_to_target for one in runs if math.isfinite(one.epochs_to_target)), 0.0)
        _mark(axes, middle, colour)
    last = last or max(one.points[-1][0] for runs in best.values() for one in runs)
    axes.axhline(100 * TARGET, color="tab:red", linewidth=1, linestyle=":")
    axes.set_xlim(0, 1.5 * last)
    axes.set_ylim(0, 100)
    axes.text(1.49 * last, 100 * TARGET + 1, f"{TARGET:.0%}", color="tab:red", ha="right", va="bottom")
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"training error (%), means over {WINDOW:,} pictures")
    axes.set_title(f"four layers on {best['relu'][0].data}, {max(map(len, best.values()))} seeds")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def _mark(axes: Axes, one: Curve, colour: str) -> None:
    """Marks the point where the curve first reaches the target, and writes its epoch below it."""
    epoch = one.epochs_to_target
    if math.isfinite(epoch):
        height = 100 * dict(one.points)[epoch]
        axes.plot(epoch, height, "o", color=colour)
        axes.plot([epoch, epoch], [0, height], color=colour, linewidth=0.8)
        axes.annotate(f"{epoch:.2f}", (epoch, 2), xytext=(3, 0), textcoords="offset points", color=colour)
