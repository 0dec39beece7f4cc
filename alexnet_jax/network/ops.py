"""The paper's operations as pure functions on arrays.

Pictures are [batch, height, width, maps]. Statistics are computed in float32 at least, whatever the
arrays' type.
"""

from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int32, Key, UInt8

from alexnet_jax.network.architecture import LRN, WithinMapNorm

Maps = Float[Array, "batch height width maps"]
AnyArray = TypeVar("AnyArray", bound=Array)


def centre(
    images: UInt8[Array, "batch crop crop 3"] | Float[Array, "batch crop crop 3"],
    mean_image: Float[Array, "resize resize 3"],
    offset: Int32[Array, "batch 2"],
    reflected: Bool[Array, " batch"],
    lighting: Float[Array, "batch 3"],
    scale: Float[Array, " batch"],
    channel_scale: tuple[float, float, float] | None = None,
) -> Float[Array, "batch crop crop 3"]:
    """Subtracts the mean image under each crop, adds its lighting shift, scales (sections 2 and 4.1).

    Args:
      images: cropped and reflected; RGB from 0 to 255. Floats if their gradient is wanted.
      mean_image: RGB from 0 to 255.
      offset: row and column of the first pixel of the mean image under each crop.
      reflected: whether that part of the mean image is mirrored left to right.
      lighting: RGB, added to every pixel of the picture, on the scale from 0 to 255.
      scale: multiplies the picture at the end; 1 in the paper.
      channel_scale: multiplies red, green and blue at the end; None: nothing does, as in the paper.

    Returns:
      The pictures, in mean_image's type.
    """
    size = images.shape[1:]
    means = jnp.stack([mean_image, mean_image[:, ::-1]])  # a mirrored crop is a crop of the mirrored image
    room = mean_image.shape[1] - size[1]

    def mean_under(start: Int32[Array, "2"], mirror: Bool[Array, ""]) -> Float[Array, "crop crop 3"]:
        column = jnp.where(mirror, room - start[1], start[1])
        place = (mirror.astype(start.dtype), start[0], column, jnp.zeros_like(column))
        return lax.dynamic_slice(means, place, (1, *size))[0]

    lit = images.astype(mean_image.dtype) - jax.vmap(mean_under)(offset, reflected)
    lit = lit + lighting[:, None, None, :].astype(mean_image.dtype)
    return lit * pixel_factors(scale, channel_scale, mean_image.dtype)


def pixel_factors(
    scale: Float[Array, " batch"], channel_scale: tuple[float, float, float] | None, dtype: DTypeLike
) -> Float[Array, "batch 1 1 channels"]:
    """The factor for each picture after the mean is subtracted, or its factor for each channel."""
    factor = scale[:, None, None, None].astype(dtype)
    return factor if channel_scale is None else factor * jnp.asarray(channel_scale, dtype)[None, None, None]


def made_once(x: AnyArray) -> AnyArray:
    """Returns `x`, and makes a CPU compute it once for all its readers, not anew in each.

    Elsewhere XLA may choose. On a GPU a kept array goes through memory, and a step's memory traffic would grow by two
    fifths (benchmarks/README.md).
    """
    same: AnyArray = lax.platform_dependent(x, cpu=lax.optimization_barrier, default=lambda x: x)
    return same


def convolve(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "size size channels maps"],
    stride: int,
    padding: tuple[int, int],
) -> Float[Array, "batch rows columns maps"]:
    """The cross-correlation of `x` with `kernel`; `padding` zeros stand before and after the picture on both axes."""
    x = made_once(x)  # this product and its kernel's gradient read it
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), (padding, padding), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@jax.custom_vjp
def gradient_once(x: AnyArray) -> AnyArray:
    """Returns `x`, and makes its gradient computed once for all its readers, as in `made_once`."""
    return x


gradient_once.defvjp(lambda x: (x, None), lambda _, gradient: (made_once(gradient),))


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def local_response_norm(x: Maps, lrn: LRN) -> Maps:
    """b_i = a_i / (k + alpha * sum_j a_j^2)^beta, j within n // 2 maps of i (section 3.3).

    Args:
      x: the maps of one tower, so that no sum reaches into the other; or those of both side by side, as in Caffe.
    """
    return _normalised(x, lrn)[0]


def _normalised(x: Maps, lrn: LRN) -> tuple[Maps, tuple[Maps, Maps]]:
    """The normalised maps, and for the gradient x and the root, (k + alpha * sum)^-1/2."""
    root = made_once(_inverse_root(x, lrn))
    return (x.astype(root.dtype) * _power(root, 2 * lrn.beta)).astype(x.dtype), (x, root)


def _inverse_root(x: Maps, lrn: LRN) -> Maps:
    squares = jnp.square(x.astype(jnp.promote_types(x.dtype, jnp.float32)))
    return lax.rsqrt(lrn.k + lrn.alpha * _window_sum(squares, lrn.n))


def _kept_root(x: Maps, root: Maps, gradient: Maps) -> tuple[Maps, Maps]:
    # Waits for the gradient: XLA would compute what follows from the root earlier, and keep that as well.
    kept: tuple[Maps, Maps] = lax.optimization_barrier((root, gradient))
    return kept


def _root_again(x: Maps, _: Maps, gradient: Maps, lrn: LRN) -> tuple[Maps, Maps]:
    # Times a 1 that XLA does not know: otherwise XLA sees that the root equals the first, and keeps that. A barrier
    # over x, as in `jax.checkpoint`, stores x once more: 9 to 24 % more memory traffic (benchmarks/README.md).
    return _inverse_root(x * lax.optimization_barrier(jnp.ones((), x.dtype)), lrn), gradient


def _normalised_gradient(lrn: LRN, kept: tuple[Maps, Maps], gradient: Maps) -> tuple[Maps]:
    x, root = kept
    # A CPU reads faster than it sums, so it keeps the roots. On a GPU they would be an eighth of a step's memory
    # traffic (benchmarks/README.md).
    again = partial(_root_again, lrn=lrn)
    root, gradient = lax.platform_dependent(x, root, gradient, cpu=_kept_root, default=again)
    a = x.astype(root.dtype)
    scaled = made_once(gradient.astype(root.dtype) * _power(root, 2 * lrn.beta))
    # Each map is in its neighbours' sums. Its share in their gradients has x's type, as a GPU stores it.
    shares = made_once((scaled * a * jnp.square(root)).astype(x.dtype))
    from_neighbours = _window_sum(shares.astype(root.dtype), lrn.n)
    return ((scaled - 2 * lrn.alpha * lrn.beta * a * from_neighbours).astype(x.dtype),)


local_response_norm.defvjp(_normalised, _normalised_gradient)


def _window_sum(x: Maps, n: int) -> Maps:
    """For each map the sum over the maps within n // 2 of it."""
    reach, maps = n // 2, x.shape[-1]
    padded = jnp.pad(x, [(0, 0), (0, 0), (0, 0), (reach, reach)])
    total = padded[..., :maps]
    for shift in range(1, 2 * reach + 1):
        total = total + padded[..., shift : shift + maps]
    return total


def within_map_norm(x: Maps, norm: WithinMapNorm) -> Maps:
    """b = a / (k + alpha * sum a^2)^beta, the sum over size x size positions of the same map.

    The window is centred and clipped at the edges, as in the 2012 source (layers-145.cfg:107-117).

    Args:
      x: the maps of any number of towers.
    """
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    a = x.astype(dtype)
    sums = jnp.square(a)
    for axis in (1, 2):  # sums over the window along each axis, as products with a banded matrix of 0 and 1
        place = np.arange(x.shape[axis])
        band = np.abs(place[:, None] - place) <= norm.size // 2
        summed = jnp.tensordot(sums, jnp.asarray(band, dtype), axes=(axis, 0), precision=lax.Precision.HIGHEST)
        sums = jnp.moveaxis(summed, -1, axis)
    return (a * _power(lax.rsqrt(norm.k + norm.alpha * sums), 2 * norm.beta)).astype(x.dtype)


def _power(x: Maps, exponent: float) -> Maps:
    return x * jnp.sqrt(x) if exponent == 1.5 else x**exponent  # a square root costs less than a power


def dropout(
    x: Float[Array, "batch *positions units"], rate: float, keys: Key[Array, " batch"] | None, rescales: bool = False
) -> Float[Array, "batch *positions units"]:
    """Zeroes outputs of a tower with probability `rate` in training; multiplies all by 1 - rate at test (section 4.2).

    Args:
      keys: a random key for each example; None at test.
      rescales: True: survivors are divided by 1 - rate in training, and outputs stay as they are at test.
    """
    if keys is None:
        return x if rescales else x * (1 - rate)
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - rate) if rescales else x, jnp.zeros_like(x))
