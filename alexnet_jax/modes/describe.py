"""`--mode=describe`: the network layer by layer."""

from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.config.config import network_of, number_of_classes
from alexnet_jax.messages import say
from alexnet_jax.modes import Invocation
from alexnet_jax.network import architecture
from alexnet_jax.network.architecture import LRN, Architecture, Conv, MaxPool, Row

GIBIBYTES = (8, 16, 80)  # sizes of a device's memory, each with its largest batch
READS = {"image": "image", "own": "own tower", "both": "all towers"}
BYTES = {"float32": 4, "bfloat16": 2}  # per activation
MESHES = {1: ((1, 1), (2, 1)), 2: ((1, 1), (1, 2))}  # data x model, by the number of towers


def classes(config: ConfigDict) -> int:
    """The config's number of classes, or the dataset's; neither needs prepared data."""
    if given := number_of_classes(config, in_data=0):
        return given
    from alexnet_jax.data import sources  # whose import takes as long as all the rest here

    return sources.number_of_classes(config.data)


def run(config: ConfigDict, invocation: Invocation) -> dict[str, Any]:
    """Prints the table. Returns the sums and the layers."""
    net = network_of(config, classes(config))
    rows = architecture.table(net)
    batch, dtype = config.train.batch_size, config.model.dtype
    needs = {
        mesh: architecture.training_bytes(net, batch, *mesh, activation=BYTES[dtype]) for mesh in MESHES[net.towers]
    }
    for line in (*text(net, rows), *memory(net, batch, dtype, needs)):
        say(line)
    return {
        "parameters": sum(row.parameters for row in rows),
        "neurons": sum(row.neurons for row in rows),
        "flops_per_image": sum(row.flops for row in rows),
        "batch_size": batch,
        "training_bytes_per_device": {f"{data}x{model}": needed for (data, model), needed in needs.items()},
        "layers": [
            {"name": row.name, "parameters": row.parameters, "output_shape": list(row.output_shape)} for row in rows
        ],
    }


def memory(net: Architecture, batch: int, dtype: str, needs: dict[tuple[int, int], int]) -> list[str]:
    """The memory that training needs and the largest batches, one line for each mesh below a heading."""
    lines = [f"memory of a training step in {dtype}, an estimate (mesh: data x model devices)"]
    for (data, model), needed in needs.items():
        batches = {g: architecture.largest_batch(net, g * 2**30, data, model, BYTES[dtype]) for g in GIBIBYTES}
        room = ", ".join(f"{most:,} in {g} GiB" for g, most in batches.items())
        lines.append(f"  mesh {data}x{model}: {needed / 2**30:.2f} GiB a device at batch {batch}; largest batch {room}")
    return lines


def text(net: Architecture, rows: tuple[Row, ...]) -> list[str]:
    """The table, one line for each layer and each pooling, with the operations that follow it in their order."""
    wide = max(len(row.name) for row in rows) + 1
    lines = [
        f"{net.towers} tower{'s' if net.towers == 2 else ''}, input {net.input_size}x{net.input_size}x3",
        f"{'layer':<{wide}}{'window':>9}{'stride':>8}{'padding':>9}  {'reads':<12}{'output':<12}"
        f"{'parameters':>12}{'neurons':>9}{'MFLOP':>8}  then",
    ]
    for row in rows:
        layer = row.layer
        window = stride = padding = ""
        if isinstance(layer, Conv):
            window, stride = f"{layer.size}x{layer.size}x{row.input_shape[-1]}", str(layer.stride)
            padding = f"{layer.padding[0]},{layer.padding[1]}"
        elif isinstance(layer, MaxPool):
            window, stride = f"{layer.window}x{layer.window}", str(layer.stride)
        reads = READS["own" if isinstance(layer, MaxPool) else layer.reads]
        names = ", ".join(_name(operation) for operation in row.then)
        output = "x".join(str(side) for side in row.output_shape)
        line = (
            f"{row.name:<{wide}}{window:>9}{stride:>8}{padding:>9}  {reads:<12}{output:<12}"
            f"{row.parameters:>12,}{row.neurons:>9,}{row.flops / 1e6:>8.1f}  {names}"
        )
        lines.append(line.rstrip())
    total = [sum(getattr(row, what) for row in rows) for what in ("parameters", "neurons", "flops")]
    lines.append(f"{'sum':<{wide + 50}}{total[0]:>12,}{total[1]:>9,}{total[2] / 1e6:>8.1f}")
    return lines


def _name(operation: object) -> str:
    over_all = isinstance(operation, LRN) and operation.across_towers
    return f"{type(operation).__name__}{' over all maps' if over_all else ''}"
