"""The operations of the 2012 source that the paper lacks, against float64 NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from alexnet_jax.config.config import network_of
from alexnet_jax.network import ops
from alexnet_jax.network.architecture import Architecture, Conv, Dense, MaxPool, Rounding, WithinMapNorm
from alexnet_jax.network.max_pool import max_pool
from alexnet_jax.network.model import AlexNet
from configs import alexnet, alexnet_2012
from tests.conftest import narrowed


def within_map(a: np.ndarray, size: int, k: float, alpha: float, beta: float) -> np.ndarray:
    out = np.empty_like(a)
    reach = size // 2
    for y in range(a.shape[1]):
        for x in range(a.shape[2]):
            near = a[:, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            out[:, y, x] = a[:, y, x] / (k + alpha * (near**2).sum(axis=(1, 2))) ** beta
    return out


def across_maps(a: np.ndarray, n: int, k: float, alpha: float, beta: float) -> np.ndarray:
    out = np.empty_like(a)
    for i in range(a.shape[-1]):
        near = a[..., max(0, i - n // 2) : i + n // 2 + 1]
        out[..., i] = a[..., i] / (k + alpha * (near**2).sum(axis=-1)) ** beta
    return out


def pooled(a: np.ndarray, window: int, stride: int, rounding: str) -> np.ndarray:
    count = (a.shape[1] - window) / stride + 1
    places = range(int(np.ceil(count) if rounding == "up" else np.floor(count)))
    return np.stack(
        [
            np.stack(
                [
                    a[:, y * stride : y * stride + window, x * stride : x * stride + window].max(axis=(1, 2))
                    for x in places
                ],
                axis=1,
            )
            for y in places
        ],
        axis=1,
    )


def convolved(a: np.ndarray, kernel: np.ndarray, stride: int, padding: tuple[int, int]) -> np.ndarray:
    a = np.pad(a, ((0, 0), padding, padding, (0, 0)))
    size = kernel.shape[0]
    places = range((a.shape[1] - size) // stride + 1)
    return np.stack(
        [
            np.stack(
                [np.einsum("bhwc,hwcm->bm", a[:, y * stride :, x * stride :][:, :size, :size], kernel) for x in places],
                axis=1,
            )
            for y in places
        ],
        axis=1,
    )


def test_within_map_normalisation() -> None:
    a = np.random.default_rng(0).normal(0, 100, (2, 7, 9, 3))
    mine = ops.within_map_norm(jnp.asarray(a, jnp.float32), WithinMapNorm())
    np.testing.assert_allclose(mine, within_map(a, 5, 1.0, 0.001 / 25, 0.75), rtol=2e-6)


def test_within_map_normalisation_with_another_exponent() -> None:
    a = np.random.default_rng(1).normal(0, 10, (1, 4, 4, 2))
    mine = ops.within_map_norm(jnp.asarray(a, jnp.float32), WithinMapNorm(3, 2.0, 0.1, 0.5))
    np.testing.assert_allclose(mine, within_map(a, 3, 2.0, 0.1, 0.5), rtol=2e-6)


@pytest.mark.parametrize(("window", "stride", "side"), [(3, 2, 8), (2, 2, 9), (3, 2, 9), (3, 3, 10)])
@pytest.mark.parametrize("rounding", ["up", "down"])
def test_pooling_by_rounding(window: int, stride: int, side: int, rounding: Rounding) -> None:
    a = np.random.default_rng(2).normal(
        -50, 1, (2, side, side, 3)
    )  # below 0, so that a zero beyond the edge would be a maximum
    mine = max_pool(jnp.asarray(a, jnp.float32), window, stride, rounding)
    np.testing.assert_allclose(mine, pooled(a, window, stride, rounding), rtol=1e-6)


@pytest.mark.parametrize(("window", "stride", "side"), [(3, 2, 8), (2, 2, 9), (3, 3, 10), (2, 1, 5)])
@pytest.mark.parametrize("rounding", ["up", "down"])
def test_each_of_equal_maxima_gets_the_gradient(window: int, stride: int, side: int, rounding: Rounding) -> None:
    """cuda-convnet's gradient of pooling: a position gets the gradient of each window whose maximum it equals."""
    rng = np.random.default_rng(3)
    a = rng.integers(0, 4, (2, side, side, 3)).astype(np.float64)  # few values: most windows tie
    maxima = pooled(a, window, stride, rounding)
    weights = rng.integers(1, 9, maxima.shape).astype(np.float64)
    expected = np.zeros_like(a)
    ties = 0
    for b, i, j, c in np.ndindex(*maxima.shape):
        rows = range(i * stride, min(i * stride + window, side))
        columns = range(j * stride, min(j * stride + window, side))
        equal = [(row, column) for row in rows for column in columns if a[b, row, column, c] == maxima[b, i, j, c]]
        ties += len(equal) > 1
        for row, column in equal:
            expected[b, row, column, c] += weights[b, i, j, c]
    assert ties > maxima.size / 8
    x = jnp.asarray(a, jnp.float32)
    np.testing.assert_array_equal(max_pool(x, window, stride, rounding, "all"), maxima)
    mine = jax.grad(lambda x: (max_pool(x, window, stride, rounding, "all") * weights).sum())(x)
    np.testing.assert_array_equal(mine, expected)
    first = jax.grad(lambda x: (max_pool(x, window, stride, rounding) * weights).sum())(x)
    assert first.sum() == weights.sum() < expected.sum()


def test_the_configs_choose_between_equal_maxima() -> None:
    for get_config, ties in ((alexnet.get_config, "first"), (alexnet_2012.get_config, "all")):
        poolings = [step for step in first_layer(get_config()).then if isinstance(step, MaxPool)]
        assert [pooling.ties for pooling in poolings] == [ties]


def first_layer(config: ConfigDict) -> Conv:
    layer = network_of(config, classes=10).layers[0]
    assert isinstance(layer, Conv)
    return layer


def test_the_sources_order_of_layer_1() -> None:
    layer = first_layer(narrowed(alexnet_2012.get_config("one_gpu")))
    net = Architecture(35, 1, (layer, Dense("fc8", 6, "both", 0.0, 0.1, ())))
    rng = np.random.default_rng(3)
    x = rng.normal(0, 60, (2, 35, 35, 3))
    kernel, bias = rng.normal(0, 0.3, (11, 11, 3, layer.kernels)), rng.normal(0, 30, layer.kernels)
    a = convolved(x, kernel, 4, (0, 3)) + bias
    by_source = np.maximum(0, pooled(across_maps(a, 5, 2.0, 1e-4 / 5, 0.75), 3, 2, "down"))
    by_paper = pooled(across_maps(np.maximum(0, a), 5, 2.0, 1e-4 / 5, 0.75), 3, 2, "down")
    assert np.abs(by_source - by_paper).max() > 0.01 * by_source.max()

    dense = rng.normal(0, 0.1, (by_source[0].size, 6))
    params = {"conv1": {"kernel": kernel, "bias": bias}, "fc8": {"kernel": dense, "bias": np.zeros(6)}}
    params = jax.tree.map(lambda array: np.asarray(array, np.float32), params)
    logits: Any = AlexNet(net).apply({"params": params}, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(logits, by_source.reshape(2, -1) @ dense, rtol=2e-5, atol=1e-3)


def test_what_follows_each_of_the_first_layers() -> None:
    def then(config: ConfigDict, place: int) -> list[str]:
        return [type(step).__name__ for step in network_of(config, 10).layers[place].then]

    assert then(alexnet.get_config(), 0) == ["ReLU", "LRN", "MaxPool"]
    assert then(alexnet_2012.get_config(), 0) == ["LRN", "MaxPool", "ReLU"]
    assert then(alexnet_2012.get_config(), 1) == ["ReLU", "LRN", "WithinMapNorm", "MaxPool"]
    assert then(alexnet_2012.get_config("no_lrn"), 1) == ["ReLU", "MaxPool"]
