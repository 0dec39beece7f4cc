"""TrainState, train_step and eval_step: pure functions, without files and input pipeline."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int32, Key, PyTree

from alexnet_jax.data.batches.batch import Batch, described
from alexnet_jax.devices import towers
from alexnet_jax.network import loss, ops
from alexnet_jax.network.architecture import ALEXNET, Architecture
from alexnet_jax.network.model import AlexNet, Params
from alexnet_jax.network.views import VIEWS, log_mean_softmax
from alexnet_jax.training import optimizer

TOP_K = 5
MeanImage = Float[Array, "resize resize 3"]  # on every device
Metrics = dict[str, Array]
Finished = TypeVar("Finished")


@dataclass(frozen=True)
class Recipe:
    """All that a step depends on, except arrays and devices. The defaults are the paper's."""

    architecture: Architecture = ALEXNET
    dtype: str = "float32"  # the type of activations and products
    momentum: float = 0.9
    weight_decay: float = 0.0005
    decay_biases: bool = True
    decayed: str = "*"  # the layers whose weights decay
    schedule: optimizer.Schedule = optimizer.Schedule()
    centre_mean: bool = False  # ten views: the centre of the mean image is subtracted from each
    channel_scale: tuple[float, float, float] | None = None  # multiplies RGB less the mean; None: nothing does
    keeps_short_batch: bool = False  # True: an epoch's last batch may be short, so training's batches have masks
    seed: int = 0

    @property
    def sgd(self) -> optax.GradientTransformationExtraArgs:
        """The optimiser."""
        return optimizer.paper_sgd(self.momentum, self.weight_decay, self.decay_biases, self.decayed)


@flax.struct.dataclass
class TrainState:
    """The state of training, which a checkpoint holds."""

    step: PyTree  # int32, the number of updates. Each leaf is an array, its shape and type, or its sharding
    params: PyTree  # {layer: {kernel, bias}}
    opt_state: PyTree
    plateau: optimizer.Plateau


def abstract_batch(recipe: Recipe, batch_size: int) -> Batch:
    """The shapes and types of a training batch."""
    return described(batch_size, recipe.architecture.input_size, recipe.keeps_short_batch)


def abstract_state(recipe: Recipe, mesh: Mesh) -> TrainState:
    """The shapes, types and shardings of the state, without computing it."""
    state = jax.eval_shape(partial(_new_state, recipe))
    shardings = towers.shardings(towers.parameter_specs(state, mesh), mesh)
    described_state: TrainState = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings
    )
    return described_state


def create_state(recipe: Recipe, mesh: Mesh) -> TrainState:
    """The state at step 0, computed on its devices: each holds its half and never the whole."""
    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(recipe, mesh))
    state: TrainState = jax.jit(partial(_new_state, recipe), out_shardings=shardings)()
    return state


def _new_state(recipe: Recipe) -> TrainState:
    size = recipe.architecture.input_size
    net = AlexNet(recipe.architecture, dtype=recipe.dtype)
    params = net.init(jax.random.key(recipe.seed), jnp.zeros((1, size, size, 3), recipe.dtype))["params"]
    return state_of(recipe, params)


def state_of(recipe: Recipe, params: Params) -> TrainState:
    """The state at step 0 with these parameters."""
    plateau = jax.tree.map(jnp.asarray, optimizer.new_plateau())
    return TrainState(jnp.int32(0), params, recipe.sgd.init(params), plateau)


def centred(recipe: Recipe, batch: Batch, mean_image: MeanImage) -> Float[Array, "batch crop crop 3"]:
    """The network's input for a batch: see `ops.centre`."""
    drawn = (batch.offset, batch.reflected, batch.lighting, batch.scale)
    return ops.centre(batch.image, mean_image, *drawn, recipe.channel_scale)


def network_on(recipe: Recipe, mesh: Mesh) -> AlexNet:
    """The part of the network that one device of the mesh runs."""
    return AlexNet(recipe.architecture, mesh.shape[towers.MODEL], towers.model_axis(mesh), recipe.dtype)


def _loss_and_rank(
    recipe: Recipe, mesh: Mesh, params: Params, batch: Batch, mean_image: MeanImage, key: Key[Array, ""]
) -> tuple[Float[Array, " batch"], Int32[Array, " batch"]]:
    """Each example's loss and rank, with dropout."""
    net, classes = network_on(recipe, mesh), recipe.architecture.classes

    def on_one_device(
        params: Params, batch: Batch, examples: Int32[Array, " local"], mean_image: MeanImage, key: Key[Array, ""]
    ) -> tuple[Float[Array, " local"], Int32[Array, " local"]]:
        params = towers.each_its_own(params, towers.data_axis(mesh))
        logits = net.apply({"params": params}, centred(recipe, batch, mean_image), examples, key)
        assert isinstance(logits, Array)
        return loss.cross_entropy_and_rank(logits, batch.label, classes, net.axis)

    examples = jnp.arange(len(batch.label), dtype=jnp.int32)
    by_example = towers.batch_spec(mesh)
    in_specs = (towers.parameter_specs(params, mesh), by_example, by_example, P(), P())
    run = towers.on_each_device(on_one_device, mesh, in_specs, (by_example, by_example))
    return run(params, batch, examples, mean_image, key)


def examples_of(batch: Batch) -> Int32[Array, ""] | int:
    """The number of real examples in a batch. A step counts them once: over `data` that is an exchange."""
    if batch.mask is None:
        return len(batch.label)
    with jax.named_scope("softmax"):
        count: Int32[Array, ""] = batch.mask.sum(dtype=jnp.int32)
        return count


def loss_and_gradients(
    recipe: Recipe,
    mesh: Mesh,
    state: TrainState,
    batch: Batch,
    mean_image: MeanImage,
    examples: Int32[Array, ""] | int | None = None,
) -> tuple[Float[Array, ""], Int32[Array, " batch"], Params]:
    """The mean loss in nats, each example's rank (0: the label scores highest), and the loss's gradients.

    A short batch is padded; its mean is over its real examples, as in the 2012 source (layer.cu:337).

    Args:
      examples: the result of `examples_of`; None: it is counted here.
    """
    count = examples_of(batch) if examples is None else examples
    key = jax.random.fold_in(jax.random.key(recipe.seed + 1), state.step)

    def mean_loss(params: Params) -> tuple[Float[Array, ""], Int32[Array, " batch"]]:
        losses, rank = _loss_and_rank(recipe, mesh, params, batch, mean_image, key)
        with jax.named_scope("softmax"):
            return _mean(losses, batch.mask, count), rank

    (mean, rank), gradients = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
    return mean, rank, gradients


def _mean(
    values: Float[Array, " batch"] | Bool[Array, " batch"],
    mask: Bool[Array, " batch"] | None,
    count: Int32[Array, ""] | int,
) -> Float[Array, ""]:
    """The mean over the `count` real examples."""
    return values.mean() if mask is None else jnp.where(mask, values, 0).sum() / count


def train_step(
    recipe: Recipe, mesh: Mesh, state: TrainState, batch: Batch, mean_image: MeanImage
) -> tuple[TrainState, Metrics]:
    """One update on one global batch.

    Args:
      batch: every array's first axis is divided over `data`.

    Returns:
      The next state, and scalars: `loss` in nats before the update, `top1_error` and `top5_error` as
      fractions of the batch, and `learning_rate`, the highest of any kernel. For a batch with a mask also
      `examples`, the number of real examples.
    """
    examples = examples_of(batch)
    mean, rank, gradients = loss_and_gradients(recipe, mesh, state, batch, mean_image, examples)
    rates = optimizer.learning_rates(recipe.schedule, state.step, state.plateau, state.params)
    updates, opt_state = recipe.sgd.update(gradients, state.opt_state, state.params, learning_rate=rates)
    params = optax.apply_updates(state.params, updates)
    with jax.named_scope("rank"):
        wrong = {"top1_error": rank >= 1, "top5_error": rank >= TOP_K}
        metrics = {"loss": mean, **{name: _mean(one, batch.mask, examples) for name, one in wrong.items()}}
        if isinstance(examples, Array):
            metrics["examples"] = examples
    return (
        TrainState(state.step + 1, params, opt_state, state.plateau),
        {**metrics, "learning_rate": optimizer.highest_rate(rates)},
    )


def _on_test_pictures(
    recipe: Recipe,
    mesh: Mesh,
    views: int,
    finish: Callable[[Float[Array, "local local_classes"], Int32[Array, " local"]], Finished],
    out_specs: P | tuple[P, ...],
    params: Params,
    batch: Batch,
    mean_image: MeanImage,
) -> Finished:
    """The result of `finish` on each device, for the classes' scores and the labels."""
    net = network_on(recipe, mesh)

    def on_one_device(params: Params, batch: Batch, mean_image: MeanImage) -> Finished:
        if views == VIEWS:
            pictures = (batch.image, batch.scale, mean_image)
            scores = log_mean_softmax(net, params, *pictures, recipe.centre_mean, recipe.channel_scale)
        else:
            logits = net.apply({"params": params}, centred(recipe, batch, mean_image))
            assert isinstance(logits, Array)
            scores = logits
        return finish(scores, batch.label)

    in_specs = (towers.parameter_specs(params, mesh), towers.batch_spec(mesh), P())
    return towers.on_each_device(on_one_device, mesh, in_specs, out_specs)(params, batch, mean_image)


def eval_step(
    recipe: Recipe, mesh: Mesh, views: int, params: Params, batch: Batch, mean_image: MeanImage
) -> dict[str, Array]:
    """Sums over the real examples of a batch: `examples`, `loss`, `top1_error`, `top5_error`.

    Also `by_class`, int32 [2, classes]: for each class its examples and its top-1 errors.

    Args:
      views: 1: the pictures as they are in the batch; 10: ten views of each, whose softmax is averaged.
      batch: with its mask; for ten views `image` is the whole square.
    """
    classes, axis, mask = recipe.architecture.classes, towers.model_axis(mesh), batch.mask
    assert mask is not None

    def finish(
        scores: Float[Array, "local local_classes"], labels: Int32[Array, " local"]
    ) -> tuple[Float[Array, " local"], Int32[Array, " local"]]:
        return loss.cross_entropy_and_rank(scores, labels, classes, axis)

    specs = (towers.batch_spec(mesh), towers.batch_spec(mesh))
    pictures = replace(batch, mask=None)
    losses, rank = _on_test_pictures(recipe, mesh, views, finish, specs, params, pictures, mean_image)
    wrong = mask & (rank >= 1)
    by_class = jnp.zeros((2, classes), jnp.int32).at[:, batch.label].add(jnp.stack([mask, wrong]).astype(jnp.int32))
    return {
        "examples": mask.sum(dtype=jnp.int32),
        "loss": jnp.where(mask, losses, 0).sum(),
        "top1_error": wrong.sum(dtype=jnp.int32),
        "top5_error": (mask & (rank >= TOP_K)).sum(dtype=jnp.int32),
        "by_class": by_class,
    }


def class_probabilities(
    recipe: Recipe, mesh: Mesh, views: int, params: Params, batch: Batch, mean_image: MeanImage
) -> Float[Array, "batch padded_classes"]:
    """The softmax for each picture of a batch, the mean over its views; 0 for the padding of the classes.

    Args:
      views, batch: as in `eval_step`.
    """
    classes, axis = recipe.architecture.classes, towers.model_axis(mesh)

    def finish(
        scores: Float[Array, "local local_classes"], labels: Int32[Array, " local"]
    ) -> Float[Array, "local local_classes"]:
        return jnp.exp(loss.log_probabilities(scores, classes, axis))

    specs = P(towers.data_axis(mesh), axis)
    return _on_test_pictures(recipe, mesh, views, finish, specs, params, replace(batch, mask=None), mean_image)


def dead_units(recipe: Recipe, params: Params, batch: Batch, mean_image: MeanImage) -> dict[str, Float[Array, ""]]:
    """For each layer with a ReLU, the share of its kernels or units that are zero on the whole batch."""
    net = AlexNet(recipe.architecture, dtype=recipe.dtype)
    _, kept = net.apply({"params": params}, centred(recipe, batch, mean_image), mutable=["dead_units"])
    return {name.removesuffix("/relu"): share[0] for name, share in kept.get("dead_units", {}).items()}


def finite_layers(params: Params) -> dict[str, Bool[Array, ""]]:
    """For each layer, whether all its weights and biases are finite."""
    return {
        name: jnp.asarray([jnp.isfinite(x).all() for x in jax.tree.leaves(layer)]).all()
        for name, layer in params.items()
    }


def compiled_steps(recipe: Recipe, mesh: Mesh, views: int = 1) -> tuple[jax.stages.Wrapped, jax.stages.Wrapped]:
    """train_step and eval_step for a mesh, jitted; train_step's state is donated."""
    options = towers.compiler_options(mesh, recipe.dtype)
    return (
        jax.jit(partial(train_step, recipe, mesh), donate_argnums=0, compiler_options=options),
        jax.jit(partial(eval_step, recipe, mesh, views), compiler_options=options),
    )
