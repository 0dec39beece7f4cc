"""Reads Caffe's files: `.caffemodel`, a NetParameter, and `.binaryproto`, a BlobProto with a mean image.

Both forms of a NetParameter are read: `layers` (V1LayerParameter), as in the published networks, and `layer`
(LayerParameter).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Float32

from alexnet_jax.messages import UserError
from alexnet_jax.network.architecture import Architecture, Conv
from alexnet_jax.weights.axis_order import MapsFirstLayer, layer_rows
from alexnet_jax.weights.caffe_format import V1_TYPES, Decoded, decode, integers, messages, numbers
from alexnet_jax.weights.caffe_settings import KINDS, Settings, settings
from alexnet_jax.weights.protobuf import FIXED32, FIXED64, LENGTH

FirstOfTwo = Literal["LRN", "Pooling", ""]
Content = TypeVar("Content")


@dataclass(frozen=True)
class Model:
    """The content of a `.caffemodel`."""

    layers: tuple[MapsFirstLayer, ...]  # the layers with weights
    first: FirstOfTwo  # whether normalisation or pooling comes first; "" where the file lacks either
    settings: tuple[Settings, ...]  # of the layers that give any


@dataclass(frozen=True)
class _Layer:
    name: str
    type: str
    blobs: tuple[np.ndarray, ...]
    settings: Settings | None


def read_caffemodel(path: Path) -> Model:
    """Reads a network's weights in Caffe's order: kernels (out, in, height, width), colours B, G, R.

    Raises:
      UserError: the file cannot be read, is incomplete, or is no .caffemodel.
    """
    layers = _decoded(_layers, path, "weights", ".caffemodel", "a .caffemodel")
    weights = tuple(_weights(layer.name, layer.blobs, path) for layer in layers if layer.blobs)
    if not weights:
        raise UserError(f"--weights={path} holds no layer with weights; name a .caffemodel with Caffe's own layers")
    given = tuple(layer.settings for layer in layers if layer.settings)
    return Model(weights, first_of_two([layer.type for layer in layers]), given)


def read_mean(path: Path) -> Float32[np.ndarray, "height width 3"]:
    """The mean image of a `.binaryproto`, turned to R, G, B.

    Raises:
      UserError: the file cannot be read, is incomplete, or holds no mean image.
    """
    blob = _decoded(_blob, path, "mean", ".binaryproto", "a .binaryproto, or B,G,R")
    shape = blob.shape[1:] if blob.ndim == 4 and len(blob) == 1 else blob.shape
    if len(shape) != 3 or shape[0] != 3:
        raise UserError(f"--mean={path} holds an array of {blob.shape}, not an image of 3 colours; name another file")
    return np.ascontiguousarray(blob.reshape(shape)[::-1].transpose(1, 2, 0))


def in_own_form(net: Architecture, layers: Sequence[MapsFirstLayer]) -> list[MapsFirstLayer]:
    """The layers with colours R, G, B, and without the borders of zeros that caffe_export.py adds to kernels."""
    layers = list(layers)
    for place, (row, layer) in enumerate(zip(layer_rows(net), layers, strict=False)):
        kernel = layer.kernel
        if isinstance(row.layer, Conv) and kernel.ndim == 4:
            kernel = _without_border(kernel, row.layer.size, row.layer.padding)
            layers[place] = replace(layer, kernel=kernel if place else kernel[:, ::-1])
    return layers


def _without_border(kernel: np.ndarray, size: int, padding: tuple[int, int]) -> np.ndarray:
    """The kernel without the border that makes up for unequal padding; unchanged if it has no such border."""
    first = max(padding) - padding[0]
    inner = kernel[..., first : first + size, first : first + size]
    is_wider = kernel.shape[2:] == (size + abs(padding[0] - padding[1]),) * 2
    return inner if is_wider and np.count_nonzero(kernel) == np.count_nonzero(inner) else kernel


def _decoded(decode: Callable[[memoryview], Content], path: Path, flag: str, kind: str, remedy: str) -> Content:
    try:
        return decode(memoryview(path.read_bytes()))
    except OSError as error:
        raise UserError(f"--{flag}={path} cannot be read ({error.strerror}); name {remedy}") from error
    except ValueError as error:
        raise UserError(f"--{flag}={path} is not a complete {kind}: {error}; get the file again") from error


def _layers(message: memoryview) -> list[_Layer]:
    """The layers of a NetParameter, in their order. Raises ValueError if the message is incomplete."""
    net = decode("net", message)
    return [_layer(form, layer) for form in ("layers", "layer") for layer in messages(net, form)]


def _layer(form: str, message: memoryview) -> _Layer:
    layer = decode(form, message)
    name, type_ = _text(layer, "name"), _text(layer, "type")
    if form == "layers":
        type_ = next((V1_TYPES.get(number, "") for number in integers(layer, "type")), "")
    try:
        blobs = tuple(_blob(blob) for blob in messages(layer, "blobs"))
    except ValueError as error:
        raise ValueError(f"layer '{name}', {error}") from error
    kind = KINDS.get(type_)
    parameters = messages(layer, kind.parameter) if kind else []
    if not kind or not parameters:
        return _Layer(name, type_, blobs, None)
    found = decode(kind.parameter, parameters[-1])
    given = {field: values[-1] for field in found if (values := numbers(found, field))}
    return _Layer(name, type_, blobs, settings(name, type_, given))


def _text(found: Decoded, name: str) -> str:
    texts = messages(found, name)
    return bytes(texts[-1]).decode(errors="replace") if texts else ""


def _blob(message: memoryview) -> np.ndarray:
    """float32, of the blob's shape, or of num, channels, height, width in the old form, which has no shape."""
    blob = decode("blobs", message)
    sizes = [(integers(blob, axis) or [0])[-1] for axis in ("num", "channels", "height", "width")]
    for shape in messages(blob, "shape"):
        sizes = integers(decode("shape", shape), "dim")
    parts = [
        np.frombuffer(_whole(value, dtype), dtype).astype(np.float32, copy=False)
        for field, dtype, single in (("data", "<f4", FIXED32), ("double_data", "<f8", FIXED64))
        for kind, value in blob.get(field, ())
        if kind in (LENGTH, single)
    ]
    data = parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.float32), *parts])
    if math.prod(sizes) != len(data):
        raise ValueError(f"a blob of shape {tuple(sizes)} holds {len(data)} numbers instead of {math.prod(sizes)}")
    return data.reshape(sizes)


def _whole(value: int | memoryview, dtype: str) -> memoryview:
    assert isinstance(value, memoryview)
    if len(value) % np.dtype(dtype).itemsize:
        raise ValueError(f"its {len(value)} bytes of data are not a whole number of values")
    return value


def _weights(name: str, blobs: tuple[np.ndarray, ...], path: Path) -> MapsFirstLayer:
    """Kernel and bias; V1 gives both four axes, and the first two axes of a dense layer have length 1."""
    if len(blobs) != 2:
        raise UserError(
            f"--weights={path} is of another network: its layer '{name}' has {len(blobs)} arrays, but every layer here "
            "has a kernel and a bias"
        )
    kernel, bias = blobs
    if kernel.ndim == 4 and kernel.shape[:2] == (1, 1):
        kernel = kernel.reshape(kernel.shape[2:])
    return MapsFirstLayer(name, kernel, bias.reshape(-1))


def first_of_two(types: Sequence[str]) -> FirstOfTwo:
    """Which of normalisation and pooling comes first among the types of layers, if there are both."""
    if "LRN" not in types or "Pooling" not in types:
        return ""
    return "LRN" if types.index("LRN") < types.index("Pooling") else "Pooling"
