"""`--mode=export`: a run's weights as a file for another program."""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from safetensors.numpy import save

from alexnet_jax.config.fields import NETWORK_FIELDS
from alexnet_jax.devices import towers
from alexnet_jax.files import whole
from alexnet_jax.messages import UserError, say
from alexnet_jax.modes import EXPORTED, ExportInvocation
from alexnet_jax.runs.folder import Run, open_run, own_recipe, require_same_config, restore_params
from alexnet_jax.training.step import Recipe
from alexnet_jax.weights import caffe_export, pytorch, safetensors_run, stablehlo
from alexnet_jax.weights.axis_order import Arrays, to_maps_first

Files = dict[Path, bytes]


@dataclass(frozen=True)
class Trained:
    """What a format is made from."""

    run: Run
    recipe: Recipe
    arrays: Arrays


def run(config: ConfigDict | None, invocation: ExportInvocation) -> dict[str, Any]:
    """Writes the file, and for Caffe two more beside it.

    Raises:
      UserError: a file exists already or cannot be written, or the format cannot express the network.
    """
    if invocation.format not in EXPORTED:
        problem = f"={invocation.format} cannot be exported" if invocation.format else " is missing"
        raise UserError(f"--format{problem}; give one of {', '.join(EXPORTED)}")
    if not invocation.weights:
        raise UserError("--weights is missing; give the file to write")
    path = Path(os.path.abspath(os.path.expanduser(invocation.weights)))
    _require_free(path)
    trained = _restore(config, invocation)
    match invocation.format:
        case "torch":
            files = {path: _torch(trained)}
        case "caffe":
            files = _caffe(path, trained)
        case "safetensors":
            files = {path: _safetensors(trained)}
        case _:
            files = {path: _stablehlo(trained, invocation.platforms)}
    _write(path, files)
    return {"weights": str(path), "bytes": path.stat().st_size}


def _restore(config: ConfigDict | None, invocation: ExportInvocation) -> Trained:
    """The run's checkpoint that the config, or the run's own, asks for."""
    trained = open_run(invocation.workdir)
    if config is not None:
        require_same_config(config, trained, NETWORK_FIELDS, "exported")
    recipe = own_recipe(trained)
    mesh = towers.mesh_of(jax.devices()[:1], 1, 1)
    which = config.evaluate.checkpoint if config is not None else trained.config["evaluate"]["checkpoint"]
    step, params = restore_params(trained, mesh, which)
    say(f"exporting the checkpoint of step {step} of {trained.workdir}")
    return Trained(trained, recipe, jax.tree.map(np.asarray, dict(params)))


def _torch(trained: Trained) -> bytes:
    net = trained.recipe.architecture
    return save(pytorch.state_dict(net, to_maps_first(net, trained.arrays)), {"format": "pt"})


def _caffe(path: Path, trained: Trained) -> Files:
    prototxt, mean = path.with_suffix(".prototxt"), path.with_suffix(".binaryproto")
    if path in (prototxt, mean):
        raise UserError(
            f"--weights={path} is the name of another file of this export; give a name that ends in .caffemodel"
        )
    _require_free(prototxt)
    _require_free(mean)
    net, config = trained.recipe.architecture, trained.run.config
    made = caffe_export.network(net, to_maps_first(net, trained.arrays), config["name"])
    divisors = ", ".join(f"{stddev:g}" for stddev in config["data"]["stddev_rgb"][::-1])
    pixels = f"B, G, R from 0 to 255, less the part of {mean.name} under the picture"
    data = f"{pixels}, then over {divisors}" if divisors else pixels
    say(f"{prototxt} describes the network, and {mean} is the mean image, B, G, R")
    return {
        path: made.caffemodel(),
        prototxt: f"# data: {data}\n{made.prototxt()}".encode(),
        mean: caffe_export.binaryproto(trained.run.statistics.mean_image),
    }


def _safetensors(trained: Trained) -> bytes:
    run, statistics = trained.run, trained.run.statistics
    preprocessing = statistics.mean_image, statistics.rgb_covariance
    contents = safetensors_run.Contents(run.config, run.classes, *preprocessing, trained.arrays)
    return safetensors_run.encode(trained.recipe.architecture, contents)


def _stablehlo(trained: Trained, platforms: tuple[str, ...]) -> bytes:
    params, mean_image = jax.tree.map(jnp.asarray, (dict(trained.arrays), trained.run.statistics.mean_image))
    return stablehlo.encode(trained.recipe, params, mean_image, platforms)


def _require_free(path: Path) -> None:
    """Raises UserError if the file exists, or its folder cannot be written."""
    if os.path.lexists(path):
        raise UserError(f"--weights={path} would replace an existing file; give another name")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"--weights={path} cannot be written: '{path.parent}' is not a writable folder; name another")


def _write(path: Path, files: Files) -> None:
    """Writes every file whole; `path`, the first, gets its name last, when the others are there."""
    try:
        with ExitStack() as stack:
            for each, content in files.items():
                stack.enter_context(whole(each)).write_bytes(content)
    except OSError as error:
        raise UserError(
            f"--weights={path} cannot be written ({error.strerror}); make room, or name another file"
        ) from error
