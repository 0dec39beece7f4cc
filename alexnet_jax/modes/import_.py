"""`--mode=import`: a run from weights that another program trained, or that this one exported."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32
from ml_collections import ConfigDict

from alexnet_jax.config import config_file
from alexnet_jax.config.config import check_config, config_of, differences, network_of, number_of_classes
from alexnet_jax.config.fields import NETWORK_FIELDS, with_later_fields
from alexnet_jax.data.prepared.statistics import Statistics
from alexnet_jax.messages import UserError, say
from alexnet_jax.modes import IMPORTED, ImportInvocation
from alexnet_jax.network.architecture import LRN, Architecture, MaxPool
from alexnet_jax.runs.create import require_empty, write_run
from alexnet_jax.weights import caffe_export, caffe_import, caffe_settings, class_names, pytorch, safetensors_run
from alexnet_jax.weights.axis_order import Arrays, MapsFirstLayer, from_maps_first, layer_rows, maps_first_shape

CAFFE, CAFFENET, TORCHVISION = (f"configs/alexnet.py:{variant}" for variant in ("caffe", "caffenet", "torchvision"))
CAFFE_MEAN = (104.0, 117.0, 123.0)  # B, G, R of ImageNet 2012, rounded, as in Caffe's own examples


@dataclass(frozen=True)
class Imported:
    """What a file of weights, with the flags, gives for a run."""

    config: ConfigDict
    arrays: Arrays
    statistics: Statistics
    classes: tuple[str, ...]


def run(config: ConfigDict | None, invocation: ImportInvocation) -> dict[str, Any]:
    """Makes the run. Raises UserError, and leaves nothing behind, if the weights do not fit the network."""
    if invocation.format not in IMPORTED:
        problem = f"={invocation.format} cannot be imported" if invocation.format else " is missing"
        raise UserError(f"--format{problem}; give one of {', '.join(IMPORTED)}")
    if not invocation.weights:
        raise UserError("--weights is missing; give the file of the weights")
    if invocation.mean and invocation.format != "caffe":
        raise UserError(f"--mean is only for --format=caffe; leave it out with --format={invocation.format}")
    require_empty(invocation.workdir)
    path = _absolute(invocation.weights)
    read = {"caffe": _read_caffe, "torchvision": _read_torchvision, "safetensors": _read_own}[invocation.format]
    imported = read(config, path, invocation)
    check_config(imported.config)
    _require_finite(imported.arrays, path)
    _write_run(imported, invocation.workdir)
    say(f"{imported.config.name} with the weights of {path} is now a run in {invocation.workdir}")
    rows = layer_rows(network_of(imported.config, number_of_classes(imported.config, len(imported.classes))))
    return {
        "workdir": str(invocation.workdir),
        "parameters": sum(row.parameters for row in rows),
        "layers": [{"name": row.name, "parameters": row.parameters} for row in rows],
    }


def _write_run(imported: Imported, workdir: Path) -> None:
    if imported.config.augment.lighting_stddev and not imported.statistics.rgb_covariance.any():
        say("the weights come without a covariance of colours, so training on from them has no PCA lighting")
    params = jax.tree.map(jnp.asarray, dict(imported.arrays))
    synsets, words = class_names.imagenet()
    known_words = words if imported.classes == synsets else ()
    write_run(workdir, imported.config, imported.statistics, imported.classes, known_words, params)


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))


def _read_caffe(config: ConfigDict | None, path: Path, invocation: ImportInvocation) -> Imported:
    model = caffe_import.read_caffemodel(path)
    if config is None:
        if not model.first:
            say(
                "neither the file nor --config says whether pooling or normalisation comes first: the order of "
                "bvlc_alexnet is assumed"
            )
        config = config_file.of_checkout(CAFFENET if model.first == "Pooling" else CAFFE)
    net = _network(config, model.layers)
    arrays = from_maps_first(net, caffe_import.in_own_form(net, model.layers), str(path), config.name)
    _require_same_settings(net, model, path, config.name)
    config, statistics = _caffe_mean(config, invocation.mean)
    return Imported(config, arrays, statistics, class_names.class_names(net.classes, invocation.classes))


def _require_same_settings(net: Architecture, model: caffe_import.Model, path: Path, network: str) -> None:
    """Raises UserError if the file gives settings that differ from those of the network as Caffe would compute it."""
    types = {LRN: "LRN", MaxPool: "Pooling"}
    ours = caffe_import.first_of_two([types.get(type(operation), "") for operation in net.layers[0].then])
    if model.first and model.first != ours:
        raise UserError(
            f"--weights={path} is of another network: its layer 1 has {model.first} first where {network} has "
            f"{ours or 'not both'}; give --config={CAFFENET if model.first == 'Pooling' else CAFFE}, or leave --config "
            "out"
        )
    zeros = [
        MapsFirstLayer(row.name, np.zeros(maps_first_shape(row), np.float32), np.zeros(0)) for row in layer_rows(net)
    ]
    try:
        expected = caffe_export.network(net, zeros, network).settings()
    except UserError:  # Caffe could not compute this network
        return
    if differs := caffe_settings.difference(model.settings, expected):
        raise UserError(
            f"--weights={path} is of another network than {network}: {differs}; name its network with --config=FILE"
        )


def _caffe_mean(config: ConfigDict, mean: str) -> tuple[ConfigDict, Statistics]:
    """The config and statistics with the mean image of a file, or with B, G, R from the flag, the config or Caffe."""
    numbers = [_number(part) for part in mean.split(",")]
    if mean and None in numbers:
        image = caffe_import.read_mean(_absolute(mean))
        if image.shape[:2] != (1, 1):
            return _with_mean(config, ()), _statistics(config, image, np.zeros((3, 3)))
        numbers = [float(x) for x in image[0, 0, ::-1]]
    elif not mean:
        numbers = list(config.data.mean_rgb[::-1] or CAFFE_MEAN)
        say(f"no --mean is given: subtracting {numbers[0]:g}, {numbers[1]:g} and {numbers[2]:g} from B, G and R")
    if len(numbers) != 3:
        raise UserError(f"--mean={mean} has {len(numbers)} numbers; give three, B,G,R, or a .binaryproto")
    rgb = tuple(float(x) for x in reversed(numbers) if x is not None)
    return _with_mean(config, rgb), _constant_mean(config, rgb)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _with_mean(config: ConfigDict, rgb: tuple[float, ...]) -> ConfigDict:
    """The config with this mean, if it sets one itself; a config that leaves the mean to the data is unchanged."""
    changed = config.copy_and_resolve_references()
    changed.data.mean_rgb = rgb if config.data.mean_rgb else ()
    return changed


def _statistics(config: ConfigDict, mean_image: np.ndarray, rgb_covariance: np.ndarray) -> Statistics:
    side = config.data.resize
    if mean_image.shape != (side, side, 3):
        raise UserError(
            f"the mean image has the shape {mean_image.shape}, but the network's pictures have {(side, side, 3)}; give "
            "another mean, or set --config.data.resize"
        )
    return Statistics(mean_image, rgb_covariance)


def _constant_mean(config: ConfigDict, rgb: tuple[float, ...]) -> Statistics:
    """Statistics of a mean image with one colour, and no covariance."""
    side = config.data.resize
    image: Float32[np.ndarray, "side side 3"] = np.tile(np.asarray(rgb, np.float32), (side, side, 1))
    return Statistics(image, np.zeros((3, 3)))


def _read_torchvision(config: ConfigDict | None, path: Path, invocation: ImportInvocation) -> Imported:
    config = config or config_file.of_checkout(TORCHVISION)
    names = [layer.name for layer in network_of(config, number_of_classes(config)).layers]
    layers = pytorch.read_state_dict(path, names)
    net = _network(config, layers)
    if not config.data.mean_rgb:
        raise UserError(
            f"{config.name} has no mean, and a state dict has none either; set --config.data.mean_rgb=(R,G,B)"
        )
    arrays = from_maps_first(net, layers, str(path), config.name)
    classes = class_names.class_names(net.classes, invocation.classes)
    return Imported(config, arrays, _constant_mean(config, tuple(config.data.mean_rgb)), classes)


def _read_own(config: ConfigDict | None, path: Path, invocation: ImportInvocation) -> Imported:
    contents = safetensors_run.read(path)
    saved = with_later_fields(contents.config)
    if config is not None:
        differing = differences(config, saved, NETWORK_FIELDS, ("in --config", "in the file"))
        if differing:
            raise UserError(f"--weights={path} is of another network: {'; '.join(differing)}; leave --config out")
    config = config or config_of(saved)
    check_config(config)
    classes = contents.classes
    if invocation.classes:
        classes = class_names.class_names(len(classes), invocation.classes)
    net = network_of(config, number_of_classes(config, len(classes)))
    arrays = safetensors_run.parameters(net, contents.arrays, str(path), config.name)
    return Imported(config, arrays, _statistics(config, contents.mean_image, contents.rgb_covariance), classes)


def _network(config: ConfigDict, layers: Sequence[MapsFirstLayer]) -> Architecture:
    """The config's network with as many classes as the last layer has outputs."""
    return network_of(config, number_of_classes(config, max(2, len(layers[-1].bias))))


def _require_finite(arrays: Arrays, path: Path) -> None:
    for layer, of_layer in arrays.items():
        for name, array in of_layer.items():
            if not np.isfinite(array).all():
                raise UserError(f"--weights={path}: the {name} of {layer} has NaN or infinity; get the file again")
