"""A trained network as a single StableHLO program, from pixels to probabilities."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import export
from jaxtyping import Array, Float, UInt8

from alexnet_jax.data import centre_offset
from alexnet_jax.messages import UserError
from alexnet_jax.network import loss
from alexnet_jax.network.model import AlexNet, Params
from alexnet_jax.training.step import Recipe

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def encode(
    recipe: Recipe, params: Params, mean_image: Float[Array, "resize resize 3"], platforms: Sequence[str]
) -> bytes:
    """The serialized program, for `jax.export.deserialize(...).call(pictures)` on any of the platforms.

    It takes prepared squares, uint8 [batch, resize, resize, 3] with any batch, and returns float32 [batch, classes]:
    the softmax for each square's centre.

    Raises:
      UserError: a platform is unknown.
    """
    for platform in platforms:
        if platform not in PLATFORMS:
            raise UserError(f"--platforms names '{platform}'; choose from {', '.join(PLATFORMS)}")
    program = jax.jit(partial(probabilities, recipe, params, mean_image))
    shape = export.symbolic_shape("batch, {0}, {0}, 3".format(len(mean_image)))
    described = jax.ShapeDtypeStruct(shape, jnp.uint8)
    made = export.export(program, platforms=tuple(platforms))(described)
    return bytes(made.serialize())


def probabilities(
    recipe: Recipe,
    params: Params,
    mean_image: Float[Array, "resize resize 3"],
    pictures: UInt8[Array, "batch resize resize 3"],
) -> Float[Array, "batch classes"]:
    """The softmax for the centre of each square; both towers on one device."""
    net, size = AlexNet(recipe.architecture, dtype=recipe.dtype), recipe.architecture.input_size
    first = centre_offset(len(mean_image), size)
    centre = slice(first, first + size)
    centred = pictures[:, centre, centre].astype(mean_image.dtype) - mean_image[None, centre, centre]
    if recipe.channel_scale:
        centred = centred * jnp.asarray(recipe.channel_scale, centred.dtype).reshape(1, 1, 1, 3)
    logits = net.apply({"params": params}, centred)
    assert isinstance(logits, Array)
    return jnp.exp(loss.log_probabilities(logits, recipe.architecture.classes, None))[:, : recipe.architecture.classes]
