"""`--mode=export`: a run's weights for other programs."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from safetensors.numpy import save

from alexnet_jax.config.config import OF_THE_NETWORK
from alexnet_jax.devices import towers
from alexnet_jax.messages import UserError, say
from alexnet_jax.modes import EXPORTED, Invocation
from alexnet_jax.runs.folder import Run, open_run, own_recipe, require_same_config, restore_params
from alexnet_jax.training.step import Recipe
from alexnet_jax.weights import caffe_export, pytorch, safetensors_run, stablehlo
from alexnet_jax.weights.axis_order import Arrays, to_maps_first

Files = dict[Path, bytes]


def run(config: ConfigDict | None, invocation: Invocation) -> dict[str, Any]:
    """Writes the file, and what lies beside it. Raises UserError if it is there, or cannot hold the network."""
    if invocation.format not in EXPORTED:
        what = f"={invocation.format} cannot be exported" if invocation.format else " is missing"
        raise UserError(f"--format{what}; give one of {', '.join(EXPORTED)}")
    if not invocation.weights:
        raise UserError("--weights is missing; give the file to make")
    path = Path(os.path.abspath(os.path.expanduser(invocation.weights)))
    _require_free(path)
    trained = open_run(invocation.workdir)
    if config is not None:
        require_same_config(config, trained, OF_THE_NETWORK, "exported")
    recipe = own_recipe(trained)
    mesh = towers.mesh_of(jax.devices()[:1], 1, 1)
    which = config.evaluate.checkpoint if config is not None else trained.config["evaluate"]["checkpoint"]
    at, params = restore_params(trained, recipe, mesh, which)
    say(f"exporting the checkpoint of step {at} of {trained.workdir}")
    write: Callable[..., Files] = {"torch": _torch, "caffe": _caffe, "safetensors": _ours, "stablehlo": _stablehlo}[
        invocation.format
    ]
    arrays = jax.tree.map(np.asarray, dict(params))
    _write(write(path, trained, recipe, arrays, invocation))
    return {"weights": str(path), "bytes": path.stat().st_size}


def _torch(path: Path, trained: Run, recipe: Recipe, arrays: Arrays, invocation: Invocation) -> Files:
    layers = to_maps_first(recipe.architecture, arrays)
    return {path: save(pytorch.state_dict(recipe.architecture, layers), {"format": "pt"})}


def _caffe(path: Path, trained: Run, recipe: Recipe, arrays: Arrays, invocation: Invocation) -> Files:
    prototxt, mean = path.with_suffix(".prototxt"), path.with_suffix(".binaryproto")
    if path in (prototxt, mean):
        raise UserError(f"--weights={path} is the name of what lies beside the weights; let it end in .caffemodel")
    _require_free(prototxt)
    _require_free(mean)
    layers = to_maps_first(recipe.architecture, arrays)
    made = caffe_export.network(recipe.architecture, layers, trained.config["name"])
    say(f"{prototxt} is its network, and {mean} the mean image, B, G, R")
    return {
        prototxt: f"# data: {_input(trained, mean.name)}\n{made.prototxt()}".encode(),
        mean: caffe_export.binaryproto(trained.statistics.mean_image),
        path: made.caffemodel(),
    }


def _input(trained: Run, mean: str) -> str:
    """What the network of a .prototxt reads, in words."""
    over = ", ".join(f"{one:g}" for one in trained.config["data"]["stddev_rgb"][::-1])
    return f"B, G, R from 0 to 255, less the part of {mean} under the picture{', then over ' if over else ''}{over}"


def _ours(path: Path, trained: Run, recipe: Recipe, arrays: Arrays, invocation: Invocation) -> Files:
    statistics = trained.statistics
    contents = safetensors_run.Contents(
        trained.config, trained.classes, statistics.mean_image, statistics.rgb_covariance, arrays
    )
    return {path: safetensors_run.encode(recipe.architecture, contents)}


def _stablehlo(path: Path, trained: Run, recipe: Recipe, arrays: Arrays, invocation: Invocation) -> Files:
    params, mean_image = jax.tree.map(jnp.asarray, (dict(arrays), trained.statistics.mean_image))
    return {path: stablehlo.encode(recipe, params, mean_image, invocation.platforms)}


def _require_free(path: Path) -> None:
    """Raises UserError if the file is there, or cannot be made."""
    if os.path.lexists(path):
        raise UserError(f"--weights={path} would take the place of a file that is there; name another")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"--weights={path} cannot be written: '{path.parent}' is no folder that can; name another")


def _write(files: Files) -> None:
    """All of them whole, or none; the last is the one that was asked for."""
    unfinished = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in files}
    try:
        for path, content in files.items():
            unfinished[path].write_bytes(content)
        for path in files:
            os.replace(unfinished[path], path)
    except OSError as error:
        theirs = {str(hidden): path for path, hidden in unfinished.items()}
        named = theirs.get(str(error.filename), error.filename)
        raise UserError(
            f"--weights={named} cannot be written ({error.strerror}); make room, or name another file"
        ) from error
    finally:
        for path in unfinished.values():
            path.unlink(missing_ok=True)
