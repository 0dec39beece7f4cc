"""Settings of layers in a `.caffemodel`, beside their weights, and how they differ from a network's.

A file may leave settings out, as published ones without their definitions do. Those that it has must agree.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Numbers = dict[str, float]


@dataclass(frozen=True)
class Kind:
    """A type of layer."""

    parameter: str  # the field that holds its settings
    defaults: Numbers  # Caffe's values for the settings that decide what is computed


KINDS = {
    "Convolution": Kind("convolution_param", {"pad": 0, "stride": 1}),
    "LRN": Kind("lrn_param", {"local_size": 5, "alpha": 1, "beta": 0.75, "norm_region": 0, "k": 1}),
    "Pooling": Kind("pooling_param", {"pool": 0, "kernel_size": 0, "stride": 1, "pad": 0}),
    "Power": Kind("power_param", {"power": 1, "scale": 1, "shift": 0}),
}
BOTH_AXES = {"kernel_h": "kernel_size", "kernel_w": "kernel_size"} | {
    f"{name}_{axis}": name for name in ("pad", "stride") for axis in "hw"
}  # here a setting is the same on both axes; a file may give it for each


@dataclass(frozen=True)
class Settings:
    """The settings of a layer."""

    name: str
    type: str
    numbers: Numbers  # those that are given; the others have Caffe's defaults


def settings(name: str, type_: str, parameter: Mapping[str, float]) -> Settings:
    """The settings of a layer of one of KINDS.

    Args:
      parameter: its message, by the names of the fields.
    """
    named = ((BOTH_AXES.get(field, field), float(value)) for field, value in parameter.items())
    return Settings(name, type_, {field: value for field, value in named if field in KINDS[type_].defaults})


def difference(theirs: Sequence[Settings], ours: Sequence[Settings]) -> str | None:
    """The first difference as a sentence's end; None if all that the file gives agrees.

    Args:
      theirs: the file's.
      ours: the network's own, complete.
    """
    for types in (("Convolution",), ("LRN", "Pooling", "Power")):
        given = [layer for layer in theirs if layer.type in types]
        expected = [layer for layer in ours if layer.type in types]
        counted = types[1:2] or types  # for the second group the poolings, which every network has
        if _count(given, counted) != _count(expected, counted):  # an incomplete list: a file may keep few or none
            continue
        for place in range(max(len(given), len(expected))):
            if place >= len(given):
                return f"it has no layer like {_words(expected[place])}"
            if place >= len(expected):
                return f"it has an additional layer, {_words(given[place])}"
            if not _agree(given[place], expected[place]):
                return f"its {_words(given[place])} is here {_words(expected[place])}"
    return None


def _count(layers: Sequence[Settings], types: Sequence[str]) -> int:
    return sum(layer.type in types for layer in layers)


def _agree(theirs: Settings, ours: Settings) -> bool:
    if theirs.type != ours.type:
        return False
    here = {**KINDS[ours.type].defaults, **ours.numbers}
    return all(math.isclose(number, here[name], rel_tol=1e-5) for name, number in theirs.numbers.items())


def _words(layer: Settings) -> str:
    return f"{layer.name} ({layer.type} {', '.join(f'{name} {value:g}' for name, value in layer.numbers.items())})"
