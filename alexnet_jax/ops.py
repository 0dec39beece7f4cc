"""The paper's operations as pure functions on arrays.

Pictures are [batch, height, width, maps]. Statistics are computed in at least float32, whatever
the type of the arrays.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alexnet_jax.architecture import LRN, Rounding, WithinMapNorm


def centre(
    images: jax.Array,
    mean_image: jax.Array,
    offset: jax.Array,
    reflected: jax.Array,
    lighting: jax.Array,
    scale: jax.Array,
) -> jax.Array:
    """Subtracts the mean image under each crop, adds its lighting shift, scales (sections 2 and 4.1).

    Args:
      images: uint8 [b, crop, crop, 3], cropped and reflected; RGB from 0 to 255.
      mean_image: float [resize, resize, 3], RGB from 0 to 255.
      offset: int32 [b, 2], row and column of the first pixel of the mean image under each crop.
      reflected: bool [b], whether that part of it is mirrored left to right.
      lighting: float32 [b, 3], added to every pixel of the picture, on the scale 0 to 255.
      scale: float32 [b], multiplies the picture at the end; 1 in the paper.

    Returns:
      float [b, crop, crop, 3] of mean_image's type.
    """
    size = images.shape[1:]

    def mean_under(start: jax.Array, mirror: jax.Array) -> jax.Array:
        crop = lax.dynamic_slice(mean_image, (start[0], start[1], jnp.zeros_like(start[0])), size)
        return jnp.where(mirror, crop[:, ::-1], crop)

    means = jax.vmap(mean_under)(offset, reflected)
    lit = images.astype(mean_image.dtype) - means + lighting[:, None, None, :].astype(mean_image.dtype)
    return lit * scale[:, None, None, None].astype(mean_image.dtype)


def convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: tuple[int, int]) -> jax.Array:
    """Cross-correlates x [b, h, w, c] with kernel [size, size, c, maps], zeros around the picture."""
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), (padding, padding), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def local_response_norm(x: jax.Array, lrn: LRN, towers: int) -> jax.Array:
    """b_i = a_i / (k + alpha * sum_j a_j^2)^beta, j within n // 2 maps of i (section 3.3).

    Args:
      x: [b, h, w, maps] of `towers` towers side by side; no sum reaches from one to the other.
    """
    maps = x.shape[-1]
    tower = np.arange(maps) // (maps // towers)
    near = np.abs(np.arange(maps)[:, None] - np.arange(maps)) <= lrn.n // 2
    band = near & (tower[:, None] == tower)
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    a = x.astype(dtype)
    # The window's sum as a product with a banded 0/1 matrix: faster than a sliding window.
    denominator = lrn.k + lrn.alpha * jnp.matmul(
        jnp.square(a), jnp.asarray(band, dtype), precision=lax.Precision.HIGHEST
    )
    return (a * _inverse_power(denominator, lrn.beta)).astype(x.dtype)


def within_map_norm(x: jax.Array, norm: WithinMapNorm) -> jax.Array:
    """B = a / (k + alpha * sum a^2)^beta, the sum over size x size positions of the same map.

    The window is centred and clipped at the edges, as in the 2012 source (layers-145.cfg:107-117).

    Args:
      x: [b, h, w, maps], of any number of towers.
    """
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    a = x.astype(dtype)
    sums = jnp.square(a)
    for axis in (1, 2):  # as in the other normalisation, products with a banded 0/1 matrix
        place = np.arange(x.shape[axis])
        band = np.abs(place[:, None] - place) <= norm.size // 2
        summed = jnp.tensordot(sums, jnp.asarray(band, dtype), axes=(axis, 0), precision=lax.Precision.HIGHEST)
        sums = jnp.moveaxis(summed, -1, axis)
    return (a * _inverse_power(norm.k + norm.alpha * sums, norm.beta)).astype(x.dtype)


def _inverse_power(x: jax.Array, beta: float) -> jax.Array:
    if beta == 0.75:  # two square roots cost less than a power
        root = lax.rsqrt(x)
        return root * jnp.sqrt(root)
    return x**-beta


def max_pool(x: jax.Array, window: int, stride: int, rounding: Rounding = "down") -> jax.Array:
    """Maximum of every window x window positions, `stride` apart, without padding (section 3.4).

    Rows first, then columns, as maxima of strided slices. Where several positions tie, they share
    the gradient. With sizes rounded up a last window takes what there is.
    """
    for axis in (1, 2):
        over = -(x.shape[axis] - window) % stride if rounding == "up" else 0
        if over:
            edges = [(0, over if i == axis else 0, 0) for i in range(x.ndim)]
            x = lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), edges)
        last = (x.shape[axis] - window) // stride * stride + 1
        slices = [lax.slice_in_dim(x, i, i + last, stride, axis) for i in range(window)]
        x = slices[0]
        for other in slices[1:]:
            x = jnp.maximum(x, other)
    return x


def dropout(x: jax.Array, rate: float, keys: jax.Array | None) -> jax.Array:
    """Zeroes outputs with probability `rate`; survivors are not rescaled (section 4.2).

    Args:
      x: [b, units] of one tower.
      keys: [b] random keys, one an example; None at test, when all outputs are multiplied by
        1 - rate instead.
    """
    if keys is None:
        return x * (1 - rate)
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x, jnp.zeros_like(x))
