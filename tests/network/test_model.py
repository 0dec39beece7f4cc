"""The whole network against slow NumPy, and one test for each property of it."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.network import architecture
from alexnet_jax.network.architecture import ALEXNET, Architecture
from alexnet_jax.network.model import AlexNet
from tests import reference
from tests.conftest import NARROW


def unconnected(net: Architecture, *names: str) -> Architecture:
    layers = tuple(dataclasses.replace(layer, reads="own") if layer.name in names else layer for layer in net.layers)
    return dataclasses.replace(net, layers=layers)


@functools.cache
def initialised(net: Architecture, dtype: str = "float32", seed: int = 0) -> Any:
    x = jnp.zeros((1, net.input_size, net.input_size, 3), dtype)
    return jax.jit(AlexNet(net, dtype=dtype).init)(jax.random.key(seed), x)["params"]


def logits(net: Architecture, params: Any, x: Any, *dropout: Any, dtype: str = "float32") -> np.ndarray:
    x = jnp.asarray(x, jnp.promote_types(dtype, jnp.float32))
    out: Any = jax.jit(AlexNet(net, dtype=dtype).apply)({"params": params}, x, *dropout)
    assert out.dtype == jnp.promote_types(dtype, jnp.float32)
    return np.asarray(out)


def pictures(count: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 60, (count, 64, 64, 3))


@pytest.mark.parametrize("towers", [1, 2])
def test_logits_are_the_papers_formulas(towers: int) -> None:
    net = architecture.alexnet(
        architecture.AlexNetOptions(
            kernels=(8, 12, 16, 16, 12), units=(24, 20), classes=7, input_size=64, towers=towers, weight_stddev=0.05
        )
    )
    with jax.enable_x64(True):
        params = initialised(net, "float64")
        ours = logits(net, params, pictures(), dtype="float64")
    expected = reference.logits(net, params, pictures())
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(ours[:, :7], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("layer", ["conv3", "fc6", "fc7", "fc8"])
def test_every_cross_connection_is_heard(layer: str) -> None:
    params = initialised(NARROW)
    # The other tower's pictures are blank: what is heard from it changes the first tower's units.
    full = logits(NARROW, params, pictures())
    cut = unconnected(NARROW, layer)
    inputs = params[layer]["kernel"].shape[-2]
    halved = {**params, layer: {**params[layer], "kernel": params[layer]["kernel"][..., : inputs // 2, :]}}
    alone = logits(cut, halved, pictures())
    assert not np.allclose(full, alone, rtol=1e-3)


def test_without_cross_connections_a_tower_never_hears_the_other() -> None:
    cut = unconnected(NARROW, "conv3", "fc6", "fc7", "fc8")
    params = initialised(cut)
    changed: Any = jax.tree.map(lambda x: x, params)
    half = changed["conv2"]["kernel"].shape[-1] // 2
    changed["conv2"]["kernel"] = changed["conv2"]["kernel"].at[..., :half].multiply(-2.0)  # the first tower's
    before, after = (logits(cut, p, pictures()) for p in (params, changed))
    shared = cut.padded_classes // 2
    np.testing.assert_array_equal(before[:, shared:], after[:, shared:])
    assert not np.allclose(before[:, :shared], after[:, :shared])
    connected = initialised(NARROW)
    changed = jax.tree.map(lambda x: x, connected)
    changed["conv2"]["kernel"] = changed["conv2"]["kernel"].at[..., :half].multiply(-2.0)
    before, after = (logits(NARROW, p, pictures()) for p in (connected, changed))
    assert not np.allclose(before[:, shared:], after[:, shared:])


def test_initial_weights_and_biases_are_the_papers() -> None:
    net = dataclasses.replace(ALEXNET, input_size=64)  # only fc6 reads less
    params = initialised(net)
    biases = {name: np.unique(layer["bias"]).tolist() for name, layer in params.items()}
    assert biases == {
        **{name: [0.0] for name in ("conv1", "conv3", "fc8")},
        **{name: [1.0] for name in ("conv2", "conv4", "conv5", "fc6", "fc7")},
    }
    for layer in params.values():
        kernel = np.asarray(layer["kernel"], np.float64)
        error = 0.01 / np.sqrt(kernel.size)
        assert kernel.mean() == pytest.approx(0, abs=5 * error)
        assert kernel.std() == pytest.approx(0.01, abs=5 * error)


def test_dropout_depends_on_step_layer_tower_and_example_only() -> None:
    params = initialised(NARROW)
    params = {**params, "fc8": {**params["fc8"], "kernel": jnp.eye(20, 8)}}  # logits are fc7's first units
    x, key = np.repeat(pictures(1), 6, axis=0), jax.random.key(5)

    def run(places: list[int], key: jax.Array) -> np.ndarray:
        return logits(NARROW, params, x[: len(places)], jnp.asarray(places, jnp.int32), key)

    whole = run([0, 1, 2, 3, 4, 5], key)
    np.testing.assert_allclose(run([4, 5], key), whole[4:], rtol=1e-5)
    assert not np.allclose(whole[0], whole[1])
    assert not np.allclose(run([0], jax.random.key(6)), whole[:1])
    zeros = whole == 0
    assert not np.array_equal(zeros[:, :4], zeros[:, 4:])


def test_at_test_hidden_outputs_are_halved() -> None:
    params = initialised(NARROW)
    undropped = architecture.alexnet(
        architecture.AlexNetOptions(
            kernels=(8, 12, 16, 16, 12), units=(24, 20), classes=7, input_size=64, dropout=architecture.Dropout(0.0)
        )
    )
    zero_bias = {**params, "fc7": {**params["fc7"], "bias": jnp.zeros(20)}}
    halved, whole = (logits(net, zero_bias, pictures()) for net in (NARROW, undropped))
    np.testing.assert_allclose(4 * halved, whole, rtol=1e-4, atol=1e-6)


def test_bfloat16_computes_near_float32_with_float32_parameters() -> None:
    params = initialised(NARROW, "bfloat16")
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    exact = logits(NARROW, params, pictures(8))
    rough = logits(NARROW, params, pictures(8), dtype="bfloat16")
    # bfloat16 has eight bits of mantissa: each of eight layers rounds by up to 2^-9.
    assert 0 < np.abs(rough - exact).max() < 8 * 2**-8 * np.abs(exact).max()
