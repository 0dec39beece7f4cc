"""The paper's stochastic gradient descent as an optax chain, and the schedules of its learning rates.

Every kernel and every bias has its own rate, as in the 2012 source. In the paper they have one rate.
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

Rates = dict[str, dict[str, Float[Array, ""]]]  # {layer: {kernel, bias}}
Scalar = Array | np.generic  # on the devices or on the host


@dataclass(frozen=True)
class Schedule:
    """The learning rate over training.

    `constant`: it stays. `steps`: it is multiplied by `factor` at each of `boundaries`. `plateau`, the
    paper's rule (section 5): it is multiplied by `factor` when the validation error has not improved for
    `patience` evaluations, `drops` times; the next such plateau ends training. `listed`: `rates` alone
    decides, as in the 2012 source's logs.
    """

    kind: Literal["constant", "steps", "plateau", "listed"] = "plateau"
    learning_rate: float = 0.01
    factor: float = 0.1
    boundaries: tuple[int, ...] = ()  # training steps
    drops: int = 3
    patience: int = 5  # evaluations
    # (training step, parameters as LAYER/kernel or LAYER/bias with * and ?, rate). For each parameter, the
    # last line reached that names it holds. A rate of 0 freezes it.
    rates: tuple[tuple[int, str, float], ...] = ()


class Plateau(NamedTuple):
    """The state of the plateau rule, which is saved with the run: three numbers, as arrays."""

    best_error: Scalar  # float32, the lowest validation error so far
    waited: Scalar  # int32, evaluations since then, or since the last drop
    plateaus: Scalar  # int32, plateaus so far


def new_plateau() -> Plateau:
    """The rule's state before the first evaluation."""
    return Plateau(np.float32(np.inf), np.int32(0), np.int32(0))


def after_evaluation(plateau: Plateau, error: float, schedule: Schedule) -> Plateau:
    """The rule's state after another evaluation. A NaN is no improvement."""
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
    """Whether the plateau rule ends training."""
    return schedule.kind == "plateau" and int(plateau.plateaus) > schedule.drops


def learning_rate(schedule: Schedule, step: Int[Array, ""], plateau: Plateau) -> Float[Array, ""]:
    """The rate that all parameters share in the update after `step` updates.

    Raises:
      ValueError: the schedule is `listed`, where parameters share no rate.
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
    # Rounded once from exact powers: every mesh and every restart gets the same float.
    most = max(schedule.drops, len(schedule.boundaries))
    rates = jnp.asarray([schedule.learning_rate * schedule.factor**i for i in range(most + 1)], jnp.float32)
    return rates[drops]


def learning_rates(schedule: Schedule, step: Int[Array, ""], plateau: Plateau, params: Params) -> Rates:
    """The rate of every parameter in the update after `step` updates.

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
    """The highest rate of any kernel. It is reported, as biases and single layers may have other rates."""
    kernels = [rate for path, rate in jax.tree_util.tree_leaves_with_path(rates) if path[-1].key == "kernel"]
    return jnp.stack(kernels).max()


def _scale_by_given_rate() -> optax.GradientTransformationExtraArgs:
    """Multiplies by minus the `learning_rate` that `update` gets."""

    def update(
        updates: PyTree, state: optax.EmptyState, params: PyTree = None, *, learning_rate: PyTree
    ) -> tuple[PyTree, optax.EmptyState]:
        return jax.tree.map(lambda g, rate: -rate.astype(g.dtype) * g, updates, learning_rate), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def _velocity(momentum: float) -> optax.GradientTransformationExtraArgs:
    """`optax.trace`, except that a parameter with a rate of 0 does not move and keeps its velocity."""

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

    The rate is inside the velocity: when the rate drops, the velocity so far stays as it is (in
    `optax.sgd` the rate is outside). `update` takes the rates as `learning_rate=`, a tree like the
    parameters.

    Args:
      decay_biases: False: only kernels decay, as in the 2012 source (src/layer.cu:565).
      decayed: the layers that decay, separated by commas, with * and ?.
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
