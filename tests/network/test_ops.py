"""Each operation against the paper's formula in float64, and its gradient against finite differences."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from alexnet_jax.network import architecture, ops
from alexnet_jax.network.architecture import LRN
from alexnet_jax.network.max_pool import max_pool
from tests import reference
from tests.conftest import random_batch

STRONG = LRN(alpha=0.5)  # an alpha with which the normalisation matters for numbers of order one


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("lrn", [LRN(), STRONG, LRN(n=3, k=1.0, alpha=0.3, beta=0.5)])
def test_lrn_is_the_formula(rng: np.random.Generator, lrn: LRN) -> None:
    a = rng.normal(0, 3, (2, 3, 3, 10))
    expected = reference.local_response_norm(a, lrn)
    with jax.enable_x64(True):
        np.testing.assert_allclose(ops.local_response_norm(jnp.asarray(a), lrn), expected, rtol=1e-12)
    np.testing.assert_allclose(
        ops.local_response_norm(jnp.asarray(a, jnp.float32), lrn), expected, rtol=3e-6, atol=1e-7
    )


def test_lrn_at_the_edges_of_a_tower_by_hand() -> None:
    a = np.arange(1.0, 7.0)[None, None, None]  # a tower of six maps
    b = np.asarray(ops.local_response_norm(jnp.asarray(a, jnp.float32), STRONG)).ravel()
    windows = {0: (1, 2, 3), 1: (1, 2, 3, 4), 2: (1, 2, 3, 4, 5), 4: (3, 4, 5, 6), 5: (4, 5, 6)}
    for place, window in windows.items():
        expected = (place + 1) / (2 + 0.5 * sum(w * w for w in window)) ** 0.75
        assert b[place] == pytest.approx(expected, rel=1e-5)


def test_pool_is_the_maximum_of_every_window(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 13, 13, 4))
    np.testing.assert_array_equal(
        max_pool(jnp.asarray(x, jnp.float32), 3, 2), reference.max_pool(x.astype(np.float32), 3, 2)
    )
    assert max_pool(jnp.zeros((1, 55, 55, 1)), 3, 2).shape == (1, 27, 27, 1)


def plain_lrn(a: jax.Array, lrn: LRN) -> jax.Array:
    """The formula, whose gradient JAX makes; `ops.local_response_norm` has its own gradient."""
    place = np.arange(a.shape[-1])
    band = np.abs(place[:, None] - place) <= lrn.n // 2
    return a / (lrn.k + lrn.alpha * (jnp.square(a) @ jnp.asarray(band, a.dtype))) ** lrn.beta


@pytest.mark.parametrize("accelerator", [False, True])
@pytest.mark.parametrize("lrn", [STRONG, LRN(n=3, k=1.0, alpha=0.3, beta=0.5)])
def test_lrns_own_gradient_is_that_of_the_plain_formula(
    rng: np.random.Generator, lrn: LRN, accelerator: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if accelerator:  # what platforms other than a CPU compute
        monkeypatch.setattr(lax, "platform_dependent", lambda *args, cpu, default: default(*args))
    a, weights = rng.normal(0, 2, (2, 2, 3, 3, 16))
    with jax.enable_x64(True):
        ours = jax.grad(lambda x: (ops.local_response_norm(x, lrn) * weights).sum())(jnp.asarray(a))
        plain = jax.grad(lambda x: (plain_lrn(x, lrn) * weights).sum())(jnp.asarray(a))
    np.testing.assert_allclose(ours, plain, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("size", "window", "stride"), [(13, 3, 2), (12, 3, 2), (13, 2, 2), (11, 3, 1), (14, 5, 3)])
@pytest.mark.parametrize("rounding", ["down", "up"])
def test_pools_own_gradient_is_xlas(
    rng: np.random.Generator, size: int, window: int, stride: int, rounding: architecture.Rounding
) -> None:
    over = -(size - window) % stride if rounding == "up" else 0
    edges = [(0, 0), (0, over), (0, over), (0, 0)]

    def plain(x: jax.Array) -> jax.Array:
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1), edges)

    x = jnp.asarray(rng.normal(size=(2, size, size, 3)), jnp.float32)
    pooled = plain(x)
    weights = jnp.asarray(
        rng.integers(1, 9, pooled.shape), jnp.float32
    )  # whole numbers: their sums are equal in any order
    np.testing.assert_array_equal(max_pool(x, window, stride, rounding), pooled)
    ours = jax.grad(lambda x: (max_pool(x, window, stride, rounding) * weights).sum())(x)
    np.testing.assert_array_equal(ours, jax.grad(lambda x: (plain(x) * weights).sum())(x))


def test_the_first_of_equal_maxima_gets_the_gradient() -> None:
    gradient = jax.grad(lambda x: max_pool(x, 3, 2).sum())(jnp.zeros((1, 5, 5, 1)))
    first = np.zeros((5, 5))
    first[:3:2, :3:2] = 1
    np.testing.assert_array_equal(gradient[0, :, :, 0], first)


@pytest.mark.parametrize(("size", "stride", "padding"), [(11, 4, (0, 3)), (5, 1, (2, 2)), (3, 1, (1, 1))])
def test_convolution_is_the_sum_over_the_window(
    rng: np.random.Generator, size: int, stride: int, padding: tuple[int, int]
) -> None:
    x, kernel = rng.normal(size=(2, 16, 16, 3)), rng.normal(size=(size, size, 3, 4))
    with jax.enable_x64(True):
        ours = ops.convolve(jnp.asarray(x), jnp.asarray(kernel), stride, padding)
    np.testing.assert_allclose(ours, reference.convolve(x, kernel, stride, padding), rtol=1e-11, atol=1e-11)


def test_centre_follows_crop_and_reflection(rng: np.random.Generator) -> None:
    batch, mean = random_batch(8, 7, crop=6, resize=9), rng.uniform(0, 255, (9, 9, 3)).astype(np.float32)
    image, offset, reflected, lighting, scale = (
        jnp.asarray(getattr(batch, name)) for name in ("image", "offset", "reflected", "lighting", "scale")
    )
    ours = ops.centre(image, jnp.asarray(mean), offset, reflected, lighting, scale)
    np.testing.assert_allclose(ours, reference.centre(batch, mean), atol=1e-4)


def test_dropout_zeroes_half_and_rescales_nothing() -> None:
    x = jnp.full((64, 2000), 3.0)
    keys = jax.random.split(jax.random.key(0), 64)
    dropped = np.asarray(ops.dropout(x, 0.5, keys))
    assert set(np.unique(dropped)) == {0.0, 3.0}
    # 128,000 fair draws: the share of zeros has a standard deviation of 0.0014.
    assert (dropped == 0).mean() == pytest.approx(0.5, abs=0.007)
    assert not np.array_equal(dropped[0], dropped[1])
    np.testing.assert_array_equal(ops.dropout(x, 0.5, None), np.full((64, 2000), 1.5))


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: ops.local_response_norm(x, STRONG), (2, 2, 2, 12)),
        (lambda x: max_pool(x, 3, 2), (2, 7, 7, 3)),
        (lambda x: ops.convolve(x, jnp.linspace(-1, 1, 5 * 5 * 3 * 2).reshape(5, 5, 3, 2), 1, (2, 2)), (1, 6, 6, 3)),
        (lambda x: ops.dropout(x, 0.5, jax.random.split(jax.random.key(1), 4)), (4, 9)),
    ],
)
def test_gradients_are_finite_differences(
    rng: np.random.Generator, function: Callable[[jax.Array], jax.Array], shape: tuple[int, ...]
) -> None:
    # The values are far apart: within the differences no other value becomes a maximum.
    x = rng.permutation(np.arange(np.prod(shape), dtype=np.float64)).reshape(shape) / 10
    with jax.enable_x64(True):
        # Compiled, since `check_grads` gives NumPy's arrays to a gradient, and traced arrays are none.
        check_grads(jax.jit(function), (jnp.asarray(x),), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)
