"""A run in a single safetensors file: weights, config, preprocessing and class names.

The tensors have the names and the order of axes that a checkpoint has (`conv1/kernel`, `conv1/bias`, ...; maps last).
`mean_image` and `rgb_covariance` are the preprocessing. The header's metadata has the key `alexnet_jax`: JSON with
`config` and `classes`.
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
    """The content of a file."""

    config: dict[str, Any]
    classes: tuple[str, ...]
    mean_image: Float32[np.ndarray, "resize resize 3"]
    rgb_covariance: Float64[np.ndarray, "3 3"]
    arrays: Arrays  # without the class that makes their number even


def encode(net: Architecture, contents: Contents) -> bytes:
    """The bytes of the file."""
    arrays = unpadded(net, contents.arrays)
    tensors = {f"{layer}/{name}": array for layer, weights in arrays.items() for name, array in weights.items()}
    tensors |= {MEAN: contents.mean_image, COVARIANCE: contents.rgb_covariance}
    # A single entry: the library writes several in random order, and equal networks must give equal files.
    metadata = {KEY: json.dumps({"config": contents.config, "classes": contents.classes})}
    return save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, metadata)


def read(path: Path) -> Contents:
    """Reads a file that `encode` made.

    Raises:
      UserError: the file cannot be read, is incomplete, or `encode` did not make it.
    """
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise UserError(
                    f"--weights={path} was not written by --mode=export --format=safetensors; for a file with "
                    "PyTorch's names give --format=torchvision"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        described = json.loads(metadata[KEY])
        config, classes = described["config"], described["classes"]
        mean_image, rgb_covariance = tensors.pop(MEAN), tensors.pop(COVARIANCE)
    except OSError as error:
        raise UserError(f"--weights={path} cannot be read ({error.strerror or error}); name a .safetensors") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--weights={path} is not a complete .safetensors file ({error}); export it again") from error
    is_complete = (
        isinstance(config, dict)
        and all(isinstance(config.get(group), dict) for group in GROUPS)
        and isinstance(classes, list)
        and all(isinstance(name, str) for name in classes)
        and mean_image.ndim == 3
        and rgb_covariance.shape == (3, 3)
    )
    if not is_complete:
        raise UserError(f"--weights={path} lacks a config, class names or preprocessing; export it again")
    arrays: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.partition("/")
        arrays.setdefault(layer, {})[kind] = tensor
    statistics = mean_image.astype(np.float32), rgb_covariance.astype(np.float64)
    return Contents(config, tuple(classes), *statistics, arrays)


def parameters(net: Architecture, arrays: Mapping[str, Mapping[str, np.ndarray]], file: str, network: str) -> Arrays:
    """The network's parameters, from the arrays of a file.

    Args:
      file: the file, for messages.
      network: the network's name, for messages.

    Returns:
      Arrays of float32, with zeros for an added class where the number of classes is odd.

    Raises:
      UserError: the layers differ from the network's; names the first.
    """
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
