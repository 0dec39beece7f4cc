"""Whatever chance makes of a config, if it passes the door: it trains and is evaluated, or there is a sentence."""

import json
import math
import multiprocessing
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax
import pytest
from hypothesis import assume, event, given, seed
from hypothesis import strategies as st
from ml_collections import ConfigDict

from alexnet_jax.config.config import check_config
from alexnet_jax.config.fields import FIELDS
from alexnet_jax.messages import UserError
from alexnet_jax.modes import EvaluateInvocation, TrainInvocation, evaluate, train
from configs import digits
from tests.conftest import small_config
from tests.fuzz.chance import BYTES, examples, peak_bytes, put

# Names of folders and sets are no matter of chance.
GIVEN = ("name", "data.name", "data.data_dir", "data.manual_dir", "data.prepared_dir", "train.init_from", "train.steps")


@st.composite
def likely_change(draw: Any) -> tuple[str, Any]:
    """A field's name, and a value of the right kind that is not too large to be tried."""
    field = draw(st.sampled_from([field for field in FIELDS if field.name not in GIVEN]))
    now = digits.get_config()
    for part in field.name.split("."):
        now = now[part]
    if field.type is bool:
        return field.name, not now
    if field.type is str:
        listed = re.split(", | or ", field.rule.needs) if field.rule else ["train", "validation", "conv*", "fc8", ""]
        return field.name, draw(st.sampled_from(listed))
    numbers = st.integers(0, 24) if field.type is int else st.floats(0, 2)
    if field.type is tuple:
        return field.name, tuple(draw(st.lists(st.integers(0, 24), min_size=len(now), max_size=len(now))))
    return field.name, draw(numbers)


def train_and_evaluate(changes: list[tuple[str, Any]], data_dir: Path, folder: Path) -> tuple[str, int]:
    """In a process of its own, whose memory is then that of one training.

    Returns:
      The sentence with which it was refused, or none; the bytes by which the process grew.
    """
    before = peak_bytes()
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        config = changed_config(changes, data_dir)
        trained = train.run(config, TrainInvocation(folder / "run"), page=False)
        assert trained["step"] == 2
        assert math.isfinite(trained["loss"])
        evaluated = evaluate.run(config, EvaluateInvocation(folder / "run"))
        assert 0 <= evaluated["top1_error"] <= 1
        json.dumps(evaluated, allow_nan=False)
    except UserError as error:
        assert str(error).strip()
        return str(error), peak_bytes() - before
    return "", peak_bytes() - before


def changed_config(changes: list[tuple[str, Any]], data_dir: Path) -> ConfigDict:
    """The small network's config for two steps, with the changes."""
    config = small_config(data_dir)
    config.train.steps, config.train.batch_size, config.train.log_every, config.evaluate.batch_size = 2, 8, 1, 180
    for name, value in changes:
        put(config, name, value)
    return config


@pytest.fixture(scope="module")
def one_each() -> Iterator[ProcessPoolExecutor]:
    """A process for each thing asked of it."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver"), max_tasks_per_child=1) as pool:
        yield pool


@seed(6)
@examples(2, most=200)
@given(st.lists(likely_change(), min_size=1, max_size=4))
def test_every_config_that_passes_the_door_trains_and_is_evaluated(
    data_dir: Path, one_each: ProcessPoolExecutor, changes: list[tuple[str, Any]]
) -> None:
    try:
        check_config(changed_config(changes, data_dir))
    except UserError:
        assume(False)
    with tempfile.TemporaryDirectory() as folder:
        refused, grown = one_each.submit(train_and_evaluate, changes, data_dir, Path(folder)).result(timeout=300)
    event(refused[:60])
    assert grown < BYTES
