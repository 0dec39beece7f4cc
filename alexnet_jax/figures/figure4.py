"""Figure 4: pictures with their five likeliest classes, and pictures with the nearest training pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_jax.figures import drawing
from alexnet_jax.figures.drawing import Place, plain
from alexnet_jax.inference.examples import Examples
from alexnet_jax.inference.nearest import NEAREST, nearest
from alexnet_jax.inference.neighbour_sources import Gallery
from alexnet_jax.inference.net import TOP, Net, Prediction
from alexnet_jax.messages import UserError, say
from alexnet_jax.network.views import VIEWS

COLUMNS = 4  # predicted pictures in a row
LETTERS = 15  # of a class's name in a bar, at most
# In inches: a predicted picture with its bars (width, height), the picture's side, the distance between neighbours,
# the distance between queries, the margin at the sides, and the margin above the pictures.
CELL, PICTURE, STEP, ROW, EDGE, TOP_EDGE = (1.07, 1.98), 1.0, 0.54, 0.78, 0.04, 0.55


@dataclass(frozen=True, eq=False)
class Answer:
    """A picture and the classes that the network finds likeliest."""

    file: str
    image: np.ndarray  # uint8 [crop, crop, 3]
    label: int | None
    of_class: str | None  # the true class, if known
    top: Prediction


@dataclass(frozen=True, eq=False)
class Near:
    """A training picture near to a query."""

    name: str
    image: np.ndarray | None
    label: int | None
    of_class: str | None
    distance: float


@dataclass(frozen=True, eq=False)
class Query:
    """A picture and the training pictures nearest to it, the nearest first."""

    file: str
    image: np.ndarray
    label: int | None
    of_class: str | None
    near: list[Near]


def layer_of(net: Net) -> str:
    """The layer whose outputs are compared: fc7, or in a network without fc7 the last layer before the classes."""
    names = [layer.name for layer in net.recipe.architecture.layers]
    return "fc7" if "fc7" in names else names[-2]


def answers(net: Net, shown: Examples, size: int = 0) -> list[Answer]:
    """The five likeliest classes of each picture, on as many views as the run's config says.

    Args:
      size: the batch size on the devices; 0: chosen by the number of pictures.

    Raises:
      UserError: the network's probabilities are not finite.
    """
    views, data = net.config.evaluate.views, net.config.data
    batches = shown.batches(data, size or net.batch_size(len(shown.names)), whole=views == VIEWS)
    tops = [net.likeliest(row) for _, rows in net.probabilities_of(batches, views) for row in rows]
    of_class = [None if label is None else net.classes[label] for label in shown.labels]
    parts = (shown.names, shown.centres(data), shown.labels, of_class, tops)
    return [Answer(*each) for each in zip(*parts, strict=True)]


def queries(
    net: Net, shown: Examples, gallery: Gallery, blocks: Iterator[np.ndarray], rows: Sequence[int]
) -> list[Query]:
    """The six pictures of the gallery nearest to each picture, by the layer of `layer_of`.

    Args:
      blocks: the gallery's features, float32 [rows, units] each.
      rows: the rows of these pictures in the gallery, in the order of the blocks.

    Raises:
      UserError: the network's outputs are not finite.
    """
    layer, data = layer_of(net), net.config.data
    batches = shown.batches(data, net.batch_size(len(rows), [layer]))  # the batch size of the gallery
    ours = np.concatenate([made[layer].reshape(len(made[layer]), -1) for _, made in net.features_of(batches, [layer])])
    if not np.isfinite(ours).all():
        raise UserError(
            f"{layer} of the checkpoint of step {net.step} in {net.workdir} has values that are no numbers (NaN); take "
            "another checkpoint or run"
        )
    distances, places = nearest(ours, blocks, NEAREST)
    found = np.asarray(rows)[places]
    some = np.unique(found).tolist()
    known = zip(some, gallery.names(some), gallery.centres(some), gallery.labels(some), strict=True)
    by_row = {row: (name, image, label, _class(gallery, label)) for row, name, image, label in known}
    near = [
        [Near(*by_row[row], distance) for row, distance in zip(of_query, far, strict=True)]
        for of_query, far in zip(found.tolist(), distances.tolist(), strict=True)
    ]
    of_class = [None if label is None else net.classes[label] for label in shown.labels]
    parts = (shown.names, shown.centres(data), shown.labels, of_class, near)
    return [Query(*each) for each in zip(*parts, strict=True)]


def _class(gallery: Gallery, label: int | None) -> str | None:
    return gallery.classes[label] if label is not None and label < len(gallery.classes) else None


def make(
    title: str, predicted: list[Answer], queried: list[Query], called: dict[str, str], place: Place
) -> dict[str, Any]:
    """Draws both parts. Returns the figure's numbers.

    Args:
      called: the readable name of each class.
    """
    with drawing.styled():
        path = drawing.save(_drawn(title, predicted, queried, called), place)
    drawing.save_rows(place, HEAD, _rows(predicted, queried))
    for one in predicted:
        first = f"{one.top[0][0]} {one.top[0][1]:.1%}"
        say(f"{one.file}: {first}{f', and it is {one.of_class}' if one.of_class is not None else ''}")
    return {
        "figure": "4",
        "predictions": [
            {
                "file": one.file,
                "label": one.label,
                "class": one.of_class,
                "top5": [{"class": name, "probability": p} for name, p in one.top],
            }
            for one in predicted
        ],
        "queries": [
            {
                "file": one.file,
                "label": one.label,
                "class": one.of_class,
                "neighbours": [
                    {"name": near.name, "label": near.label, "class": near.of_class, "distance": near.distance}
                    for near in one.near
                ],
            }
            for one in queried
        ],
        "picture": path,
    }


HEAD = ("part", "file", "true_class", "rank", "class", "probability", "neighbour", "distance")


def _rows(predicted: list[Answer], queried: list[Query]) -> Iterator[tuple[Any, ...]]:
    for one in predicted:
        for rank, (name, probability) in enumerate(one.top, 1):
            yield "prediction", one.file, one.of_class or "", rank, name, probability, "", ""
    for query in queried:
        for rank, near in enumerate(query.near, 1):
            yield "neighbour", query.file, query.of_class or "", rank, near.of_class or "", "", near.name, near.distance


def _drawn(title: str, predicted: list[Answer], queried: list[Query], called: dict[str, str]) -> Figure:
    """Draws predictions on the left and neighbours on the right, as in the paper. All places are in inches."""
    columns = min(COLUMNS, len(predicted))
    middle = EDGE + max(columns, 2) * CELL[0] + 0.16
    width = middle + (NEAREST + 1) * STEP + EDGE
    below = max(-(-len(predicted) // columns) * CELL[1], len(queried) * ROW)
    height = TOP_EDGE + below
    figure = Figure(figsize=(width, height))

    def axes_at(left: float, top: float, across: float, down: float) -> Axes:
        axes = figure.add_axes((left / width, 1 - (top + down) / height, across / width, down / height))
        axes.set_axis_off()
        return axes

    figure.text(0.5, 1 - 0.14 / height, plain(title, 110), ha="center", va="center", fontsize=10)
    likeliest = f"the {TOP} likeliest classes, ✓ the true one"
    for left, text in ((EDGE, likeliest), (middle, f"pictures and their {NEAREST} nearest training pictures")):
        figure.text(left / width, 1 - 0.38 / height, text, va="center", fontsize=8.5)
    for number, one in enumerate(predicted):
        row, column = divmod(number, COLUMNS)
        left, top = EDGE + column * CELL[0], TOP_EDGE + row * CELL[1]
        axes = axes_at(left, top + 0.17, PICTURE, PICTURE)
        _show(axes, one.image)
        axes.set_title(_known(one.of_class, called, LETTERS + 3), fontsize=8, pad=2)
        _bars(axes_at(left, top + PICTURE + 0.21, PICTURE, 0.7), one, called)
    for row, query in enumerate(queried):
        top = TOP_EDGE + 0.1 + row * ROW
        first = axes_at(middle, top, STEP - 0.04, STEP - 0.04)
        _show(first, query.image)
        _caption(first, _known(query.of_class, called, 9), weight="bold")
        for column, near in enumerate(query.near, 1):
            axes = axes_at(middle + column * STEP, top, STEP - 0.04, STEP - 0.04)
            if near.image is not None:
                _show(axes, near.image)
            other = query.of_class is not None and near.of_class != query.of_class
            name = _known(near.of_class, called, 9)
            _caption(axes, f"✗ {name}" if other else name, color=drawing.VERMILION if other else "black")
    return figure


def _known(name: str | None, called: dict[str, str], letters: int) -> str:
    return "" if name is None else plain(called.get(name, name), letters)


def _show(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image, interpolation="nearest" if image.shape[0] < 48 else "antialiased")


def _caption(axes: Axes, text: str, **style: Any) -> None:
    axes.text(0.5, -0.04, text, transform=axes.transAxes, ha="center", va="top", fontsize=7, **style)


def _bars(axes: Axes, one: Answer, called: dict[str, str]) -> None:
    """Draws a bar with its name for each class; colour, tick and bold letters mark the true class."""
    for place, (name, probability) in enumerate(one.top):
        right = name == one.of_class
        axes.barh(place, probability, height=0.84, color=drawing.ORANGE if right else drawing.SKY)
        style: dict[str, Any] = {"va": "center_baseline", "fontsize": 7, "weight": "bold" if right else "normal"}
        axes.text(0.02, place, f"{'✓ ' if right else ''}{_known(name, called, LETTERS)}", ha="left", **style)
        axes.text(1, place, f"{probability:.0%}" if probability >= 0.005 else "<1%", ha="right", **style)
    axes.set_xlim(0, 1)
    axes.set_ylim(TOP - 0.5, -0.5)
