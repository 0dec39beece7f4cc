"""Writes a network for Caffe: a `.prototxt`, a `.caffemodel` with its weights, and a mean image.

Some layers have no equal in Caffe and become others that compute the same numbers. Padding on one side becomes a wider
kernel whose border is zero. Pooling that leaves out positions reads a Slice. Normalisation within a tower gets its own
Slice and Concat. Dropout's factor at test is a Power.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

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
from alexnet_jax.weights.axis_order import MapsFirstLayer
from alexnet_jax.weights.caffe_format import ENUMS, Message, encode, text
from alexnet_jax.weights.caffe_settings import KINDS, Settings, settings


@dataclass
class Builder:
    """Layers in sequence: each reads what the one before it made."""

    net_name: str
    last: str = "data"  # the blob that the next layer reads
    layers: list[dict[str, Any]] = field(default_factory=list)  # LayerParameters, with their weights in "blobs"

    def add(
        self,
        name: str,
        type_: str,
        *,
        blobs: tuple[np.ndarray, ...] = (),
        reads: Sequence[str] | None = None,
        makes: Sequence[str] | None = None,
        **parameters: Message,
    ) -> None:
        """Adds a layer; without `reads` and `makes` from the last blob to a blob of its own name."""
        bottoms, tops = [self.last] if reads is None else [*reads], [name] if makes is None else [*makes]
        layer = {"name": name, "type": type_, "bottom": bottoms, "top": tops, **parameters}
        self.layers.append({**layer, "blobs": [*blobs]})
        self.last = tops[0] if tops else self.last

    def prototxt(self) -> str:
        """The network without weights, as text."""
        return text({"name": self.net_name, "layer": self.layers})

    def caffemodel(self) -> bytes:
        """The network with weights, in the wire format."""
        return encode("net", {"name": self.net_name}) + b"".join(
            encode("net", {"layer": {**layer, "blobs": [_blob(array) for array in layer["blobs"]]}})
            for layer in self.layers
        )

    def settings(self) -> list[Settings]:
        """The settings of all layers whose type has some."""
        return [
            settings(layer["name"], layer["type"], layer[KINDS[layer["type"]].parameter])
            for layer in self.layers
            if layer["type"] in KINDS
        ]


def network(net: Architecture, layers: Sequence[MapsFirstLayer], name: str) -> Builder:
    """The whole network, from pixels minus their mean (B, G, R) in `data` to probabilities in `prob`.

    Args:
      layers: the weights; the first layer's colours are R, G, B.

    Raises:
      UserError: Caffe cannot compute the network.
    """
    made = Builder(name)
    shape = {"dim": [1, 3, net.input_size, net.input_size]}
    made.add("data", "Input", input_param={"shape": shape}, reads=(), makes=("data",))
    weights, rows = iter(layers), table(net)
    pools = iter([row for row in rows if isinstance(row.layer, MaxPool)])
    for row in rows:
        if isinstance(row.layer, MaxPool):
            continue
        _add_layer(made, net, row, next(weights))
        for operation in row.layer.then:
            name = NAMES[type(operation)] + row.name.strip(string.ascii_lowercase)
            name += "b" * any(layer["name"] == name for layer in made.layers)  # follows a removed layer too
            if isinstance(operation, MaxPool):
                _add_pooling(made, name, operation, next(pools).input_shape[0])
            elif isinstance(operation, LRN):
                _add_norm(made, name, operation, 1 if operation.across_towers else net.towers)
            else:
                _add_operation(made, name, operation)
    made.add("prob", "Softmax")
    return made


def _add_layer(made: Builder, net: Architecture, row: Row, weights: MapsFirstLayer) -> None:
    layer, kernel = row.layer, weights.kernel
    if isinstance(layer, Dense):
        if layer.reads == "own" and net.towers > 1:
            raise UserError(
                f"{layer.name} of this network reads only its own tower, and Caffe's InnerProduct has no groups; "
                "export it as --format=torch, safetensors or stablehlo"
            )
        outputs = {"num_output": len(kernel)}
        made.add(layer.name, "InnerProduct", inner_product_param=outputs, blobs=(kernel, weights.bias))
        return
    assert isinstance(layer, Conv)
    if layer.reads == "image":
        kernel = kernel[:, ::-1]  # B, G, R
    kernel, pad = _equally_padded(kernel, layer.padding)
    parameter = {
        "num_output": len(kernel),
        "pad": pad,
        "kernel_size": kernel.shape[-1],
        "group": net.towers if layer.reads == "own" else 1,
        "stride": layer.stride,
    }
    made.add(layer.name, "Convolution", convolution_param=parameter, blobs=(kernel, weights.bias))


def _equally_padded(kernel: np.ndarray, padding: tuple[int, int]) -> tuple[np.ndarray, int]:
    """The kernel and its padding, equal on all sides: where that adds zeros, the kernel gets a border of zeros."""
    pad = max(padding)
    edge = (pad - padding[0], pad - padding[1])
    return np.pad(kernel, ((0, 0), (0, 0), edge, edge)), pad


def _add_operation(made: Builder, name: str, operation: Operation) -> None:
    match operation:
        case ReLU():
            made.add(name, "ReLU")
        case Tanh():
            made.add(name, "TanH")
        case Dropout(rate, rescales) if rate and not rescales:
            made.add(name, "Power", power_param={"scale": float(1 - rate)})
        case WithinMapNorm():
            alpha = operation.alpha * operation.size**2
            made.add(name, "LRN", lrn_param=_norm(operation.size, alpha, operation, "WITHIN_CHANNEL"))


def _add_pooling(made: Builder, name: str, pool: MaxPool, side: int) -> None:
    # Caffe always adds a last window that reaches over the edge. So positions that no window here reads are cut off.
    rest = (side - pool.window) % pool.stride if pool.rounding == "down" else 0
    for axis, along in ((2, "rows"), (3, "columns")) if rest else ():
        cut, over = f"{name}_{along}", f"{name}_{along}_over"
        made.add(cut, "Slice", slice_param={"slice_point": side - rest, "axis": axis}, makes=[cut, over])
        made.add(over, "Silence", reads=[over], makes=[])
    window = {"pool": ENUMS["pool"].index("MAX"), "kernel_size": pool.window, "stride": pool.stride}
    made.add(name, "Pooling", pooling_param=window)


def _add_norm(made: Builder, name: str, lrn: LRN, groups: int) -> None:
    """Normalises over all maps, or over each tower's maps in a slice of their own."""
    # OpenCV computes with k = 1, whatever the file gives: a / (k + s)^beta is a / (1 + s / k)^beta / k^beta.
    k = lrn.k or 1.0
    parameter = _norm(lrn.n, lrn.alpha * lrn.n / k, replace(lrn, k=lrn.k / k), "ACROSS_CHANNELS")
    if groups == 1:
        made.add(name, "LRN", lrn_param=parameter)
    else:
        parts = [f"{name}_tower{i}" for i in range(groups)]
        made.add(f"{name}_slice", "Slice", makes=[f"{part}_in" for part in parts])
        for part in parts:
            made.add(part, "LRN", lrn_param=parameter, reads=[f"{part}_in"])
        made.add(name, "Concat", reads=parts)
    if k != 1:
        made.add(f"{name}_scale", "Power", power_param={"scale": float(k**-lrn.beta)})


def _norm(size: int, alpha: float, norm: LRN | WithinMapNorm, region: str) -> Message:
    """An LRNParameter; Caffe divides its alpha by the number of values in the window."""
    return {
        "local_size": size,
        "alpha": float(alpha),
        "beta": float(norm.beta),
        "norm_region": ENUMS["norm_region"].index(region),
        "k": float(norm.k),
    }


def _blob(array: np.ndarray) -> Message:
    return {"shape": {"dim": [*array.shape]}, "data": np.ascontiguousarray(array, "<f4").tobytes()}


def binaryproto(mean_image: Float32[np.ndarray, "height width 3"]) -> bytes:
    """The mean image as a .binaryproto: a BlobProto with colours B, G, R."""
    maps_first = np.ascontiguousarray(mean_image[:, :, ::-1].transpose(2, 0, 1), "<f4")
    channels, height, width = maps_first.shape
    sizes = {"num": 1, "channels": channels, "height": height, "width": width}
    return encode("blobs", {**sizes, "data": maps_first.tobytes()})
