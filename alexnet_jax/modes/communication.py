"""What crosses between the devices in one training step: read from the compiled program, and predicted."""

import math
import re
from collections import defaultdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax.config.config import check_batches, recipe_of
from alexnet_jax.devices import towers
from alexnet_jax.messages import UserError, say
from alexnet_jax.modes import Invocation, describe
from alexnet_jax.training.collectives import Collective, predict
from alexnet_jax.training.step import Recipe, abstract_batch, abstract_state, compiled_steps

OPS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute", "collective-broadcast")


def lowered_step(recipe: Recipe, mesh: Mesh, batch_size: int, mean_size: int) -> Any:
    """One training step on the mesh as XLA is given it, a `jax.stages.Lowered`; nothing is computed."""
    by_example = towers.shardings(towers.batch_spec(mesh), mesh)
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=by_example), abstract_batch(recipe, batch_size)
    )
    mean_image = jax.ShapeDtypeStruct((mean_size, mean_size, 3), jnp.float32)
    train_step, _ = compiled_steps(recipe, mesh)
    return train_step.lower(abstract_state(recipe, mesh), batch, mean_image)


def count(text: str) -> list[Collective]:
    """The collectives of a compiled program over more than one device, in its order.

    XLA merges reductions over the same devices into one of a tuple, and then joins the names of
    what it merged, in the tuple's order. Each layer's share is listed by itself. What it merges for
    a GPU, over `data` at the end of the backward pass, lies end to end in one array without a name: `merged`.
    """
    found = []
    for line in text.splitlines():
        # %name = TYPE op(operands), channel_id=…, replica_groups=…, metadata={op_name="…"}
        match = re.search(rf"= (.*?) ({'|'.join(OPS)})(-start)?\(", line)
        if not match or _group_size(line) == 1:
            continue
        arrays = array_bytes(match[1])
        if match[3] and match[2] != "all-reduce":  # what starts one of the others has the type (operands, results, ...)
            arrays = arrays[1:2] if match[2] == "collective-permute" else arrays[len(arrays) // 2 :]
        name = re.search(r'op_name="([^"]*)"', line)
        names = name[1].split(":") if name else [""]
        # The result of these is one device's share.
        scale = _group_size(line) if match[2] in ("reduce-scatter", "collective-permute") else 1
        sizes: dict[tuple[str, str], int] = defaultdict(int)
        for place, size in enumerate(arrays):
            origin = names[place] if len(names) == len(arrays) else names[0]
            sizes[_origin(origin, match[2])] += size * scale
        groups = groups_of(line)
        found += [Collective(match[2], layer, direction, size, groups) for (layer, direction), size in sizes.items()]
    return found


def _group_size(line: str) -> int:
    return len(groups_of(line)[0])


def groups_of(line: str) -> tuple[tuple[int, ...], ...]:
    """The groups of devices that exchange something side by side, as XLA's text of a collective has them.

    Either all of them, {{0,1},{2,3}}, or [groups,size]<=[shape]T(order): all numbers in an array of that shape, its
    axes in that order, cut into groups. Or, from jax 0.12 on, mesh['data'=4,'model'=2] {'data'}: all devices in an
    array of that shape, each group along the axes that are named. Of a permute's pairs {{0,1},{1,0}} those that send
    to each other are a group.
    """
    explicit = re.search(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]*\})\}", line)
    if explicit:
        named = [tuple(int(one) for one in group.split(",")) for group in re.findall(r"\{([\d,]+)\}", explicit[1])]
        return tuple(dict.fromkeys(tuple(sorted(group)) for group in named))
    named_axes = re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line)
    if named_axes:
        axes = {name: int(side) for name, side in re.findall(r"'(\w+)'=(\d+)", named_axes[1])}
        along = [name for name in axes if f"'{name}'" in named_axes[2]]
        order = [place for among in (False, True) for place, name in enumerate(axes) if (name in along) == among]
        grid = np.arange(math.prod(axes.values())).reshape(*axes.values()).transpose(order)
        return tuple(map(tuple, grid.reshape(-1, math.prod(axes[name] for name in along)).tolist()))
    iota = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", line)
    if iota is None:
        return ((0, 1),)
    shape, sides = ([int(one) for one in part.split(",")] for part in (iota[1], iota[2]))
    numbers = np.arange(math.prod(sides)).reshape(sides)
    order = [int(one) for one in iota[3].split(",")] if iota[3] else list(range(len(sides)))
    return tuple(map(tuple, numbers.transpose(order).reshape(shape).tolist()))


def array_bytes(type_text: str) -> list[int]:
    """Of each array in XLA's text of a type, such as `bf16[2,5]{1,0}` or `(pred[3]{0}, s32[])`."""
    arrays = re.findall(r"\b(pred|[a-z]+\d+)\[([\d,]*)\]", type_text)
    bits = [8 if dtype == "pred" else int("".join(c for c in dtype if c.isdigit())) for dtype, _ in arrays]
    sides = [[int(side) for side in found.split(",") if side] for _, found in arrays]
    return [each // 8 * math.prod(lengths) for each, lengths in zip(bits, sides, strict=True)]


def _origin(name: str, op: str) -> tuple[str, str]:
    if not name:
        return "merged", "backward"
    direction = "backward" if "transpose(" in name else "forward"
    layer = re.search(r"\b(conv\d|fc\d|bottleneck|softmax|rank)\b", name)
    if op == "all-reduce" and direction == "backward":
        return "gradients", direction
    return layer[1] if layer else name, direction


def _devices_per_host(invocation: Invocation, mesh: Mesh) -> int:
    """0 where it is not said. Raises UserError if the mesh does not fill its hosts."""
    per_host = invocation.devices_per_host
    if per_host < 0 or (per_host and mesh.size > per_host and mesh.size % per_host):
        raise UserError(
            f"--devices_per_host is {per_host}, which the {mesh.size} devices of the mesh do not fill; name a divisor "
            "of their number"
        )
    return per_host


def run(config: ConfigDict, invocation: Invocation) -> dict[str, Any]:
    """`--mode=communication`: compiles the step for the config's mesh and lists what crosses."""
    mesh = towers.make_mesh(config.mesh.data, config.mesh.model, config.model.towers, described=True)
    per_host = _devices_per_host(invocation, mesh)
    check_batches(config, mesh.shape[towers.DATA])
    recipe = recipe_of(config, describe.classes(config), steps_per_epoch=1)
    size = config.train.batch_size
    say("compiling the training step")
    listed = count(lowered_step(recipe, mesh, size, config.data.resize).compile().as_text())
    predicted = predict(recipe.architecture, mesh, size, recipe.dtype, recipe.keeps_short_batch)
    of_links = f"{'of a device':>14}{'on a link':>14}"
    say(f"{'collective':<20}{'layer':<11}{'pass':<10}{'bytes':>13}{of_links}{'  between' if per_host else ''}")
    rows: list[dict[str, Any]] = []
    for one in listed:
        on_a_link, crosses = one.on_a_link(per_host or mesh.size)
        row: dict[str, Any] = {"op": one.op, "layer": one.layer, "pass": one.direction, "bytes": one.bytes}
        row |= {"devices": len(one.groups[0]), "bytes_per_device": one.sent_by_a_device, "bytes_per_link": on_a_link}
        between = ("  hosts" if crosses else "  devices") if per_host else ""
        say(
            f"{one.op:<20}{one.layer:<11}{one.direction:<10}{one.bytes:>13,}{one.sent_by_a_device:>14,.0f}"
            f"{on_a_link:>14,.0f}{between}"
        )
        rows.append({**row, "crosses_hosts": crosses} if per_host else row)
    result: dict[str, Any] = {
        "mesh": dict(mesh.shape),
        "collectives": rows,
        "bytes_per_device": sum(one["bytes_per_device"] for one in rows),
        "bytes_per_step": sum(one.bytes for one in listed),
        "predicted_bytes_per_step": sum(one.bytes for one in predicted),
    }
    if per_host:
        across = sum(one["bytes_per_link"] for one in rows if one["crosses_hosts"])
        result |= {"devices_per_host": per_host, "bytes_between_two_hosts": across}
        say(f"{across:,.0f} bytes a step from a host to its neighbour, of {mesh.size // per_host or 1} hosts")
    say(f"{result['bytes_per_step']:,} bytes a step; predicted {result['predicted_bytes_per_step']:,}")
    slices, devices = mesh.shape[towers.DATA], mesh.shape[towers.MODEL]
    if slices > 1:
        result["groups"] = (
            f"counted is what one group of devices exchanges: {slices} pairs of towers do so side by side, and "
            f"over data, where the gradients go, {devices} groups of {slices}"
            if devices > 1
            else f"counted is what the one group of {slices} devices exchanges"
        )
        say(result["groups"])
    if recipe.dtype == "bfloat16" and mesh.devices.flat[0].platform == "cpu":
        result["note"] = "a CPU computes bfloat16 collectives in float32: twice the predicted bytes of the activations"
        say(result["note"])
    return result
