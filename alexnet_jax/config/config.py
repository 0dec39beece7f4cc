"""Checks a config once, when it is read, and turns it into the network and the recipe of a step."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from alexnet_jax.config import fields
from alexnet_jax.config.fields import flatten, with_later_fields
from alexnet_jax.messages import UserError
from alexnet_jax.network import architecture, changes, cifar_networks

if TYPE_CHECKING:
    from alexnet_jax.training.step import Recipe

MOST_STEPS = 2**31 - 1  # steps are counted in 32 bits


def check_config(config: ConfigDict) -> None:
    """Raises UserError at the first field whose value is not allowed."""
    fields.check_fields(config)
    fields.check_together(config)
    net = network_of(config, number_of_classes(config))
    if config.schedule.kind == "listed":
        fields.check_rates(config.schedule.rates, [layer.name for layer in net.layers])
    fields.check_decayed(config.optimizer.decayed, [layer.name for layer in net.layers])


def check_batches(config: ConfigDict, slices: int) -> None:
    """Raises UserError if `slices` slices of the mesh cannot share a batch equally."""
    for field, size in (
        ("train.batch_size", config.train.batch_size),
        ("evaluate.batch_size", config.evaluate.batch_size),
    ):
        if size % slices:
            raise UserError(
                f"config.{field} is {size}, which {slices} slices (config.mesh.data) cannot share equally; "
                f"set --config.{field} to a multiple of {slices}"
            )


def number_of_classes(config: ConfigDict, in_data: int = 2) -> int:
    """The number of classes that the network tells apart: `model.classes`, or the data's if that is 0.

    Args:
      in_data: the number of classes in the data; leave it out where the number changes nothing.
    """
    return config.model.classes or in_data


def network_of(config: ConfigDict, classes: int) -> architecture.Architecture:
    """The config's network. Raises UserError if the towers cannot share it or the pictures are too small."""
    try:
        net = _network(config, classes)
        architecture.table(net)
    except ValueError as error:
        raise UserError(f"{error}; change config.model.kernels, config.model.units or config.data.crop") from error
    return net


def _network(config: ConfigDict, classes: int) -> architecture.Architecture:
    net = _alexnet(config, classes) if config.model.network == "alexnet" else _cifar_network(config, classes)
    return changes.starting_by_fan_in(net) if config.model.start == "fan_in" else net


def _alexnet(config: ConfigDict, classes: int) -> architecture.Architecture:
    model = config.model
    options = architecture.AlexNetOptions(
        kernels=model.kernels,
        units=model.units,
        classes=classes,
        input_size=config.data.crop,
        towers=model.towers,
        first_padding=model.first_padding,
        padding=model.padding,
        weight_stddev=model.weight_stddev,
        first_stddev=model.first_stddev,
        middle_stddev=model.middle_stddev or model.weight_stddev,
        dense_stddev=model.dense_stddev,
        hidden_bias=model.hidden_bias,
        activation=_activation(model),
        norm=_norm(model),
        within_map=(architecture.WithinMapNorm(),) if model.within_map_norm else (),
        pool=architecture.MaxPool(model.pool_window, model.pool_stride, model.pool_rounding, model.pool_ties),
        pool_before_activation=model.pool_before_activation,
        pool_before_norm=model.pool_before_norm,
        dropout=architecture.Dropout(model.dropout, rescales=model.dropout_scaling == "training"),
    )
    net = architecture.alexnet(options)
    if model.sixth_convolution:
        net = changes.with_sixth_convolution(net, model.sixth_convolution)
    if model.removed:
        net = changes.without_layer(net, model.removed)
    if model.bottleneck:
        net = changes.with_bottleneck(net, model.bottleneck)
    if not model.cross_connections:
        net = changes.without_cross_connections(net)
    return changes.with_dropout_of_inputs(net) if model.dropout_place == "inputs" else net


def _cifar_network(config: ConfigDict, classes: int) -> architecture.Architecture:
    model = config.model
    options = cifar_networks.CifarOptions(
        kernels=model.kernels,
        input_size=config.data.crop,
        classes=classes,
        weight_stddev=model.weight_stddev,
        first_stddev=model.first_stddev,
        local_stddev=model.middle_stddev or model.weight_stddev,
        hidden_bias=model.hidden_bias,
        activation=_activation(model),
        norm=_norm(model),
        ties=model.pool_ties,
    )
    is_local = model.network == "conv_local"
    return cifar_networks.conv_local(options) if is_local else cifar_networks.four_layers(options)


def _activation(model: ConfigDict) -> architecture.ReLU | architecture.Tanh:
    return architecture.ReLU() if model.activation == "relu" else architecture.Tanh()


def _norm(model: ConfigDict) -> tuple[architecture.LRN, ...]:
    if not model.lrn:
        return ()
    alpha = model.lrn_alpha / model.lrn_n if model.lrn_alpha_over_n else model.lrn_alpha
    return (architecture.LRN(model.lrn_n, model.lrn_k, alpha, model.lrn_beta, model.lrn_across_towers),)


def last_step_of(config: ConfigDict, steps_per_epoch: int) -> int:
    """The step at which a run ends, the number of its updates."""
    return config.train.steps or max(1, _bounded(config, round(config.train.epochs * steps_per_epoch)))


def _bounded(config: ConfigDict, steps: int) -> int:
    """The steps of the epochs, within train.least_steps and train.most_steps."""
    steps = max(steps, config.train.least_steps)
    return min(steps, config.train.most_steps) if config.train.most_steps else steps


def recipe_of(config: ConfigDict, classes: int, steps_per_epoch: int) -> "Recipe":
    """All that a step depends on, except arrays and devices; epochs become steps here.

    Raises:
      UserError: the run has more steps than 32 bits can count.
    """
    # JAX takes seconds to import, and --help does not need it.
    from alexnet_jax.training.optimizer import Schedule
    from alexnet_jax.training.step import Recipe

    if last_step_of(config, steps_per_epoch) > MOST_STEPS:
        raise UserError(
            f"{config.train.epochs:g} epochs of {steps_per_epoch} steps are more than {MOST_STEPS} steps; set "
            "--config.train.epochs lower"
        )
    planned = round(config.train.epochs * steps_per_epoch)
    stretch = _bounded(config, planned) / planned if planned else 1.0

    def step_of(epoch: float) -> int:
        return min(round(epoch * steps_per_epoch * stretch), MOST_STEPS)  # no run gets that far

    schedule = Schedule(
        kind=config.schedule.kind,
        learning_rate=config.optimizer.learning_rate,
        factor=config.schedule.factor,
        boundaries=tuple(step_of(epoch) for epoch in config.schedule.boundaries),
        drops=config.schedule.drops,
        patience=config.schedule.patience,
        rates=tuple((step_of(epoch), what, rate) for epoch, what, rate in config.schedule.rates),
    )
    return Recipe(
        architecture=network_of(config, classes),
        dtype=config.model.dtype,
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
        decay_biases=config.optimizer.decay_biases,
        decayed=config.optimizer.decayed,
        schedule=schedule,
        centre_mean=config.augment.mean == "centre",
        channel_scale=_channel_scale(config.data.stddev_rgb),
        keeps_short_batch=config.data.short_batch == "keep",
        seed=config.train.seed,
    )


def _channel_scale(stddev_rgb: Sequence[float]) -> tuple[float, float, float] | None:
    if not stddev_rgb:
        return None
    red, green, blue = (1 / stddev for stddev in stddev_rgb)
    return red, green, blue


def differences(
    config: ConfigDict, saved: dict[str, Any], compared: Sequence[str], names: tuple[str, str]
) -> list[str]:
    """Where a config and the saved config of a run differ, one part of a sentence for each field.

    Args:
      compared: the fields that are compared.
      names: what to call the config and the saved one, such as ("here", "there").
    """
    ours, theirs = flatten(json.loads(config_to_json(config))), flatten(saved)
    return [
        f"{field} is {ours.get(field, 'absent')!r} {names[0]} and {theirs.get(field, 'absent')!r} {names[1]}"
        for field in sorted(compared)
        if ours.get(field) != theirs.get(field)
    ]


def config_to_json(config: ConfigDict) -> str:
    """The config as text, for `config.json`."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def run_exists(workdir: Path) -> bool:
    """Whether the folder holds a run."""
    return (workdir / "config.json").is_file() or (workdir / "checkpoints").is_dir()


def load_saved(workdir: Path) -> dict[str, Any]:
    """The config of the run in the folder, as JSON has it, with the fields that came after the release that saved it.

    Raises:
      UserError: the folder holds no run, or its config cannot be read.
    """
    if not run_exists(workdir):
        raise UserError(f"--workdir={workdir} holds no run; train first, or name the folder of one")
    _require_plain(workdir)
    try:
        saved: dict[str, Any] = json.loads((workdir / "config.json").read_text())
        saved = with_later_fields(saved)
        check_config(config_of(saved))
    except UserError as error:
        raise not_whole(workdir, f"config.json: {error}") from error
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise not_whole(workdir, "config.json holds no config") from error
    except (OSError, ValueError) as error:
        raise not_whole(workdir, f"config.json: {getattr(error, 'strerror', None) or error}") from error
    return saved


def _require_plain(workdir: Path) -> None:
    """Raises UserError if the folder holds a pipe, a socket or a device: reading it might never end."""
    with suppress(OSError):  # reading config.json reports it
        for path in workdir.iterdir():
            if path.exists() and not path.is_file() and not path.is_dir():
                raise UserError(f"'{path}' is neither a file nor a folder; move it away")


def not_whole(workdir: Path, why: object) -> UserError:
    """The error for a run with a missing or damaged file."""
    return UserError(
        f"--workdir={workdir} is not a complete run ({why}); name another run, or train anew with --restart, which "
        "moves this run aside"
    )


def config_of(saved: dict[str, Any]) -> ConfigDict:
    """A saved config as a locked ConfigDict."""
    return ConfigDict(_with_tuples(saved)).lock()


def _with_tuples(saved: Any) -> Any:
    """The values with tuples for lists: JSON has no tuples, and a config has no lists."""
    if isinstance(saved, dict):
        return {name: _with_tuples(value) for name, value in saved.items()}
    return tuple(map(_with_tuples, saved)) if isinstance(saved, list) else saved
