"""What a config may hold: every field in the order of configs/alexnet.py, its type, and which values it may have.

What a field means and its value in the paper are said there.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.messages import UserError

MOST_EPOCHS = 1_000_000  # beyond anybody's; steps are counted in 32 bits
MOST_DROPS = 1_000  # of the learning rate, which is 0 in float32 long before
MOST_MAPS = 255  # in the window of the response normalisation, which takes its time by them
MOST_WINDOW = 11  # positions of a pooling along an axis: a place in it is kept in 8 bits
REMOVABLE = ("conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
LINE_OF_RATES = "(epoch, 'LAYER/kernel' or 'LAYER/bias' with * and ?, rate)"


@dataclass(frozen=True)
class Rule:
    """Which values of the right type a field may have."""

    allows: Callable[[Any], bool]
    needs: str  # as in "must be ..."


@dataclass(frozen=True)
class Field:
    """One field of a config.

    Attributes:
      name: with dots.
      type: of its value; where it is `float`, an `int` will do.
      rule: which values; None: any that are finite.
    """

    name: str
    type: type
    rule: Rule | None = None


def _at_least(least: int) -> Rule:
    return Rule(lambda value: value >= least, f"{least} or more" if least == 0 else f"at least {least}")


def _one_of(*values: str | int, needs: str = "") -> Rule:
    listed = f"{', '.join(map(str, values[:-1]))} or {values[-1]}"
    return Rule(lambda value: value in values, needs or listed)


def _between(low: float, high: float) -> Rule:
    """Both ends excluded."""
    return Rule(lambda value: low < value < high, f"between {low} and {high}")


def _from_to(low: float, high: float, what: str = "") -> Rule:
    """Both ends included."""
    return Rule(lambda value: low <= value <= high, f"{what}from {low} to {high}")


def _from_to_below(low: float, high: float, what: str = "") -> Rule:
    """The upper end excluded."""
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
    f"an odd number up to {MOST_MAPS}: so many maps, the one in the middle included",
)
_RGB = Rule(_are_of_rgb, "three numbers, of red, green and blue, or ()")
_RGB_ABOVE_0 = Rule(
    lambda value: _are_of_rgb(value) and all(x > 0 for x in value),
    "three numbers above 0, of red, green and blue, or ()",
)
_CLASSES = Rule(lambda value: value == 0 or value >= 2, "0 (the dataset's number) or at least 2")

FIELDS = (
    Field("name", str),
    Field("model.network", str, _one_of("alexnet", "four_layers", "conv_local")),
    Field("model.towers", int, _one_of(1, 2)),
    Field("model.kernels", tuple, _WHOLE_NUMBERS),
    Field("model.sixth_convolution", int, _at_least(0)),
    Field("model.first_padding", tuple, _WHOLE_NUMBERS),
    Field("model.padding", tuple, _WHOLE_NUMBERS),
    Field("model.units", tuple, _WHOLE_NUMBERS),
    Field("model.bottleneck", int, _at_least(0)),
    Field("model.classes", int, _CLASSES),
    Field("model.removed", str, _one_of("", *REMOVABLE, needs=f"empty or one of {', '.join(REMOVABLE)}")),
    Field("model.cross_connections", bool),
    Field("model.activation", str, _one_of("relu", "tanh")),
    Field("model.weight_stddev", float, _at_least(0)),
    Field("model.first_stddev", float, _at_least(0)),
    Field("model.middle_stddev", float, _at_least(0)),
    Field("model.dense_stddev", float, _at_least(0)),
    Field("model.hidden_bias", float),
    Field("model.start", str, _one_of("constants", "fan_in")),
    Field("model.dropout", float, _from_to_below(0, 1, "a probability ")),
    Field("model.dropout_place", str, _one_of("outputs", "inputs")),
    Field("model.dropout_scaling", str, _one_of("test", "training")),
    Field("model.lrn", bool),
    Field("model.lrn_n", int, _ODD),
    Field("model.lrn_k", float, _at_least(0)),
    Field("model.lrn_alpha", float, _at_least(0)),
    Field("model.lrn_alpha_over_n", bool),
    Field("model.lrn_beta", float),
    Field("model.lrn_across_towers", bool),
    Field("model.within_map_norm", bool),
    Field("model.pool_before_activation", bool),
    Field("model.pool_before_norm", bool),
    Field("model.pool_window", int, _from_to(1, MOST_WINDOW)),
    Field("model.pool_stride", int, _at_least(1)),
    Field("model.pool_rounding", str, _one_of("down", "up")),
    Field("model.pool_ties", str, _one_of("first", "all")),
    Field("model.dtype", str, _one_of("float32", "bfloat16")),
    Field("data.name", str),
    Field("data.data_dir", str),
    Field("data.manual_dir", str),
    Field("data.prepared_dir", str),
    Field("data.shared", bool),
    Field("data.train_split", str),
    Field("data.validation_fraction", float, _between(0, 1)),
    Field("data.resize", int, _at_least(1)),
    Field("data.square", str, _one_of("crop", "crop_down", "squeeze")),
    Field("data.crop", int, _at_least(1)),
    Field("data.mean_rgb", tuple, _RGB),
    Field("data.stddev_rgb", tuple, _RGB_ABOVE_0),
    Field("data.encoding", str, _one_of("jpeg", "raw")),
    Field("data.jpeg_quality", int, _from_to(1, 100)),
    Field("data.max_pixels", int, _at_least(1)),
    Field("data.max_rejected", float, _from_to(0, 1, "a share ")),
    Field("data.accept_damaged", bool),
    Field("data.colour_profiles", str, _one_of("ignore", "srgb")),
    Field("data.max_missing", float, _from_to(0, 1, "a share ")),
    Field("data.order", str, _one_of("shuffled", "fixed")),
    Field("data.short_batch", str, _one_of("drop", "keep")),
    Field("data.shuffle_examples", int, _at_least(1)),
    Field("augment.crops", bool),
    Field("augment.offsets_inclusive", bool),
    Field("augment.reflections", bool),
    Field("augment.pictures_per_draw", int, _at_least(1)),
    Field("augment.mean", str, _one_of("cropped", "centre")),
    Field("augment.lighting", str, _one_of("eigenvalue", "root")),
    Field("augment.lighting_stddev", float, _at_least(0)),
    Field("augment.lighting_until", float, _from_to(0, MOST_EPOCHS)),
    Field("optimizer.learning_rate", float, Rule(lambda value: value > 0, "above 0")),
    Field("optimizer.momentum", float, _from_to_below(0, 1)),
    Field("optimizer.weight_decay", float, _at_least(0)),
    Field("optimizer.decay_biases", bool),
    Field("optimizer.decayed", str),
    Field("schedule.kind", str, _one_of("constant", "steps", "plateau", "listed")),
    Field("schedule.factor", float, _between(0, 1)),
    Field("schedule.boundaries", tuple, _EPOCHS),
    Field("schedule.drops", int, _from_to(0, MOST_DROPS)),
    Field("schedule.patience", int, _at_least(1)),
    Field("schedule.rates", tuple, _RATES),
    Field("mesh.data", int, _at_least(0)),
    Field("mesh.model", int, _one_of(0, 1, 2, needs="0 (chosen), 1 or 2: there are two towers at most")),
    Field("train.steps", int, _at_least(0)),
    Field("train.epochs", float, _from_to(0, MOST_EPOCHS)),
    Field("train.least_steps", int, _at_least(0)),
    Field("train.most_steps", int, _at_least(0)),
    Field("train.batch_size", int, _at_least(1)),
    Field("train.seed", int, _at_least(0)),
    Field("train.init_from", str),
    Field("train.init_except", str),
    Field("train.init_checkpoint", str, _one_of("best", "newest")),
    Field("train.init_after", str),
    Field("train.log_every", int, _at_least(1)),
    Field("train.checkpoint_every", int, _at_least(0)),
    Field("train.checkpoint_minutes", float, _at_least(0)),
    Field("train.on_nan", str, _one_of("stop", "rewind")),
    Field("train.rewinds", int, _at_least(0)),
    Field("train.stall_steps", int, _at_least(0)),
    Field("evaluate.split", str),
    Field("evaluate.least_steps", int, _at_least(0)),
    Field("evaluate.batch_size", int, _at_least(1)),
    Field("evaluate.views", int, _one_of(1, 10, needs="1 (the centre) or 10 (corners, centre, reflections)")),
    Field("evaluate.checkpoint", str, _one_of("best", "newest")),
)


def flatten(config: Any) -> dict[str, Any]:
    """The fields by their dotted names."""
    fields = {}
    for name, value in config.items():
        if isinstance(value, (ConfigDict, dict)) and value:  # an empty group is a field that nobody knows
            fields.update({f"{name}.{key}": inner for key, inner in flatten(value).items()})
        else:
            fields[name] = value
    return fields


def check_fields(config: ConfigDict) -> None:
    """Looks at each field by itself.

    Raises:
      UserError: a field is missing, not known, of another type, not finite, or not what its rule allows.
    """
    values, known = flatten(config), [field.name for field in FIELDS]
    unlike = sorted(values.keys() ^ set(known), key=str)
    if unlike:
        name = unlike[0]
        raise UserError(
            f"config.{name} is {'missing' if name in known else 'no field that is known'}; begin your config with "
            "configs.alexnet.get_config() and change what differs"
        )
    for field in FIELDS:
        value = values[field.name]
        is_of_type = type(value) is field.type or (type(value), field.type) == (int, float)
        _require(is_of_type, config, field.name, f"of type {field.type.__name__}")
        _require(_is_finite(value), config, field.name, "below 2^31" if field.type is int else "finite")
        if field.rule:
            _require(field.rule.allows(value), config, field.name, field.rule.needs)


def check_together(config: ConfigDict) -> None:
    """Looks at what one field asks of another, once each is right by itself. Raises UserError."""

    def require(holds: bool, name: str, needs: str) -> None:
        _require(holds, config, name, needs)

    model, data, train = config.model, config.data, config.train
    if model.network == "alexnet":
        require(_are(model.kernels, 5, least=1), "model.kernels", "five numbers, of conv1 to conv5")
        require(_are(model.units, 2, least=1), "model.units", "two numbers, of fc6 and fc7")
    else:
        count, needs = (3, "three numbers") if model.network == "four_layers" else (4, "four numbers")
        layers = "four" if model.network == "four_layers" else "locally connected"
        require(model.towers == 1, "model.towers", f"1 for the network of {layers} layers")
        require(_are(model.kernels, count, least=1), "model.kernels", needs)
    first = "two numbers, of pixels before and after the picture"
    require(_are(model.first_padding, 2, least=0), "model.first_padding", first)
    require(_are(model.padding, 4, least=0), "model.padding", "four numbers, of conv2 to conv5")
    stride = f"at most config.model.pool_window, {model.pool_window}, or pixels are left out"
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
        raise UserError(f"config.schedule.rates {problem}; its lines are {LINE_OF_RATES}")


def check_decayed(decayed: str, layers: list[str]) -> None:
    """Raises UserError unless each pattern names a layer."""
    for pattern in decayed.split(","):
        if not any(fnmatchcase(layer, pattern.strip()) for layer in layers):
            raise UserError(
                f"config.optimizer.decayed names '{pattern.strip()}', and no layer is called so; the layers are "
                f"{', '.join(layers)}, and * is all of them"
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
