"""The paper's update and schedules against NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.training import optimizer
from alexnet_jax.training.optimizer import Schedule


def test_thirty_steps_across_a_drop_are_the_papers_formula() -> None:
    rng = np.random.default_rng(0)
    schedule = Schedule("steps", learning_rate=0.1, boundaries=(10, 20))
    w, v = rng.normal(size=5), np.zeros(5)
    gradients = rng.normal(size=(30, 5))
    with jax.enable_x64(True):
        sgd = optimizer.paper_sgd(momentum=0.9, weight_decay=0.0005)
        params = jnp.asarray(w)
        state = sgd.init(params)
        for step, gradient in enumerate(gradients):
            rate = optimizer.learning_rate(schedule, jnp.int32(step), optimizer.new_plateau())
            updates, state = sgd.update(jnp.asarray(gradient), state, params, learning_rate=rate)
            params = params + updates
            epsilon = float(np.float32(0.1 * 0.1 ** (step // 10)))
            v = 0.9 * v - 0.0005 * epsilon * w - epsilon * gradient
            w = w + v
            np.testing.assert_allclose(params, w, rtol=1e-12)


def test_a_drop_leaves_the_gathered_velocity_alone() -> None:
    sgd = optimizer.paper_sgd(momentum=0.9, weight_decay=0.0)
    params = jnp.zeros(1)
    updates, state = sgd.update(jnp.ones(1), sgd.init(params), params, learning_rate=jnp.float32(1.0))
    updates, state = sgd.update(jnp.zeros(1), state, params, learning_rate=jnp.float32(0.001))
    np.testing.assert_allclose(updates, -0.9, rtol=1e-6)


def rates(schedule: Schedule, steps: list[int], plateau: optimizer.Plateau | None = None) -> list[float]:
    plateau = plateau or optimizer.new_plateau()
    return [float(optimizer.learning_rate(schedule, jnp.int32(step), plateau)) for step in steps]


def test_constant_and_steps() -> None:
    assert rates(Schedule("constant", 0.02), [0, 10**6]) == pytest.approx([0.02, 0.02])
    stepped = rates(Schedule("steps", 0.01, boundaries=(5, 9)), [0, 4, 5, 8, 9, 100])
    assert stepped == pytest.approx([0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001])


def test_the_plateau_rule_drops_three_times_and_then_ends() -> None:
    schedule = Schedule("plateau", 0.01, patience=2, drops=3)
    errors = [0.9, 0.8, 0.8, 0.81, 0.7, 0.75, float("nan"), 0.7, 0.9, 0.69, 0.7, 0.7]
    #         best best wait DROP  best wait DROP          wait DROP best  wait END
    expected = [0.01, 0.01, 0.01, 1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5, 1e-5, 1e-5]
    plateau, seen, ended = optimizer.new_plateau(), [], []
    for error in errors:
        assert not optimizer.has_ended(plateau, schedule)
        plateau = optimizer.after_evaluation(plateau, error, schedule)
        seen += rates(schedule, [0], plateau)
        ended.append(optimizer.has_ended(plateau, schedule))
    assert seen == pytest.approx(expected)
    assert ended == [False] * 11 + [True]


def test_only_the_plateau_rule_ends_by_itself() -> None:
    plateau = optimizer.Plateau(np.float32(0.5), np.int32(0), np.int32(9))
    assert not optimizer.has_ended(plateau, Schedule("constant"))
    assert not optimizer.has_ended(plateau, Schedule("steps"))
