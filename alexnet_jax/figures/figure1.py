"""Figure 1: training error by epoch of the four-layer network, ReLUs against tanh units."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from alexnet_jax.messages import UserError, say
from alexnet_jax.runs import report
from alexnet_jax.runs.folder import open_run

TARGET = 0.25  # training error, the dotted line of the paper's figure
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)  # the grid that the fastest learning rate of each is taken from
ACTIVATIONS = ("relu", "tanh")


@dataclass(frozen=True)
class Curve:
    """A run's training error."""

    activation: str
    learning_rate: float
    data: str
    points: tuple[tuple[float, float], ...]  # epoch, and the error since the point before, as a fraction

    @property
    def epochs_to_target(self) -> float | None:
        """The first epoch whose error is the target or less; None if it was never reached."""
        return next((epoch for epoch, error in self.points if error <= TARGET), None)


def compare(folders: Sequence[Path], path: Path) -> dict[str, Any]:
    """Draws the fastest run of either kind of unit as the picture `path`, and returns the figure's numbers.

    Raises:
      UserError: a folder holds no run of the four layers, or there is none of one kind.
    """
    curves = [curve(folder) for folder in folders]
    best = {activation: fastest(curves, activation) for activation in ACTIVATIONS}
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(best, path)
    relu, tanh = (best[activation].epochs_to_target for activation in ACTIVATIONS)
    ratio = tanh / relu if relu and tanh else None
    said = f"{ratio:.1f} times fewer epochs with ReLUs" if ratio else "not both reached it"
    say(f"{TARGET:.0%} training error: {said} (paper: 6); {path}")
    return {
        "figure": 1,
        "data": best["relu"].data,
        **{f"{activation}_epochs": best[activation].epochs_to_target for activation in ACTIVATIONS},
        **{f"{activation}_learning_rate": best[activation].learning_rate for activation in ACTIVATIONS},
        "ratio": ratio,
        "picture": str(path),
    }


def curve(folder: Path) -> Curve:
    """What a run's folder holds. Raises UserError if there is no run of the four layers."""
    config = open_run(folder).config
    model = config["model"]
    if model["network"] != "four_layers":
        raise UserError(f"--runs names {folder}, which is no run of configs/cifar10.py; give such runs alone")
    lines = [line for line in report.read_metrics(folder) if "train/top1_error" in line]
    points = tuple((line["epoch"], line["train/top1_error"]) for line in lines)
    return Curve(model["activation"], config["optimizer"]["learning_rate"], config["data"]["name"], points)


def fastest(curves: list[Curve], activation: str) -> Curve:
    """The run that reached the target first, or came nearest. Raises UserError if there is none."""
    ours = [one for one in curves if one.activation == activation and one.points]
    if not ours:
        raise UserError(f"--runs has no run with {activation} units; train --config=configs/cifar10.py:{activation}")

    def merit(one: Curve) -> tuple[float, float]:
        reached = one.epochs_to_target
        return (float("inf") if reached is None else reached, min(error for _, error in one.points))

    return min(ours, key=merit)


def draw(best: dict[str, Curve], path: Path) -> None:
    """Both curves, and the line that they race to."""
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for activation, style in zip(ACTIVATIONS, ("-", "--"), strict=True):
        one = best[activation]
        reached = one.epochs_to_target
        label = f"{activation}, rate {one.learning_rate:g}: "
        label += f"{reached:.2f} epochs" if reached is not None else "not reached"
        axes.plot(*zip(*one.points, strict=True), style, color="black", label=label)
    axes.axhline(TARGET, color="tab:red", linewidth=1, linestyle=":")
    last = max((one.epochs_to_target or one.points[-1][0]) for one in best.values())
    axes.set_xlim(0, 1.5 * last)
    axes.set_ylim(0, 1)
    axes.set_xlabel("epoch")
    axes.set_ylabel("training error")
    axes.set_title(f"four layers on {best['relu'].data}")
    axes.legend()
    figure.savefig(path, dpi=120)
