"""Caffe's files: `.caffemodel`, a NetParameter, and `.binaryproto`, a BlobProto with a mean image.

Numbers of the fields are those of caffe.proto (BVLC/caffe, src/caffe/proto). Files of both its forms are read:
`layers` (V1LayerParameter), which the published networks have, and `layer` (LayerParameter).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32

from alexnet_jax.messages import UserError
from alexnet_jax.weights import protobuf
from alexnet_jax.weights.axis_order import Foreign
from alexnet_jax.weights.caffe_geometry import V1_TYPES, Settings, parameters_of, settings
from alexnet_jax.weights.protobuf import FIXED32, FIXED64, LENGTH

LAYERS_V1, LAYERS = 2, 100  # of NetParameter
NAME, TYPE, BLOBS = "name", "type", "blobs"
OF_V1 = {4: NAME, 5: TYPE, 6: BLOBS}  # of V1LayerParameter
OF_LAYER = {1: NAME, 2: TYPE, 7: BLOBS}  # of LayerParameter
OLD_SHAPE, DATA, SHAPE, DOUBLES = (1, 2, 3, 4), 5, 7, 8  # of BlobProto: num, channels, height, width; ...
DIM = 1  # of BlobShape

FirstOfTwo = Literal["LRN", "Pooling", ""]


@dataclass(frozen=True)
class Model:
    """What a `.caffemodel` says."""

    layers: tuple[Foreign, ...]  # those with weights
    first: FirstOfTwo  # of normalisation and pooling; "" where the file does not say
    settings: tuple[Settings, ...]  # of the layers that have some


@dataclass(frozen=True)
class _Layer:
    name: str
    type: str
    blobs: tuple[np.ndarray, ...]
    settings: Settings | None


def read_caffemodel(path: Path) -> Model:
    """Reads a network's weights, as Caffe has them: kernels (out, in, height, width), colours B, G, R.

    Raises:
      UserError: the file cannot be read, is not whole, or is none.
    """
    try:
        every = layers_of(memoryview(path.read_bytes()))
    except OSError as error:
        raise UserError(f"--weights={path} cannot be read ({error.strerror}); name a .caffemodel") from error
    except ValueError as error:
        raise UserError(f"--weights={path} is no whole .caffemodel: {error}; get the file anew") from error
    foreign = tuple(_weights(layer.name, layer.blobs, path) for layer in every if layer.blobs)
    if not foreign:
        raise UserError(f"--weights={path} holds no layer with weights; name a .caffemodel with Caffe's own layers")
    said = tuple(layer.settings for layer in every if layer.settings)
    return Model(foreign, _first([layer.type for layer in every]), said)


def read_mean(path: Path) -> Float32[np.ndarray, "height width 3"]:
    """The mean image of a `.binaryproto`, turned to R, G, B.

    Raises:
      UserError: the file cannot be read, is not whole, or holds none.
    """
    try:
        blob = _blob(memoryview(path.read_bytes()))
    except OSError as error:
        raise UserError(f"--mean={path} cannot be read ({error.strerror}); name a .binaryproto, or B,G,R") from error
    except ValueError as error:
        raise UserError(f"--mean={path} is no whole .binaryproto: {error}; get the file anew") from error
    shape = blob.shape[1:] if blob.ndim == 4 and len(blob) == 1 else blob.shape
    if len(shape) != 3 or shape[0] != 3:
        raise UserError(f"--mean={path} holds an array of {blob.shape}, no image of 3 colours; name another")
    return np.ascontiguousarray(blob.reshape(shape)[::-1].transpose(1, 2, 0))


def _messages(message: memoryview, *numbers: int) -> Iterator[tuple[int, memoryview]]:
    for number, kind, value in protobuf.fields(message):
        if number in numbers and kind == LENGTH:
            assert isinstance(value, memoryview)
            yield number, value


def layers_of(message: memoryview) -> list[_Layer]:
    """The layers of a NetParameter, in their order. Raises ValueError if it is not whole."""
    return [_layer(number, value) for number, value in _messages(message, LAYERS_V1, LAYERS)]


def _layer(form: int, message: memoryview) -> _Layer:
    name, of_type, blobs, parameters = "", "", [], {}
    known = OF_V1 if form == LAYERS_V1 else OF_LAYER
    for number, _, value in protobuf.fields(message):
        what = known.get(number)
        if isinstance(value, int):
            if what in (NAME, BLOBS):
                raise ValueError(f"field {number} of a layer is a number, and not its {what}")
            of_type = V1_TYPES.get(value, "") if what == TYPE else of_type
        elif what == BLOBS:
            try:
                blobs.append(_blob(value))
            except ValueError as error:
                raise ValueError(f"layer '{name}', {error}") from error
        elif number in parameters_of(form == LAYERS_V1):
            parameters[number] = value
        elif what == NAME:
            name = bytes(value).decode(errors="replace")
        elif what == TYPE:
            of_type = bytes(value).decode(errors="replace")
    return _Layer(name, of_type, tuple(blobs), settings(name, of_type, parameters, form == LAYERS_V1))


def _blob(message: memoryview) -> np.ndarray:
    """float32, of the shape that the blob has, or of num, channels, height, width where it has none."""
    old, shape, parts = dict.fromkeys(OLD_SHAPE, 0), None, []
    for number, kind, value in protobuf.fields(message):
        if number in OLD_SHAPE and isinstance(value, int):
            old[number] = value
        elif number == SHAPE and kind == LENGTH:
            assert isinstance(value, memoryview)
            dims = [(kind, dim) for one, kind, dim in protobuf.fields(value) if one == DIM]
            shape = tuple(size for kind, dim in dims for size in protobuf.integers(kind, dim))
        elif number == DATA and kind in (LENGTH, FIXED32):
            parts.append(_numbers(value, "<f4"))
        elif number == DOUBLES and kind in (LENGTH, FIXED64):
            parts.append(_numbers(value, "<f8").astype(np.float32))
    data = parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.float32), *parts])
    of = tuple(old.values()) if shape is None else shape
    if math.prod(of) != len(data):
        raise ValueError(f"a blob of shape {of} holds {len(data)} numbers and not {math.prod(of)}")
    return data.reshape(of)


def _numbers(value: int | memoryview, dtype: str) -> np.ndarray:
    assert isinstance(value, memoryview)
    if len(value) % np.dtype(dtype).itemsize:
        raise ValueError(f"its {len(value)} bytes of data are no whole numbers")
    return np.frombuffer(value, dtype)


def _weights(name: str, blobs: tuple[np.ndarray, ...], path: Path) -> Foreign:
    """Kernel and bias; V1 has both with four axes, of which a dense layer's first are of length one."""
    if len(blobs) != 2:
        raise UserError(
            f"--weights={path} is of another network: its layer '{name}' has {len(blobs)} arrays, and every layer "
            "here a kernel and a bias"
        )
    kernel, bias = blobs
    if kernel.ndim == 4 and kernel.shape[:2] == (1, 1):
        kernel = kernel.reshape(kernel.shape[2:])
    return Foreign(name, kernel, bias.reshape(-1))


def _first(kinds: list[str]) -> FirstOfTwo:
    """Which comes first in the file, if it has both."""
    if "LRN" not in kinds or "Pooling" not in kinds:
        return ""
    return "LRN" if kinds.index("LRN") < kinds.index("Pooling") else "Pooling"
