"""The mesh of devices, who holds what on it, and what the towers exchange.

The axis `model` has one position a tower (or one for both), the axis `data` one a slice of the
batch. An axis of length one is left out of every specification, so that no collective over a
single device is ever compiled.
"""

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int32, PyTree, Shaped

from alexnet_jax.jax_version import MOST_CPU_DEVICES
from alexnet_jax.messages import UserError, say

DATA, MODEL = "data", "model"
Tree = TypeVar("Tree")  # of arrays
Returned = TypeVar("Returned")


def make_mesh(data: int, model: int, towers: int = 2) -> Mesh:
    """A data x model mesh of the machine's devices; 0 chooses.

    `model` 0 is one device a tower where there are that many devices, else 1; `data` 0 is the
    number of devices divided by `model`. Where there is no accelerator, as many virtual CPU
    devices are made as are asked for (two for two towers, if nothing is), unless the environment
    variable JAX_NUM_CPU_DEVICES gives their number. Must come before anything else that uses a
    device.

    Raises:
      UserError: more devices asked for than there are.
    """
    _virtual_cpu_devices((data or 1) * (model or towers))
    try:
        devices = jax.devices()
    except RuntimeError as error:
        asked = os.environ.get("JAX_PLATFORMS", "")
        remedy = (
            f"the environment's JAX_PLATFORMS is '{asked}': unset it, or set it to cpu"
            if asked
            else ("see to the driver, or set JAX_PLATFORMS=cpu in the environment")
        )
        raise UserError(f"JAX finds no device ({str(error).splitlines()[0]}); {remedy}") from error
    chosen_model = model or (towers if len(devices) >= towers else 1)
    chosen_data = data or max(1, len(devices) // chosen_model)
    needed = chosen_data * chosen_model
    if needed > len(devices):
        kind = devices[0].device_kind
        raise UserError(
            f"config.mesh asks for {needed} devices (data {chosen_data} x model {chosen_model}) and this machine "
            f"has {len(devices)} ({kind}); set --config.mesh.data and --config.mesh.model to fewer, or to 0 to have "
            "them chosen"
        )
    say(
        f"mesh: data {chosen_data} x model {chosen_model} on {needed} of {len(devices)} {devices[0].platform} devices"
        f" ({'each holds both towers' if chosen_model < towers else 'each holds one tower'})"
        if towers == 2
        else f"mesh: data {chosen_data} on {needed} of {len(devices)} {devices[0].platform} devices"
    )
    return mesh_of(devices[:needed], chosen_data, chosen_model)


def mesh_of(devices: Sequence[jax.Device], data: int, model: int) -> Mesh:
    """The data x model mesh of these devices, whether they are here or only described."""
    grid = np.asarray(devices).reshape(data, model)
    return Mesh(grid, (DATA, MODEL), axis_types=(AxisType.Auto, AxisType.Auto))


def _virtual_cpu_devices(wanted: int) -> None:
    # Not config.read, which refuses this one, nor the attribute, of which type checkers know nothing up to jax 0.10.
    given = jax.config.values["jax_num_cpu_devices"] != -1
    if not given and "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", min(wanted, MOST_CPU_DEVICES))


def on_cpu(mesh: Mesh) -> bool:
    """Whether its devices are made of the machine's cores, and share its memory."""
    return bool(mesh.devices.flat[0].platform == "cpu")


def compiler_options(mesh: Mesh) -> dict[str, str | bool]:
    """What XLA is to be told when it compiles a program with convolutions for the mesh."""
    platform = mesh.devices.flat[0].platform
    if platform == "gpu":
        # bfloat16 maps are stored as such, where XLA may otherwise store float32 in their place (benchmarks/README.md).
        return {"xla_allow_excess_precision": False}
    if platform != "cpu":
        return {}
    # YNNPACK for products and sums, and not for convolutions, XLA's default: their kernel gradients take three times
    # as long (benchmarks/README.md). No copy of a parameter whose new value takes its place. And the barriers of ops.py
    # are kept, which XLA otherwise drops before it fuses.
    return {
        "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE",
        "xla_cpu_copy_insertion_use_region_analysis": True,
        "xla_disable_hlo_passes": "cse_barrier_expander",
    }


def data_axis(mesh: Mesh) -> str | None:
    """The name of the axis that the batch is divided over; None where it is not divided."""
    return DATA if mesh.shape[DATA] > 1 else None


def model_axis(mesh: Mesh) -> str | None:
    """The name of the axis that the towers are divided over; None where one device holds both."""
    return MODEL if mesh.shape[MODEL] > 1 else None


def parameter_specs(tree: PyTree, mesh: Mesh) -> PyTree[P]:
    """Every array's last axis (kernels, units, classes) over `model`; numbers everywhere alike."""
    axis = model_axis(mesh)
    return jax.tree.map(lambda x: P(*[None] * (x.ndim - 1), axis) if x.ndim else P(), tree)


def shardings(specs: PyTree[P], mesh: Mesh) -> PyTree[NamedSharding]:
    """The specifications as shardings on the mesh."""
    made: PyTree[NamedSharding] = jax.tree.map(
        lambda spec: NamedSharding(mesh, spec), specs, is_leaf=lambda x: isinstance(x, P)
    )
    return made


def batch_spec(mesh: Mesh) -> P:
    """Examples over `data`: both towers of a pair see the same pictures."""
    return P(data_axis(mesh))


def put_batch(batch: PyTree, mesh: Mesh) -> PyTree[Array]:
    """Host arrays on the devices, their examples divided over `data`."""
    placed: PyTree[Array] = jax.device_put(batch, NamedSharding(mesh, batch_spec(mesh)))
    return placed


def replicate(tree: PyTree, mesh: Mesh) -> PyTree[Array]:
    """Host arrays whole on each device."""
    placed: PyTree[Array] = jax.device_put(tree, NamedSharding(mesh, P()))
    return placed


def all_gather(x: Shaped[Array, "*positions local"], axis: str | None) -> Shaped[Array, "*positions all_of_them"]:
    """Both towers' maps or units, side by side along the last axis: a cross connection."""
    if axis is None:
        return x
    # Along a new first axis: to gather along the last one, XLA would have all that makes x lie maps first.
    return jnp.concatenate(list(lax.all_gather(x, axis)), axis=-1)


def neighbouring_maps(
    x: Shaped[Array, "*positions local"], reach: int, axis: str
) -> tuple[Shaped[Array, "*positions reach"], Shaped[Array, "*positions reach"]]:
    """The `reach` maps of the other tower that lie before this one's, and those that lie after them.

    One exchange: each of the two devices has a neighbour on one side, and zeros on the other.
    """
    local = x.shape[-1]
    reach = min(reach, local)
    is_first = position(axis) == 0
    edge = lax.ppermute(jnp.where(is_first, x[..., local - reach :], x[..., :reach]), axis, [(0, 1), (1, 0)])
    return jnp.where(is_first, 0, edge), jnp.where(is_first, edge, 0)


def psum(x: Shaped[Array, "*shape"], axis: str | None) -> Shaped[Array, "*shape"]:
    """The sum over the devices along the axis."""
    return x if axis is None else lax.psum(x, axis)


def pmax(x: Shaped[Array, "*shape"], axis: str | None) -> Shaped[Array, "*shape"]:
    """The maximum over the devices along the axis."""
    return x if axis is None else lax.pmax(x, axis)


def each_its_own(tree: Tree, axis: str | None) -> Tree:
    """Arrays that the devices along the axis have alike, as each one's own: their gradients are summed in their type.

    Left to itself, JAX sums where a parameter first meets a device's own numbers: as bfloat16, if it was made that.
    """
    return tree if axis is None else jax.tree.map(lambda x: lax.pcast(x, axis, to="varying"), tree)


def position(axis: str | None) -> Int32[Array, ""] | int:
    """This device's place along the axis."""
    return 0 if axis is None else lax.axis_index(axis)


def on_each_device(
    f: Callable[..., Returned], mesh: Mesh, in_specs: PyTree[P], out_specs: PyTree[P]
) -> Callable[..., Returned]:
    """Returns `f` as each device runs it, on its own part of the arguments.

    Take gradients outside: then a weight's gradient is summed over `data` once, neither left out
    nor doubled.
    """
    return jax.shard_map(f, mesh=mesh, in_specs=in_specs, out_specs=out_specs)
