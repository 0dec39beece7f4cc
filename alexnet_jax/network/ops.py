"""The paper's operations as pure functions on arrays.

Pictures are [batch, height, width, maps]. Statistics are computed in at least float32, whatever
the type of the arrays.
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
      images: cropped and reflected; RGB from 0 to 255. In floats where their gradient is wanted.
      mean_image: RGB from 0 to 255.
      offset: row and column of the first pixel of the mean image under each crop.
      reflected: whether that part of it is mirrored left to right.
      lighting: added to every pixel of the picture, on the scale 0 to 255.
      scale: multiplies the picture at the end; 1 in the paper.
      channel_scale: multiplies red, green and blue at the end; None, as in the paper: nothing does.

    Returns:
      The pictures, of mean_image's type.
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
    """What multiplies each picture once the mean is subtracted: one factor, or one for each channel."""
    factor = scale[:, None, None, None].astype(dtype)
    return factor if channel_scale is None else factor * jnp.asarray(channel_scale, dtype)[None, None, None]


def made_once(x: AnyArray) -> AnyArray:
    """Returns `x`, which a CPU computes once for all that read it, and not anew in each of them.

    Elsewhere XLA is left to choose: on a GPU what is kept for several readers goes through memory, two fifths more
    of it in a step (benchmarks/README.md).
    """
    same: AnyArray = lax.platform_dependent(x, cpu=lax.optimization_barrier, default=lambda x: x)
    return same


def convolve(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "size size channels maps"],
    stride: int,
    padding: tuple[int, int],
) -> Float[Array, "batch rows columns maps"]:
    """The cross-correlation of `x` with `kernel`, with so many zeros before and after the picture on either axis."""
    x = made_once(x)  # for this product and for its kernel's gradient
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), (padding, padding), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@jax.custom_vjp
def gradient_once(x: AnyArray) -> AnyArray:
    """Returns `x`, whose gradient is computed once and kept for all that read it, and not anew by each of them."""
    return x


gradient_once.defvjp(lambda x: (x, None), lambda _, gradient: (made_once(gradient),))


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def local_response_norm(x: Maps, lrn: LRN) -> Maps:
    """b_i = a_i / (k + alpha * sum_j a_j^2)^beta, j within n // 2 maps of i (section 3.3).

    Args:
      x: of one tower, and then no sum reaches from one tower to the other; or, as in Caffe, of both side by side.
    """
    return _normalised(x, lrn)[0]


def _normalised(x: Maps, lrn: LRN) -> tuple[Maps, tuple[Maps, Maps]]:
    """The normalised maps, and what the gradient may need: x and (k + alpha * ...)^-1/2."""
    root = made_once(_inverse_root(x, lrn))
    return (x.astype(root.dtype) * _power(root, 2 * lrn.beta)).astype(x.dtype), (x, root)


def _inverse_root(x: Maps, lrn: LRN) -> Maps:
    squares = jnp.square(x.astype(jnp.promote_types(x.dtype, jnp.float32)))
    return lax.rsqrt(lrn.k + lrn.alpha * _window_sum(squares, lrn.n))


def _kept_root(x: Maps, root: Maps, gradient: Maps) -> tuple[Maps, Maps]:
    # What follows from the root is made when the gradient is there: XLA would make it earlier, and keep that too.
    kept: tuple[Maps, Maps] = lax.optimization_barrier((root, gradient))
    return kept


def _root_again(x: Maps, _: Maps, gradient: Maps, lrn: LRN) -> tuple[Maps, Maps]:
    # Times a one that XLA does not know to be one: it would find the root equal to the first, and keep that. A barrier
    # over x, as in `jax.checkpoint`, makes x one more array: 9 to 24 % more memory traffic (benchmarks/README.md).
    return _inverse_root(x * lax.optimization_barrier(jnp.ones((), x.dtype)), lrn), gradient


def _normalised_gradient(lrn: LRN, kept: tuple[Maps, Maps], gradient: Maps) -> tuple[Maps]:
    x, root = kept
    # A CPU sums more slowly than it reads. On a GPU, kept roots would be an eighth of all that a step moves through
    # memory (benchmarks/README.md).
    again = partial(_root_again, lrn=lrn)
    root, gradient = lax.platform_dependent(x, root, gradient, cpu=_kept_root, default=again)
    a = x.astype(root.dtype)
    scaled = made_once(gradient.astype(root.dtype) * _power(root, 2 * lrn.beta))
    # Each map is in the sums of its neighbours. What they get of its gradient has the type of x: a GPU stores it.
    shares = made_once((scaled * a * jnp.square(root)).astype(x.dtype))
    from_neighbours = _window_sum(shares.astype(root.dtype), lrn.n)
    return ((scaled - 2 * lrn.alpha * lrn.beta * a * from_neighbours).astype(x.dtype),)


local_response_norm.defvjp(_normalised, _normalised_gradient)


def _window_sum(x: Maps, n: int) -> Maps:
    """For each map the sum over those within n // 2 of it."""
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
      x: of any number of towers.
    """
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    a = x.astype(dtype)
    sums = jnp.square(a)
    for axis in (1, 2):  # sums over a window along each, as products with a banded 0/1 matrix
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
    """Zeroes outputs of one tower with probability `rate`; survivors are not rescaled (section 4.2).

    Args:
      keys: one an example; None at test, when all outputs are multiplied by 1 - rate instead.
      rescales: survivors are divided by 1 - rate in training, and outputs stay as they are at test.
    """
    if keys is None:
        return x if rescales else x * (1 - rate)
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - rate) if rescales else x, jnp.zeros_like(x))
