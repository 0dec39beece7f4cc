"""`--mode=features`: the activations of layers of a run's network for pictures, as arrays in a folder."""

import math
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.files import new_folder, require_free
from alexnet_jax.inference import inputs
from alexnet_jax.inference.decode_pool import Rejected, Some
from alexnet_jax.inference.features_folder import FeaturesWriter, file_of, is_ours
from alexnet_jax.inference.neighbour_sources import stored_batches
from alexnet_jax.inference.net import Net, open_net
from alexnet_jax.messages import UserError, say
from alexnet_jax.modes import FeaturesInvocation
from alexnet_jax.modes.predict import read, require_some


def run(config: ConfigDict | None, invocation: FeaturesInvocation) -> dict[str, Any]:
    """Writes NAME.npy for each stage with a row for each picture, names.txt and, for a split, labels.npy.

    The pictures are those that the command line names, or else the split `evaluate.split` of the run's data.

    Raises:
      UserError: no stage or output is named, the network has no such stage, the output cannot be written, no picture
        can be used, or there is no run.
    """
    layers = tuple(dict.fromkeys(invocation.layer))
    if not layers:
        raise UserError("--layer is missing; name stages of the network, such as --layer=fc7 or --layer=conv1/pool,fc6")
    if not invocation.output:
        raise UserError("--output is missing; name the folder to make")
    require_free(invocation.output, invocation.overwrite)
    pictures = inputs.pictures_of(invocation.files) if invocation.files else []
    net = open_net(invocation.workdir, config, "used for features")
    shapes = net.shapes(layers, invocation.reduce == "mean")
    rejected: list[Rejected] = []
    with (
        new_folder(invocation.output, invocation.overwrite, is_ours) as folder,
        FeaturesWriter(folder, shapes, invocation.dtype, labelled=not pictures) as writer,
    ):
        a_row = sum(map(math.prod, shapes.values()))
        if pictures:
            _require_room(folder, invocation, len(pictures) * a_row)
            size = net.batch_size(len(pictures), layers, invocation.reduce == "mean")
            _write(net, read(net, pictures, 1, size, rejected), layers, invocation, writer)
            require_some(writer.rows, rejected)
            about: dict[str, Any] = {"split": None}
        else:
            about = _of_split(net, layers, a_row, invocation, writer, folder)
        files = {layer: {"file": file_of(layer), "shape": [writer.rows, *shapes[layer]]} for layer in layers}
        about |= {"files": files, "dtype": invocation.dtype, "reduce": invocation.reduce, "network": net.digest()}
        writer.finish({**about, "step": net.step, "workdir": str(net.workdir)})
    is_one = len(layers) == 1
    return {
        "layer": layers[0] if is_one else list(layers),
        "shape": files[layers[0]]["shape"] if is_one else [files[layer]["shape"] for layer in layers],
        "output": str(Path(invocation.output).expanduser().absolute()),
        "rejected": [one._asdict() for one in rejected],
        "files": files,
        "step": net.step,
        "workdir": str(net.workdir),
    }


def _require_room(folder: Path, invocation: FeaturesInvocation, numbers: int) -> None:
    """Raises UserError if the disk has too little space for so many numbers."""
    needed, free = numbers * (2 if invocation.dtype == "float16" else 4), shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"--output={invocation.output} needs {needed / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB; name "
            "another disk or fewer layers, or use --reduce=mean or --dtype=float16"
        )


def _write(
    net: Net, batches: Iterator[Some], layers: tuple[str, ...], invocation: FeaturesInvocation, writer: FeaturesWriter
) -> None:
    say(f"{', '.join(layers)} with the checkpoint of step {net.step} of {net.workdir}")
    for some, made in net.features_of(batches, layers, invocation.reduce == "mean"):
        writer.append(some.names, made, some.batch.label[: len(some.names)])


def _of_split(
    net: Net, layers: tuple[str, ...], a_row: int, invocation: FeaturesInvocation, writer: FeaturesWriter, folder: Path
) -> dict[str, Any]:
    """Writes the features of all pictures of a split, in the order in which they are stored.

    Args:
      a_row: how many numbers are written for a picture.

    Returns:
      What features.json says of the pictures.
    """
    from alexnet_jax.data.prepared import prepare  # TensorFlow takes seconds to import, and files need none

    split = net.config.evaluate.split
    source = prepare.open_or_prepare(net.config)
    count = source.examples(split)
    _require_room(folder, invocation, count * a_row)
    size = net.batch_size(count, layers, invocation.reduce == "mean")
    with closing(stored_batches(net.config, source, split, size)) as batches:
        _write(net, batches, layers, invocation, writer)
    return {
        "split": split,
        "data": source.name,
        "prepared": str(source.folder),
        "listing": source.listing,
        "classes": source.classes,
    }
