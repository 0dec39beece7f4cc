"""The mesh of devices, who holds what on it, and what the towers exchange.

The axis `model` has a position for each tower, or one for both; the axis `data` a position for each slice of the batch.
Specifications leave out an axis of length one, so that no collective over a single device is compiled.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int32, PyTree, Shaped

from alexnet_jax.devices.processor import multiplies_bfloat16
from alexnet_jax.jax_version import MOST_CPU_DEVICES, ONEDNN_SINCE
from alexnet_jax.messages import UserError, say

DATA, MODEL = "data", "model"
MOST_DESCRIBED_DEVICES = 4096  # virtual devices to compile for; running a program on a few hundred is impossible
NEVER = 1e9  # seconds; longer than any compilation
Tree = TypeVar("Tree")  # of arrays
Returned = TypeVar("Returned")
Item = TypeVar("Item")


def make_mesh(data: int, model: int, towers: int = 2, described: bool = False) -> Mesh:
    """A data x model mesh of the machine's devices; must come before anything else that uses a device.

    `model` 0 means a device for each tower if there are enough devices, else 1; `data` 0 means the number of devices
    divided by `model`. Without an accelerator, as many virtual CPU devices are made as the mesh needs (by default two
    for two towers), unless the environment variable JAX_NUM_CPU_DEVICES gives their number.

    Args:
      described: whether programs are only compiled; then virtual CPU devices stand for devices that are missing.

    Raises:
      UserError: the mesh needs more devices than there are, or leaves a process without a device.
    """
    _virtual_cpu_devices((data or 1) * (model or towers), MOST_DESCRIBED_DEVICES if described else MOST_CPU_DEVICES)
    try:
        # By process: so the two towers of a pair lie on neighbouring devices of one host where possible.
        devices = jax.devices()
        if described and (data or 1) * (model or 1) > len(devices):
            devices = jax.devices("cpu")
        devices = sorted(devices, key=lambda device: (device.process_index, device.id))
    except RuntimeError as error:
        asked = os.environ.get("JAX_PLATFORMS", "")
        remedy = (
            f"the environment's JAX_PLATFORMS is '{asked}': unset it, or set it to cpu"
            if asked
            else "check the driver, or set JAX_PLATFORMS=cpu in the environment"
        )
        raise UserError(f"JAX finds no device ({str(error).splitlines()[0]}); {remedy}") from error
    chosen_model = model or (towers if len(devices) >= towers else 1)
    chosen_data = data or max(1, len(devices) // chosen_model)
    needed = chosen_data * chosen_model
    processes = jax.process_count()
    if needed > len(devices):
        kind = devices[0].device_kind
        whose = "this machine has" if processes == 1 else f"the {processes} processes have"
        raise UserError(
            f"config.mesh asks for {needed} devices (data {chosen_data} x model {chosen_model}) and {whose} "
            f"{len(devices)} ({kind}); lower --config.mesh.data or --config.mesh.model, or set them to 0 (automatic)"
        )
    if idle := sorted(set(range(processes)) - {device.process_index for device in devices[:needed]}):
        odd = f", an odd number for {towers} towers," if chosen_model == 2 and len(devices) % 2 else ""
        raise UserError(
            f"config.mesh (data {chosen_data} x model {chosen_model}) takes {needed} of the {len(devices)} devices"
            f"{odd} and leaves process {idle[0]} without any; start fewer processes, or set --config.mesh.data and "
            "--config.mesh.model so that each process has a device"
        )
    say(
        f"mesh: data {chosen_data} x model {chosen_model} on {needed} of {len(devices)} {devices[0].platform} devices"
        f" ({'each holds both towers' if chosen_model < towers else 'each holds one tower'})"
        if towers == 2
        else f"mesh: data {chosen_data} on {needed} of {len(devices)} {devices[0].platform} devices"
    )
    return mesh_of(devices[:needed], chosen_data, chosen_model)


def mesh_of(devices: Sequence[jax.Device], data: int, model: int) -> Mesh:
    """The data x model mesh of these devices, which may be only described."""
    grid = np.asarray(devices).reshape(data, model)
    return Mesh(grid, (DATA, MODEL), axis_types=(AxisType.Auto, AxisType.Auto))


def _virtual_cpu_devices(wanted: int, most: int) -> None:
    # config.read refuses this name, and type checkers do not know the attribute up to jax 0.10.
    given = jax.config.values["jax_num_cpu_devices"] != -1
    if not given and "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", min(wanted, most))


def on_cpu(mesh: Mesh) -> bool:
    """Whether the mesh's devices are virtual CPU devices, which share the machine's cores and memory."""
    return bool(mesh.devices.flat[0].platform == "cpu")


def compiler_options(mesh: Mesh, dtype: str) -> dict[str, str | bool]:
    """XLA's options for a program with convolutions on the mesh.

    If they choose oneDNN's convolutions, this process no longer writes programs into JAX's cache.

    Args:
      dtype: the name of the activations' type.
    """
    platform = mesh.devices.flat[0].platform
    if platform == "gpu":
        # Else XLA may store bfloat16 maps as float32 (benchmarks/README.md).
        return {"xla_allow_excess_precision": False}
    if platform != "cpu":
        return {}
    # YNNPACK for products and sums but not, as by default, for convolutions, whose kernel gradients then take three
    # times as long (benchmarks/README.md). No copy of a parameter that is updated in place. And the barriers of ops.py
    # stay, which XLA otherwise drops before it fuses.
    options: dict[str, str | bool] = {
        "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE",
        "xla_cpu_copy_insertion_use_region_analysis": True,
        "xla_disable_hlo_passes": "cse_barrier_expander",
    }
    if dtype == "bfloat16" and jax.__version_info__ >= ONEDNN_SINCE and multiplies_bfloat16():
        # oneDNN's convolutions in place of Eigen's, which convert bfloat16 to float32: a third faster, but a tenth
        # slower in float32 or on other processors (benchmarks/README.md). jax 0.12.0.1 fails in C++ when it writes such
        # a program into its cache, so this process writes none.
        options["xla_cpu_experimental_onednn_custom_call"] = True
        jax.config.update("jax_persistent_cache_min_compile_time_secs", NEVER)
    return options


def data_axis(mesh: Mesh) -> str | None:
    """The name of the axis that divides the batch; None if the batch is not divided."""
    return DATA if mesh.shape[DATA] > 1 else None


def model_axis(mesh: Mesh) -> str | None:
    """The name of the axis that divides the towers; None if each device holds both."""
    return MODEL if mesh.shape[MODEL] > 1 else None


def parameter_specs(tree: PyTree, mesh: Mesh) -> PyTree[P]:
    """Shards the last axis of each array (kernels, units, classes) over `model`; scalars are whole."""
    axis = model_axis(mesh)
    return jax.tree.map(lambda x: P(*[None] * (x.ndim - 1), axis) if x.ndim else P(), tree)


def shardings(specs: PyTree[P], mesh: Mesh) -> PyTree[NamedSharding]:
    """The shardings on the mesh that the specifications describe."""
    made: PyTree[NamedSharding] = jax.tree.map(
        lambda spec: NamedSharding(mesh, spec), specs, is_leaf=lambda x: isinstance(x, P)
    )
    return made


def batch_spec(mesh: Mesh) -> P:
    """Shards the examples over `data`: both towers of a pair see the same pictures."""
    return P(data_axis(mesh))


def rows(mesh: Mesh, batch_size: int) -> slice:
    """The examples of a global batch that this process's devices hold; all of them in a single process.

    Two processes that have the towers of a pair hold the same examples.
    """
    here = jax.process_index()
    mine = [place for place, pair in enumerate(mesh.devices) if any(device.process_index == here for device in pair)]
    size = batch_size // mesh.shape[DATA]
    return slice(mine[0] * size, (mine[-1] + 1) * size)


def put_batch(batch: PyTree, mesh: Mesh) -> PyTree[Array]:
    """Puts host arrays on the devices, the examples divided over `data`.

    Args:
      batch: this process's `rows` of the global batch.
    """
    sharding = NamedSharding(mesh, batch_spec(mesh))
    if jax.process_count() == 1:
        placed: PyTree[Array] = jax.device_put(batch, sharding)
        return placed
    part = rows(mesh, mesh.shape[DATA])
    slices = part.stop - part.start

    def whole(x: np.ndarray) -> Array:
        each = len(x) // slices
        return _of_parts((each * mesh.shape[DATA], *x.shape[1:]), sharding, x, each * part.start)

    placed = jax.tree.map(whole, batch)
    return placed


def _of_parts(shape: tuple[int, ...], sharding: NamedSharding, here: np.ndarray, first: int) -> Array:
    """Makes the global array of this shape, over all processes.

    Args:
      here: the rows from `first` on, which include the rows of this process's devices.
    """
    parts = []
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        assert index is not None
        start, stop, _ = index[0].indices(shape[0]) if shape else (0, 0, 1)
        parts.append(jax.device_put(here[start - first : stop - first] if shape else here, device))
    return jax.make_array_from_single_device_arrays(shape, sharding, parts)


def replicate(tree: PyTree, mesh: Mesh) -> PyTree[Array]:
    """Puts host arrays, equal on all processes, whole on each device."""
    sharding = NamedSharding(mesh, P())
    if jax.process_count() == 1:
        placed: PyTree[Array] = jax.device_put(tree, sharding)
        return placed
    placed = jax.tree.map(lambda x: _of_parts(np.shape(x), sharding, np.asarray(x), 0), tree)
    return placed


def on_host(tree: PyTree[Array]) -> PyTree:
    """Fetches arrays as whole NumPy arrays; all processes must call this."""
    if jax.process_count() == 1:
        return jax.device_get(tree)

    def whole(x: Array) -> np.ndarray:
        if x.is_fully_replicated or x.is_fully_addressable:
            return np.asarray(jax.device_get(x))
        return np.asarray(multihost_utils.process_allgather(x, tiled=True))

    return jax.tree.map(whole, tree)


def one_ahead(compute: Callable[[Item], PyTree[Array]], items: Iterable[Item]) -> Iterator[tuple[Item, PyTree]]:
    """Each item with its result on the host; while the host waits for a result, the devices compute the next one.

    Args:
      compute: starts the computation for an item, and does not wait for it.
    """
    waiting: tuple[Item, PyTree[Array]] | None = None
    for item in items:
        started = item, compute(item)
        if waiting:
            yield waiting[0], on_host(waiting[1])
        waiting = started
    if waiting:
        yield waiting[0], on_host(waiting[1])


def all_gather(x: Shaped[Array, "*positions local"], axis: str | None) -> Shaped[Array, "*positions all_of_them"]:
    """A cross connection: both towers' maps or units, side by side along the last axis."""
    if axis is None:
        return x
    # Along a new first axis: for the last axis XLA would change the layout of everything before x to maps first.
    return jnp.concatenate(list(lax.all_gather(x, axis)), axis=-1)


def neighbouring_maps(
    x: Shaped[Array, "*positions local"], reach: int, axis: str
) -> tuple[Shaped[Array, "*positions reach"], Shaped[Array, "*positions reach"]]:
    """The other tower's `reach` maps that lie before this tower's maps, and those that lie after them.

    One exchange: each of the two devices has a neighbour on one side, and gets zeros for the other side.
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
    """Marks arrays that are equal on the devices along the axis as each device's own.

    So their gradients are summed in the arrays' type. By default JAX sums where a parameter first meets a device's own
    numbers, which is in bfloat16 if the parameter was cast to it.
    """
    return tree if axis is None else jax.tree.map(lambda x: lax.pcast(x, axis, to="varying"), tree)


def position(axis: str | None) -> Int32[Array, ""] | int:
    """This device's place along the axis."""
    return 0 if axis is None else lax.axis_index(axis)


def on_each_device(
    f: Callable[..., Returned], mesh: Mesh, in_specs: PyTree[P], out_specs: PyTree[P]
) -> Callable[..., Returned]:
    """Returns `f` as each device runs it, on its own part of the arguments.

    Take gradients outside: then a weight's gradient is summed over `data` exactly once.
    """
    return jax.shard_map(f, mesh=mesh, in_specs=in_specs, out_specs=out_specs)
