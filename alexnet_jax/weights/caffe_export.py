"""A run's network in Caffe's words: a `.prototxt`, the same with weights as a `.caffemodel`, and a mean image.

What Caffe has no words for is said in those that it has, where that changes no number: zeros on one side of a
picture as a wider kernel that begins with zeros, a pooling that leaves positions out as one after Slice, normalisation
within a tower as another, dropout's factor at test as a Power.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from alexnet_jax.messages import UserError
from alexnet_jax.network.architecture import (
    LRN,
    Architecture,
    Conv,
    Dense,
    Dropout,
    MaxPool,
    Operation,
    ReLU,
    Row,
    Tanh,
    WithinMapNorm,
    table,
)
from alexnet_jax.network.stages import NAMES
from alexnet_jax.weights.axis_order import Foreign
from alexnet_jax.weights.protobuf import encode_field

BLOB, SHAPE, DIM, DATA = 7, 7, 1, 5  # of LayerParameter, BlobProto, BlobShape, BlobProto
LAYER, NET_NAME = 100, 1  # of NetParameter


@dataclass(frozen=True)
class Enum:
    """A value with a name in text and a number in the wire format."""

    name: str
    number: int


class Entry(NamedTuple):
    """One field of a message."""

    name: str
    number: int
    value: "int | float | str | Enum | Message"


Message = tuple[Entry, ...]


@dataclass
class Builder:
    """Layers put one behind the other; each reads what the one before made."""

    net_name: str
    last: str = "data"  # the blob that the next layer reads
    layers: list[tuple[Message, tuple[np.ndarray, ...]]] = field(default_factory=list)

    def add(
        self,
        name: str,
        of_type: str,
        *parameters: Entry,
        blobs: tuple[np.ndarray, ...] = (),
        reads: Sequence[str] | None = None,
        makes: Sequence[str] | None = None,
    ) -> None:
        """A layer; without `reads` and `makes` from the last blob to one of its own name."""
        bottoms, tops = [self.last] if reads is None else reads, [name] if makes is None else makes
        ends = [*(Entry("bottom", 3, one) for one in bottoms), *(Entry("top", 4, one) for one in tops)]
        self.layers.append(((Entry("name", 1, name), Entry("type", 2, of_type), *ends, *parameters), blobs))
        self.last = tops[0] if tops else self.last

    def prototxt(self) -> str:
        """The network without weights, as text."""
        layers = "".join(f"layer {{\n{_text(layer, 1)}}}\n" for layer, _ in self.layers)
        return f'name: "{self.net_name}"\n{layers}'

    def caffemodel(self, with_weights: bool = True) -> bytes:
        """The network in the wire format."""
        parts = [encode_field(NET_NAME, self.net_name)]
        for layer, blobs in self.layers:
            weights = b"".join(encode_field(BLOB, _blob(blob)) for blob in blobs if with_weights)
            parts.append(encode_field(LAYER, _encoded(layer) + weights))
        return b"".join(parts)


def network(net: Architecture, layers: Sequence[Foreign], name: str) -> Builder:
    """The whole network, from pixels less their mean (B, G, R) in `data` to probabilities in `prob`.

    Args:
      layers: maps first, colours R, G, B.

    Raises:
      UserError: Caffe cannot compute it.
    """
    made = Builder(name)
    shape = tuple(Entry("dim", DIM, size) for size in (1, 3, net.input_size, net.input_size))
    made.add("data", "Input", Entry("input_param", 143, (Entry("shape", 1, shape),)), reads=(), makes=("data",))
    weights, rows = iter(layers), table(net)
    pools = iter([row for row in rows if isinstance(row.layer, MaxPool)])
    for row in rows:
        if isinstance(row.layer, MaxPool):
            continue
        _add_layer(made, net, row, next(weights))
        for operation in row.layer.then:
            name = NAMES[type(operation)] + row.name.strip(string.ascii_lowercase)
            name += "b" * any(Entry("name", 1, name) in layer for layer, _ in made.layers)  # of a removed layer
            if isinstance(operation, MaxPool):
                _add_pooling(made, name, operation, next(pools).input_shape[0])
            elif isinstance(operation, LRN):
                _add_norm(made, name, operation, 1 if operation.across_towers else net.towers)
            else:
                _add_operation(made, name, operation)
    made.add("prob", "Softmax")
    return made


def _add_layer(made: Builder, net: Architecture, row: Row, weights: Foreign) -> None:
    layer, kernel = row.layer, weights.kernel
    outputs = Entry("num_output", 1, len(kernel))
    if isinstance(layer, Dense):
        if layer.reads == "own" and net.towers > 1:
            raise UserError(
                f"{layer.name} of this network reads its own tower alone, and Caffe's InnerProduct has no groups; "
                "export it as --format=torch, safetensors or stablehlo"
            )
        made.add(
            layer.name, "InnerProduct", Entry("inner_product_param", 117, (outputs,)), blobs=(kernel, weights.bias)
        )
        return
    assert isinstance(layer, Conv)
    if layer.reads == "image":
        kernel = kernel[:, ::-1]  # B, G, R
    kernel, pad = _padded_alike(kernel, layer.padding)
    parameters = [
        outputs,
        Entry("pad", 3, pad),
        Entry("kernel_size", 4, kernel.shape[-1]),
        Entry("group", 5, net.towers if layer.reads == "own" else 1),
        Entry("stride", 6, layer.stride),
    ]
    parameter = Entry("convolution_param", 106, tuple(parameters))
    made.add(layer.name, "Convolution", parameter, blobs=(kernel, weights.bias))


def _padded_alike(kernel: np.ndarray, padding: tuple[int, int]) -> tuple[np.ndarray, int]:
    """The kernel for the same zeros on all sides: where there are more now, it begins, or ends, with zeros itself."""
    pad = max(padding)
    edge = (pad - padding[0], pad - padding[1])
    return np.pad(kernel, ((0, 0), (0, 0), edge, edge)), pad


def without_padding(kernel: np.ndarray, size: int, padding: tuple[int, int]) -> np.ndarray:
    """What `_padded_alike` made wider, as it was; any other kernel as it is."""
    pad = max(padding)
    first = pad - padding[0]
    inner = kernel[..., first : first + size, first : first + size]
    is_wider = kernel.ndim == 4 and kernel.shape[2:] == (size + abs(padding[0] - padding[1]),) * 2
    return inner if is_wider and np.count_nonzero(kernel) == np.count_nonzero(inner) else kernel


def _add_operation(made: Builder, name: str, operation: Operation) -> None:
    match operation:
        case ReLU():
            made.add(name, "ReLU")
        case Tanh():
            made.add(name, "TanH")
        case Dropout(rate, rescales) if rate and not rescales:
            made.add(name, "Power", Entry("power_param", 122, (Entry("scale", 2, float(1 - rate)),)))
        case WithinMapNorm():
            made.add(name, "LRN", _norm(operation.size, operation.alpha * operation.size**2, operation, 1))


def _add_pooling(made: Builder, name: str, pool: MaxPool, side: int) -> None:
    # Caffe always has a last window that hangs over the edge: what the windows here leave out is cut off before.
    rest = (side - pool.window) % pool.stride if pool.rounding == "down" else 0
    for axis, along in ((2, "rows"), (3, "columns")) if rest else ():
        cut, over = f"{name}_{along}", f"{name}_{along}_over"
        where = Entry("slice_param", 135, (Entry("slice_point", 2, side - rest), Entry("axis", 3, axis)))
        made.add(cut, "Slice", where, makes=[cut, over])
        made.add(over, "Silence", reads=[over], makes=[])
    window = (Entry("kernel_size", 2, pool.window), Entry("stride", 3, pool.stride))
    made.add(name, "Pooling", Entry("pooling_param", 121, (Entry("pool", 1, Enum("MAX", 0)), *window)))


def _add_norm(made: Builder, name: str, lrn: LRN, groups: int) -> None:
    """Over all maps, or, in slices of them, over those of each tower."""
    # OpenCV takes k for 1, whatever the file says: a / (k + s)^beta is a / (1 + s / k)^beta / k^beta.
    k = lrn.k or 1.0
    parameter = _norm(lrn.n, lrn.alpha * lrn.n / k, replace(lrn, k=lrn.k / k), 0)
    if groups == 1:
        made.add(name, "LRN", parameter)
    else:
        parts = [f"{name}_tower{i}" for i in range(groups)]
        made.add(f"{name}_slice", "Slice", makes=[f"{part}_in" for part in parts])
        for part in parts:
            made.add(part, "LRN", parameter, reads=[f"{part}_in"])
        made.add(name, "Concat", reads=parts)
    if k != 1:
        made.add(f"{name}_scale", "Power", Entry("power_param", 122, (Entry("scale", 2, float(k**-lrn.beta)),)))


def _norm(size: int, alpha: float, norm: LRN | WithinMapNorm, region: int) -> Entry:
    """Caffe divides its alpha by the numbers in the window."""
    parameters = (
        Entry("local_size", 1, size),
        Entry("alpha", 2, float(alpha)),
        Entry("beta", 3, float(norm.beta)),
        Entry("norm_region", 4, Enum(("ACROSS_CHANNELS", "WITHIN_CHANNEL")[region], region)),
        Entry("k", 5, float(norm.k)),
    )
    return Entry("lrn_param", 118, parameters)


def _text(message: Message, depth: int) -> str:
    lines, indent = [], "  " * depth
    for name, _, value in message:
        if isinstance(value, Enum):
            lines.append(f"{indent}{name}: {value.name}\n")
        elif isinstance(value, tuple):
            lines.append(f"{indent}{name} {{\n{_text(value, depth + 1)}{indent}}}\n")
        else:
            lines.append(f'{indent}{name}: "{value}"\n' if isinstance(value, str) else f"{indent}{name}: {value}\n")
    return "".join(lines)


def _encoded(message: Message) -> bytes:
    parts = []
    for _, number, value in message:
        if isinstance(value, Enum):
            parts.append(encode_field(number, value.number))
        else:
            parts.append(encode_field(number, _encoded(value) if isinstance(value, tuple) else value))
    return b"".join(parts)


def _blob(array: np.ndarray) -> bytes:
    """A BlobProto."""
    shape = b"".join(encode_field(DIM, size) for size in array.shape)
    return encode_field(SHAPE, shape) + encode_field(DATA, np.ascontiguousarray(array, "<f4").tobytes())


def binaryproto(mean_image: Float32[np.ndarray, "height width 3"]) -> bytes:
    """The mean image as Caffe keeps it: one BlobProto, B, G, R."""
    maps_first = np.ascontiguousarray(mean_image[:, :, ::-1].transpose(2, 0, 1), "<f4")
    sizes = b"".join(encode_field(number, size) for number, size in enumerate((1, *maps_first.shape), 1))
    return sizes + encode_field(DATA, maps_first.tobytes())
