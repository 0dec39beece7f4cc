"""Runs with made-up weights, for tests that draw or open a run."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.config.config import recipe_of
from alexnet_jax.data.prepared.statistics import Statistics
from alexnet_jax.devices import towers
from alexnet_jax.runs.create import write_run
from alexnet_jax.training.step import abstract_state


def made_up(
    folder: Path,
    config: ConfigDict,
    classes: tuple[str, ...] = tuple("0123456789"),
    mean: np.ndarray | None = None,
    **layers: dict[str, Any],
) -> Path:
    """Writes a run with seeded noise as weights, except for the weights given by layer and kind."""
    recipe = recipe_of(config, config.model.classes or len(classes), steps_per_epoch=1)
    rng = np.random.default_rng(0)
    shapes = abstract_state(recipe, towers.mesh_of(jax.devices()[:1], 1, 1)).params
    params = jax.tree.map(lambda x: rng.normal(0, 0.05, x.shape).astype(np.float32), shapes)
    for layer, given in layers.items():
        for kind, value in given.items():
            assert params[layer][kind].shape == value.shape
            params[layer][kind] = value.astype(np.float32)
    side = config.data.resize
    mean = np.zeros((side, side, 3), np.float32) if mean is None else mean
    write_run(folder, config, Statistics(mean, np.eye(3)), classes, (), jax.tree.map(jnp.asarray, params))
    return folder
