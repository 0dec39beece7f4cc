"""Cross-entropy and rank against NumPy float64, with classes on one device and shared by two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from alexnet_jax.devices import towers
from alexnet_jax.network import loss
from alexnet_jax.network.architecture import ALEXNET
from tests import reference


def shared(logits: np.ndarray, labels: np.ndarray, classes: int, devices: int) -> tuple[np.ndarray, np.ndarray]:
    mesh = towers.make_mesh(1, devices, ALEXNET.towers)
    axis = towers.model_axis(mesh)
    run = towers.on_each_device(
        lambda z, y: loss.cross_entropy_and_rank(z, y, classes, axis), mesh, (P(None, axis), P()), (P(), P())
    )
    losses, rank = jax.jit(run)(jnp.asarray(logits), jnp.asarray(labels))
    return np.asarray(losses), np.asarray(rank)


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("classes", [2, 9, 10])
def test_loss_and_rank_are_numpys(devices: int, classes: int) -> None:
    rng = np.random.default_rng(classes)
    scores, labels = rng.normal(0, 5, (40, classes)).round(1), rng.integers(0, classes, 40, dtype=np.int32)
    padded = np.concatenate([scores, np.full((40, classes % 2), 1e4)], axis=-1).astype(np.float32)
    losses, rank = shared(padded, labels, classes, devices)
    np.testing.assert_allclose(losses, reference.cross_entropy(scores, labels), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(rank, reference.rank(padded[:, :classes], labels))


@pytest.mark.parametrize("devices", [1, 2])
def test_a_constant_output_is_right_only_for_the_first_class(devices: int) -> None:
    labels = np.arange(10, dtype=np.int32)
    losses, rank = shared(np.full((10, 10), 3.0, np.float32), labels, 10, devices)
    np.testing.assert_array_equal(rank, labels)
    np.testing.assert_allclose(losses, np.log(10), rtol=1e-6)


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 3])
def test_a_number_that_is_none_is_never_correct(devices: int, broken: float, place: int) -> None:
    scores = np.zeros((4, 4), np.float32)
    scores[np.arange(4), np.arange(4)] = 10
    scores[1:, place] = broken
    losses, rank = shared(scores, np.arange(4, dtype=np.int32), 4, devices)
    assert rank[0] == 0
    assert (rank[1:] >= loss.NAN_RANK).all()
    assert np.isfinite(losses[0])


@pytest.mark.parametrize("devices", [1, 2])
def test_a_label_that_is_no_class_is_never_correct(devices: int) -> None:
    scores = np.tile(np.array([1, 2, 3, 4], np.float32), (4, 1))
    losses, rank = shared(scores, np.array([-1, 4, 3, 3], np.int32), 4, devices)
    assert (rank[:2] >= loss.NAN_RANK).all() and np.isnan(losses[:2]).all()
    assert (rank[2:] == 0).all() and np.isfinite(losses[2:]).all()


def test_large_logits_do_not_overflow() -> None:
    scores = np.array([[1e4, 0, -1e4, 5]], np.float32)
    losses, _ = shared(scores, np.array([0], np.int32), 4, 2)
    np.testing.assert_allclose(losses, 0, atol=1e-6)


def test_the_gradient_is_softmax_minus_label() -> None:
    rng = np.random.default_rng(1)
    scores, labels = rng.normal(size=(6, 8)), rng.integers(0, 7, 6, dtype=np.int32)
    mesh = towers.make_mesh(1, 2, ALEXNET.towers)
    run = towers.on_each_device(
        lambda z, y: loss.cross_entropy_and_rank(z, y, 7, "model")[0], mesh, (P(None, "model"), P()), P()
    )
    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(lambda z: run(z, jnp.asarray(labels)).sum()))(jnp.asarray(scores))
    powers = np.exp(scores[:, :7])
    expected = powers / powers.sum(axis=-1, keepdims=True) - np.eye(7)[labels]
    np.testing.assert_allclose(gradient[:, :7], expected, atol=1e-12)
    np.testing.assert_array_equal(gradient[:, 7], 0)
