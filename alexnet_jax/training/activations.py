"""The activations of pictures at chosen stages: the maps and units of both towers, on any mesh."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from alexnet_jax.data.batches.batch import Batch
from alexnet_jax.devices import towers
from alexnet_jax.network.architecture import Architecture, Conv
from alexnet_jax.network.model import AlexNet, Params
from alexnet_jax.network.stages import stages
from alexnet_jax.training.step import MeanImage, Recipe, centred, network_on

Activations = dict[int, Float[Array, "batch *positions outputs"]]  # by the stage's place in `stages(architecture)`


def activations(
    recipe: Recipe,
    mesh: Mesh,
    places: Sequence[int],
    mean: bool,
    params: Params,
    batch: Batch,
    mean_image: MeanImage,
) -> Activations:
    """The outputs of stages at test, in one pass that ends with the last of them.

    Args:
      places: the stages, by their places in `stages(architecture)`.
      mean: whether maps are averaged over their positions.
      batch: without a mask; `image` is the part of each picture that the network sees.

    Returns:
      By place, [batch, height, width, maps] or [batch, units], in float32 at least. The first tower's maps or units
      come first. The last layer's outputs have no padding.
    """
    net, every = network_on(recipe, mesh), stages(recipe.architecture)
    wanted = sorted(set(places))

    def on_one_device(params: Params, batch: Batch, mean_image: MeanImage) -> Activations:
        parts, done, made = [centred(recipe, batch, mean_image).astype(net.dtype)], 0, {}
        for place in wanted:
            some = every[done : place + 1]
            through = net.apply({"params": params}, some, parts, method=AlexNet.through)
            assert isinstance(through, list)
            parts, done = through, place + 1
            whole = jnp.concatenate(parts, axis=-1)
            whole = whole.astype(jnp.promote_types(whole.dtype, jnp.float32))
            made[place] = whole.mean(axis=(1, 2)) if mean and whole.ndim == 4 else whole
        return made

    in_specs = (towers.parameter_specs(params, mesh), towers.batch_spec(mesh), P())
    out_specs = {place: _spec(mesh, is_maps=isinstance(every[place].layer, Conv) and not mean) for place in wanted}
    made = towers.on_each_device(on_one_device, mesh, in_specs, out_specs)(params, batch, mean_image)
    return {place: _without_padding(recipe.architecture, place, x) for place, x in made.items()}


def _spec(mesh: Mesh, is_maps: bool) -> P:
    positions = (None, None) if is_maps else ()
    return P(towers.data_axis(mesh), *positions, towers.model_axis(mesh))


def _without_padding(
    net: Architecture, place: int, x: Float[Array, "batch *positions outputs"]
) -> Float[Array, "batch *positions real"]:
    return x[..., : net.classes] if stages(net)[place].layer is net.layers[-1] else x
