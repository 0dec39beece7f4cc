"""TrainState, train_step and eval_step: pure, with no files and no input pipeline."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from alexnet_jax.devices import towers
from alexnet_jax.network import loss, ops
from alexnet_jax.network.architecture import ALEXNET, Architecture
from alexnet_jax.network.model import AlexNet
from alexnet_jax.network.views import VIEWS, log_mean_softmax
from alexnet_jax.training import optimizer

Batch = dict[str, Any]
TOP_K = 5


@dataclass(frozen=True)
class Recipe:
    """All that a step depends on, apart from arrays and devices. The defaults are the paper's."""

    architecture: Architecture = ALEXNET
    dtype: str = "float32"  # of activations and products
    momentum: float = 0.9
    weight_decay: float = 0.0005
    decay_biases: bool = True
    schedule: optimizer.Schedule = optimizer.Schedule()
    centre_mean: bool = False  # ten views: subtract the centre of the mean image from all of them
    seed: int = 0

    @property
    def sgd(self) -> optax.GradientTransformationExtraArgs:
        """The optimiser."""
        return optimizer.paper_sgd(self.momentum, self.weight_decay, self.decay_biases)


@flax.struct.dataclass
class TrainState:
    """What a checkpoint holds."""

    step: jax.Array  # int32; updates done
    params: Any
    opt_state: Any
    plateau: optimizer.Plateau


def abstract_batch(recipe: Recipe, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes and types of what crosses to the devices for one step of training."""
    size = recipe.architecture.input_size
    return {
        "image": jax.ShapeDtypeStruct((batch_size, size, size, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct((batch_size,), jnp.int32),
        "lighting": jax.ShapeDtypeStruct((batch_size, 3), jnp.float32),
        "offset": jax.ShapeDtypeStruct((batch_size, 2), jnp.int32),
        "reflected": jax.ShapeDtypeStruct((batch_size,), jnp.bool),
        "scale": jax.ShapeDtypeStruct((batch_size,), jnp.float32),
    }


def abstract_state(recipe: Recipe, mesh: Mesh) -> TrainState:
    """Shapes, types and shardings of the state, with nothing computed."""
    state = jax.eval_shape(partial(_new_state, recipe))
    shardings = towers.shardings(towers.parameter_specs(state, mesh), mesh)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings)


def create_state(recipe: Recipe, mesh: Mesh) -> TrainState:
    """The state at step 0, made on its devices: each holds its half and never the whole."""
    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(recipe, mesh))
    return jax.jit(partial(_new_state, recipe), out_shardings=shardings)()


def _new_state(recipe: Recipe) -> TrainState:
    size = recipe.architecture.input_size
    net = AlexNet(recipe.architecture, dtype=recipe.dtype)
    params = net.init(jax.random.key(recipe.seed), jnp.zeros((1, size, size, 3), recipe.dtype))["params"]
    plateau = jax.tree.map(jnp.asarray, optimizer.new_plateau())
    return TrainState(jnp.int32(0), params, recipe.sgd.init(params), plateau)


def _loss_and_rank(
    recipe: Recipe, mesh: Mesh, params: Any, batch: Batch, mean_image: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Every example's loss and rank, [batch] each, with dropout."""
    axis = towers.model_axis(mesh)
    net = AlexNet(recipe.architecture, mesh.shape[towers.MODEL], axis, recipe.dtype)

    def on_one_device(params: Any, batch: Batch, mean_image: jax.Array, key: jax.Array) -> Any:
        params = towers.each_its_own(params, towers.data_axis(mesh))
        x = ops.centre(
            batch["image"], mean_image, batch["offset"], batch["reflected"], batch["lighting"], batch["scale"]
        )
        logits: Any = net.apply({"params": params}, x, batch["example"], key)
        return loss.cross_entropy_and_rank(logits, batch["label"], recipe.architecture.classes, axis)

    batch = {name: batch[name] for name in abstract_batch(recipe, 0)}
    batch["example"] = jnp.arange(batch["label"].shape[0], dtype=jnp.int32)
    by_example = towers.batch_spec(mesh)
    in_specs = (towers.parameter_specs(params, mesh), by_example, P(), P())
    run = towers.on_each_device(on_one_device, mesh, in_specs, (by_example, by_example))
    return run(params, batch, mean_image, key)


def train_step(
    recipe: Recipe, mesh: Mesh, state: TrainState, batch: Batch, mean_image: jax.Array
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update on one global batch.

    Args:
      batch: see `abstract_batch`; every array's first axis is divided over `data`.
      mean_image: float [resize, resize, 3], on every device.

    Returns:
      The next state, and scalars: `loss` in nats before the update, `top1_error` and
      `top5_error` as fractions of the batch, `learning_rate`, the highest of any kernel.
    """
    key = jax.random.fold_in(jax.random.key(recipe.seed + 1), state.step)

    def mean_loss(params: Any) -> tuple[jax.Array, jax.Array]:
        losses, rank = _loss_and_rank(recipe, mesh, params, batch, mean_image, key)
        with jax.named_scope("softmax"):
            return losses.mean(), rank

    (mean, rank), gradients = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
    rates = optimizer.learning_rates(recipe.schedule, state.step, state.plateau, state.params)
    updates, opt_state = recipe.sgd.update(gradients, state.opt_state, state.params, learning_rate=rates)
    params = optax.apply_updates(state.params, updates)
    with jax.named_scope("rank"):
        metrics = {"loss": mean, "top1_error": (rank >= 1).mean(), "top5_error": (rank >= TOP_K).mean()}
    return (
        TrainState(state.step + 1, params, opt_state, state.plateau),
        {**metrics, "learning_rate": optimizer.highest_rate(rates)},
    )


def _on_test_pictures(
    recipe: Recipe, mesh: Mesh, views: int, finish: Any, out_specs: Any, params: Any, batch: Batch, mean_image: Any
) -> Any:
    """What `finish` makes, on each device, of the classes' scores [b, local] and the labels [b]."""
    net = AlexNet(recipe.architecture, mesh.shape[towers.MODEL], towers.model_axis(mesh), recipe.dtype)

    def on_one_device(params: Any, batch: Batch, mean_image: jax.Array) -> Any:
        if views == VIEWS:
            images, scale = batch["image"], batch["scale"]
            scores = log_mean_softmax(net, params, images, scale, mean_image, recipe.centre_mean)
            return finish(scores, batch["label"])
        x = ops.centre(
            batch["image"], mean_image, batch["offset"], batch["reflected"], batch["lighting"], batch["scale"]
        )
        return finish(net.apply({"params": params}, x), batch["label"])

    batch = {name: batch[name] for name in abstract_batch(recipe, 0)}
    in_specs = (towers.parameter_specs(params, mesh), towers.batch_spec(mesh), P())
    return towers.on_each_device(on_one_device, mesh, in_specs, out_specs)(params, batch, mean_image)


def eval_step(
    recipe: Recipe, mesh: Mesh, views: int, params: Any, batch: Batch, mean_image: jax.Array
) -> dict[str, jax.Array]:
    """Sums over the real examples of a batch: `examples`, `loss`, `top1_error`, `top5_error`.

    Args:
      views: 1, the pictures as they are in the batch, or 10, cut here and their softmax averaged.
      batch: as in `train_step`, with `mask` bool [b], False for the padding of the last batch; for
        ten views `image` is the whole square, uint8 [b, resize, resize, 3].
    """
    classes, axis = recipe.architecture.classes, towers.model_axis(mesh)

    def finish(scores: jax.Array, labels: jax.Array) -> Any:
        return loss.cross_entropy_and_rank(scores, labels, classes, axis)

    specs = (towers.batch_spec(mesh), towers.batch_spec(mesh))
    losses, rank = _on_test_pictures(recipe, mesh, views, finish, specs, params, batch, mean_image)
    mask = batch["mask"]
    return {
        "examples": mask.sum(dtype=jnp.int32),
        "loss": jnp.where(mask, losses, 0).sum(),
        "top1_error": (mask & (rank >= 1)).sum(dtype=jnp.int32),
        "top5_error": (mask & (rank >= TOP_K)).sum(dtype=jnp.int32),
    }


def class_probabilities(
    recipe: Recipe, mesh: Mesh, views: int, params: Any, batch: Batch, mean_image: jax.Array
) -> jax.Array:
    """The softmax of a batch, the mean over its views; [b, padded classes], the padding 0.

    Args:
      views, batch: as in `eval_step`.
    """
    classes, axis = recipe.architecture.classes, towers.model_axis(mesh)

    def finish(scores: jax.Array, labels: jax.Array) -> Any:
        return jnp.exp(loss.log_probabilities(scores, classes, axis))

    return _on_test_pictures(recipe, mesh, views, finish, P(towers.data_axis(mesh), axis), params, batch, mean_image)


def dead_units(recipe: Recipe, params: Any, batch: Batch, mean_image: jax.Array) -> dict[str, jax.Array]:
    """Of each layer with a ReLU, the share of kernels or units that are zero on the whole batch."""
    x = ops.centre(batch["image"], mean_image, batch["offset"], batch["reflected"], batch["lighting"], batch["scale"])
    net = AlexNet(recipe.architecture, dtype=recipe.dtype)
    _, kept = net.apply({"params": params}, x, mutable=["dead_units"])
    return {name.removesuffix("_relu"): share[0] for name, share in kept["dead_units"].items()}


def all_finite(tree: Any) -> jax.Array:
    """Whether no number in the tree is infinite or NaN."""
    return jnp.asarray([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()


def compiled_steps(recipe: Recipe, mesh: Mesh, views: int = 1) -> tuple[Any, Any]:
    """train_step and eval_step for one mesh, jitted; train_step's state is donated."""
    options = towers.compiler_options(mesh)
    return (
        jax.jit(partial(train_step, recipe, mesh), donate_argnums=0, compiler_options=options),
        jax.jit(partial(eval_step, recipe, mesh, views), compiler_options=options),
    )
