"""This program's own weights as one safetensors file, with all that a run has: config, preprocessing, class names.

Tensors are called `conv1/kernel`, `conv1/bias`, ... as in a checkpoint, maps last; `mean_image` and `rgb_covariance`
are the preprocessing. The header's metadata has `alexnet_jax`, JSON with `config` and `classes`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from alexnet_jax.messages import UserError
from alexnet_jax.network.architecture import Architecture
from alexnet_jax.weights.axis_order import Arrays, layer_rows, maps_last_bias_shape, maps_last_shape, padded, unpadded

KEY = "alexnet_jax"
GROUPS = ("model", "data", "augment", "optimizer", "schedule", "mesh", "train", "evaluate")  # of a config
MEAN, COVARIANCE = "mean_image", "rgb_covariance"


@dataclass(frozen=True)
class Contents:
    """What a file holds."""

    config: dict[str, Any]
    classes: tuple[str, ...]
    mean_image: Float32[np.ndarray, "resize resize 3"]
    rgb_covariance: Float64[np.ndarray, "3 3"]
    arrays: Arrays  # without the padding of the classes


def encode(net: Architecture, contents: Contents) -> bytes:
    """The file."""
    arrays = unpadded(net, contents.arrays)
    tensors = {f"{layer}/{name}": array for layer, of_layer in arrays.items() for name, array in of_layer.items()}
    tensors |= {MEAN: contents.mean_image, COVARIANCE: contents.rgb_covariance}
    # One entry: the library writes several in any order, and the same network is to be the same file.
    metadata = {KEY: json.dumps({"config": contents.config, "classes": contents.classes})}
    return save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, metadata)


def read(path: Path) -> Contents:
    """What `encode` made.

    Raises:
      UserError: the file cannot be read, is not whole, or is no such file.
    """
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise UserError(
                    f"--weights={path} has none of this program's own networks, as --mode=export --format=safetensors "
                    "writes them; for PyTorch's names give --format=torchvision"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        said = json.loads(metadata[KEY])
        config, classes = said["config"], said["classes"]
        mean_image, rgb_covariance = tensors.pop(MEAN), tensors.pop(COVARIANCE)
    except OSError as error:
        raise UserError(f"--weights={path} cannot be read ({error.strerror or error}); name a .safetensors") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--weights={path} is no complete .safetensors ({error}); export it again") from error
    is_whole = (
        isinstance(config, dict)
        and all(isinstance(config.get(group), dict) for group in GROUPS)
        and isinstance(classes, list)
        and all(isinstance(one, str) for one in classes)
        and mean_image.ndim == 3
        and rgb_covariance.shape == (3, 3)
    )
    if not is_whole:
        raise UserError(f"--weights={path} lacks a config, class names or preprocessing; export it again")
    arrays: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.partition("/")
        arrays.setdefault(layer, {})[kind] = tensor
    statistics = mean_image.astype(np.float32), rgb_covariance.astype(np.float64)
    return Contents(config, tuple(classes), *statistics, arrays)


def parameters(net: Architecture, arrays: Mapping[str, Mapping[str, np.ndarray]], file: str, network: str) -> Arrays:
    """The network's parameters, the classes padded to even. Raises UserError at the first layer that differs."""
    names = [row.name for row in layer_rows(net)]
    more = [name for name in arrays if name not in names]
    for row in layer_rows(net):
        ours = {"kernel": maps_last_shape(row), "bias": maps_last_bias_shape(row)}
        theirs = {name: array.shape for name, array in arrays.get(row.name, {}).items()}
        if theirs != ours:
            raise UserError(
                f"--weights={file} is of another network: its {row.name} has {theirs or 'no weights'} where {network} "
                f"has {ours}; name its network with --config=FILE"
            )
    if more:
        raise UserError(f"--weights={file} is of another network: it has a layer '{more[0]}', and {network} has none")
    single = {name: {kind: np.asarray(arrays[name][kind], np.float32) for kind in arrays[name]} for name in names}
    return padded(net, single)
