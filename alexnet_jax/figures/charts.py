"""Curves as inline SVG: the places of all points and ticks, which the page's template and script draw."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 440, 270  # of the drawing, in SVG units
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 38  # margins around the axes
MOST = 600  # points drawn of a series, at most
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    kind: str  # its class in the page's style sheet
    line: str  # the points of an SVG polyline
    marks: list[tuple[float, float]]  # the places of the points, if they are few


@dataclass(frozen=True)
class Chart:
    """A chart, in SVG units.

    Attributes:
      ticks_across, ticks_up: place and label of each tick.
      hover: JSON for the page's script: for each series its name and the [across, epoch, number] of its points.
    """

    title: str
    unit: str
    series: list[Series]
    ticks_across: list[tuple[float, str]]
    ticks_up: list[tuple[float, str]]
    hover: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def chart(title: str, unit: str, several: Sequence[tuple[str, str, Points]]) -> Chart | None:
    """Makes a chart of (name, style, (epoch, number) points); None if no series has a point."""
    drawn = [(name, kind, thinned(points)) for name, kind, points in several if points]
    if not drawn:
        return None
    most_across = max(epoch for _, _, points in drawn for epoch, _ in points) or 1.0
    most_up = max(number for _, _, points in drawn for _, number in points) or 1.0
    steps_across, steps_up = round_steps(most_across), round_steps(most_up)
    across = (WIDTH - LEFT - RIGHT) / most_across
    up = (HEIGHT - TOP - BOTTOM) / max(most_up * 1.04, steps_up[-1])

    def place(epoch: float, number: float) -> tuple[float, float]:
        return round(LEFT + epoch * across, 1), round(HEIGHT - BOTTOM - number * up, 1)

    series, hover = [], []
    for name, kind, points in drawn:
        places = [place(*point) for point in points]
        line = " ".join(f"{x:g},{y:g}" for x, y in places)
        series.append(Series(name, kind, line, places if len(places) <= 40 else []))
        hover.append([name, [[x, round(e, 3), round(n, 5)] for (x, _), (e, n) in zip(places, points, strict=True)]])
    return Chart(
        title,
        unit,
        series,
        [(place(at, 0)[0], f"{at:g}") for at in steps_across],
        [(place(0, at)[1], f"{at:g}") for at in steps_up],
        json.dumps(hover),
    )


def thinned(points: Points) -> list[tuple[float, float]]:
    """At most MOST of the finite points, evenly spaced; the last is always kept."""
    finite = [point for point in points if all(map(math.isfinite, point))]
    every = max(1, -(-len(finite) // MOST))
    return [point for at, point in enumerate(finite) if at % every == 0 or at == len(finite) - 1]


def round_steps(most: float) -> list[float]:
    """0 and up to six multiples of 1, 2 or 5 times a power of ten, up to `most`."""
    size = 10.0 ** math.floor(math.log10(most / 5))
    step = next(size * times for times in (1, 2, 5, 10, 20) if most / (size * times) <= 6)
    return [round(number * step, 12) for number in range(int(most / step + 1e-9) + 1)]
