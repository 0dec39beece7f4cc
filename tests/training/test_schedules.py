"""The source's optimiser, wrong lists of rates, and the plateau rule across a restart."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alexnet_jax.config.config import check_config
from alexnet_jax.messages import UserError
from alexnet_jax.runs.checkpoint import Checkpoints, Progress
from alexnet_jax.training import optimizer
from alexnet_jax.training.step import TrainState
from configs import alexnet_2012

RATES = (
    *((0, "*/kernel", 0.1), (0, "*/bias", 0.2)),
    *((6, "*/kernel", 0.01), (12, "conv1/kernel", 0.001), (18, "conv1/*", 0.0)),
    *((24, "*/kernel", 0.005), (24, "conv1/*", 0.0), (27, "conv1/kernel", 0.05)),
)


def by_hand(layer: str, kind: str, step: int) -> float:
    if kind == "bias":
        return 0.2 if layer == "fc8" or step < 18 else 0.0
    if layer == "fc8":
        return 0.1 if step < 6 else 0.01 if step < 24 else 0.005
    return 0.1 if step < 6 else 0.01 if step < 12 else 0.001 if step < 18 else 0.0 if step < 27 else 0.05


def test_thirty_steps_of_the_sources_optimiser() -> None:
    rng = np.random.default_rng(0)
    names = [(layer, kind) for layer in ("conv1", "fc8") for kind in ("kernel", "bias")]
    w = {name: rng.normal(0, 1, (3, 4)) for name in names}
    v = {name: np.zeros((3, 4)) for name in names}
    schedule = optimizer.Schedule(kind="listed", rates=RATES)
    sgd = optimizer.paper_sgd(momentum=0.9, weight_decay=0.05, decay_biases=False)

    def tree(values: Any) -> Any:
        return {
            layer: {kind: jnp.asarray(values[layer, kind], jnp.float32) for kind in ("kernel", "bias")}
            for layer in ("conv1", "fc8")
        }

    params = tree(w)
    state = sgd.init(params)

    @jax.jit
    def update(params: Any, state: Any, gradients: Any, step: jax.Array) -> Any:
        rates = optimizer.learning_rates(schedule, step, optimizer.new_plateau(), params)
        moves, state = sgd.update(gradients, state, params, learning_rate=rates)
        return optax.apply_updates(params, moves), state

    frozen_at = None
    for step in range(30):
        gradients = {name: rng.normal(0, 1, (3, 4)) for name in names}
        params, state = update(params, state, tree(gradients), jnp.int32(step))
        for layer, kind in names:
            rate = by_hand(layer, kind, step)
            if rate == 0:
                continue
            name, decay = (layer, kind), 0.05 if kind == "kernel" else 0.0
            v[name] = 0.9 * v[name] - decay * rate * w[name] - rate * gradients[name]
            w[name] = w[name] + v[name]
        for layer, kind in names:
            np.testing.assert_allclose(params[layer][kind], w[layer, kind], rtol=1e-5, atol=1e-6, err_msg=str(step))
        if step == 17:
            frozen_at = np.asarray(params["conv1"]["kernel"])
        if 18 <= step < 27:
            np.testing.assert_array_equal(params["conv1"]["kernel"], frozen_at)


@pytest.mark.parametrize(
    ("rates", "problem"),
    [
        (((0, "*/kernel", 0.1),), "gives conv1/bias no rate at epoch 0"),
        (((0, "*", 0.1), (3, "cnv1/*", 0.0)), "names 'cnv1/\\*' at epoch 3"),
        (((0, "*", 0.1), (3, "conv1/*", 0.0), (2, "*", 0.1)), "epochs that do not rise"),
    ],
)
def test_a_wrong_list_of_rates_is_refused(rates: Any, problem: str) -> None:
    config = alexnet_2012.get_config()
    config.schedule.rates = rates
    with pytest.raises(UserError, match=problem):
        check_config(config)


# Patience 2. An improvement starts the wait anew; a tie or a NaN is no improvement.
ERRORS = (0.9, 0.8, 0.8, 0.85, 0.7, 0.75, float("nan"), 0.71, 0.7, 0.69, 0.69, 0.69, 0.69, 0.69)
DROPS = (0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 3, 3, 3)  # after each evaluation
ENDED = (False,) * 11 + (True,) * 3


@pytest.mark.parametrize("restart", [None, 5, 8])
def test_plateau_rule_on_a_script(restart: int | None, tmp_path: Path) -> None:
    schedule = optimizer.Schedule(kind="plateau", learning_rate=1.0, patience=2)
    params = {"conv1": {"kernel": jnp.zeros(())}}
    plateau = optimizer.new_plateau()
    for place, error in enumerate(ERRORS):
        if place == restart:
            plateau = through_a_checkpoint(plateau, tmp_path)
        plateau = optimizer.after_evaluation(plateau, error, schedule)
        rate = optimizer.learning_rates(schedule, jnp.int32(place), plateau, params)["conv1"]["kernel"]
        assert float(rate) == pytest.approx(0.1 ** DROPS[place]), place
        assert optimizer.has_ended(plateau, schedule) == ENDED[place], place


def through_a_checkpoint(plateau: optimizer.Plateau, workdir: Path) -> optimizer.Plateau:
    checkpoints = Checkpoints(workdir).open_for_writing()
    state = TrainState(jnp.int32(1), {}, {}, jax.tree.map(jnp.asarray, plateau))
    checkpoints.save(1, state, Progress())
    checkpoints.close()
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0])),
        state,
    )
    return Checkpoints(workdir).restore(abstract).state.plateau
