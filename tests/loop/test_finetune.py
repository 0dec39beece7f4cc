"""What each run of 2012 takes from the run before it, and what it draws anew: narrow networks, at step 0."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from alexnet_jax.config.config import recipe_of
from alexnet_jax.data.prepared.statistics import Statistics
from alexnet_jax.devices import towers
from alexnet_jax.loop import finetune
from alexnet_jax.messages import UserError
from alexnet_jax.modes import train
from alexnet_jax.network.model import Params
from alexnet_jax.runs.checkpoint import Checkpoints, Progress
from alexnet_jax.runs.create import write_run
from alexnet_jax.training.step import Recipe, create_state, state_of
from configs import alexnet_2012
from tests.conftest import narrowed

CONVOLUTIONS = {f"conv{i}" for i in range(1, 6)}
TAKEN = {  # by each run, from the run before it
    "fall2009": CONVOLUTIONS,
    "fall2011": CONVOLUTIONS | {"conv6"},
    "star": CONVOLUTIONS | {"conv6", "fc6", "fc7"},
}
ANEW = {
    "fall2009": {"conv6", "fc6", "fc7", "fc8"},
    "fall2011": {"fc6", "fc7", "bottleneck", "fc8"},
    "star": {"fc8"},
}


def config_of(variant: str, seed: int, donor: Path | None = None) -> ConfigDict:
    """A narrow config; all variants have the same classes, so that no layer's shape decides what is taken."""
    before = alexnet_2012.get_config(variant).train.init_after
    config = narrowed(alexnet_2012.get_config(variant))
    config.model.classes, config.train.seed, config.mesh.model = 10, seed, 1
    config.train.init_after, config.train.init_from = before, str(donor or "")
    return config


def recipe(config: ConfigDict) -> Recipe:
    return recipe_of(config, 10, steps_per_epoch=1)


def leave_run(folder: Path, config: ConfigDict, params: Params) -> Path:
    statistics = Statistics(np.zeros((80, 80, 3), np.float32), np.eye(3))
    write_run(folder, config, statistics, tuple(f"class {i}" for i in range(10)), (), params)
    return folder


@pytest.fixture(autouse=True, scope="module")
def quick_compile_of_all() -> Iterator[None]:
    """Compiles everything with the same options, as other options change the last bit of draws."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Params]]:
    """145 -> 2009 -> 2011 -> 2012: the folders, and each run's parameters at step 0."""
    folder, mesh = tmp_path_factory.mktemp("chain"), towers.make_mesh(1, 1)
    config = config_of("", 0)
    params = create_state(recipe(config), mesh).params
    found = {"": (leave_run(folder / "145", config, params), params)}
    donor = folder / "145"
    for seed, variant in enumerate(TAKEN, 1):
        config = config_of(variant, seed, donor)
        start = finetune.donor(config, recipe(config).architecture)
        params = train._new_state(config, recipe(config), mesh, start).params
        donor = leave_run(folder / variant, config, params)
        found[variant] = donor, params
    return found


@pytest.mark.parametrize(("variant", "before"), [("fall2009", ""), ("fall2011", "fall2009"), ("star", "fall2011")])
def test_what_is_handed_over_and_what_is_drawn_anew(
    variant: str, before: str, chain: dict[str, tuple[Path, Params]]
) -> None:
    ours, theirs = chain[variant][1], chain[before][1]
    seed = list(TAKEN).index(variant) + 1
    drawn = create_state(recipe(config_of(variant, seed)), towers.make_mesh(1, 1)).params
    assert set(ours) == TAKEN[variant] | ANEW[variant]
    for layer in ours:
        for kind in ("kernel", "bias"):
            expected = theirs if layer in TAKEN[variant] else drawn
            np.testing.assert_array_equal(ours[layer][kind], expected[layer][kind], err_msg=f"{layer}/{kind}")
        same = layer in theirs and finetune.shapes(theirs[layer]) == finetune.shapes(ours[layer])
        if layer in ANEW[variant] and same:  # though the shapes agree
            assert not np.array_equal(ours[layer]["kernel"], theirs[layer]["kernel"]), layer
    assert all(finetune.shapes(theirs[layer]) == finetune.shapes(ours[layer]) for layer in ("fc6", "fc7"))


def test_the_start_lists_both(chain: dict[str, tuple[Path, Params]], capsys: Any) -> None:
    config = config_of("fall2011", 5, chain["fall2009"][0])
    start = finetune.donor(config, recipe(config).architecture)
    train._new_state(config, recipe(config), towers.make_mesh(1, 1), start)
    said = capsys.readouterr().err
    assert "conv1, conv2, conv3, conv4, conv5, conv6; started anew: bottleneck, fc6, fc7, fc8" in said


@pytest.mark.parametrize(("variant", "donor"), [("star", ""), ("star", "fall2009"), ("fall2011", "")])
def test_another_run_than_that_of_the_chain_is_refused(
    variant: str, donor: str, chain: dict[str, tuple[Path, Params]]
) -> None:
    config = config_of(variant, 0, chain[donor][0])
    theirs = f"alexnet_2012:{donor}" if donor else "alexnet_2012"
    needed = config.train.init_after.removeprefix("configs/").replace(".py", "")
    with pytest.raises(
        UserError, match=rf"is a run of {theirs}, .* from a run of {needed}, .*--config.train.init_after="
    ):
        finetune.donor(config, recipe(config).architecture)
    config.train.init_after = ""
    config.train.init_except = "fc8"
    assert finetune.donor(config, recipe(config).architecture) is not None


@pytest.mark.parametrize("which", ["newest", "best"])
def test_the_state_that_is_handed_over(which: str, chain: dict[str, tuple[Path, Params]], tmp_path: Path) -> None:
    config = config_of("", 0)
    params = chain[""][1]
    folder = leave_run(tmp_path / "run", config, params)
    checkpoints = Checkpoints(folder).open_for_writing()
    for step, error in ((1, 0.1), (2, 0.2)):
        moved = jax.tree.map(lambda x, step=step: x + step, params)
        state = replace(state_of(recipe(config), moved), step=jnp.int32(step))
        checkpoints.save(step, state, Progress())
        checkpoints.validated(step, {"loss": 1.0, "top1_error": error, "top5_error": 0.0, "examples": 1})
    checkpoints.close()
    config = config_of("fall2009", 1, folder)
    assert config.train.init_checkpoint == "newest"
    config.train.init_checkpoint = which
    start = finetune.donor(config, recipe(config).architecture)
    found = train._new_state(config, recipe(config), towers.make_mesh(1, 1), start).params
    step = {"newest": 2, "best": 1}[which]
    np.testing.assert_array_equal(found["conv1"]["kernel"], np.asarray(params["conv1"]["kernel"]) + np.float32(step))
