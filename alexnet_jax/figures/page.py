"""A run on one page, report.html: a single file that needs no internet."""

import base64
import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from alexnet_jax.data.prepared.prepared_set import PreparedSet
from alexnet_jax.devices import towers
from alexnet_jax.figures import charts, confusion, curves, drawing, figure3, figure4, page_tables
from alexnet_jax.figures.drawing import Place
from alexnet_jax.inference import examples
from alexnet_jax.inference.nearest import features_of_rows
from alexnet_jax.inference.neighbour_sources import StoredSplit
from alexnet_jax.inference.net import Net
from alexnet_jax.loop import report
from alexnet_jax.messages import UserError, say
from alexnet_jax.network import kernels
from alexnet_jax.runs.folder import Run
from alexnet_jax.training.collectives import predict
from alexnet_jax.training.step import TOP_K

GALLERY = 10_000  # training pictures searched for neighbours, at most: a page must be quick to make
MATRIX = 20  # the page shows the matrix for at most so many classes
LISTED = 20  # confused pairs, and worst classes, at most
SMALL = 100  # pixels; a picture with longer sides becomes a JPEG
SHADES = 6  # of the matrix's cells, including none


@dataclass(frozen=True)
class Pictured:
    """What the page shows of the pictures, or why it shows none."""

    answers: list[figure4.Answer]
    queries: list[figure4.Query]
    confusions: confusion.Confusions | None
    among: str  # the training pictures searched for neighbours
    called: dict[str, str]
    why_not: str = ""


def make(net: Net, source: PreparedSet | None, why_not: str, place: Place) -> dict[str, Any]:
    """Writes the page of a run.

    Args:
      source: the run's pictures; None if they are not available.
      why_not: the reason, if they are not available.

    Raises:
      UserError: the page cannot be written.
    """
    started = time.monotonic()
    pictured = _pictured(net, source) if source else Pictured([], [], None, "", {}, why_not)
    text = _text(net, pictured)
    with drawing.whole(place, place.picture) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors="replace")
    seconds = time.monotonic() - started
    say(f"the run on one page: {place.picture}")
    found = pictured.confusions
    numbers = {"examples": int(found.examples.sum()), "errors": int(found.errors.sum())} if found else {}
    result = {"figure": "page", **numbers, "bytes": len(text.encode(errors="replace")), "seconds": round(seconds, 1)}
    return {**result, "step": net.step, "workdir": str(net.workdir), "picture": str(place.picture)}


def _pictured(net: Net, source: PreparedSet) -> Pictured:
    """Predicts eight pictures, finds the neighbours of five, and counts the confusions of the whole split."""
    split, train, seed = net.config.evaluate.split, net.config.data.train_split, net.config.train.seed
    found = confusion.of_split(net, source, split)
    size = net.batch_size(source.examples(split))  # one compiled program serves all parts
    chosen = examples.chosen(source.examples(split), seed)
    eight, five = (examples.from_split(net.config, source, split, rows) for rows in chosen)
    gallery, every = StoredSplit(net.config, source, train), source.examples(train)
    rows = gallery.some(GALLERY)
    blocks = features_of_rows(net, gallery, rows, figure4.layer_of(net))
    queries = figure4.queries(net, five, gallery, blocks, rows)
    among = (
        f"all {every:,} training pictures" if len(rows) == every else f"{len(rows):,} of {every:,} training pictures"
    )
    called = dict(zip(net.classes, examples.called(net.classes, net.workdir, source.folder), strict=True))
    return Pictured(figure4.answers(net, eight, size), queries, found, among, called)


def _text(net: Net, pictured: Pictured) -> str:
    """The page as HTML. Names of files and classes are escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["called"] = lambda name: pictured.called.get(name, name)
    lines = report.read_metrics(net.workdir)
    painted = figure3.kernels_of(net)
    settings = page_tables.settings(net.config)
    top5 = len(net.classes) > TOP_K  # with five classes or fewer it is always 0
    return environment.get_template("page.html").render(
        run=net.workdir.name,
        config=net.config,
        net=net,
        best=_best(lines, net.step),
        top5=top5,
        charts=_charts(net.run, top5),
        settings=settings,
        differing=[one for one in settings if one.differs],
        layers=page_tables.layers(net.recipe.architecture),
        kernels=[
            (_scaled(kernels.sheet(tower, painted.largest), 2), colour)
            for tower, colour in zip(painted.towers, painted.colours, strict=True)
        ],
        kernel_layer=painted.layer,
        pictured=pictured,
        image=_as_uri,
        layer=figure4.layer_of(net),
        matrix=_matrix(pictured.confusions),
        pairs=_pairs(pictured.confusions),
        worst=_worst(pictured.confusions),
        crossing=_crossing(net),
        mesh={"data": net.mesh.shape[towers.DATA], "model": net.mesh.shape[towers.MODEL]},
        devices=f"{net.mesh.devices.size} x {net.mesh.devices.flat[0].device_kind}",
        speed=page_tables.speed(lines),
        versions=page_tables.versions(),
        commands=page_tables.commands(net.config, net.workdir),
    )


def _best(lines: list[report.Line], step: int) -> report.Line | None:
    """The validation of the checkpoint that is shown; None if it was not validated."""
    found = [line for line in lines if line["step"] == step and "validation/loss" in line]
    return found[-1] if found else None


def _charts(run: Run, top5: bool) -> list[charts.Chart]:
    try:
        points = curves.of_run(run).points
    except UserError:  # an imported run has no numbers
        return []
    percent = {name: [(epoch, 100 * number) for epoch, number in some] for name, some in points.items()}
    loss = [("training", "a", points["train/loss"]), ("validation", "b", points["validation/loss"])]
    errors = [("top-1", "b", percent["validation/top1_error"])]
    if top5:
        errors.append(("top-5", "c", percent["validation/top5_error"]))
    found = (charts.chart("loss", "nats", loss), charts.chart("validation error", "%", errors))
    return [one for one in found if one]


def _matrix(found: confusion.Confusions | None) -> list[tuple[str, list[tuple[int, int]]]]:
    """For each class its name and (count, shade) cells; empty if there are more than MATRIX classes."""
    if found is None or len(found.classes) > MATRIX:
        return []
    matrix = found.matrix()
    shades = np.ceil((SHADES - 1) * matrix / np.maximum(found.examples[:, None], 1)).astype(int)
    rows = zip(found.classes, matrix.tolist(), shades.tolist(), strict=True)
    return [(name, list(zip(counts, shade, strict=True))) for name, counts, shade in rows]


def _pairs(found: confusion.Confusions | None) -> list[tuple[str, str, int, int]]:
    """(true class, guess, count, pictures of the true class) of the most confused pairs."""
    if found is None:
        return []
    names, of = found.classes, found.examples
    return [(names[a], names[b], count, int(of[a])) for a, b, count in found.pairs[:LISTED]]


def _worst(found: confusion.Confusions | None) -> list[tuple[str, int, int]]:
    if found is None:
        return []
    return [(found.classes[at], int(found.errors[at]), int(found.examples[at])) for at in found.worst[:LISTED]]


def _crossing(net: Net) -> dict[str, Any]:
    """The predicted exchange of each step on the run's mesh."""
    batch = net.config.train.batch_size
    listed = predict(net.recipe.architecture, net.mesh, batch, net.recipe.dtype)
    return {"listed": listed, "bytes": sum(one.bytes for one in listed), "batch": batch}


def _scaled(image: np.ndarray, times: int) -> np.ndarray:
    return image.repeat(times, axis=0).repeat(times, axis=1)


def _as_uri(image: np.ndarray) -> str:
    """A picture as a data URI: PNG if it is small or a wide sheet, otherwise JPEG."""
    kind = "png" if max(image.shape[:2]) <= SMALL or image.shape[1] > 2 * image.shape[0] else "jpeg"
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, kind, **({"quality": 85} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
