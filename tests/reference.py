"""The paper's formulas in NumPy float64, written as the paper states them: slow, tower by tower."""

from typing import Any

import numpy as np

from alexnet_jax.data.batches.batch import Batch
from alexnet_jax.network.architecture import LRN, Architecture, Conv, Dropout, MaxPool, ReLU


def convolve(x: np.ndarray, kernel: np.ndarray, stride: int, padding: tuple[int, int]) -> np.ndarray:
    """A convolution: every output is a sum over the kernel's window, with zeros around the picture."""
    x = np.pad(x, ((0, 0), padding, padding, (0, 0)))
    size = kernel.shape[0]
    side = (x.shape[1] - size) // stride + 1
    out = np.zeros((x.shape[0], side, side, kernel.shape[-1]))
    for row in range(side):
        for column in range(side):
            window = x[:, row * stride : row * stride + size, column * stride : column * stride + size]
            out[:, row, column] = np.einsum("bijc,ijck->bk", window, kernel)
    return out


def local_response_norm(a: np.ndarray, lrn: LRN) -> np.ndarray:
    """Response normalisation of a tower's maps (section 3.3)."""
    maps, b = a.shape[-1], np.zeros_like(a)
    for i in range(maps):
        low, high = max(0, i - lrn.n // 2), min(maps - 1, i + lrn.n // 2)
        squares = sum(a[..., j] ** 2 for j in range(low, high + 1))
        b[..., i] = a[..., i] / (lrn.k + lrn.alpha * squares) ** lrn.beta
    return b


def max_pool(x: np.ndarray, window: int, stride: int) -> np.ndarray:
    """The largest value of each window."""
    side = (x.shape[1] - window) // stride + 1
    out = np.zeros((x.shape[0], side, side, x.shape[-1]))
    for row in range(side):
        for column in range(side):
            part = x[:, row * stride : row * stride + window, column * stride : column * stride + window]
            out[:, row, column] = part.max(axis=(1, 2))
    return out


def logits(net: Architecture, params: Any, x: np.ndarray) -> np.ndarray:
    """The whole network at test on centred pictures."""
    return stages(net, params, x)[net.layers[-1].name][:, : net.classes]


def stages(net: Architecture, params: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """Each stage's output at test for centred pictures, the towers side by side.

    Each tower has its own list of arrays; they meet where a layer reads both, and where a normalisation does. The
    keys are LAYER/sums, LAYER/relu, LAYER/norm, LAYER/pool, LAYER/dropout, and LAYER for what a layer hands on.
    """
    towers, made = [x] * net.towers, {}
    names = {ReLU: "relu", LRN: "norm", MaxPool: "pool", Dropout: "dropout"}
    for layer in net.layers:
        kernel, bias = (np.asarray(params[layer.name][what], np.float64) for what in ("kernel", "bias"))
        kernels, biases = np.split(kernel, net.towers, axis=-1), np.split(bias, net.towers)
        seen = [np.concatenate(towers, axis=-1)] * net.towers if layer.reads == "both" else towers
        after = []
        for tower in range(net.towers):
            if isinstance(layer, Conv):
                y = convolve(seen[tower], kernels[tower], layer.stride, layer.padding)
            else:
                y = seen[tower].reshape(len(x), -1) @ kernels[tower]
            after.append(y + biases[tower])
        towers = after
        made[f"{layer.name}/sums"] = np.concatenate(towers, axis=-1)
        for step in layer.then:
            if isinstance(step, LRN) and step.across_towers:
                towers = np.split(local_response_norm(np.concatenate(towers, axis=-1), step), net.towers, axis=-1)
            else:
                towers = [_apply(step, y) for y in towers]
            made[f"{layer.name}/{names[type(step)]}"] = np.concatenate(towers, axis=-1)
        made[layer.name] = np.concatenate(towers, axis=-1)
    return made


def _apply(step: Any, y: np.ndarray) -> np.ndarray:
    if isinstance(step, ReLU):
        return np.maximum(y, 0)
    if isinstance(step, LRN):
        return local_response_norm(y, step)
    if isinstance(step, MaxPool):
        return max_pool(y, step.window, step.stride)
    assert isinstance(step, Dropout)
    return y if step.rescales else y * (1 - step.rate)


def cross_entropy(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Each example's loss: -log softmax of its label."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True)
    return -np.log(probabilities[np.arange(len(labels)), labels])


def rank(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The label's place among the classes, sorted by score; ties by number."""
    order = np.argsort(-scores, axis=-1, kind="stable")
    return np.argmax(order == labels[:, None], axis=-1)


def centre(batch: Batch, mean: np.ndarray) -> np.ndarray:
    """Each crop minus the mean image under it, both mirrored if the crop is, plus the lighting, scaled."""
    size, out = batch.image.shape[1], []
    for image, (row, column), mirrored, light in zip(
        batch.image, batch.offset, batch.reflected, batch.lighting, strict=True
    ):
        under = mean[row : row + size, column : column + size]
        out.append(image.astype(np.float64) - (under[:, ::-1] if mirrored else under) + light)
    return np.stack(out) * batch.scale[:, None, None, None]
