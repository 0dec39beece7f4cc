"""A new run that starts from another one's layers: fine-tuning (sections 6 and 7)."""

import difflib
import math
from collections.abc import Mapping
from pathlib import Path

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax.config.config import differences, run_exists
from alexnet_jax.messages import UserError, say
from alexnet_jax.network.architecture import Architecture, Conv, Dense, table
from alexnet_jax.network.model import Params
from alexnet_jax.runs import checkpoint
from alexnet_jax.runs.folder import Run, open_run, own_recipe, restore_params

# What layers of the same shapes were trained for, and no weight shows.
GEOMETRY = (
    *("model.first_padding", "model.padding", "model.activation", "model.lrn", "model.lrn_n", "model.lrn_k"),
    *("model.lrn_alpha", "model.lrn_alpha_over_n", "model.lrn_beta", "model.lrn_across_towers"),
    *("model.within_map_norm", "model.pool_before_activation", "model.pool_before_norm", "model.pool_window"),
    *("model.pool_stride", "model.pool_rounding", "model.dropout_scaling", "model.dropout_place"),
    *("data.square", "data.mean_rgb", "data.stddev_rgb"),
)


def donor(config: ConfigDict, net: Architecture) -> Run | None:
    """The run that a new run of the config starts from; None if it starts from scratch.

    Raises:
      UserError: it is not named though the config needs one; it is no run, has no checkpoint or
        another number of towers, or is of another config than the one that has to come first; a layer that is to
        start anew does not exist.
    """
    folder, after = config.train.init_from, config.train.init_after
    if not folder:
        if after:
            raise UserError(
                f"this configuration goes on from another run's layers; first run python launch.py --config={after}, "
                "then give its folder as --config.train.init_from=DIR"
            )
        return None
    names = [layer.name for layer in net.layers]
    for name in excepted(config):
        if name not in names:
            nearest = difflib.get_close_matches(name, names, 1, 0)[0]
            raise UserError(
                f"config.train.init_except names '{name}', and no layer is called so; the nearest is '{nearest}', "
                f"the layers are {', '.join(names)}"
            )
    path = Path(folder).expanduser().absolute()
    if not run_exists(path):
        raise UserError(f"config.train.init_from={path} holds no run; name the folder of one that was trained")
    one = open_run(path)
    if after and one.config["name"] != _name_of(after):
        raise UserError(
            f"config.train.init_from={path} is a run of {one.config['name']}, and this configuration goes on from one "
            f"of {_name_of(after)}, as its authors did; name such a run, or give --config.train.init_after= to go on "
            "from this one all the same"
        )
    theirs, ours = one.config["model"]["towers"], net.towers
    if theirs != ours:
        raise UserError(
            f"config.train.init_from={path} is a run with {theirs} tower{'s' if theirs > 1 else ''}, and this network "
            f"has {ours}; name a run with {ours}"
        )
    if not (path / "checkpoints").is_dir() or not checkpoint.Checkpoints(path).steps():
        raise UserError(f"config.train.init_from={path} has no checkpoint; train it first, or name another run")
    ours_fit = _weights(net)
    theirs_fit = _weights(own_recipe(one).architecture)
    if not any(ours_fit[name] == theirs_fit.get(name) for name in names if name not in excepted(config)):
        raise UserError(
            f"config.train.init_from={path} has no layer, none excepted by init_except, of a shape that this network "
            "has, and nothing would be learnt from it; name a run of this network, or give config.model.kernels and "
            "config.model.units of that run"
        )
    return one


def _name_of(after: str) -> str:
    """How runs of a config that is named as FILE[:VARIANT] are called in their own."""
    path, _, variant = after.partition(":")
    return f"{Path(path).stem}:{variant}" if variant else Path(path).stem


def _weights(net: Architecture) -> dict[str, tuple[int, ...]]:
    """The shape of each layer's weights; of the last, which may have other classes, what it reads."""
    found: dict[str, tuple[int, ...]] = {}
    for row in table(net):
        if isinstance(row.layer, Conv):
            found[row.name] = (row.layer.size, row.input_shape[-1], row.layer.kernels)
        elif isinstance(row.layer, Dense):
            units = () if row.layer is net.layers[-1] else (row.layer.units,)
            found[row.name] = (math.prod(row.input_shape), *units)
    return found


def excepted(config: ConfigDict) -> list[str]:
    """Layers that start anew even where their shapes agree."""
    return [name.strip() for name in config.train.init_except.split(",") if name.strip()]


def params_from(start: Run, params: Params, config: ConfigDict, mesh: Mesh) -> Params:
    """The parameters with those layers of the run's checkpoint whose shapes agree; says which."""
    at, theirs = restore_params(start, own_recipe(start), mesh, config.train.init_checkpoint)
    if other := differences(config, start.config, GEOMETRY, ("here", "there")):
        say(
            f"WARNING: the network of {start.workdir} is another one, though its layers may have the same shapes: "
            f"{'; '.join(other)}; where that is not meant, give its own values, or its variant of the config"
        )
    anew = excepted(config)
    taken = [name for name in params if name not in anew and shapes(params[name]) == shapes(theirs.get(name, {}))]
    started = [name for name in params if name not in taken]
    unused = [name for name in theirs if name not in params]
    say(
        f"from step {at} of {start.workdir}: {', '.join(taken) or 'no layer'}; "
        f"started anew: {', '.join(started) or 'none'}"
        + (f"; not in this network: {', '.join(unused)}" if unused else "")
    )
    return {name: theirs[name] if name in taken else params[name] for name in params}


def shapes(layer: Mapping[str, jax.Array]) -> dict[str, tuple[int, ...]]:
    """Of a layer's parameters, by name."""
    return {name: tuple(array.shape) for name, array in layer.items()}
