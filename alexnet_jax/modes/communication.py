"""`--mode=communication`: what crosses between the devices in one training step, as compiled and as predicted."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax.config.config import check_batches, recipe_of
from alexnet_jax.devices import towers
from alexnet_jax.messages import UserError, say
from alexnet_jax.modes import CommunicationInvocation, describe
from alexnet_jax.training.collectives import Collective, predict
from alexnet_jax.training.step import Recipe, abstract_batch, abstract_state, compiled_steps
from alexnet_jax.training.xla_text import collectives_in


def run(config: ConfigDict, invocation: CommunicationInvocation) -> dict[str, Any]:
    """`--mode=communication`: compiles the step for the config's mesh and lists what crosses."""
    mesh = towers.make_mesh(config.mesh.data, config.mesh.model, config.model.towers, described=True)
    per_host = _devices_per_host(invocation, mesh)
    check_batches(config, mesh.shape[towers.DATA])
    recipe = recipe_of(config, describe.classes(config), steps_per_epoch=1)
    size = config.train.batch_size
    say("compiling the training step")
    found = collectives_in(lowered_step(recipe, mesh, size, config.data.resize).compile().as_text())
    predicted = predict(recipe.architecture, mesh, size, recipe.dtype, recipe.keeps_short_batch)
    rows = [_row(collective, mesh, per_host) for collective in found]
    _say_table(rows)
    result: dict[str, Any] = {
        "mesh": dict(mesh.shape),
        "collectives": rows,
        "bytes_per_device": sum(row["bytes_per_device"] for row in rows),
        "bytes_per_step": sum(collective.bytes for collective in found),
        "predicted_bytes_per_step": sum(collective.bytes for collective in predicted),
    }
    if per_host:
        across = sum(row["bytes_per_link"] for row in rows if row["crosses_hosts"])
        result |= {"devices_per_host": per_host, "bytes_between_two_hosts": across}
        hosts = mesh.size // per_host or 1
        say(f"{across:,.0f} bytes a step from each of {hosts} hosts to the next host")
    say(f"{result['bytes_per_step']:,} bytes a step; predicted {result['predicted_bytes_per_step']:,}")
    if mesh.shape[towers.DATA] > 1:
        result["groups"] = _sentence_of_groups(mesh)
        say(result["groups"])
    if recipe.dtype == "bfloat16" and towers.on_cpu(mesh):
        result["note"] = "a CPU computes bfloat16 collectives in float32: twice the predicted bytes of the activations"
        say(result["note"])
    return result


def lowered_step(recipe: Recipe, mesh: Mesh, batch_size: int, mean_size: int) -> Any:
    """One training step on the mesh as XLA gets it, a `jax.stages.Lowered`; computes nothing.

    Args:
      mean_size: the side of the mean image in pixels.
    """
    by_example = towers.shardings(towers.batch_spec(mesh), mesh)
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=by_example), abstract_batch(recipe, batch_size)
    )
    mean_image = jax.ShapeDtypeStruct((mean_size, mean_size, 3), jnp.float32)
    train_step, _ = compiled_steps(recipe, mesh)
    return train_step.lower(abstract_state(recipe, mesh), batch, mean_image)


def _devices_per_host(invocation: CommunicationInvocation, mesh: Mesh) -> int:
    """The flag's value, 0 if it is not given. Raises UserError if the mesh does not fill its hosts."""
    per_host = invocation.devices_per_host
    if per_host < 0 or (per_host and mesh.size > per_host and mesh.size % per_host):
        raise UserError(
            f"--devices_per_host is {per_host}, but the mesh has {mesh.size} devices; give a divisor of that number"
        )
    return per_host


def _row(collective: Collective, mesh: Mesh, per_host: int) -> dict[str, Any]:
    """The JSON for a collective."""
    on_a_link, crosses = collective.on_a_link(per_host or mesh.size)
    row: dict[str, Any] = {
        "op": collective.op,
        "layer": collective.layer,
        "pass": collective.direction,
        "bytes": collective.bytes,
        "devices": len(collective.groups[0]),
        "bytes_per_device": collective.sent_by_a_device,
        "bytes_per_link": on_a_link,
    }
    return {**row, "crosses_hosts": crosses} if per_host else row


def _say_table(rows: list[dict[str, Any]]) -> None:
    between = "  between" if rows and "crosses_hosts" in rows[0] else ""
    say(f"{'collective':<20}{'layer':<11}{'pass':<10}{'bytes':>13}{'by a device':>14}{'on a link':>14}{between}")
    for row in rows:
        ends = ("  hosts" if row["crosses_hosts"] else "  devices") if between else ""
        say(
            f"{row['op']:<20}{row['layer']:<11}{row['pass']:<10}{row['bytes']:>13,}{row['bytes_per_device']:>14,.0f}"
            f"{row['bytes_per_link']:>14,.0f}{ends}"
        )


def _sentence_of_groups(mesh: Mesh) -> str:
    slices, devices = mesh.shape[towers.DATA], mesh.shape[towers.MODEL]
    if devices == 1:
        return f"the bytes are those for the one group of {slices} devices"
    return (
        f"the bytes are those for one group of devices: {slices} pairs of towers exchange as much at the same time, "
        f"and so do the {devices} groups of {slices} devices that exchange gradients over data"
    )
