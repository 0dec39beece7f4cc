"""The paper's stochastic gradient descent as an optax chain, and the schedules of its learning rates.

Every kernel and every bias has a rate of its own, for the 2012 source's sake; in the paper they
are all one number.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from alexnet_jax.network.model import Params

Rates = dict[str, dict[str, Float[Array, ""]]]  # {layer: {kernel, bias}}, of each parameter
Scalar = Array | np.generic  # on the devices or on the host


@dataclass(frozen=True)
class Schedule:
    """How the learning rate goes.

    `constant`: as it starts. `steps`: times `factor` at each of `boundaries`. `plateau`: the
    paper's rule (section 5): times `factor` when the validation error has not improved for
    `patience` evaluations, `drops` times; at the next such plateau training ends. `listed`: by
    `rates` alone, as in the 2012 source's logs.
    """

    kind: Literal["constant", "steps", "plateau", "listed"] = "plateau"
    learning_rate: float = 0.01
    factor: float = 0.1
    boundaries: tuple[int, ...] = ()  # training steps
    drops: int = 3
    patience: int = 5  # evaluations
    # (training step, parameters as LAYER/kernel or LAYER/bias with * and ?, rate): of the lines that
    # name a parameter, the last one reached holds. A rate of 0 freezes it.
    rates: tuple[tuple[int, str, float], ...] = ()


class Plateau(NamedTuple):
    """Where the plateau rule stands; saved with the run. Three numbers, as arrays."""

    best_error: Scalar  # float32; the lowest validation error so far
    waited: Scalar  # int32; evaluations since it, or since the last drop
    plateaus: Scalar  # int32; how many have been reached


def new_plateau() -> Plateau:
    """Before the first evaluation."""
    return Plateau(np.float32(np.inf), np.int32(0), np.int32(0))


def after_evaluation(plateau: Plateau, error: float, schedule: Schedule) -> Plateau:
    """The rule after one more evaluation; a NaN is no improvement."""
    if np.float32(error) < np.float32(plateau.best_error):
        return Plateau(np.float32(error), np.int32(0), np.int32(plateau.plateaus))
    waited = int(plateau.waited) + 1
    reached = waited >= schedule.patience
    return Plateau(
        np.float32(plateau.best_error),
        np.int32(0 if reached else waited),
        np.int32(int(plateau.plateaus) + reached),
    )


def has_ended(plateau: Plateau, schedule: Schedule) -> bool:
    """Whether the plateau rule says that training is over."""
    return schedule.kind == "plateau" and int(plateau.plateaus) > schedule.drops


def learning_rate(schedule: Schedule, step: Int[Array, ""], plateau: Plateau) -> Float[Array, ""]:
    """The one rate of the update that takes `step` steps to one more.

    Raises:
      ValueError: the schedule is `listed`, which has no one rate.
    """
    match schedule.kind:
        case "constant":
            drops = jnp.int32(0)
        case "steps":
            drops = jnp.sum(step >= jnp.asarray(schedule.boundaries, jnp.int32), dtype=jnp.int32)
        case "plateau":
            drops = jnp.minimum(jnp.asarray(plateau.plateaus), schedule.drops)
        case "listed":
            raise ValueError("a listed schedule has a rate for each parameter")
    # Rounded once from exact powers, so that every mesh and every restart has the same float.
    most = max(schedule.drops, len(schedule.boundaries))
    rates = jnp.asarray([schedule.learning_rate * schedule.factor**i for i in range(most + 1)], jnp.float32)
    return rates[drops]


def learning_rates(schedule: Schedule, step: Int[Array, ""], plateau: Plateau, params: Params) -> Rates:
    """The rate of every parameter in the update that takes `step` steps to one more.

    Raises:
      ValueError: a `listed` schedule leaves a parameter without a rate at the start.
    """
    if schedule.kind == "listed":
        return {
            layer: {kind: _listed(schedule, step, f"{layer}/{kind}") for kind in arrays}
            for layer, arrays in params.items()
        }
    rate = learning_rate(schedule, step, plateau)
    return {layer: dict.fromkeys(arrays, rate) for layer, arrays in params.items()}


def _listed(schedule: Schedule, step: Int[Array, ""], name: str) -> Float[Array, ""]:
    lines = [(start, rate) for start, pattern, rate in schedule.rates if fnmatchcase(name, pattern)]
    if not lines or lines[0][0] > 0:
        raise ValueError(f"the schedule gives {name} no rate at the start")
    starts, rates = zip(*lines, strict=True)
    reached = jnp.sum(step >= jnp.asarray(starts, jnp.int32))
    return jnp.asarray(rates, jnp.float32)[reached - 1]


def highest_rate(rates: Rates) -> Float[Array, ""]:
    """The highest rate of any kernel: the one to report, as biases and single layers may differ."""
    kernels = [rate for path, rate in jax.tree_util.tree_leaves_with_path(rates) if path[-1].key == "kernel"]
    return jnp.stack(kernels).max()


def _scale_by_given_rate() -> optax.GradientTransformationExtraArgs:
    """Times minus the `learning_rate` that `update` is given."""

    def update(
        updates: PyTree, state: optax.EmptyState, params: PyTree = None, *, learning_rate: PyTree
    ) -> tuple[PyTree, optax.EmptyState]:
        return jax.tree.map(lambda g, rate: -rate.astype(g.dtype) * g, updates, learning_rate), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def _velocity(momentum: float) -> optax.GradientTransformationExtraArgs:
    """`optax.trace`, but a parameter whose rate is 0 stands still and keeps its velocity."""

    def update(
        updates: PyTree, state: optax.TraceState, params: PyTree = None, *, learning_rate: PyTree
    ) -> tuple[PyTree, optax.TraceState]:
        trace = jax.tree.map(
            lambda u, v, rate: jnp.where(rate > 0, momentum * v + u, v), updates, state.trace, learning_rate
        )
        moves = jax.tree.map(lambda v, rate: jnp.where(rate > 0, v, jnp.zeros_like(v)), trace, learning_rate)
        return moves, optax.TraceState(trace)

    return optax.GradientTransformationExtraArgs(optax.trace(momentum).init, update)


def paper_sgd(
    momentum: float, weight_decay: float, decay_biases: bool = True, decayed: str = "*"
) -> optax.GradientTransformationExtraArgs:
    """Computes v <- momentum v - weight_decay rate w - rate gradient; w <- w + v (section 5).

    The rate is inside the velocity, so that a drop of the rate leaves the gathered velocity as it
    is (`optax.sgd` has it outside). `update` takes the rates as `learning_rate=`, a tree like the
    parameters. Without `decay_biases` only kernels decay, as in the 2012 source (src/layer.cu:565).

    Args:
      decayed: the layers that decay, with * and ?, by commas.
    """
    patterns = [pattern.strip() for pattern in decayed.split(",")]

    def decays(params: PyTree) -> PyTree[bool]:
        def does(path: tuple[Any, ...], _: Scalar) -> bool:
            of_layer = decayed == "*" or any(fnmatchcase(path[0].key, pattern) for pattern in patterns)
            return of_layer and (decay_biases or path[-1].key == "kernel")

        return jax.tree_util.tree_map_with_path(does, params)

    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=decays), _scale_by_given_rate(), _velocity(momentum)
    )
