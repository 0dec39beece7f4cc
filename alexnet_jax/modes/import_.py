"""`--mode=import`: a run from weights that were trained elsewhere, or exported from here."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32
from ml_collections import ConfigDict

from alexnet_jax.config import config_file
from alexnet_jax.config.config import OF_THE_NETWORK, check_config, config_of, differences, network_of
from alexnet_jax.config.earlier import with_added_fields
from alexnet_jax.data.prepared.statistics import Statistics
from alexnet_jax.messages import UserError, say
from alexnet_jax.modes import IMPORTED, Invocation
from alexnet_jax.network.architecture import LRN, Architecture, Conv, MaxPool
from alexnet_jax.runs.create import require_free, write_run
from alexnet_jax.weights import caffe, caffe_export, caffe_geometry, class_names, pytorch, safetensors_run
from alexnet_jax.weights.axis_order import Arrays, Foreign, foreign_shape, from_foreign, layer_rows

CAFFE, CAFFENET, TORCHVISION = (f"configs/alexnet.py:{variant}" for variant in ("caffe", "caffenet", "torchvision"))
CAFFE_MEAN = (104.0, 117.0, 123.0)  # B, G, R of ImageNet 2012, rounded, as Caffe's own examples have it


def run(config: ConfigDict | None, invocation: Invocation) -> dict[str, Any]:
    """Makes the run. Raises UserError, and leaves nothing behind, if the weights are not the network's."""
    if invocation.format not in IMPORTED:
        what = f"={invocation.format} cannot be imported" if invocation.format else " is missing"
        raise UserError(f"--format{what}; give one of {', '.join(IMPORTED)}")
    if not invocation.weights:
        raise UserError("--weights is missing; give the file of the weights")
    require_free(invocation.workdir)
    path = Path(os.path.abspath(os.path.expanduser(invocation.weights)))
    reader = {"caffe": _of_caffe, "torchvision": _of_torchvision, "safetensors": _of_ours}[invocation.format]
    config, arrays, statistics, classes = reader(config, path, invocation)
    check_config(config)
    net = network_of(config, config.model.classes or len(classes))
    _require_finite(arrays, path)
    if config.augment.lighting_stddev and not statistics.rgb_covariance.any():
        say("the weights come without a covariance of colours: going on with this run has no PCA lighting")
    params = jax.tree.map(jnp.asarray, dict(arrays))
    synsets, words = class_names.imagenet()
    write_run(invocation.workdir, config, statistics, classes, words if classes == synsets else (), params)
    layers = [{"name": row.name, "parameters": row.parameters} for row in layer_rows(net)]
    say(f"{config.name} with the weights of {path} is a run in {invocation.workdir}")
    return {
        "workdir": str(invocation.workdir),
        "parameters": sum(row.parameters for row in layer_rows(net)),
        "layers": layers,
    }


Imported = tuple[ConfigDict, Arrays, Statistics, tuple[str, ...]]


def _of_caffe(config: ConfigDict | None, path: Path, invocation: Invocation) -> Imported:
    model = caffe.read_caffemodel(path)
    if config is None:
        if not model.first:
            say("neither the file nor --config says whether it pools or normalises first: bvlc_alexnet is taken")
        config = config_file.of_checkout(CAFFENET if model.first == "Pooling" else CAFFE)
    net = _network(config, model.layers)
    layers = list(model.layers)
    for place, (row, layer) in enumerate(zip(layer_rows(net), layers, strict=False)):
        if isinstance(row.layer, Conv):
            kernel = caffe_export.without_padding(layer.kernel, row.layer.size, row.layer.padding)
            layers[place] = Foreign(layer.name, kernel, layer.bias)
    arrays = from_foreign(net, layers, str(path), config.name)
    _require_same_settings(net, model, path, config.name)
    first = net.layers[0].name
    kernel = np.ascontiguousarray(arrays[first]["kernel"][:, :, ::-1])  # B, G, R to R, G, B
    arrays = {**arrays, first: {**arrays[first], "kernel": kernel}}
    config, statistics = _caffe_mean(config, invocation.mean)
    return config, arrays, statistics, class_names.class_names(net.classes, invocation.classes)


def _require_same_settings(net: Architecture, model: caffe.Model, path: Path, network: str) -> None:
    """What the file says beside the weights must be what the network is in Caffe's words, where it has any there."""
    ours = _first_of_two(net)
    if model.first and model.first != ours:
        raise UserError(
            f"--weights={path} is of another network: its layer 1 has {model.first} first where {network} has "
            f"{ours or 'not both'}; give --config={CAFFENET if model.first == 'Pooling' else CAFFE}, or none"
        )
    blank = [Foreign(row.name, np.zeros(foreign_shape(row), np.float32), np.zeros(0)) for row in layer_rows(net)]
    try:
        words = caffe_export.network(net, blank, network).caffemodel(with_weights=False)
    except UserError:  # Caffe could not compute it
        return
    expected = [layer.settings for layer in caffe.layers_of(memoryview(words)) if layer.settings]
    if differs := caffe_geometry.difference(model.settings, expected):
        raise UserError(
            f"--weights={path} is of another network than {network}: {differs}; name its network with --config=FILE"
        )


def _first_of_two(net: Architecture) -> caffe.FirstOfTwo:
    """Which comes first in the network, normalisation or pooling, if it has both in its first layer."""
    kinds = [type(operation) for operation in net.layers[0].then]
    if LRN not in kinds or MaxPool not in kinds:
        return ""
    return "LRN" if kinds.index(LRN) < kinds.index(MaxPool) else "Pooling"


def _caffe_mean(config: ConfigDict, mean: str) -> tuple[ConfigDict, Statistics]:
    """What is subtracted: an image of the file, or the three numbers B, G, R of the flag, the config or Caffe."""
    numbers = [_number(part) for part in mean.split(",")]
    if mean and None in numbers:
        image = caffe.read_mean(Path(os.path.abspath(os.path.expanduser(mean))))
        if image.shape[:2] != (1, 1):
            return _with_mean(config, ()), _statistics(config, image, np.zeros((3, 3)))
        numbers = [float(x) for x in image[0, 0, ::-1]]
    elif not mean:
        numbers = list(config.data.mean_rgb[::-1] or CAFFE_MEAN)
        say(f"no --mean is given: {numbers[0]:g}, {numbers[1]:g} and {numbers[2]:g} are subtracted from B, G and R")
    if len(numbers) != 3:
        raise UserError(f"--mean={mean} has {len(numbers)} numbers; give three, B,G,R, or a .binaryproto")
    rgb = tuple(float(x) for x in reversed(numbers) if x is not None)
    return _with_mean(config, rgb), _constant(config, rgb)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _with_mean(config: ConfigDict, rgb: tuple[float, ...]) -> ConfigDict:
    """A config that has numbers of its own gets these; one that leaves the mean to the data stays as it is."""
    changed = config.copy_and_resolve_references()
    changed.data.mean_rgb = rgb if config.data.mean_rgb else ()
    return changed


def _statistics(config: ConfigDict, mean_image: np.ndarray, rgb_covariance: np.ndarray) -> Statistics:
    side = config.data.resize
    if mean_image.shape != (side, side, 3):
        raise UserError(
            f"the mean image is of {mean_image.shape} and the network's pictures are of {(side, side, 3)}; give "
            "another, or set --config.data.resize"
        )
    return Statistics(mean_image, rgb_covariance)


def _constant(config: ConfigDict, rgb: tuple[float, ...]) -> Statistics:
    side = config.data.resize
    image: Float32[np.ndarray, "side side 3"] = np.tile(np.asarray(rgb, np.float32), (side, side, 1))
    return Statistics(image, np.zeros((3, 3)))


def _of_torchvision(config: ConfigDict | None, path: Path, invocation: Invocation) -> Imported:
    _require_no_mean(invocation)
    config = config or config_file.of_checkout(TORCHVISION)
    names = [layer.name for layer in network_of(config, config.model.classes or 2).layers]
    layers = pytorch.read_state_dict(path, names)
    net = _network(config, layers)
    if not config.data.mean_rgb:
        raise UserError(f"{config.name} says no mean, and a state dict has none; set --config.data.mean_rgb=(R,G,B)")
    arrays = from_foreign(net, layers, str(path), config.name)
    classes = class_names.class_names(net.classes, invocation.classes)
    return config, arrays, _constant(config, tuple(config.data.mean_rgb)), classes


def _of_ours(config: ConfigDict | None, path: Path, invocation: Invocation) -> Imported:
    _require_no_mean(invocation)
    contents = safetensors_run.read(path)
    saved = with_added_fields(contents.config)
    if config is not None:
        differing = differences(config, saved, OF_THE_NETWORK, ("in --config", "in the file"))
        if differing:
            raise UserError(f"--weights={path} is of another network: {'; '.join(differing)}; leave --config out")
    config = config or config_of(saved)
    check_config(config)
    classes = contents.classes
    if invocation.classes:
        classes = class_names.class_names(len(classes), invocation.classes)
    net = network_of(config, config.model.classes or len(classes))
    arrays = safetensors_run.parameters(net, contents.arrays, str(path), config.name)
    return config, arrays, _statistics(config, contents.mean_image, contents.rgb_covariance), classes


def _require_no_mean(invocation: Invocation) -> None:
    if invocation.mean:
        raise UserError(f"--mean is of --format=caffe; leave it out with --format={invocation.format}")


def _network(config: ConfigDict, layers: tuple[Foreign, ...] | list[Foreign]) -> Architecture:
    """The config's network with as many classes as the last layer has outputs."""
    return network_of(config, config.model.classes or max(2, len(layers[-1].bias)))


def _require_finite(arrays: Arrays, path: Path) -> None:
    for layer, of_layer in arrays.items():
        for name, array in of_layer.items():
            if not np.isfinite(array).all():
                raise UserError(f"--weights={path}: the {name} of {layer} has numbers that are not finite; get it anew")
