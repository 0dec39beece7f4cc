"""Converts weights between this program's order of axes and that of Caffe and PyTorch; no number changes.

| | this program (maps last) | Caffe and PyTorch (maps first) |
|---|---|---|
| kernels | (height, width, in, out) | (out, in, height, width) |
| dense weights | (in, out) | (out, in) |
| input of a dense layer that reads maps | height, width, map | map, height, width |

The maps of tower 2 follow those of tower 1, as the second group follows the first in Caffe and PyTorch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from alexnet_jax.messages import UserError
from alexnet_jax.network.architecture import Architecture, Conv, Local, MaxPool, Row, table

Arrays = Mapping[str, Mapping[str, Float32[np.ndarray, "..."]]]  # {layer: {kernel, bias}}, maps last


@dataclass(frozen=True)
class MapsFirstLayer:
    """The weights of a layer, with maps first."""

    name: str  # in the file
    kernel: np.ndarray  # (out, in per group, height, width), or (out, in)
    bias: np.ndarray  # (out,)


def layer_rows(net: Architecture) -> list[Row]:
    """The rows of the network's table that have parameters."""
    return [row for row in table(net) if not isinstance(row.layer, MaxPool)]


def maps_first_shape(row: Row) -> tuple[int, ...]:
    """The shape of the layer's kernel with maps first."""
    layer = row.layer
    if isinstance(layer, Conv):
        return layer.kernels, row.input_shape[-1], layer.size, layer.size
    return row.output_shape[-1], math.prod(row.input_shape)


def maps_last_shape(row: Row) -> tuple[int, ...]:
    """The shape of the layer's kernel with maps last, without the class that makes their number even."""
    layer = row.layer
    if isinstance(layer, Local):  # as in flax.linen.ConvLocal
        return *row.output_shape[:2], layer.size**2 * row.input_shape[-1], layer.kernels
    if isinstance(layer, Conv):
        return layer.size, layer.size, row.input_shape[-1], layer.kernels
    return math.prod(row.input_shape), row.output_shape[-1]


def maps_last_bias_shape(row: Row) -> tuple[int, ...]:
    """The shape of the layer's bias with maps last, without the class that makes their number even."""
    return row.output_shape if isinstance(row.layer, Local) else row.output_shape[-1:]


def from_maps_first(net: Architecture, layers: Sequence[MapsFirstLayer], file: str, network: str) -> Arrays:
    """The network's parameters, from layers in the network's order under any names.

    Args:
      file: the layers' file, for messages.
      network: the network's name, for messages.

    Returns:
      Arrays of float32, with zeros for an added class where the number of classes is odd.

    Raises:
      UserError: a layer has the wrong shape, or there are too few or too many layers; names the first.
    """
    rows, arrays = layer_rows(net), {}
    for place in range(max(len(rows), len(layers))):
        row = rows[place] if place < len(rows) else None
        layer = layers[place] if place < len(layers) else None
        theirs = (
            f"its layer '{layer.name}' has a kernel of shape {layer.kernel.shape}" if layer else "it has no more layers"
        )
        ours = f"{row.name} of {network} has {maps_first_shape(row)}" if row else f"{network} has no more layers"
        if not row or not layer or layer.kernel.shape != maps_first_shape(row):
            raise UserError(
                f"--weights={file} is of another network: {theirs} where {ours}; name its network with --config=FILE"
            )
        if layer.bias.shape != maps_first_shape(row)[:1]:
            raise UserError(
                f"--weights={file} is of another network: its layer '{layer.name}' has a bias of shape "
                f"{layer.bias.shape} where {row.name} of {network} has {maps_first_shape(row)[:1]}"
            )
        arrays[row.name] = {"kernel": _maps_last(layer.kernel, row.input_shape), "bias": _single(layer.bias)}
    return padded(net, arrays)


def to_maps_first(net: Architecture, arrays: Arrays) -> list[MapsFirstLayer]:
    """The network's layers in their order, without the class that makes their number even.

    Raises:
      UserError: a layer is locally connected; PyTorch and Caffe have no such layer.
    """
    for layer in net.layers:
        if isinstance(layer, Local):
            raise UserError(
                f"{layer.name} is locally connected, and neither PyTorch nor Caffe has such a layer; export it with "
                "--format=safetensors or --format=stablehlo"
            )
    arrays = unpadded(net, arrays)
    return [
        MapsFirstLayer(row.name, _maps_first(arrays[row.name]["kernel"], row.input_shape), arrays[row.name]["bias"])
        for row in layer_rows(net)
    ]


def _maps_last(kernel: np.ndarray, reads: tuple[int, ...]) -> np.ndarray:
    if kernel.ndim == 4:
        return _single(kernel.transpose(2, 3, 1, 0))
    maps_first = (reads[-1], *reads[:-1])  # (units,) is unchanged
    axes = (*range(2, len(reads) + 1), 1, 0)
    return _single(kernel.reshape(len(kernel), *maps_first).transpose(axes).reshape(-1, len(kernel)))


def _maps_first(kernel: np.ndarray, reads: tuple[int, ...]) -> np.ndarray:
    if kernel.ndim == 4:
        return _single(kernel.transpose(3, 2, 0, 1))
    outputs = kernel.shape[-1]
    axes = (len(reads), len(reads) - 1, *range(len(reads) - 1))
    return _single(kernel.reshape(*reads, outputs).transpose(axes).reshape(outputs, -1))


def _single(array: np.ndarray) -> Float32[np.ndarray, "..."]:
    return np.ascontiguousarray(array, np.float32)


def padded(net: Architecture, arrays: Arrays) -> Arrays:
    """Adds a class of zeros where the number of classes is odd, so that two towers can share them."""
    return _classes(net, arrays, lambda array: np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, net.classes % 2)]))


def unpadded(net: Architecture, arrays: Arrays) -> Arrays:
    """Removes the class that `padded` added."""
    return _classes(net, arrays, lambda array: array[..., : net.classes])


def _classes(net: Architecture, arrays: Arrays, change: Callable[[np.ndarray], np.ndarray]) -> Arrays:
    last = net.layers[-1].name
    return {**arrays, last: {name: change(array) for name, array in arrays[last].items()}}
