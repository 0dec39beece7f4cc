"""The table of a config's fields, in the order of configs/alexnet.py, which has their meanings and the paper's values.

A field's row is the one place that says its type, its values, who has to keep it, and what came before it.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from fnmatch import fnmatchcase
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.messages import UserError

MOST_EPOCHS = 1_000_000  # more than anybody trains: steps are counted in 32 bits
MOST_DROPS = 1_000  # drops of the learning rate, which is 0 in float32 long before
MOST_MAPS = 255  # in the window of response normalisation, whose time grows with them
MOST_WINDOW = 11  # positions of a pooling along an axis: a place in the window is kept in 8 bits
REMOVABLE = ("conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
LINE_OF_RATES = "(epoch, 'LAYER/kernel' or 'LAYER/bias' with * and ?, rate)"


@dataclass(frozen=True)
class Rule:
    """Which values of the right type a field may have."""

    allows: Callable[[Any], bool]
    needs: str  # follows "must be" in the error


class Role(Enum):
    """What a field decides, and so who has to keep it."""

    NETWORK = auto()  # what the network computes
    PICTURES = auto()  # what the network is shown of a picture
    LEARNING = auto()  # how the network learns
    EPOCHS = auto()  # how long it learns, and with bounds on the steps when the learning rate drops
    START = auto()  # which layers a new run starts from
    MEASURING = auto()  # how validation measures errors: measured otherwise, they could not be compared
    PREPARING = auto()  # whether pictures may be prepared, not what they become
    PATH = auto()  # where files lie
    ANY_TIME = auto()  # nothing of the kind: it may change whenever a run is resumed


@dataclass(frozen=True)
class Field:
    """One field of a config: a row of the table below, with all that the program has to know about the field.

    Attributes:
      name: with dots.
      type: type of its value; an `int` also passes for a `float`.
      rule: which values are allowed; None: any finite value.
      role: what it decides.
      geometry: whether it changes what a network computes and no shape of its weights, so that layers from another
        run load without an error.
      before: the value that the program had before this field was there, for runs that an earlier release saved;
        None: the field is as old as 1.0.0.
    """

    name: str
    type: type
    rule: Rule | None = None
    role: Role = Role.ANY_TIME
    geometry: bool = False
    before: Any = None


def _at_least(least: int) -> Rule:
    return Rule(lambda value: value >= least, f"{least} or more" if least == 0 else f"at least {least}")


def _one_of(*values: str | int, needs: str = "") -> Rule:
    listed = f"{', '.join(map(str, values[:-1]))} or {values[-1]}"
    return Rule(lambda value: value in values, needs or listed)


def _between(low: float, high: float) -> Rule:
    """Both ends are excluded."""
    return Rule(lambda value: low < value < high, f"between {low} and {high}")


def _from_to(low: float, high: float, what: str = "") -> Rule:
    """Both ends are included."""
    return Rule(lambda value: low <= value <= high, f"{what}from {low} to {high}")


def _from_to_below(low: float, high: float, what: str = "") -> Rule:
    """The upper end is excluded."""
    return Rule(lambda value: low <= value < high, f"{what}from {low} to below {high}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _are_of_rgb(value: Any) -> bool:
    return len(value) in (0, 3) and all(map(_is_number, value))


def _is_line_of_rates(line: Any) -> bool:
    if not isinstance(line, (tuple, list)) or len(line) != 3:
        return False
    epoch, pattern, rate = line
    return _is_number(epoch) and epoch <= MOST_EPOCHS and isinstance(pattern, str) and _is_number(rate)


_WHOLE_NUMBERS = Rule(lambda value: all(type(x) is int for x in value), "whole numbers")
_EPOCHS = Rule(
    lambda value: all(_is_number(x) and abs(x) <= MOST_EPOCHS for x in value),
    f"epochs, as numbers, {MOST_EPOCHS} at most",
)
_RATES = Rule(
    lambda value: all(map(_is_line_of_rates, value)), f"lines {LINE_OF_RATES}, with epochs of {MOST_EPOCHS} at most"
)
_ODD = Rule(
    lambda value: value % 2 == 1 and value <= MOST_MAPS,
    f"an odd number up to {MOST_MAPS}: the number of maps, with the map in the middle",
)
_RGB = Rule(_are_of_rgb, "three numbers, for red, green and blue, or ()")
_RGB_ABOVE_0 = Rule(
    lambda value: _are_of_rgb(value) and all(x > 0 for x in value),
    "three numbers above 0, for red, green and blue, or ()",
)
_CLASSES = Rule(lambda value: value == 0 or value >= 2, "0 (the dataset's number) or at least 2")
_REMOVED = _one_of("", *REMOVABLE, needs=f"empty or one of {', '.join(REMOVABLE)}")
_VIEWS = _one_of(1, 10, needs="1 (the centre) or 10 (corners, centre, reflections)")

FIELDS = (
    Field("name", str),
    Field("model.network", str, _one_of("alexnet", "four_layers", "conv_local"), role=Role.NETWORK),
    Field("model.towers", int, _one_of(1, 2), role=Role.NETWORK),
    Field("model.kernels", tuple, _WHOLE_NUMBERS, role=Role.NETWORK),
    Field("model.sixth_convolution", int, _at_least(0), role=Role.NETWORK),
    Field("model.first_padding", tuple, _WHOLE_NUMBERS, role=Role.NETWORK, geometry=True),
    Field("model.padding", tuple, _WHOLE_NUMBERS, role=Role.NETWORK, geometry=True),
    Field("model.units", tuple, _WHOLE_NUMBERS, role=Role.NETWORK),
    Field("model.bottleneck", int, _at_least(0), role=Role.NETWORK),
    Field("model.classes", int, _CLASSES, role=Role.NETWORK),
    Field("model.removed", str, _REMOVED, role=Role.NETWORK),
    Field("model.cross_connections", bool, role=Role.NETWORK),
    Field("model.activation", str, _one_of("relu", "tanh"), role=Role.NETWORK, geometry=True),
    Field("model.weight_stddev", float, _at_least(0), role=Role.NETWORK),
    Field("model.first_stddev", float, _at_least(0), role=Role.NETWORK),
    Field("model.middle_stddev", float, _at_least(0), role=Role.NETWORK),
    Field("model.dense_stddev", float, _at_least(0), role=Role.NETWORK),
    Field("model.hidden_bias", float, role=Role.NETWORK),
    Field("model.start", str, _one_of("constants", "fan_in"), role=Role.NETWORK),
    Field("model.dropout", float, _from_to_below(0, 1, "a probability "), role=Role.NETWORK),
    Field("model.dropout_place", str, _one_of("outputs", "inputs"), role=Role.NETWORK, geometry=True),
    Field("model.dropout_scaling", str, _one_of("test", "training"), role=Role.NETWORK, geometry=True),
    Field("model.lrn", bool, role=Role.NETWORK, geometry=True),
    Field("model.lrn_n", int, _ODD, role=Role.NETWORK, geometry=True),
    Field("model.lrn_k", float, _at_least(0), role=Role.NETWORK, geometry=True),
    Field("model.lrn_alpha", float, _at_least(0), role=Role.NETWORK, geometry=True),
    Field("model.lrn_alpha_over_n", bool, role=Role.NETWORK, geometry=True),
    Field("model.lrn_beta", float, role=Role.NETWORK, geometry=True),
    Field("model.lrn_across_towers", bool, role=Role.NETWORK, geometry=True),
    Field("model.within_map_norm", bool, role=Role.NETWORK, geometry=True),
    Field("model.pool_before_activation", bool, role=Role.NETWORK, geometry=True),
    Field("model.pool_before_norm", bool, role=Role.NETWORK, geometry=True),
    Field("model.pool_window", int, _from_to(1, MOST_WINDOW), role=Role.NETWORK, geometry=True),
    Field("model.pool_stride", int, _at_least(1), role=Role.NETWORK, geometry=True),
    Field("model.pool_rounding", str, _one_of("down", "up"), role=Role.NETWORK, geometry=True),
    Field("model.pool_ties", str, _one_of("first", "all"), role=Role.NETWORK),
    Field("model.dtype", str, _one_of("float32", "bfloat16"), role=Role.NETWORK),
    Field("data.name", str, role=Role.LEARNING),
    Field("data.data_dir", str, role=Role.PATH),
    Field("data.manual_dir", str, role=Role.PATH),
    Field("data.prepared_dir", str, role=Role.PATH),
    Field("data.shared", bool, role=Role.PREPARING),
    Field("data.train_split", str, role=Role.LEARNING),
    Field("data.validation_fraction", float, _between(0, 1), role=Role.LEARNING),
    Field("data.resize", int, _at_least(1), role=Role.PICTURES),
    Field("data.square", str, _one_of("crop", "crop_down", "squeeze"), role=Role.PICTURES, geometry=True),
    Field("data.crop", int, _at_least(1), role=Role.PICTURES),
    Field("data.mean_rgb", tuple, _RGB, role=Role.PICTURES, geometry=True),
    Field("data.stddev_rgb", tuple, _RGB_ABOVE_0, role=Role.PICTURES, geometry=True),
    Field("data.encoding", str, _one_of("jpeg", "raw"), role=Role.LEARNING),
    Field("data.jpeg_quality", int, _from_to(1, 100), role=Role.LEARNING),
    Field("data.max_pixels", int, _at_least(1), role=Role.LEARNING),
    Field("data.max_rejected", float, _from_to(0, 1, "a share "), role=Role.PREPARING),
    Field("data.accept_damaged", bool, role=Role.LEARNING),
    Field("data.colour_profiles", str, _one_of("ignore", "srgb"), role=Role.LEARNING),
    Field("data.max_missing", float, _from_to(0, 1, "a share "), role=Role.PREPARING),
    Field("data.order", str, _one_of("shuffled", "fixed"), role=Role.LEARNING),
    Field("data.short_batch", str, _one_of("drop", "keep"), role=Role.LEARNING),
    Field("data.shuffle_examples", int, _at_least(1), role=Role.LEARNING),
    Field("augment.crops", bool, role=Role.LEARNING),
    Field("augment.offsets_inclusive", bool, role=Role.LEARNING),
    Field("augment.reflections", bool, role=Role.LEARNING),
    Field("augment.pictures_per_draw", int, _at_least(1), role=Role.LEARNING),
    Field("augment.mean", str, _one_of("cropped", "centre"), role=Role.LEARNING),
    Field("augment.lighting", str, _one_of("eigenvalue", "root"), role=Role.LEARNING),
    Field("augment.lighting_stddev", float, _at_least(0), role=Role.LEARNING),
    Field("augment.lighting_until", float, _from_to(0, MOST_EPOCHS), role=Role.LEARNING),
    Field("optimizer.learning_rate", float, Rule(lambda value: value > 0, "above 0"), role=Role.LEARNING),
    Field("optimizer.momentum", float, _from_to_below(0, 1), role=Role.LEARNING),
    Field("optimizer.weight_decay", float, _at_least(0), role=Role.LEARNING),
    Field("optimizer.decay_biases", bool, role=Role.LEARNING),
    Field("optimizer.decayed", str, role=Role.LEARNING),
    Field("schedule.kind", str, _one_of("constant", "steps", "plateau", "listed"), role=Role.LEARNING),
    Field("schedule.factor", float, _between(0, 1), role=Role.LEARNING),
    Field("schedule.boundaries", tuple, _EPOCHS, role=Role.LEARNING),
    Field("schedule.drops", int, _from_to(0, MOST_DROPS), role=Role.LEARNING),
    Field("schedule.patience", int, _at_least(1), role=Role.LEARNING),
    Field("schedule.rates", tuple, _RATES, role=Role.LEARNING),
    Field("mesh.data", int, _at_least(0)),
    Field("mesh.model", int, _one_of(0, 1, 2, needs="0 (automatic), 1 or 2: a network has at most two towers")),
    Field("train.steps", int, _at_least(0)),
    Field("train.epochs", float, _from_to(0, MOST_EPOCHS), role=Role.EPOCHS),
    Field("train.least_steps", int, _at_least(0), role=Role.LEARNING),
    Field("train.most_steps", int, _at_least(0), role=Role.LEARNING),
    Field("train.batch_size", int, _at_least(1), role=Role.LEARNING),
    Field("train.seed", int, _at_least(0), role=Role.LEARNING),
    Field("train.init_from", str, role=Role.START),
    Field("train.init_except", str, role=Role.START),
    Field("train.init_checkpoint", str, _one_of("best", "newest"), role=Role.START),
    Field("train.init_after", str),
    Field("train.log_every", int, _at_least(1)),
    Field("train.checkpoint_every", int, _at_least(0)),
    Field("train.checkpoint_minutes", float, _at_least(0)),
    Field("train.on_nan", str, _one_of("stop", "rewind")),
    Field("train.rewinds", int, _at_least(0)),
    Field("train.stall_steps", int, _at_least(0)),
    Field("evaluate.split", str, role=Role.MEASURING),
    Field("evaluate.least_steps", int, _at_least(0), role=Role.MEASURING),
    Field("evaluate.batch_size", int, _at_least(1)),
    Field("evaluate.views", int, _VIEWS, role=Role.MEASURING),
    Field("evaluate.checkpoint", str, _one_of("best", "newest")),
)


def _names(*roles: Role) -> tuple[str, ...]:
    return tuple(field.name for field in FIELDS if field.role in roles)


# What an evaluation, an export or an ensemble needs as it was in training.
NETWORK_FIELDS = _names(Role.NETWORK, Role.PICTURES)
PICTURE_FIELDS = _names(Role.PICTURES)
GEOMETRY_FIELDS = tuple(field.name for field in FIELDS if field.geometry)
# What a run keeps when it is resumed; START_FIELDS as well, until it has a checkpoint.
FIELDS_FIXED_WHILE_TRAINING = _names(Role.NETWORK, Role.PICTURES, Role.LEARNING, Role.MEASURING)
START_FIELDS = _names(Role.START)
# Equal values give equal trajectories; train.steps only cuts them short.
TRAJECTORY_FIELDS = _names(Role.NETWORK, Role.PICTURES, Role.LEARNING, Role.EPOCHS, Role.START)
PATH_FIELDS = _names(Role.PATH)
FIELDS_REPORTED_ON_RESUMING = _names(*(role for role in Role if role not in (Role.PATH, Role.PREPARING)))


def with_later_fields(saved: dict[str, Any]) -> dict[str, Any]:
    """A config.json, completed with the fields that came after the release that saved it."""
    complete = {name: dict(group) if isinstance(group, dict) else group for name, group in saved.items()}
    for field in FIELDS:
        if field.before is not None:
            group, name = field.name.split(".")
            complete.setdefault(group, {}).setdefault(name, json.loads(json.dumps(field.before)))  # a list for a tuple
    return complete


def flatten(config: Any) -> dict[str, Any]:
    """Every value by the dotted name of its field."""
    fields = {}
    for name, value in config.items():
        if isinstance(value, (ConfigDict, dict)) and value:  # an empty group counts as an unknown field
            fields.update({f"{name}.{key}": inner for key, inner in flatten(value).items()})
        else:
            fields[name] = value
    return fields


def require_all_fields(config: ConfigDict) -> None:
    """Raises UserError if a field is missing or unknown, whatever the values are."""
    found, known = flatten(config), [field.name for field in FIELDS]
    unlike = sorted(found.keys() ^ set(known), key=str)
    if unlike:
        name = unlike[0]
        raise UserError(
            f"config.{name} is {'missing' if name in known else 'not a known field'}; begin your config with "
            "configs.alexnet.get_config() and change what differs"
        )


def check_fields(config: ConfigDict) -> None:
    """Checks each field by itself.

    Raises:
      UserError: a field is missing, unknown, of another type, not finite, or against its rule.
    """
    require_all_fields(config)
    values = flatten(config)
    for field in FIELDS:
        value = values[field.name]
        is_of_type = type(value) is field.type or (type(value), field.type) == (int, float)
        _require(is_of_type, config, field.name, f"of type {field.type.__name__}")
        _require(_is_finite(value), config, field.name, "below 2^31" if field.type is int else "finite")
        if field.rule:
            _require(field.rule.allows(value), config, field.name, field.rule.needs)


def check_together(config: ConfigDict) -> None:
    """Checks fields against each other, once each is right by itself. Raises UserError."""

    def require(holds: bool, name: str, needs: str) -> None:
        _require(holds, config, name, needs)

    model, data, train = config.model, config.data, config.train
    if model.network == "alexnet":
        require(_are(model.kernels, 5, least=1), "model.kernels", "five numbers, for conv1 to conv5")
        require(_are(model.units, 2, least=1), "model.units", "two numbers, for fc6 and fc7")
    else:
        count, needs = (3, "three numbers") if model.network == "four_layers" else (4, "four numbers")
        layers = "four" if model.network == "four_layers" else "locally connected"
        require(model.towers == 1, "model.towers", f"1 for the network of {layers} layers")
        require(_are(model.kernels, count, least=1), "model.kernels", needs)
    first = "two numbers, the pixels before and after the picture"
    require(_are(model.first_padding, 2, least=0), "model.first_padding", first)
    require(_are(model.padding, 4, least=0), "model.padding", "four numbers, for conv2 to conv5")
    stride = f"at most config.model.pool_window, {model.pool_window}, or pooling would skip pixels"
    require(model.pool_stride <= model.pool_window, "model.pool_stride", stride)
    require(data.crop <= data.resize, "data.crop", f"at most config.data.resize, {data.resize}")
    bounds = list(config.schedule.boundaries)
    require(bounds == sorted(bounds), "schedule.boundaries", "epochs in rising order")
    towers = f"at most {model.towers}, the towers of this network (config.model.towers)"
    require(config.mesh.model <= model.towers, "mesh.model", towers)
    require(train.steps > 0 or train.epochs > 0, "train.epochs", "above 0 where train.steps is 0")
    most = f"0 or at least config.train.least_steps, {train.least_steps}"
    require(not train.most_steps or train.most_steps >= train.least_steps, "train.most_steps", most)


def check_rates(rates: tuple[tuple[float, str, float], ...], layers: list[str]) -> None:
    """Raises UserError unless the epochs rise, every pattern names a parameter, and each has a rate at epoch 0."""
    names = [f"{layer}/{kind}" for layer in layers for kind in ("kernel", "bias")]
    epochs = [epoch for epoch, _, _ in rates]
    problem = ""
    if epochs != sorted(epochs) or any(number < 0 for epoch, _, rate in rates for number in (epoch, rate)):
        problem = "has epochs that do not rise, or a negative number"
    for epoch, pattern, _ in rates:
        if not any(fnmatchcase(name, pattern) for name in names):
            problem = f"names '{pattern}' at epoch {epoch:g}, but no parameter has that name"
    for name in names:
        if not any(epoch == 0 and fnmatchcase(name, pattern) for epoch, pattern, _ in rates):
            problem = problem or f"gives {name} no rate at epoch 0"
    if problem:
        raise UserError(f"config.schedule.rates {problem}; its lines are {LINE_OF_RATES}")


def check_decayed(decayed: str, layers: list[str]) -> None:
    """Raises UserError unless each pattern names a layer."""
    for pattern in decayed.split(","):
        if not any(fnmatchcase(layer, pattern.strip()) for layer in layers):
            raise UserError(
                f"config.optimizer.decayed names '{pattern.strip()}', but no layer has that name; the layers are "
                f"{', '.join(layers)}, and * means all of them"
            )


def _require(holds: bool, config: ConfigDict, name: str, needs: str) -> None:
    if not holds:
        raise UserError(f"config.{name} is {flatten(config)[name]!r} and must be {needs}; set --config.{name}")


def _are(numbers: tuple[int, ...], count: int, least: int) -> bool:
    return len(numbers) == count and min(numbers) >= least


def _is_finite(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(_is_finite(x) for x in value)
    if isinstance(value, int):
        return abs(value) < 2**31
    return not isinstance(value, float) or math.isfinite(value)
