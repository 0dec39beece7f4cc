"""`--mode=neighbours`: the training pictures whose features in fc7 are nearest (section 6.1, Figure 4)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data.prepared import contact_sheet
from alexnet_jax.files import new_file, require_free, whole
from alexnet_jax.inference import features_folder, inputs
from alexnet_jax.inference.decode_pool import Rejected
from alexnet_jax.inference.nearest import NEAREST, features_of_split, nearest
from alexnet_jax.inference.neighbour_sources import FeaturesFolder, Gallery, StoredSplit
from alexnet_jax.inference.net import Net, open_net
from alexnet_jax.messages import UserError, say
from alexnet_jax.modes import NeighboursInvocation
from alexnet_jax.modes.predict import read, require_some

LAYER = "fc7"
DRAWN = 50  # queries that are drawn and printed
PICTURE = "neighbours.png"  # in the run's folder, without --output


def run(config: ConfigDict | None, invocation: NeighboursInvocation) -> dict[str, Any]:
    """The six nearest pictures, of the training split or of `--features`, to each that the command line names.

    Raises:
      UserError: no picture is named or can be used, there is no run, the features are of another network, or the
        output cannot be written.
    """
    if invocation.output:
        require_free(invocation.output, invocation.overwrite)
        if Path(invocation.output).suffix.lower() != ".png":
            raise UserError(f"--output={invocation.output} is not FILE.png; give it that ending")
    pictures = inputs.pictures_of(invocation.files)
    net = open_net(invocation.workdir, config, "used for neighbours")
    folder = Path(invocation.features).expanduser().absolute() if invocation.features else None
    computed = FeaturesFolder(folder, net.config, net.digest(), LAYER) if folder else None
    rejected: list[Rejected] = []
    names: list[str] = []
    parts, centres = [], []
    batches = read(net, pictures, 1, net.batch_size(len(pictures)), rejected)
    for some, features in net.features_of(batches, [LAYER]):
        parts.append(features[LAYER])
        centres += list(some.batch.image[: len(some.names)])[: max(0, DRAWN - len(names))]
        names += some.names
    require_some(len(names), rejected)
    queries = np.concatenate(parts)
    _require_finite(queries, f"the checkpoint of step {net.step}")
    gallery, blocks = (computed, _blocks_of(computed)) if computed else _training_split(net)
    distances, rows = nearest(queries, blocks, NEAREST)
    found = _described(gallery, distances, rows)
    queried = [{"file": name, "neighbours": neighbours} for name, neighbours in zip(names, found, strict=True)]
    for query in queried[:DRAWN]:
        _show(query)
    picture = _save(_sheet(net, queried, centres, gallery, rows), invocation)
    result = {"queries": queried, "picture": picture, "rejected": [one._asdict() for one in rejected]}
    return {**result, "step": net.step, "workdir": str(net.workdir)}


def _training_split(net: Net) -> tuple[Gallery, Iterator[np.ndarray]]:
    """The run's training pictures, and their features as they are computed."""
    from alexnet_jax.data.prepared import prepare  # TensorFlow takes seconds to import, and --features needs none

    source, split = prepare.open_or_prepare(net.config), net.config.data.train_split
    return StoredSplit(net.config, source, split), features_of_split(net, source, split, LAYER)


def _blocks_of(folder: FeaturesFolder) -> Iterator[np.ndarray]:
    try:
        for block in features_folder.blocks_in(folder.file):
            rows = block.astype(np.float32)
            _require_finite(rows, str(folder.file))
            yield rows
    except (OSError, ValueError) as error:
        raise UserError(f"'{folder.file}' cannot be read ({error}); make it anew with --mode=features") from error


def _require_finite(features: np.ndarray, where: str) -> None:
    if not np.isfinite(features).all():
        raise UserError(f"{LAYER} of {where} has values that are not numbers (NaN); use another checkpoint or run")


def _described(gallery: Gallery, distances: np.ndarray, rows: np.ndarray) -> list[list[dict[str, Any]]]:
    """The neighbours of each query, with name, label, class and distance."""
    every = np.unique(rows).tolist()
    names = dict(zip(every, gallery.names(every), strict=True))
    labels = dict(zip(every, gallery.labels(every), strict=True))

    def described(row: int, distance: float) -> dict[str, Any]:
        label = labels[row]
        class_name = gallery.classes[label] if label is not None and label < len(gallery.classes) else None
        return {"name": names[row], "label": label, "class": class_name, "distance": distance}

    return [
        [described(row, distance) for row, distance in zip(*of_query, strict=True)]
        for of_query in zip(rows.tolist(), distances.tolist(), strict=True)
    ]


def _show(query: dict[str, Any]) -> None:
    """Prints a query's name, and a line for each neighbour."""
    say(query["file"])
    for near in query["neighbours"]:
        say(f"  {near['distance']:10.4g}  {near['class'] or '':12}  {near['name']}")


def _sheet(
    net: Net, queried: list[dict[str, Any]], centres: list[np.ndarray], gallery: Gallery, rows: np.ndarray
) -> Any:
    """A row for each query: the query, then its neighbours, the nearest first; grey where a picture is missing."""
    drawn = rows[: len(centres)]
    every = np.unique(drawn).tolist()
    pictures = dict(zip(every, gallery.centres(every), strict=True))
    grey = np.full_like(centres[0], 128)
    images = []
    for centre, near in zip(centres, drawn.tolist(), strict=True):
        found = [pictures[row] for row in near]
        images.append(np.stack([centre, *(grey if image is None else image for image in found)]))
    captions = [
        ["", *(f"{near['class'] or ''} {near['distance']:.3g}".strip() for near in query["neighbours"])]
        for query in queried[: len(centres)]
    ]
    some_of = f", {len(centres)} of {len(queried)} pictures" if len(centres) < len(queried) else ""
    title = f"{net.workdir.name}, step {net.step}: each picture and the nearest by {LAYER}{some_of}"
    return contact_sheet.draw(title, [query["file"] for query in queried[: len(centres)]], images, captions)


def _save(drawing: Any, invocation: NeighboursInvocation) -> str | None:
    """Writes the sheet. Returns its path, or None if the run's folder cannot be written, which a message says."""
    if invocation.output:
        with new_file(invocation.output, invocation.overwrite) as unfinished:
            drawing.save(unfinished, "PNG")
        return str(Path(invocation.output).expanduser().absolute())
    path = invocation.workdir / PICTURE
    try:
        with whole(path) as unfinished:
            drawing.save(unfinished, "PNG")
    except OSError as error:
        say(f"'{path}' cannot be written ({error.strerror or error}), so there is no sheet; name --output=FILE.png")
        return None
    return str(path)
