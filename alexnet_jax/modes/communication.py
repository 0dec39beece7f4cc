"""What crosses between the devices in one training step: read from the compiled program, and predicted."""

import math
import re
from collections import defaultdict
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax.devices import towers
from alexnet_jax.messages import say
from alexnet_jax.modes import Invocation, describe
from alexnet_jax.runs.config import check_batches, recipe_of
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
        found += [Collective(match[2], layer, direction, size) for (layer, direction), size in sizes.items()]
    return found


def _group_size(line: str) -> int:
    explicit = re.search(r"replica_groups=\{\{([\d,]*)\}", line)
    if explicit:
        return len(explicit[1].split(","))
    iota = re.search(r"replica_groups=\[\d+,(\d+)\]", line)
    return int(iota[1]) if iota else 2  # a permute names pairs


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


def run(config: ConfigDict, invocation: Invocation) -> dict[str, Any]:
    """`--mode=communication`: compiles the step for the config's mesh and lists what crosses."""
    mesh = towers.make_mesh(config.mesh.data, config.mesh.model, config.model.towers)
    check_batches(config, mesh.shape[towers.DATA])
    recipe = recipe_of(config, describe.classes(config), steps_per_epoch=1)
    size = config.train.batch_size
    say("compiling the training step")
    listed = count(lowered_step(recipe, mesh, size, config.data.resize).compile().as_text())
    predicted = predict(recipe.architecture, mesh, size, recipe.dtype, recipe.keeps_short_batch)
    say(f"{'collective':<20}{'layer':<11}{'pass':<10}{'bytes':>13}")
    for one in listed:
        say(f"{one.op:<20}{one.layer:<11}{one.direction:<10}{one.bytes:>13,}")
    result: dict[str, Any] = {
        "mesh": dict(mesh.shape),
        "collectives": [
            {"op": one.op, "layer": one.layer, "pass": one.direction, "bytes": one.bytes} for one in listed
        ],
        "bytes_per_step": sum(one.bytes for one in listed),
        "predicted_bytes_per_step": sum(one.bytes for one in predicted),
    }
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
