"""A network at test time with maps first, in float64, as PyTorch and Caffe compute it: towers are groups."""

from collections.abc import Sequence

import numpy as np

from alexnet_jax.network.architecture import LRN, Architecture, Dense, Dropout, MaxPool, ReLU
from alexnet_jax.weights.axis_order import MapsFirstLayer
from tests import reference


def maps_first(net: Architecture, layers: Sequence[MapsFirstLayer], x: np.ndarray) -> np.ndarray:
    """The logits for pictures [b, 3, h, w]; each tower is a group."""
    for layer, weights in zip(net.layers, layers, strict=True):
        if isinstance(layer, Dense):
            x = x.reshape(len(x), -1) @ weights.kernel.astype(np.float64).T + weights.bias
        else:
            groups = net.towers if layer.reads == "own" else 1
            padded = np.pad(x, ((0, 0), (0, 0), layer.padding, layer.padding))
            parts = zip(np.split(padded, groups, axis=1), np.split(weights.kernel, groups), strict=True)
            windows = [
                (np.lib.stride_tricks.sliding_window_view(part, kernel.shape[2:], (2, 3)), kernel)
                for part, kernel in parts
            ]
            steps = slice(None, None, layer.stride)
            sums = [np.einsum("bchwij,ocij->bohw", w[:, :, steps, steps], kernel) for w, kernel in windows]
            x = np.concatenate(sums, axis=1) + weights.bias[None, :, None, None]
        for operation in layer.then:
            x = _after(operation, x, net.towers)
    return x


def _after(operation: object, x: np.ndarray, towers: int) -> np.ndarray:
    last = np.moveaxis(x, 1, -1)
    match operation:
        case ReLU():
            return np.maximum(x, 0)
        case Dropout():
            return x if operation.rescales else x * (1 - operation.rate)
        case MaxPool():
            return np.moveaxis(reference.max_pool(last, operation.window, operation.stride), -1, 1)
        case LRN():
            groups = 1 if operation.across_towers else towers
            parts = [reference.local_response_norm(part, operation) for part in np.split(last, groups, axis=-1)]
            return np.moveaxis(np.concatenate(parts, axis=-1), -1, 1)
    raise TypeError(f"{operation} has no formula here")
