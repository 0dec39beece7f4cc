"""Ten views of a picture, cut on the device, and the mean of their softmax (section 4.1)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt8

from alexnet_jax.network import loss, ops
from alexnet_jax.network.architecture import Conv
from alexnet_jax.network.model import AlexNet, Made, Params, Parts
from alexnet_jax.network.stages import place_of_dense, place_of_pooling, stages

Starts = Int[Array, "2 2"]  # row and column of a view of the picture, and of one of its mirror image

VIEWS = 10  # of a picture: four corners, the centre, and their reflections


def starts(room: int) -> Int[np.ndarray, "5 2 2"]:
    """First row and column of five views of a picture and of five of its mirror image.

    Args:
      room: pixels by which the square is larger than a view.
    """
    corners = [(0, 0), (0, room), (room, 0), (room, room), (room // 2, room // 2)]
    return np.asarray([((row, column), (row, room - column)) for row, column in corners], np.int32)


def log_mean_softmax(
    net: AlexNet,
    params: Params,
    images: UInt8[Array, "batch resize resize 3"],
    scale: Float[Array, " batch"],
    mean_image: Float[Array, "resize resize 3"],
    centre_mean: bool,
    channel_scale: tuple[float, float, float] | None = None,
) -> Float[Array, "batch local_classes"]:
    """The logarithm of the mean of the softmax over ten views.

    The convolutions see a view and its mirror image at a time, for memory's sake; the dense layers all ten, as
    their weights are many and read once then.

    Args:
      scale: multiplies a picture after the mean is subtracted.
      channel_scale: multiplies red, green and blue then; None: nothing does.
      centre_mean: subtract the centre of the mean image from every view, and not the part under it.
    """
    size = net.architecture.input_size
    every = stages(net.architecture)
    pooling, dense = place_of_pooling(net.architecture), place_of_dense(net.architecture)
    room = images.shape[1] - size
    factor = ops.pixel_factors(scale, channel_scale, mean_image.dtype)
    square = images.astype(mean_image.dtype)
    if not centre_mean:
        square = square - mean_image[None]
    square = square * factor
    # A mirrored view is a view of the mirrored picture; both are made once, and views are only cut from them.
    both = lax.optimization_barrier(jnp.stack([square, square[:, :, ::-1]]))

    def through(first: int, last: int, parts: Parts) -> Made:
        made = net.apply({"params": params}, every[first:last], parts, method=AlexNet.through)
        assert isinstance(made, list)
        return made

    def first_maps(x: Float[Array, "batch height width 3"]) -> Made:
        return through(0, pooling, [x.astype(net.dtype)])

    def of_each_view(start: Starts) -> Made:
        x = _cut(both, start, size, size)
        if centre_mean:
            centre = lax.dynamic_slice(mean_image, (room // 2, room // 2, 0), (size, size, 3))
            x = x - jnp.tile(factor, (2, 1, 1, 1)) * centre[None]
        return first_maps(x)

    conv = net.architecture.layers[0]
    assert isinstance(conv, Conv)
    whole_strides = not conv.padding[0] and not (starts(room) % conv.stride).any()
    first_layer = _on_the_square(conv, size, both, first_maps) if whole_strides and not centre_mean else of_each_view

    def last_maps(start: Starts) -> Made:
        return through(pooling, dense, first_layer(start))

    parts = [x.reshape(-1, *x.shape[2:]) for x in lax.map(last_maps, jnp.asarray(starts(room)))]
    logits = jnp.concatenate(through(dense, len(every), parts), axis=-1)
    by_view = loss.log_probabilities(logits, net.architecture.classes, net.axis).reshape(VIEWS, len(images), -1)
    return jax.scipy.special.logsumexp(by_view, axis=0) - jnp.log(float(VIEWS))


def _on_the_square(
    conv: Conv,
    size: int,
    both: Float[Array, "2 batch resize resize 3"],
    first_maps: Callable[[Float[Array, "batch height width 3"]], Made],
) -> Callable[[Starts], Made]:
    """The first layer's maps of a view, cut out of those of the square and of its mirror image.

    For views that lie whole strides apart, and a first layer with no zeros before the picture.
    """
    maps = [x.reshape(*both.shape[:2], *x.shape[1:]) for x in first_maps(both.reshape(-1, *both.shape[2:]))]
    side = (size + conv.padding[1] - conv.size) // conv.stride + 1
    # The kernel's last places read zeros beside a view, where the square has pixels: they are computed anew.
    edge = size - ((size - conv.size) // conv.stride + 1) * conv.stride
    strips = [(edge, size), (size, edge)] if edge + conv.padding[1] >= conv.size else []

    def of_view(start: Starts) -> Made:
        parts = [_cut(x, start // conv.stride, side, side) for x in maps]
        for height, width in strips:
            made = first_maps(_cut(both, start + jnp.asarray([[size - height, size - width]]), height, width))
            parts = [
                lax.dynamic_update_slice(x, strip, (0, side - strip.shape[1], side - strip.shape[2], 0))
                for x, strip in zip(parts, made, strict=True)
            ]
        return parts

    return of_view


def _cut(
    both: Float[Array, "2 batch rows columns maps"], start: Starts, height: int, width: int
) -> Float[Array, "two_batches {height} {width} maps"]:
    """A part of each of the two, each from a row and column of its own, one batch behind the other."""
    shape = (both.shape[1], height, width, both.shape[-1])
    return jnp.concatenate([lax.dynamic_slice(x, (0, *at, 0), shape) for x, at in zip(both, start, strict=True)])
