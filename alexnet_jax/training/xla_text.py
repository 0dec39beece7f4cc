"""Reads the collectives of a compiled program from XLA's text."""

import math
import re
from collections import defaultdict

import numpy as np

from alexnet_jax.training.collectives import Collective

OPS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute", "collective-broadcast")
Groups = tuple[tuple[int, ...], ...]  # of devices that exchange something side by side


def collectives_in(text: str) -> list[Collective]:
    """The collectives of a compiled program that more than one device takes part in, in the program's order.

    XLA merges reductions over the same devices into one that has a tuple as its result, and joins the names in the
    tuple's order; here each layer's share is listed by itself. What XLA merges for a GPU, over `data` at the end of the
    backward pass, is one array without a name: `merged`.
    """
    found = []
    for line in text.splitlines():
        # %name = TYPE op(operands), channel_id=…, replica_groups=…, metadata={op_name="…"}
        match = re.search(rf"= (.*?) ({'|'.join(OPS)})(-start)?\(", line)
        groups = groups_of(line) if match else ()
        if not match or len(groups[0]) == 1:
            continue
        op, arrays = match[2], array_bytes(match[1])
        if match[3] and op != "all-reduce":  # the others' start has the type (operands, results, ...)
            arrays = arrays[1:2] if op == "collective-permute" else arrays[len(arrays) // 2 :]
        name = re.search(r'op_name="([^"]*)"', line)
        names = name[1].split(":") if name else [""]
        # The result of these two ops is one device's share.
        scale = len(groups[0]) if op in ("reduce-scatter", "collective-permute") else 1
        sizes: dict[tuple[str, str], int] = defaultdict(int)
        for place, size in enumerate(arrays):
            sizes[_layer_and_pass(names[place] if len(names) == len(arrays) else names[0], op)] += size * scale
        found += [Collective(op, layer, direction, size, groups) for (layer, direction), size in sizes.items()]
    return found


def groups_of(line: str) -> Groups:
    """The groups of devices in the line of a collective, in any of XLA's three dialects; one pair if it has none."""
    return listed_groups(line) or iota_groups(line) or mesh_groups(line) or ((0, 1),)


def listed_groups(line: str) -> Groups | None:
    """Groups that are listed: replica_groups={{0,1},{2,3}}; None in another dialect.

    Of a permute's source_target_pairs={{0,1},{1,0}} the devices that send to each other are a group.
    """
    match = re.search(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]*\})\}", line)
    if match is None:
        return None
    groups = [sorted(_numbers(group)) for group in re.findall(r"\{([\d,]+)\}", match[1])]
    return tuple(dict.fromkeys(map(tuple, groups)))


def iota_groups(line: str) -> Groups | None:
    """Groups from counting: replica_groups=[GROUPS,SIZE]<=[SHAPE]T(ORDER); None in another dialect.

    All numbers in an array of that shape, its axes in that order, cut into groups.
    """
    match = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", line)
    if match is None:
        return None
    shape, sides = _numbers(match[1]), _numbers(match[2])
    order = _numbers(match[3]) if match[3] else range(len(sides))
    return _rows(np.arange(math.prod(sides)).reshape(sides).transpose(order).reshape(shape))


def mesh_groups(line: str) -> Groups | None:
    """Groups along the named axes of a mesh: replica_groups=mesh['data'=4,'model'=2] {'data'}; None in another dialect.

    All numbers in an array of the mesh's shape. XLA writes this from jax 0.12 on.
    """
    match = re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line)
    if match is None:
        return None
    axes = {name: int(side) for name, side in re.findall(r"'(\w+)'=(\d+)", match[1])}
    inside = [place for place, name in enumerate(axes) if f"'{name}'" in match[2]]
    across = [place for place in range(len(axes)) if place not in inside]
    sides = list(axes.values())
    grid = np.arange(math.prod(sides)).reshape(sides).transpose(across + inside)
    return _rows(grid.reshape(-1, math.prod(sides[place] for place in inside)))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _rows(grid: np.ndarray) -> Groups:
    return tuple(map(tuple, grid.tolist()))


def array_bytes(text: str) -> list[int]:
    """The bytes of each array in XLA's text of a type, such as `bf16[2,5]{1,0}` or `(pred[3]{0}, s32[])`."""
    arrays = re.findall(r"\b(pred|[a-z]+\d+)\[([\d,]*)\]", text)
    bits = [8 if dtype == "pred" else int("".join(c for c in dtype if c.isdigit())) for dtype, _ in arrays]
    sides = [[int(side) for side in found.split(",") if side] for _, found in arrays]
    return [each // 8 * math.prod(lengths) for each, lengths in zip(bits, sides, strict=True)]


def _layer_and_pass(name: str, op: str) -> tuple[str, str]:
    """The layer, or softmax, rank, gradients or merged; and forward or backward."""
    if not name:
        return "merged", "backward"
    direction = "backward" if "transpose(" in name else "forward"
    if op == "all-reduce" and direction == "backward":
        return "gradients", direction
    layer = re.search(r"\b(conv\d|fc\d|bottleneck|softmax|rank)\b", name)
    return layer[1] if layer else name, direction
