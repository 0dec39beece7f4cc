"""Runs with random weights, made by the import mode in this process, and their outputs."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.config.config import network_of
from alexnet_jax.data.batches.batch import Batch
from alexnet_jax.data.prepared.statistics import Statistics
from alexnet_jax.devices import towers
from alexnet_jax.modes import ExportInvocation, ImportInvocation, export, import_
from alexnet_jax.runs.create import write_run
from alexnet_jax.runs.folder import open_run, own_recipe, restore_params
from alexnet_jax.training.step import class_probabilities
from alexnet_jax.weights.axis_order import Arrays, layer_rows, maps_last_shape, padded, unpadded
from configs import alexnet
from tests.conftest import NARROW_KERNELS, NARROW_UNITS

SIDE, CROP = 72, 67  # 15, 7, 3 and 1 positions; no pooling window reaches over the edge


def narrow(variant: str = "", side: int = SIDE, crop: int = CROP, **model: Any) -> ConfigDict:
    """A variant's config with the tests' widths."""
    config = alexnet.get_config(variant)
    config.model.kernels, config.model.units = NARROW_KERNELS, NARROW_UNITS
    config.data.resize, config.data.crop = side, crop
    config.model.update(model)
    return config


def imported(config: ConfigDict | None, workdir: Path, **flags: Any) -> dict[str, Any]:
    """The result of `--mode=import`."""
    return import_.run(config, ImportInvocation(workdir, **flags))


def squares(count: int, side: int = SIDE, seed: int = 0) -> np.ndarray:
    """Pictures with structure: coarse noise, enlarged, and a little fine noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, -(-side // 8), -(-side // 8), 3), dtype=np.uint8)
    fine = rng.integers(0, 32, (count, side, side, 3), dtype=np.uint8)
    return (coarse.repeat(8, 1).repeat(8, 2)[:, :side, :side] // 8 * 7 + fine).astype(np.uint8)


def probabilities(workdir: Path, pictures: np.ndarray, shards: int = 1) -> np.ndarray:
    """float32 [b, classes] by a run's newest checkpoint for the centres of squares, on one device or two."""
    run = open_run(workdir)
    recipe = own_recipe(run)
    mesh = towers.mesh_of(jax.devices()[:shards], 1, shards)
    _, params = restore_params(run, mesh, "newest")
    size, count = recipe.architecture.input_size, len(pictures)
    first = (pictures.shape[1] - size) // 2
    batch = Batch(
        image=pictures[:, first : first + size, first : first + size],
        label=np.zeros(count, np.int32),
        lighting=np.zeros((count, 3), np.float32),
        offset=np.full((count, 2), first, np.int32),
        reflected=np.zeros(count, bool),
        scale=np.ones(count, np.float32),
    )
    program = jax.jit(
        partial(class_probabilities, recipe, mesh, 1), compiler_options=towers.compiler_options(mesh, recipe.dtype)
    )
    made = program(params, towers.put_batch(batch, mesh), towers.replicate(run.statistics.mean_image, mesh))
    return np.asarray(made)[:, : recipe.architecture.classes]


def random_run(config: ConfigDict, workdir: Path, seed: int = 0) -> Path:
    """A run with random weights and mean image, scaled so that maps are in the hundreds and logits are small."""
    classes = config.model.classes or 7
    net, side = network_of(config, classes), config.data.resize
    rng, arrays = np.random.default_rng(seed), {}
    for row in layer_rows(net):
        shape = maps_last_shape(row)
        last = 2.0 if config.model.activation == "tanh" else 0.02
        scale = (last if row.layer is net.layers[-1] else 1.5) / np.sqrt(np.prod(shape[:-1]))
        kernel = scale * rng.standard_normal(shape)
        arrays[row.name] = {"kernel": kernel.astype(np.float32), "bias": rng.uniform(-0.5, 0.5, shape[-1:])}
    params = jax.tree.map(lambda array: jax.numpy.asarray(array, jax.numpy.float32), dict(padded(net, arrays)))
    mean = rng.uniform(100, 130, (side, side, 3)).astype(np.float32)
    names = tuple(f"class {i}" for i in range(classes))
    write_run(workdir, config, Statistics(mean, np.eye(3)), names, (), params)
    return workdir


def exported(workdir: Path, **flags: Any) -> dict[str, Any]:
    """The result of `--mode=export`."""
    return export.run(None, ExportInvocation(workdir, **flags))


def parameters(workdir: Path) -> Arrays:
    """The parameters of a run's newest checkpoint, without the class that makes their number even."""
    run = open_run(workdir)
    recipe = own_recipe(run)
    _, params = restore_params(run, towers.mesh_of(jax.devices()[:1], 1, 1), "newest")
    return unpadded(recipe.architecture, jax.tree.map(np.asarray, dict(params)))
