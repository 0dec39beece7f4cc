"""What a `.caffemodel` says of its layers beside their weights: what decides the network that they are of.

A file need not say it. What it says must be what the network here would say of itself in Caffe's words.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alexnet_jax.weights import protobuf

V1_TYPES = {4: "Convolution", 14: "InnerProduct", 15: "LRN", 17: "Pooling", 23: "TanH", 26: "Power"}
Numbers = dict[str, float]


@dataclass(frozen=True)
class _Kind:
    """A type of layer: where its settings are, their numbers in there, and their values where they are left out."""

    field: int  # of LayerParameter
    field_v1: int  # of V1LayerParameter
    numbers: dict[int, str]
    defaults: Numbers


KINDS = {
    "Convolution": _Kind(
        106, 10, {**dict.fromkeys((3, 9, 10), "pad"), **dict.fromkeys((6, 13, 14), "stride")}, {"pad": 0, "stride": 1}
    ),
    "LRN": _Kind(
        118,
        18,
        {1: "local_size", 2: "alpha", 3: "beta", 4: "norm_region", 5: "k"},
        {"local_size": 5, "alpha": 1, "beta": 0.75, "norm_region": 0, "k": 1},
    ),
    "Pooling": _Kind(
        121,
        19,
        {
            1: "pool",
            **dict.fromkeys((2, 5, 6), "kernel_size"),
            **dict.fromkeys((3, 7, 8), "stride"),
            **dict.fromkeys((4, 9, 10), "pad"),
        },
        {"pool": 0, "kernel_size": 0, "stride": 1, "pad": 0},
    ),
    "Power": _Kind(122, 21, {1: "power", 2: "scale", 3: "shift"}, {"power": 1, "scale": 1, "shift": 0}),
}


@dataclass(frozen=True)
class Settings:
    """Of one layer."""

    name: str
    type: str
    numbers: Numbers  # those that are there; the others have Caffe's defaults


def parameters_of(is_v1: bool) -> set[int]:
    """The numbers of the fields that `settings` looks at."""
    return {kind.field_v1 if is_v1 else kind.field for kind in KINDS.values()}


def settings(name: str, of_type: str, parameters: Mapping[int, memoryview], is_v1: bool) -> Settings | None:
    """A layer's; None where it has none. Raises ValueError if they are not whole."""
    kind = KINDS.get(of_type)
    message = parameters.get(kind.field_v1 if is_v1 else kind.field) if kind else None
    if kind is None or message is None:
        return None
    found = {}
    for number, wire, value in protobuf.fields(message):
        if number in kind.numbers:
            if isinstance(value, memoryview) and wire == protobuf.FIXED32 and len(value) == 4:
                found[kind.numbers[number]] = float(struct.unpack("<f", value)[0])
            elif wire in (protobuf.VARINT, protobuf.LENGTH):
                for one in protobuf.integers(wire, value):  # of height and width, where there are two
                    found[kind.numbers[number]] = float(one)
    return Settings(name, of_type, found)


def difference(theirs: Sequence[Settings], ours: Sequence[Settings]) -> str | None:
    """The first difference, in words; None if there is none in what the file says at all.

    Args:
      theirs: the file's.
      ours: the network's own, all of them.
    """
    for types in (("Convolution",), ("LRN", "Pooling", "Power")):
        said = [one for one in theirs if one.type in types]
        wanted = [one for one in ours if one.type in types]
        counted = types[1:2] or types  # poolings, of which every network has some
        if _count(said, counted) != _count(wanted, counted):  # no whole list: a file may keep a few layers, or none
            continue
        for place in range(max(len(said), len(wanted))):
            if place >= len(said):
                return f"it has no layer like {_words(wanted[place])}"
            if place >= len(wanted):
                return f"it has a layer more, {_words(said[place])}"
            if not _same(said[place], wanted[place]):
                return f"its {_words(said[place])} is here {_words(wanted[place])}"
    return None


def _count(layers: Sequence[Settings], types: Sequence[str]) -> int:
    return sum(layer.type in types for layer in layers)


def _same(theirs: Settings, ours: Settings) -> bool:
    """What they say is what is here; a number that neither has to say is Caffe's."""
    if theirs.type != ours.type:
        return False
    here = {**KINDS[ours.type].defaults, **ours.numbers}
    return all(math.isclose(number, here[name], rel_tol=1e-5) for name, number in theirs.numbers.items())


def _words(layer: Settings) -> str:
    return f"{layer.name} ({layer.type} {', '.join(f'{name} {value:g}' for name, value in layer.numbers.items())})"
