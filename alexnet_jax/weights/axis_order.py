"""From this program's order of axes to that of Caffe and PyTorch, and back: only axes move, no number changes.

Here maps come last: kernels are (height, width, in, out), dense weights (in, out), and what a dense layer reads of
maps lies in the order height, width, map. There maps come first: (out, in, height, width), (out, in), and map,
height, width. The maps of both towers lie one behind the other here as in a layer of two groups there.
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
    """A layer's weights with maps first."""

    name: str  # in the file they come from or go to
    kernel: np.ndarray  # (out, in of its group, height, width), or (out, in)
    bias: np.ndarray  # (out,)


def layer_rows(net: Architecture) -> list[Row]:
    """The rows of the network's table that have parameters."""
    return [row for row in table(net) if not isinstance(row.layer, MaxPool)]


def maps_first_shape(row: Row) -> tuple[int, ...]:
    """Of the layer's kernel, maps first."""
    layer = row.layer
    if isinstance(layer, Conv):
        return layer.kernels, row.input_shape[-1], layer.size, layer.size
    return row.output_shape[-1], math.prod(row.input_shape)


def maps_last_shape(row: Row) -> tuple[int, ...]:
    """Of the layer's kernel, maps last, without the padding of the classes."""
    layer = row.layer
    if isinstance(layer, Local):  # as flax.linen.ConvLocal has it
        return *row.output_shape[:2], layer.size**2 * row.input_shape[-1], layer.kernels
    if isinstance(layer, Conv):
        return layer.size, layer.size, row.input_shape[-1], layer.kernels
    return math.prod(row.input_shape), row.output_shape[-1]


def maps_last_bias_shape(row: Row) -> tuple[int, ...]:
    """Of the layer's bias, without the padding of the classes."""
    return row.output_shape if isinstance(row.layer, Local) else row.output_shape[-1:]


def from_maps_first(net: Architecture, layers: Sequence[MapsFirstLayer], file: str, network: str) -> Arrays:
    """The network's parameters from layers in its own order; their names may be any.

    Args:
      file: where the layers come from, for a message.
      network: what the network is called there.

    Returns:
      Arrays of float32, the classes padded to even with zeros.

    Raises:
      UserError: a layer's shape is another, or there are too few or too many; names the first.
    """
    rows, arrays = layer_rows(net), {}
    for place in range(max(len(rows), len(layers))):
        row = rows[place] if place < len(rows) else None
        layer = layers[place] if place < len(layers) else None
        theirs = f"its layer '{layer.name}' has a kernel of shape {layer.kernel.shape}" if layer else "it has no more"
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
    """The network's layers in their order, maps first, without the padding of the classes.

    Raises:
      UserError: one is locally connected, which PyTorch and Caffe have no layer for.
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
    maps_first = (reads[-1], *reads[:-1])  # (units,) stays as it is
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
    """With as many zeros for classes as make their number even."""
    return _classes(net, arrays, lambda array: np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, net.classes % 2)]))


def unpadded(net: Architecture, arrays: Arrays) -> Arrays:
    """Without what makes the number of classes even."""
    return _classes(net, arrays, lambda array: array[..., : net.classes])


def _classes(net: Architecture, arrays: Arrays, change: Callable[[np.ndarray], np.ndarray]) -> Arrays:
    last = net.layers[-1].name
    return {**arrays, last: {name: change(array) for name, array in arrays[last].items()}}
