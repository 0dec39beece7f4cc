"""The learning rates of every run of 2012, epoch by epoch, against numbers from its log by hand.

Quoted are the comments at the end of each run's layer-params file in the released source, as far as they are of rates.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest

from alexnet_jax.config.config import last_step_of, recipe_of
from alexnet_jax.training import optimizer
from configs import alexnet_2012

Curve = tuple[tuple[int, float], ...]  # (from step, rate)


@dataclass(frozen=True)
class Log:
    """A run's log in numbers, by hand.

    Attributes:
      pass_: steps of 128 pictures in a pass.
      end: steps in all.
      others: the curve of every kernel that `kernels` does not name.
      biases: of every bias that `own_biases` does not name.
      lit: passes with PCA lighting; 0: all.
    """

    pass_: int
    end: int
    others: Curve
    kernels: dict[str, Curve]
    biases: Curve
    own_biases: dict[str, Curve]
    lit: int


P12 = 10_010  # 1,281,167 pictures by 128, rounded up
P10 = 9_855  # 1,261,406
P09 = 70_400  # 8,800 batches of 1,024
P11 = 110_960  # 13,870 batches of 1,024

LOGS = {
    # epoch 25: set epsw to 0.001 from 0.01
    # epoch 51: set epsw to 0.0001 from 0.001
    # epoch 67: set epsw to 0.00001 from 0.0001 on conv1; set color noise to 0 from 0.1
    # epoch 72: set epsw to 0 on conv1
    # epoch 79: set epsw to 0.00001 from 0.0001
    # epoch 91: killed
    "": Log(
        P12,
        91 * P12,
        ((0, 0.01), (25 * P12, 0.001), (51 * P12, 0.0001), (79 * P12, 0.00001)),
        {"conv1": ((0, 0.01), (25 * P12, 0.001), (51 * P12, 0.0001), (67 * P12, 0.00001), (72 * P12, 0.0))},
        ((0, 0.02),),
        {"conv1": ((0, 0.02), (72 * P12, 0.0))},
        67,
    ),
    # epoch 23: set epsw to 0.001 from 0.01
    # epoch 51: set epsw to 0.0001 from 0.001
    # epoch 68: set epsw to 0.00001 from 0.0001 on conv1; set color noise to 0 from 0.1
    # epoch 72: set epsw to 0 on conv1
    # epoch 78: set epsw to 0.00001 from 0.0001
    # epoch 93: killed
    # and epsB=0.002 at the end
    "ilsvrc2010": Log(
        P10,
        93 * P10,
        ((0, 0.01), (23 * P10, 0.001), (51 * P10, 0.0001), (78 * P10, 0.00001)),
        {"conv1": ((0, 0.01), (23 * P10, 0.001), (51 * P10, 0.0001), (68 * P10, 0.00001), (72 * P10, 0.0))},
        ((0, 0.02), (51 * P10, 0.002)),
        {"conv1": ((0, 0.02), (51 * P10, 0.002), (72 * P10, 0.0))},
        68,
    ),
    # epoch 20: set epstw ot 0.001 from 0.01
    # epoch 48: set epstw ot 0.0001 from 0.001
    # epoch 66: set epsw to 0.00001 from 0.0001 on conv1, set color noise to 0 from 0.1
    # epoch 72: set epsw to 0 from 0.00001 on conv1
    # epoch 96: killed
    # and epsB=0.002 on conv1 and conv2 at the end
    "one_gpu": Log(
        P10,
        96 * P10,
        ((0, 0.01), (20 * P10, 0.001), (48 * P10, 0.0001)),
        {"conv1": ((0, 0.01), (20 * P10, 0.001), (48 * P10, 0.0001), (66 * P10, 0.00001), (72 * P10, 0.0))},
        ((0, 0.02),),
        {"conv1": ((0, 0.002), (72 * P10, 0.0)), "conv2": ((0, 0.002),)},
        66,
    ),
    # epoch 22: set epsw to 0.001 from 0.01
    # epoch 44: set epsw to 0.0001 from 0.001
    # epoch 69: set epsw to 0.00001 from 0.0001 on conv1, set color noise to 0 from 0.1
    # epoch 73: set epsw to 0 from 0.00001 on conv1
    # epoch 86: set epsw to 0.00001 from 0.0001
    # epoch 97: killed
    "no_lrn": Log(
        P12,
        97 * P12,
        ((0, 0.01), (22 * P12, 0.001), (44 * P12, 0.0001), (86 * P12, 0.00001)),
        {"conv1": ((0, 0.01), (22 * P12, 0.001), (44 * P12, 0.0001), (69 * P12, 0.00001), (73 * P12, 0.0))},
        ((0, 0.02),),
        {"conv1": ((0, 0.02), (73 * P12, 0.0))},
        69,
    ),
    # epoch 23: set epsw to 0.001 from 0.01
    # epoch 51: set epsw to 0.0001 from 0.001
    # epoch 79: set epsw to 0 on conv1, 0.00001 elsewhere
    # epoch 90: killed
    # and epsB=0.02 in the copy of between 23 and 51, 0.002 at the end
    "nonoverlapping_pooling": Log(
        P12,
        90 * P12,
        ((0, 0.01), (23 * P12, 0.001), (51 * P12, 0.0001), (79 * P12, 0.00001)),
        {"conv1": ((0, 0.01), (23 * P12, 0.001), (51 * P12, 0.0001), (79 * P12, 0.0))},
        ((0, 0.02), (51 * P12, 0.002)),
        {"conv1": ((0, 0.02), (51 * P12, 0.002), (79 * P12, 0.0))},
        0,
    ),
    # epoch 25: set epsw to 0.001 from 0.01
    # epoch 49: set epsw to 0.0001 from 0.001
    # epoch 66: set epsw to 0.00001 from 0.0001 on conv1; set color noise to 0 from 0.1
    # epoch 72: set epsw to 0 on conv1
    # epoch 79: set epsw to 0.00001 from 0.0001
    # epoch 92: killed
    "no_cross": Log(
        P12,
        92 * P12,
        ((0, 0.01), (25 * P12, 0.001), (49 * P12, 0.0001), (79 * P12, 0.00001)),
        {"conv1": ((0, 0.01), (25 * P12, 0.001), (49 * P12, 0.0001), (66 * P12, 0.00001), (72 * P12, 0.0))},
        ((0, 0.02),),
        {"conv1": ((0, 0.02), (72 * P12, 0.0))},
        66,
    ),
    # init epsw 0.001 on conv1-5, 0.01 on fc, conv6
    # epoch 2.1600: set epsw to 0.001 from 0.01 on fc, conv6      8,800 + 1,600 = 10,400 batches of 8 steps
    # epoch 6.6491: killed                                        5 * 8,800 + 6,491 = 50,491 batches
    "fall2009": Log(
        P09,
        403_928,
        ((0, 0.01), (83_200, 0.001)),
        {f"conv{i}": ((0, 0.001),) for i in range(1, 6)},
        ((0, 0.02),),
        {"conv6": ((0, 0.002),)},
        0,
    ),
    # init epw 0.001 on conv layers, 0.01 on fc
    # epoch 6: set epsw to 0.001 from 0.01
    # epoch 8.11295: killed                                       7 * 13,870 + 11,295 = 108,385 batches
    "fall2011": Log(
        P11,
        867_080,
        ((0, 0.01), (6 * P11, 0.001)),
        {f"conv{i}": ((0, 0.001),) for i in range(1, 7)},
        ((0, 0.02),),
        {"conv6": ((0, 0.002),)},
        0,
    ),
    # init epsw 0.0001 on conv1, 0.001 elsewhere
    # 300 batches: set epsw to 0.01 from 0.001 on fc1000          2,400 steps
    # epoch 5: set conv1 epsw to 0.00001 from 0.0001
    # epoch 7: set conv1 epsw to 0 from 0.00001
    # epoch 9: set fc1000 epsw to 0.001 from 0.01
    # epoch 22: set epsw to 0.0001 from 0.001
    # epoch 38: set color noise to 0 from 0.1
    # epoch 42: set epsw to 0.00001 from 0.0001
    # epoch 54: killed
    "star": Log(
        P12,
        54 * P12,
        ((0, 0.001), (22 * P12, 0.0001), (42 * P12, 0.00001)),
        {
            "conv1": ((0, 0.0001), (5 * P12, 0.00001), (7 * P12, 0.0)),
            "fc8": ((0, 0.001), (2_400, 0.01), (9 * P12, 0.001), (22 * P12, 0.0001), (42 * P12, 0.00001)),
        },
        ((0, 0.02),),
        {"conv1": ((0, 0.02), (7 * P12, 0.0)), "conv6": ((0, 0.002),)},
        38,
    ),
}


def configured(variant: str, steps_per_pass: int) -> Callable[[int], dict[str, dict[str, float]]]:
    """The rates of a training step with the config, {layer: {kind: rate}}, as a function of the step."""
    config = alexnet_2012.get_config(variant)
    recipe = recipe_of(config, config.model.classes or 1000, steps_per_pass)
    params = {layer.name: {"kernel": jnp.zeros(()), "bias": jnp.zeros(())} for layer in recipe.architecture.layers}
    rates = jax.jit(lambda step: optimizer.learning_rates(recipe.schedule, step, optimizer.new_plateau(), params))
    return lambda step: jax.tree.map(float, rates(jnp.int32(step)))


def at(curve: Curve, step: int) -> float:
    return [rate for start, rate in curve if start <= step][-1]


def test_every_run_is_here() -> None:
    assert set(LOGS) == set(alexnet_2012.RUNS)


@pytest.mark.parametrize("variant", LOGS)
def test_rates_of_the_logs_epoch_by_epoch(variant: str) -> None:
    log, rates_at = LOGS[variant], configured(variant, LOGS[variant].pass_)
    curves = (log.others, log.biases, *log.kernels.values(), *log.own_biases.values())
    changes = {start for curve in curves for start, _ in curve}
    halves = range(0, log.end, log.pass_ // 2)
    for step in sorted({*halves, *changes, *(start - 1 for start in changes if start), log.end - 1}):
        for layer, found in rates_at(step).items():
            expected = at(log.kernels.get(layer, log.others), step), at(log.own_biases.get(layer, log.biases), step)
            assert (found["kernel"], found["bias"]) == pytest.approx(expected), (step, layer)


@pytest.mark.parametrize("variant", LOGS)
def test_a_run_ends_and_goes_dark_where_its_log_has_it(variant: str) -> None:
    config = alexnet_2012.get_config(variant)
    assert last_step_of(config, LOGS[variant].pass_) == LOGS[variant].end
    assert config.augment.lighting_until == LOGS[variant].lit


def test_the_logs_notation_is_epoch_and_batch_and_no_decimal() -> None:
    assert alexnet_2012.passes("2.1600", 8_800) == pytest.approx(1.1818, abs=1e-4)
    assert alexnet_2012.passes("6.6491", 8_800) == pytest.approx(5.7376, abs=1e-4)
    assert alexnet_2012.passes("8.11295", 13_870) == pytest.approx(7.8143, abs=1e-4)
    assert alexnet_2012.passes("1.300", 1_281_167 / 1024) * 10_010 == pytest.approx(2_400, abs=0.5)
    assert alexnet_2012.passes(25) == 25.0
