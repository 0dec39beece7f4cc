"""Ten views of a picture, cut on the device, and the mean of their softmax (section 4.1)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alexnet_jax.network import loss
from alexnet_jax.network.model import AlexNet

VIEWS = 10  # of a picture: four corners, the centre, and their reflections


def starts(room: int) -> np.ndarray:
    """First row and column of five views of a picture and of five of its mirror image, int32 [5, 2, 2].

    Args:
      room: pixels by which the square is larger than a view.
    """
    corners = [(0, 0), (0, room), (room, 0), (room, room), (room // 2, room // 2)]
    return np.asarray([((row, column), (row, room - column)) for row, column in corners], np.int32)


def log_mean_softmax(
    net: AlexNet, params: Any, images: jax.Array, scale: jax.Array, mean_image: jax.Array, centre_mean: bool
) -> jax.Array:
    """The logarithm of the mean of the softmax over ten views, [b, classes on this device].

    The convolutions see a view and its mirror image at a time, for memory's sake; the dense layers all ten, as
    their weights are many and read once then.

    Args:
      images: uint8 [b, resize, resize, 3].
      scale: float32 [b], multiplies a picture after the mean is subtracted.
      mean_image: float [resize, resize, 3].
      centre_mean: subtract the centre of the mean image from every view, and not the part under it.
    """
    size, variables = net.architecture.input_size, {"params": params}
    room = images.shape[1] - size
    factor = scale[:, None, None, None].astype(mean_image.dtype)
    square = images.astype(mean_image.dtype)
    if not centre_mean:
        square = square - mean_image
    square = square * factor
    # A mirrored view is a view of the mirrored picture; both are made once, and views are only cut from them.
    both = lax.optimization_barrier(jnp.stack([square, square[:, :, ::-1]]))

    def first_maps(x: jax.Array) -> Any:
        return net.apply(variables, x, method=AlexNet.first_maps)

    def of_each_view(start: jax.Array) -> Any:
        x = _cut(both, start, size, size)
        if centre_mean:
            x = x - jnp.tile(factor, (2, 1, 1, 1)) * lax.dynamic_slice(
                mean_image, (room // 2, room // 2, 0), (size, size, 3)
            )
        return first_maps(x)

    conv: Any = net.architecture.layers[0]
    whole_strides = not conv.padding[0] and not (starts(room) % conv.stride).any()
    first_layer = _on_the_square(conv, size, both, first_maps) if whole_strides and not centre_mean else of_each_view

    def last_maps(start: jax.Array) -> Any:
        return net.apply(variables, first_layer(start), method=AlexNet.later_maps)

    parts = [x.reshape(-1, *x.shape[2:]) for x in lax.map(last_maps, jnp.asarray(starts(room)))]
    logits: Any = net.apply(variables, parts, method=AlexNet.classify)
    by_view = loss.log_probabilities(logits, net.architecture.classes, net.axis).reshape(VIEWS, len(images), -1)
    return jax.scipy.special.logsumexp(by_view, axis=0) - jnp.log(float(VIEWS))


def _on_the_square(conv: Any, size: int, both: jax.Array, first_maps: Any) -> Any:
    """The first layer's maps of a view, cut out of those of the square and of its mirror image.

    For views that lie whole strides apart, and a first layer with no zeros before the picture.
    """
    maps = [x.reshape(*both.shape[:2], *x.shape[1:]) for x in first_maps(both.reshape(-1, *both.shape[2:]))]
    side = (size + conv.padding[1] - conv.size) // conv.stride + 1
    # The kernel's last places read zeros beside a view, where the square has pixels: they are computed anew.
    edge = size - ((size - conv.size) // conv.stride + 1) * conv.stride
    strips = [(edge, size), (size, edge)] if edge + conv.padding[1] >= conv.size else []

    def of_view(start: jax.Array) -> list[jax.Array]:
        parts = [_cut(x, start // conv.stride, side, side) for x in maps]
        for height, width in strips:
            made = first_maps(_cut(both, start + jnp.asarray([size - height, size - width]), height, width))
            parts = [
                lax.dynamic_update_slice(x, strip, (0, side - strip.shape[1], side - strip.shape[2], 0))
                for x, strip in zip(parts, made, strict=True)
            ]
        return parts

    return of_view


def _cut(both: jax.Array, start: jax.Array, height: int, width: int) -> jax.Array:
    """A part of each of two [2, b, h, w, maps], each from a row and column of its own: [2 b, height, width, maps]."""
    shape = (both.shape[1], height, width, both.shape[-1])
    return jnp.concatenate([lax.dynamic_slice(x, (0, *at, 0), shape) for x, at in zip(both, start, strict=True)])
