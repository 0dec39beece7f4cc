"""The order of axes: a network's parameters from arrays with maps first compute what those do, in NumPy."""

from dataclasses import replace

import numpy as np
import pytest

from alexnet_jax.messages import UserError
from alexnet_jax.network.architecture import Architecture, Dense, alexnet
from alexnet_jax.weights import mapping
from alexnet_jax.weights.mapping import Foreign
from tests import reference

NET = alexnet(kernels=(8, 12, 16, 16, 12), units=(24, 20), classes=7, input_size=99)  # 2x2 positions before fc6


def random_foreign(net: Architecture) -> list[Foreign]:
    rng = np.random.default_rng(0)
    shapes = {row.name: mapping.foreign_shape(row) for row in mapping.layer_rows(net)}
    draw = {name: 2 * rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])) for name, shape in shapes.items()}
    return [
        Foreign(name, kernel.astype(np.float32), rng.normal(0, 0.2, len(kernel)).astype(np.float32))
        for name, kernel in draw.items()
    ]


def maps_first(net: Architecture, layers: list[Foreign], x: np.ndarray) -> np.ndarray:
    """The network at test on [b, 3, h, w], each layer a group for each tower, written with maps first."""
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
    name = type(operation).__name__
    if name == "ReLU":
        return np.maximum(x, 0)
    if name == "Dropout":
        return x * 0.5
    last = np.moveaxis(x, 1, -1)
    if name == "MaxPool":
        return np.moveaxis(reference.max_pool(last, 3, 2), -1, 1)
    parts = [reference.local_response_norm(part, operation) for part in np.split(last, towers, axis=-1)]  # type: ignore[arg-type]
    return np.moveaxis(np.concatenate(parts, axis=-1), -1, 1)


@pytest.mark.parametrize("net", [NET, replace(NET, towers=1)], ids=["two towers", "one"])
def test_both_orders_compute_the_same(net: Architecture) -> None:
    layers = random_foreign(net)
    x = np.random.default_rng(1).uniform(-120, 120, (2, 99, 99, 3))
    arrays = mapping.from_foreign(net, layers, "file", "net")
    ours = reference.logits(net, arrays, x)
    theirs = maps_first(net, layers, x.transpose(0, 3, 1, 2))
    assert np.abs(theirs).max() > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9 * np.abs(theirs).max())


def test_in_and_out_again_is_the_same_to_the_bit() -> None:
    layers = random_foreign(NET)
    arrays = mapping.from_foreign(NET, layers, "file", "net")
    assert arrays["fc8"]["kernel"].shape == (20, 8)  # seven classes, padded to even
    for before, after in zip(layers, mapping.to_foreign(NET, arrays), strict=True):
        assert np.array_equal(before.kernel, after.kernel) and np.array_equal(before.bias, after.bias)


def test_the_first_layer_that_differs_is_named_with_both_shapes() -> None:
    layers = random_foreign(NET)
    wrong = layers.copy()
    wrong[2] = Foreign("third", np.zeros((16, 8, 3, 3), np.float32), layers[2].bias)
    wrong[5] = Foreign("sixth", np.zeros((1, 1), np.float32), layers[5].bias)
    with pytest.raises(
        UserError, match=r"'third' has a kernel of shape \(16, 8, 3, 3\) where conv3 of net has \(16, 12, 3, 3\)"
    ):
        mapping.from_foreign(NET, wrong, "file", "net")
    with pytest.raises(UserError, match="it has no more where fc8 of net has"):
        mapping.from_foreign(NET, layers[:-1], "file", "net")
    with pytest.raises(UserError, match=r"'fc8' has a kernel of shape \(7, 20\) where net has no more layers"):
        mapping.from_foreign(NET, [*layers, layers[-1]], "file", "net")
    wrong = [replace(layers[0], bias=np.zeros(9, np.float32)), *layers[1:]]
    with pytest.raises(UserError, match=r"'conv1' has a bias of shape \(9,\) where conv1 of net has \(8,\)"):
        mapping.from_foreign(NET, wrong, "file", "net")
