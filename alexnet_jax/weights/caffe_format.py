"""Caffe's messages: the table of their fields, and their conversion to the wire format and to text.

Source of the numbers: BVLC/caffe, src/caffe/proto/caffe.proto.
"""

import struct
from collections.abc import Mapping
from typing import Any

from alexnet_jax.weights import protobuf
from alexnet_jax.weights.protobuf import FIXED32, LENGTH

# {the field that holds the message: {its fields: their numbers}}; "net" is a NetParameter, which a .caffemodel is.
FIELDS: dict[str, dict[str, int]] = {
    "net": {"name": 1, "layers": 2, "layer": 100},
    # A V1LayerParameter, as in the published networks, and a LayerParameter.
    "layers": {"name": 4, "type": 5, "blobs": 6}
    | {"convolution_param": 10, "lrn_param": 18, "pooling_param": 19, "power_param": 21},
    "layer": {"name": 1, "type": 2, "bottom": 3, "top": 4, "blobs": 7}
    | {"convolution_param": 106, "lrn_param": 118, "pooling_param": 121, "power_param": 122}
    | {"inner_product_param": 117, "slice_param": 135, "input_param": 143},
    "blobs": {"num": 1, "channels": 2, "height": 3, "width": 4, "data": 5, "shape": 7, "double_data": 8},
    "shape": {"dim": 1},
    "convolution_param": {"num_output": 1, "pad": 3, "kernel_size": 4, "group": 5, "stride": 6}
    | {"pad_h": 9, "pad_w": 10, "stride_h": 13, "stride_w": 14},
    "inner_product_param": {"num_output": 1},
    "input_param": {"shape": 1},
    "lrn_param": {"local_size": 1, "alpha": 2, "beta": 3, "norm_region": 4, "k": 5},
    "pooling_param": {"pool": 1, "kernel_size": 2, "stride": 3, "pad": 4}
    | {"kernel_h": 5, "kernel_w": 6, "stride_h": 7, "stride_w": 8, "pad_h": 9, "pad_w": 10},
    "power_param": {"power": 1, "scale": 2, "shift": 3},
    "slice_param": {"slice_point": 2, "axis": 3},
}
V1_TYPES = {4: "Convolution", 14: "InnerProduct", 15: "LRN", 17: "Pooling", 23: "TanH", 26: "Power"}
ENUMS = {"pool": ("MAX",), "norm_region": ("ACROSS_CHANNELS", "WITHIN_CHANNEL")}  # names of the values in text

Message = Mapping[str, Any]  # {field: an integer, a float, a text, bytes, a Message, or a list of these}
Decoded = dict[str, list[tuple[int, int | memoryview]]]  # {field: [(kind, value), ...]}


def decode(holder: str, message: memoryview) -> Decoded:
    """The fields of a message that FIELDS knows, each with its values in their order.

    Args:
      holder: the field that holds the message, a key of FIELDS.

    Raises:
      ValueError: the bytes are no such message, or end too early.
    """
    names = {number: name for name, number in FIELDS[holder].items()}
    found: Decoded = {}
    for number, kind, value in protobuf.fields(message):
        name = names.get(number)
        if name is None:
            continue
        if kind != LENGTH and (name in FIELDS or name == "name"):
            raise ValueError(f"field {number} of a message in '{holder}' is a number and not its {name}")
        found.setdefault(name, []).append((kind, value))
    return found


def messages(found: Decoded, name: str) -> list[memoryview]:
    """The messages, or texts, in a field."""
    return [value for _, value in found.get(name, ()) if isinstance(value, memoryview)]


def integers(found: Decoded, name: str) -> list[int]:
    """The integers in a field, packed or not. Raises ValueError as `decode`."""
    return [number for kind, value in found.get(name, ()) for number in protobuf.integers(kind, value)]


def numbers(found: Decoded, name: str) -> list[float]:
    """The float32 numbers in a field, or else its integers. Raises ValueError as `decode`."""
    floats = [value for kind, value in found.get(name, ()) if kind == FIXED32 and isinstance(value, memoryview)]
    return [number for value in floats for (number,) in struct.iter_unpack("<f", value)] or [*integers(found, name)]


def encode(holder: str, message: Message) -> bytes:
    """A message in the wire format; `holder` as in `decode`."""
    return b"".join(
        protobuf.encode_field(FIELDS[holder][name], encode(name, item) if isinstance(item, Mapping) else item)
        for name, item in _entries(message)
    )


def text(message: Message, indent: str = "") -> str:
    """A message as a .prototxt has it, without blobs."""
    lines = []
    for name, item in _entries(message):
        if isinstance(item, Mapping):
            lines.append(f"{indent}{name} {{\n{text(item, indent + '  ')}{indent}}}\n")
        elif name != "blobs":
            value = ENUMS[name][item] if name in ENUMS else f'"{item}"' if isinstance(item, str) else item
            lines.append(f"{indent}{name}: {value}\n")
    return "".join(lines)


def _entries(message: Message) -> list[tuple[str, Any]]:
    """Each field's name with its value, several times for a list."""
    values = ((name, value if isinstance(value, list) else [value]) for name, value in message.items())
    return [(name, item) for name, items in values for item in items]
