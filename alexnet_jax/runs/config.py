"""Checks a config once, at the door, and turns it into what the network and the step take."""

import json
import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from alexnet_jax.messages import UserError
from alexnet_jax.network import architecture

if TYPE_CHECKING:
    from alexnet_jax.training import step

# What a run must keep to be gone on with, and what it must keep to be evaluated.
OF_TRAINING = ("model", "data", "augment", "optimizer", "schedule", "train.batch_size", "train.seed")
OF_THE_NETWORK = ("model", "data.resize", "data.crop")
REMOVABLE = ("conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
PLACES = ("data.data_dir", "data.manual_dir", "data.prepared_dir")  # where things lie, which may change


def flatten(config: Any) -> dict[str, Any]:
    """The fields by their dotted names."""
    fields = {}
    for name, value in config.items():
        if isinstance(value, (ConfigDict, dict)):
            fields.update({f"{name}.{key}": inner for key, inner in flatten(value).items()})
        else:
            fields[name] = value
    return fields


def check_config(config: ConfigDict) -> None:
    """Raises UserError, with a sentence, at the first field that cannot be."""

    def require(holds: bool, field: str, needs: str) -> None:
        if not holds:
            raise UserError(f"config.{field} is {flatten(config)[field]!r} and must be {needs}; set --config.{field}")

    fields = flatten(config)
    _require_same_fields(fields)
    for field in fields:
        require(_is_finite(fields[field]), field, "finite, and a whole number below 2^31")
    for field in ("model.kernels", "model.units", "model.padding"):
        require(all(type(x) is int for x in fields[field]), field, "whole numbers")
    bounds = list(config.schedule.boundaries)
    require(all(type(x) in (int, float) for x in bounds), "schedule.boundaries", "epochs, as numbers")
    for field in (
        *("model.lrn_n", "model.pool_window", "model.pool_stride", "data.resize", "data.crop", "data.shuffle_examples"),
        *("data.max_pixels", "augment.pictures_per_draw"),
        *("schedule.patience", "train.batch_size", "train.log_every", "evaluate.batch_size"),
    ):
        require(fields[field] >= 1, field, "at least 1")
    for field in (
        *("model.weight_stddev", "model.lrn_k", "model.lrn_alpha", "augment.lighting_stddev"),
        *("optimizer.weight_decay", "schedule.drops", "train.steps", "train.epochs", "train.seed"),
        *("train.checkpoint_every", "train.stall_steps", "mesh.data"),
        *("model.sixth_convolution", "model.bottleneck", "model.middle_stddev"),
    ):
        require(fields[field] >= 0, field, "0 or more")
    model, data = config.model, config.data
    require(model.network in ("alexnet", "four_layers"), "model.network", "alexnet or four_layers")
    require(model.towers in (1, 2), "model.towers", "1 or 2")
    if model.network == "alexnet":
        require(len(model.kernels) == 5 and min(model.kernels) >= 1, "model.kernels", "five numbers, of conv1 to conv5")
        require(len(model.units) == 2 and min(model.units) >= 1, "model.units", "two numbers, of fc6 and fc7")
    else:
        require(model.towers == 1, "model.towers", "1 for the network of four layers")
        require(len(model.kernels) == 3 and min(model.kernels) >= 1, "model.kernels", "three numbers")
    require(len(model.padding) == 4 and min(model.padding) >= 0, "model.padding", "four numbers, of conv2 to conv5")
    require(model.removed in ("", *REMOVABLE), "model.removed", f"empty or one of {', '.join(REMOVABLE)}")
    require(model.activation in ("relu", "tanh"), "model.activation", "relu or tanh")
    require(model.pool_rounding in ("down", "up"), "model.pool_rounding", "down or up")
    require(model.classes == 0 or model.classes >= 2, "model.classes", "0 (the dataset's number) or at least 2")
    require(0 <= model.dropout < 1, "model.dropout", "a probability from 0 to below 1")
    require(model.dtype in ("float32", "bfloat16"), "model.dtype", "float32 or bfloat16")
    require(data.crop <= data.resize, "data.crop", f"at most config.data.resize, {data.resize}")
    require(0 < data.validation_fraction < 1, "data.validation_fraction", "between 0 and 1")
    require(data.encoding in ("jpeg", "raw"), "data.encoding", "jpeg or raw")
    require(1 <= data.jpeg_quality <= 100, "data.jpeg_quality", "from 1 to 100")
    require(0 <= data.max_rejected <= 1, "data.max_rejected", "a share from 0 to 1")
    require(data.order in ("shuffled", "fixed"), "data.order", "shuffled or fixed")
    augment = config.augment
    require(augment.mean in ("cropped", "centre"), "augment.mean", "cropped or centre")
    require(augment.lighting in ("eigenvalue", "root"), "augment.lighting", "eigenvalue or root")
    require(augment.lighting_until >= 0, "augment.lighting_until", "0 or more")
    require(config.optimizer.learning_rate > 0, "optimizer.learning_rate", "above 0")
    require(0 <= config.optimizer.momentum < 1, "optimizer.momentum", "from 0 to below 1")
    kind = config.schedule.kind
    require(kind in ("constant", "steps", "plateau", "listed"), "schedule.kind", "constant, steps, plateau or listed")
    require(bounds == sorted(bounds), "schedule.boundaries", "epochs in rising order")
    require(0 < config.schedule.factor < 1, "schedule.factor", "between 0 and 1")
    require(config.mesh.model in (0, 1, 2), "mesh.model", "0 (chosen), 1 or 2: there are two towers at most")
    require(
        config.mesh.model <= model.towers,
        "mesh.model",
        f"at most {model.towers}, the towers of this network (config.model.towers)",
    )
    require(config.train.steps > 0 or config.train.epochs > 0, "train.epochs", "above 0 where train.steps is 0")
    require(config.evaluate.views in (1, 10), "evaluate.views", "1 (the centre) or 10 (corners, centre, reflections)")
    require(config.evaluate.checkpoint in ("best", "newest"), "evaluate.checkpoint", "best or newest")
    net = network_of(config, classes=model.classes or 2)
    if kind == "listed":
        check_rates(list(config.schedule.rates), [layer.name for layer in net.layers])


def check_rates(rates: list[tuple[float, str, float]], layers: list[str]) -> None:
    """Raises UserError unless the lines rise, name parameters that exist, and give each a rate at the start."""
    names = [f"{layer}/{kind}" for layer in layers for kind in ("kernel", "bias")]
    epochs = [epoch for epoch, _, _ in rates]
    problem = ""
    if epochs != sorted(epochs) or any(number < 0 for epoch, _, rate in rates for number in (epoch, rate)):
        problem = "has epochs that do not rise, or a negative number"
    for epoch, pattern, _ in rates:
        if not any(fnmatchcase(name, pattern) for name in names):
            problem = f"names '{pattern}' at epoch {epoch:g}, and no parameter is called so"
    for name in names:
        if not any(epoch == 0 and fnmatchcase(name, pattern) for epoch, pattern, _ in rates):
            problem = problem or f"gives {name} no rate at epoch 0"
    if problem:
        raise UserError(
            f"config.schedule.rates {problem}; its lines are (epoch, 'LAYER/kernel' or 'LAYER/bias' with * and ?, rate)"
        )


def _require_same_fields(fields: dict[str, Any]) -> None:
    """Raises UserError if a config of the user's own lacks a field, has one too many, or one of another type."""
    from configs import alexnet  # which defines them all

    known = flatten(alexnet.get_config())
    for field in sorted(fields.keys() ^ known.keys()):
        raise UserError(
            f"config.{field} is {'missing' if field in known else 'no field that is known'}; begin your config with "
            "configs.alexnet.get_config() and change what differs"
        )
    for field, value in fields.items():
        if type(value) is not type(known[field]) and (type(value), type(known[field])) != (int, float):
            kind = type(known[field]).__name__
            raise UserError(f"config.{field} is {value!r} and must be of type {kind}; set --config.{field}")


def _is_finite(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_finite(x) for x in value)
    if isinstance(value, int):
        return abs(value) < 2**31
    return not isinstance(value, float) or math.isfinite(value)


def check_batches(config: ConfigDict, slices: int) -> None:
    """Raises UserError if a batch cannot be divided over `slices` positions of `data`."""
    for field, size in (
        ("train.batch_size", config.train.batch_size),
        ("evaluate.batch_size", config.evaluate.batch_size),
    ):
        if size % slices:
            raise UserError(
                f"config.{field} is {size}, which {slices} slices (config.mesh.data) cannot share equally; "
                f"set --config.{field} to a multiple of {slices}"
            )


def network_of(config: ConfigDict, classes: int) -> architecture.Architecture:
    """The config's network. Raises UserError if the towers cannot share it or the pictures are too small."""
    try:
        net = _network(config, classes)
        architecture.table(net)
    except ValueError as error:
        raise UserError(f"{error}; change config.model.kernels, config.model.units or config.data.crop") from error
    return net


def _network(config: ConfigDict, classes: int) -> architecture.Architecture:
    model = config.model
    activation = architecture.ReLU() if model.activation == "relu" else architecture.Tanh()
    alpha = model.lrn_alpha / model.lrn_n if model.lrn_alpha_over_n else model.lrn_alpha
    norm = (architecture.LRN(model.lrn_n, model.lrn_k, alpha, model.lrn_beta),) if model.lrn else ()
    if model.network == "four_layers":
        return architecture.four_layers(
            kernels=tuple(model.kernels),
            classes=classes,
            input_size=config.data.crop,
            weight_stddev=model.weight_stddev,
            hidden_bias=model.hidden_bias,
            activation=activation,
            norm=norm,
        )
    net = architecture.alexnet(
        kernels=tuple(model.kernels),
        units=tuple(model.units),
        classes=classes,
        input_size=config.data.crop,
        towers=model.towers,
        padding=tuple(model.padding),
        weight_stddev=model.weight_stddev,
        middle_stddev=model.middle_stddev or model.weight_stddev,
        hidden_bias=model.hidden_bias,
        activation=activation,
        norm=norm,
        within_map=(architecture.WithinMapNorm(),) if model.within_map_norm else (),
        pool=architecture.MaxPool(model.pool_window, model.pool_stride, model.pool_rounding),
        pool_before_activation=model.pool_before_activation,
        dropout=architecture.Dropout(model.dropout),
    )
    if model.sixth_convolution:
        net = architecture.with_sixth_convolution(net, model.sixth_convolution)
    if model.removed:
        net = architecture.without_layer(net, model.removed)
    if model.bottleneck:
        net = architecture.with_bottleneck(net, model.bottleneck)
    return net if model.cross_connections else architecture.without_cross_connections(net)


def recipe_of(config: ConfigDict, classes: int, steps_per_epoch: int) -> "step.Recipe":
    """What a step depends on; epochs become steps here."""
    from alexnet_jax.training import optimizer, step  # JAX takes seconds to import, and --help needs none of it

    schedule = optimizer.Schedule(
        kind=config.schedule.kind,
        learning_rate=config.optimizer.learning_rate,
        factor=config.schedule.factor,
        boundaries=tuple(round(epoch * steps_per_epoch) for epoch in config.schedule.boundaries),
        drops=config.schedule.drops,
        patience=config.schedule.patience,
        rates=tuple((round(epoch * steps_per_epoch), what, rate) for epoch, what, rate in config.schedule.rates),
    )
    return step.Recipe(
        architecture=network_of(config, classes),
        dtype=config.model.dtype,
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
        decay_biases=config.optimizer.decay_biases,
        schedule=schedule,
        centre_mean=config.augment.mean == "centre",
        seed=config.train.seed,
    )


def differences(config: ConfigDict, saved: dict[str, Any], groups: Sequence[str], names: tuple[str, str]) -> list[str]:
    """Where the config and a run's saved one differ within the groups, one sentence part each."""
    ours = flatten(json.loads(config_to_json(config)))
    theirs = flatten(saved)
    return [
        f"{field} is {ours.get(field, 'absent')!r} {names[0]} and {theirs.get(field, 'absent')!r} {names[1]}"
        for field in sorted(ours.keys() | theirs.keys())
        if any(field == group or field.startswith(group + ".") for group in groups)
        and field not in PLACES
        and ours.get(field) != theirs.get(field)
    ]


def config_to_json(config: ConfigDict) -> str:
    """The config as text, for `config.json`."""
    return json.dumps(config.to_dict(), indent=2) + "\n"
