"""The paper's stochastic gradient descent as an optax chain, and the schedules of its learning rate."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax


@dataclass(frozen=True)
class Schedule:
    """How the learning rate goes.

    `constant`: as it starts. `steps`: times `factor` at each of `boundaries`. `plateau`: the
    paper's rule (section 5): times `factor` when the validation error has not improved for
    `patience` evaluations, `drops` times; at the next such plateau training ends.
    """

    kind: Literal["constant", "steps", "plateau"] = "plateau"
    learning_rate: float = 0.01
    factor: float = 0.1
    boundaries: tuple[int, ...] = ()  # training steps
    drops: int = 3
    patience: int = 5  # evaluations


class Plateau(NamedTuple):
    """Where the plateau rule stands; saved with the run. Three numbers, as arrays."""

    best_error: Any  # float32; the lowest validation error so far
    waited: Any  # int32; evaluations since it, or since the last drop
    plateaus: Any  # int32; how many have been reached


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


def learning_rate(schedule: Schedule, step: jax.Array, plateau: Plateau) -> jax.Array:
    """The learning rate of the update that takes `step` steps to one more; float32 scalar."""
    match schedule.kind:
        case "constant":
            drops = jnp.int32(0)
        case "steps":
            drops = jnp.sum(step >= jnp.asarray(schedule.boundaries, jnp.int32), dtype=jnp.int32)
        case "plateau":
            drops = jnp.minimum(jnp.asarray(plateau.plateaus), schedule.drops)
    # Rounded once from exact powers, so that every mesh and every restart has the same float.
    most = max(schedule.drops, len(schedule.boundaries))
    rates = jnp.asarray([schedule.learning_rate * schedule.factor**i for i in range(most + 1)], jnp.float32)
    return rates[drops]


def _scale_by_given_rate() -> optax.GradientTransformationExtraArgs:
    """Times minus the `learning_rate` that `update` is given."""

    def update(updates: Any, state: Any, params: Any = None, *, learning_rate: jax.Array, **_: Any) -> Any:
        return jax.tree.map(lambda g: -learning_rate.astype(g.dtype) * g, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def paper_sgd(momentum: float, weight_decay: float) -> optax.GradientTransformationExtraArgs:
    """V <- momentum v - weight_decay rate w - rate gradient; w <- w + v (section 5).

    The rate is inside the velocity, so that a drop of the rate leaves the gathered velocity as it
    is (`optax.sgd` has it outside). `update` takes the rate as `learning_rate=`.
    """
    return optax.chain(optax.add_decayed_weights(weight_decay), _scale_by_given_rate(), optax.trace(decay=momentum))
