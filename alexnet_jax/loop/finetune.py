"""Fine-tuning: a new run that starts with another run's layers (sections 6 and 7 of the paper)."""

import difflib
import math
from collections.abc import Mapping
from pathlib import Path

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax.config.config import differences, run_exists
from alexnet_jax.config.fields import GEOMETRY_FIELDS
from alexnet_jax.messages import UserError, say
from alexnet_jax.network.architecture import Architecture, Conv, Dense, table
from alexnet_jax.network.model import Params
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.folder import Run, open_run, own_recipe, restore_params


def donor(config: ConfigDict, net: Architecture) -> Run | None:
    """The run whose layers a new run starts with (`train.init_from`); None if it starts from scratch.

    Raises:
      UserError: the config needs a donor and names none; the donor is no run, has no checkpoint, another number of
        towers, another config than `train.init_after` or no layer that fits; `train.init_except` names no layer.
    """
    folder, after = config.train.init_from, config.train.init_after
    if not folder:
        if after:
            raise UserError(
                "this configuration starts from the layers of another run; first run python launch.py "
                f"--config={after}, then give its folder as --config.train.init_from=DIR"
            )
        return None
    _require_layers(excepted(config), net)
    path = Path(folder).expanduser().absolute()
    if not run_exists(path):
        raise UserError(f"config.train.init_from={path} holds no run; name the folder of a trained run")
    found = open_run(path)
    if after and found.config["name"] != _name_of(after):
        raise UserError(
            f"config.train.init_from={path} is a run of {found.config['name']}, but this configuration starts from a "
            f"run of {_name_of(after)}, as its authors did; name such a run, or give --config.train.init_after= to "
            "start from this run nevertheless"
        )
    theirs, ours = found.config["model"]["towers"], net.towers
    if theirs != ours:
        raise UserError(
            f"config.train.init_from={path} is a run with {theirs} tower{'s' if theirs > 1 else ''}, and this network "
            f"has {ours}; name a run with {ours}"
        )
    if not Checkpoints(path).steps():
        raise UserError(f"config.train.init_from={path} has no checkpoint; train it first, or name another run")
    _require_a_layer_that_fits(found, config, net)
    return found


def _require_layers(names: list[str], net: Architecture) -> None:
    """Raises UserError if the network lacks a layer that `train.init_except` names."""
    layers = [layer.name for layer in net.layers]
    for name in names:
        if name not in layers:
            nearest = difflib.get_close_matches(name, layers, 1, 0)[0]
            raise UserError(
                f"config.train.init_except names '{name}', but no layer has that name; the nearest is '{nearest}', the "
                f"layers are {', '.join(layers)}"
            )


def _require_a_layer_that_fits(found: Run, config: ConfigDict, net: Architecture) -> None:
    """Raises UserError if no layer of the donor can be used."""
    ours, theirs = _weights(net), _weights(own_recipe(found).architecture)
    if not any(ours[name] == theirs.get(name) for name in ours if name not in excepted(config)):
        raise UserError(
            f"config.train.init_from={found.workdir} shares no layer shape with this network (apart from init_except), "
            "so no weights would be copied; name a run of this network, or give config.model.kernels and "
            "config.model.units of that run"
        )


def _name_of(after: str) -> str:
    """The name that runs of a config FILE[:VARIANT] have in their config.json."""
    path, _, variant = after.partition(":")
    return f"{Path(path).stem}:{variant}" if variant else Path(path).stem


def _weights(net: Architecture) -> dict[str, tuple[int, ...]]:
    """The shape of each layer's weights; for the last layer, which may have other classes, its inputs alone."""
    found: dict[str, tuple[int, ...]] = {}
    for row in table(net):
        if isinstance(row.layer, Conv):
            found[row.name] = (row.layer.size, row.input_shape[-1], row.layer.kernels)
        elif isinstance(row.layer, Dense):
            units = () if row.layer is net.layers[-1] else (row.layer.units,)
            found[row.name] = (math.prod(row.input_shape), *units)
    return found


def excepted(config: ConfigDict) -> list[str]:
    """The layers that start anew even if their shapes agree (`train.init_except`)."""
    return [name.strip() for name in config.train.init_except.split(",") if name.strip()]


def params_from(start: Run, params: Params, config: ConfigDict, mesh: Mesh) -> Params:
    """The parameters, with the layers of the donor's checkpoint whose shapes agree; a message says which.

    Args:
      start: the donor.
      params: new ones.
    """
    step, theirs = restore_params(start, mesh, config.train.init_checkpoint)
    if differing := differences(config, start.config, GEOMETRY_FIELDS, ("here", "there")):
        say(
            f"WARNING: the network of {start.workdir} differs from this one, though its layers may have the same "
            f"shapes: {'; '.join(differing)}; if you did not mean that, give its own values, or its variant of the "
            "config"
        )
    anew = excepted(config)
    taken = [name for name in params if name not in anew and shapes(params[name]) == shapes(theirs.get(name, {}))]
    started = [name for name in params if name not in taken]
    unused = [name for name in theirs if name not in params]
    say(
        f"from step {step} of {start.workdir}: {', '.join(taken) or 'no layer'}; "
        f"started anew: {', '.join(started) or 'none'}"
        + (f"; not in this network: {', '.join(unused)}" if unused else "")
    )
    return {name: theirs[name] if name in taken else params[name] for name in params}


def shapes(layer: Mapping[str, jax.Array]) -> dict[str, tuple[int, ...]]:
    """The shapes of a layer's parameters, by name."""
    return {name: tuple(array.shape) for name, array in layer.items()}
