"""Ten views of a picture, cut on the device, and the mean of their softmax (section 4.1)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt8

from alexnet_jax.data import centre_offset
from alexnet_jax.network import loss, ops
from alexnet_jax.network.architecture import Conv
from alexnet_jax.network.model import AlexNet, Made, Params, Parts
from alexnet_jax.network.stages import place_of_dense, place_of_pooling, stages

MapsOfSquares = list[Float[Array, "2 pictures rows columns maps"]]  # for each tower on this device
Starts = Int[Array, "2 2"]  # row and column of a view of the picture, and of a view of its mirror image

VIEWS = 10  # of a picture: four corners, the centre, and their reflections


def starts(side: int, size: int) -> Int[np.ndarray, "5 2 2"]:
    """First row and column of five views of a picture, and of five views of its mirror image.

    Args:
      side: height and width of the square that views are cut from, pixels.
      size: height and width of a view.
    """
    last, middle = side - size, centre_offset(side, size)
    corners = [(0, 0), (0, last), (last, 0), (last, last), (middle, middle)]
    return np.asarray([((row, column), (row, last - column)) for row, column in corners], np.int32)


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

    The convolutions get a view and its mirror image at a time, to save memory. The dense layers get all ten views at
    once, so that their many weights are read once.

    Args:
      scale: multiplies a picture after the mean is subtracted.
      channel_scale: multiplies red, green and blue after that; None: nothing does.
      centre_mean: whether the centre of the mean image is subtracted from every view, in place of the part under it.
    """
    size, side = net.architecture.input_size, images.shape[1]
    factor = ops.pixel_factors(scale, channel_scale, mean_image.dtype)
    first = centre_offset(side, size)
    centre = mean_image[first : first + size, first : first + size] if centre_mean else None
    square = images.astype(mean_image.dtype)
    square = (square if centre_mean else square - mean_image[None]) * factor
    # The barrier makes both squares once; views are then only cut from them.
    both = lax.optimization_barrier(jnp.stack([square, square[:, :, ::-1]]))
    views = _Views(net, params, both, factor, centre)

    pooling, dense = place_of_pooling(net.architecture), place_of_dense(net.architecture)
    places = starts(side, size)
    conv = net.architecture.layers[0]
    assert isinstance(conv, Conv)
    whole_strides = not conv.padding[0] and not (places % conv.stride).any()
    shared = views.first_maps_of_squares() if whole_strides and not centre_mean else None

    def last_maps(start: Starts) -> Made:
        maps = views.first_maps_of_view(start) if shared is None else views.first_maps_cut_from(shared, start)
        return views.through(pooling, dense, maps)

    parts = [x.reshape(-1, *x.shape[2:]) for x in lax.map(last_maps, jnp.asarray(places))]
    logits = jnp.concatenate(views.through(dense, None, parts), axis=-1)
    by_view = loss.log_probabilities(logits, net.architecture.classes, net.axis).reshape(VIEWS, len(images), -1)
    return jax.scipy.special.logsumexp(by_view, axis=0) - jnp.log(float(VIEWS))


@dataclass(frozen=True)
class _Views:
    """A batch whose views go through the network.

    Attributes:
      both: the scaled squares, and their mirror images: a mirrored view is a view of the mirrored picture.
      factor: what multiplied the pixels.
      centre: the centre of the mean image, which is still to be subtracted; None: the mean is subtracted already.
    """

    net: AlexNet
    params: Params
    both: Float[Array, "2 batch resize resize 3"]
    factor: Float[Array, "batch 1 1 channels"]
    centre: Float[Array, "size size 3"] | None

    def through(self, first: int, last: int | None, parts: Parts) -> Made:
        """The output of the network's stages from `first` up to `last`, for `parts`."""
        some = stages(self.net.architecture)[first:last]
        made = self.net.apply({"params": self.params}, some, parts, method=AlexNet.through)
        assert isinstance(made, list)
        return made

    def first_maps(self, x: Float[Array, "batch height width 3"]) -> Made:
        """The first layer's maps before they are pooled."""
        return self.through(0, place_of_pooling(self.net.architecture), [x.astype(self.net.dtype)])

    def first_maps_of_view(self, start: Starts) -> Made:
        """The first layer's maps of a view and of its mirror image, one batch behind the other."""
        size = self.net.architecture.input_size
        x = _cut(self.both, start, size, size)
        if self.centre is not None:
            x = x - jnp.tile(self.factor, (2, 1, 1, 1)) * self.centre[None]
        return self.first_maps(x)

    def first_maps_of_squares(self) -> MapsOfSquares:
        """The first layer's maps of the whole squares."""
        maps = self.first_maps(self.both.reshape(-1, *self.both.shape[2:]))
        return [x.reshape(*self.both.shape[:2], *x.shape[1:]) for x in maps]

    def first_maps_cut_from(self, maps: MapsOfSquares, start: Starts) -> Made:
        """As `first_maps_of_view`, cut out of the maps of the squares.

        Views must lie whole strides apart, and the first layer must have no zeros before the picture.
        """
        size, conv = self.net.architecture.input_size, self.net.architecture.layers[0]
        assert isinstance(conv, Conv)
        side = (size + conv.padding[1] - conv.size) // conv.stride + 1
        # The kernel's last places read zeros beside a view, where the square has pixels: they are computed anew.
        edge = size - ((size - conv.size) // conv.stride + 1) * conv.stride
        strips = [(edge, size), (size, edge)] if edge + conv.padding[1] >= conv.size else []
        parts = [_cut(x, start // conv.stride, side, side) for x in maps]
        for height, width in strips:
            made = self.first_maps(_cut(self.both, start + jnp.asarray([[size - height, size - width]]), height, width))
            parts = [
                lax.dynamic_update_slice(x, strip, (0, side - strip.shape[1], side - strip.shape[2], 0))
                for x, strip in zip(parts, made, strict=True)
            ]
        return parts


def _cut(
    both: Float[Array, "2 batch rows columns maps"], start: Starts, height: int, width: int
) -> Float[Array, "two_batches {height} {width} maps"]:
    """A part of the squares, and a part of their mirror images from its own row and column, one after the other."""
    shape = (both.shape[1], height, width, both.shape[-1])
    return jnp.concatenate([lax.dynamic_slice(x, (0, *at, 0), shape) for x, at in zip(both, start, strict=True)])
