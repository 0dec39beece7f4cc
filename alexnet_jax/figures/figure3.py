"""Figure 3: the first layer's kernels in each tower and their colourfulness; for several runs a comparison."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from alexnet_jax.figures import drawing
from alexnet_jax.figures.drawing import Place
from alexnet_jax.inference.net import Net
from alexnet_jax.messages import UserError, say
from alexnet_jax.network import kernels
from alexnet_jax.network.kernels import Colour

INDEPENDENT = 2 / 3  # the opponent share of independently drawn weights


@dataclass(frozen=True)
class Kernels:
    """The first layer of a run.

    Attributes:
      name: of the run's folder.
      layer: its name in the network.
      towers: the kernels of each tower, float32 [kernels, size, size, 3].
      largest: the largest absolute weight of all towers, the scale of the picture.
      colours: the colourfulness of each tower.
    """

    name: str
    workdir: Path
    step: int
    layer: str
    towers: tuple[np.ndarray, ...]
    largest: float
    colours: tuple[Colour, ...]


def kernels_of(net: Net) -> Kernels:
    """The first layer's kernels. Raises UserError if a weight is not finite."""
    first, count = net.recipe.architecture.layers[0].name, net.recipe.architecture.towers
    kernel = np.asarray(jax.device_get(net.params[first]["kernel"]))
    if not np.isfinite(kernel).all():
        raise UserError(
            f"{first} of the checkpoint of step {net.step} in {net.workdir} has weights that are no numbers (NaN); "
            "take another checkpoint or run"
        )
    towers, largest = kernels.by_tower(kernel, count), float(np.abs(kernel).max())
    colours = tuple(kernels.colour(one, largest) for one in towers)
    return Kernels(net.workdir.name, net.workdir, net.step, first, tuple(towers), largest, colours)


def make(one: Kernels, place: Place) -> dict[str, Any]:
    """Draws the kernels of one run. Returns the figure's numbers."""
    with drawing.styled():
        path = drawing.save(_drawn(one), place)
    drawing.save_rows(place, HEAD, _rows(one))
    for number, colour in enumerate(one.colours, 1):
        say(_sentence(number, colour, len(one.towers)))
    return {**_as_json(one), "figure": "3", "picture": path}


def compare(every: Sequence[Kernels], place: Place) -> dict[str, Any]:
    """Draws both numbers for several runs. Returns them for each run."""
    with drawing.styled():
        path = drawing.save(_drawn_table(every), place)
    drawing.save_rows(place, HEAD, [row for one in every for row in _rows(one)])
    width = max(len(one.name) for one in every)
    say(f"{'run':{width}}  tower  kernels  mean saturation  energy in colours")
    for one in every:
        for number, colour in enumerate(one.colours, 1):
            numbers = f"{colour.kernels:>7}  {colour.saturation:>15.3f}  {colour.opponent_share:>17.1%}"
            say(f"{one.name:{width}}  {number:>5}  {numbers}")
    return {"figure": "3", "runs": [_as_json(one) for one in every], "picture": path}


HEAD = ("run", "step", "tower", "kernels", "mean_saturation", "opponent_share")


def _rows(one: Kernels) -> list[tuple[Any, ...]]:
    return [
        (str(one.workdir), one.step, tower, colour.kernels, colour.saturation, colour.opponent_share)
        for tower, colour in enumerate(one.colours, 1)
    ]


def _as_json(one: Kernels) -> dict[str, Any]:
    towers = [{"tower": number, **asdict(colour)} for number, colour in enumerate(one.colours, 1)]
    return {"towers": towers, "scale": one.largest, "layer": one.layer, "step": one.step, "workdir": str(one.workdir)}


def _sentence(number: int, colour: Colour, of: int) -> str:
    tower = f"tower {number}" if of > 1 else "one tower"
    return (
        f"{tower}: {colour.kernels} kernels, mean saturation {colour.saturation:.3f}, "
        f"{colour.opponent_share:.1%} of the energy in colour-opponent directions"
    )


def _drawn(one: Kernels) -> Figure:
    """Draws the towers below each other, as in the paper, each with its numbers under it."""
    sheets = [kernels.sheet(tower, one.largest) for tower in one.towers]
    width = sheets[0].shape[1]
    each = (drawing.WIDTH - 0.3) * sheets[0].shape[0] / width  # the height of a tower in inches
    figure = Figure(figsize=(drawing.WIDTH, 0.35 + len(sheets) * (each + 0.42)), layout="constrained")
    size = one.towers[0].shape[1]
    figure.suptitle(drawing.plain(f"{one.layer} of {one.name}, step {one.step}: kernels of {size}x{size}x3, one scale"))
    rows = figure.subplots(len(sheets), 1, squeeze=False)[:, 0]
    for number, (axes, sheet, colour) in enumerate(zip(rows, sheets, one.colours, strict=True), 1):
        axes.imshow(sheet, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.set_xlabel(_sentence(number, colour, len(sheets)), fontsize=9)
    return figure


def _drawn_table(every: Sequence[Kernels]) -> Figure:
    """Draws a row for each run: a mark for each tower, and a line between them."""
    figure = Figure(figsize=(drawing.WIDTH, 1.1 + 0.28 * len(every)), layout="constrained")
    figure.suptitle("colour in the first layer's kernels, by tower")
    axes = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(every))
    for side, name in zip(axes, ("saturation", "opponent_share"), strict=True):
        for place, one in zip(places, every, strict=True):
            numbers = [getattr(colour, name) for colour in one.colours]
            side.plot(numbers, [place] * len(numbers), color=drawing.GREY, linewidth=2, zorder=1)
            for tower, number in enumerate(numbers):
                colour, mark = ((drawing.BLUE, "o"), (drawing.VERMILION, "^"))[tower]
                side.plot(number, place, mark, color=colour, markersize=7, label=f"tower {tower + 1}")
        side.set_xlim(0, 1)
        side.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(places, [drawing.plain(one.name, 30) for one in every])
    axes[0].set_ylim(len(every) - 0.5, -0.5)
    axes[0].set_xlabel("mean saturation")
    axes[1].set_xlabel("share of the energy in colour-opponent directions")
    axes[1].axvline(INDEPENDENT, color=drawing.GREY, linestyle=":")
    axes[1].annotate(
        "independent weights", (INDEPENDENT, 1), xycoords=("data", "axes fraction"), ha="right", fontsize=7
    )
    handles, labels = axes[0].get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    axes[0].legend(named.values(), named.keys(), loc="best")
    return figure
