"""`--mode=describe`: the network layer by layer."""

from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.messages import say
from alexnet_jax.modes import Invocation
from alexnet_jax.network import architecture
from alexnet_jax.network.architecture import LRN, Architecture, Conv, MaxPool, Row
from alexnet_jax.runs.config import network_of

GIBIBYTES = (8, 16, 80)  # of memory a device, for which the largest batch is said
READS = {"image": "image", "own": "own tower", "both": "all towers"}


def classes(config: ConfigDict) -> int:
    """The config's number of classes, or the dataset's; no data is needed for either."""
    if config.model.classes:
        return config.model.classes
    from alexnet_jax.data import sources  # TensorFlow takes seconds to import

    return len(sources.class_names(config.data))


def run(config: ConfigDict, invocation: Invocation) -> dict[str, Any]:
    """Prints the table for a person. Returns the sums and the layers."""
    net = network_of(config, classes(config))
    rows = architecture.table(net)
    say(text(net, rows))
    batch = config.train.batch_size
    meshes = [(1, 1), (1, 2)] if net.towers == 2 else [(1, 1), (2, 1)]
    needs = {mesh: architecture.training_bytes(net, batch, *mesh) for mesh in meshes}
    say(memory(net, batch, needs))
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


def memory(net: Architecture, batch: int, needs: dict[tuple[int, int], int]) -> str:
    """What training needs and what a device has room for, as lines of text."""
    lines = ["memory of a training step in float32, an estimate (mesh: data x model devices)"]
    for (data, model), needed in needs.items():
        room = (f"{architecture.largest_batch(net, g * 2**30, data, model):,} in {g} GiB" for g in GIBIBYTES)
        need = f"{needed / 2**30:.2f} GiB a device at batch {batch}"
        lines.append(f"  mesh {data}x{model}: {need}; largest batch {', '.join(room)}")
    return "\n".join(lines)


def text(net: Architecture, rows: tuple[Row, ...]) -> str:
    """The table as lines of text."""
    lines = [
        f"{net.towers} tower{'s' if net.towers == 2 else ''}, input {net.input_size}x{net.input_size}x3",
        f"{'layer':<7}{'window':>9}{'stride':>8}{'padding':>9}  {'reads':<12}{'output':<14}"
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
        lines.append(
            f"{row.name:<7}{window:>9}{stride:>8}{padding:>9}  {reads:<12}{output:<14}"
            f"{row.parameters:>12,}{row.neurons:>9,}{row.flops / 1e6:>8.1f}  {names}"
        )
    total = [sum(getattr(row, what) for row in rows) for what in ("parameters", "neurons", "flops")]
    lines.append(f"{'sum':<59}{total[0]:>12,}{total[1]:>9,}{total[2] / 1e6:>8.1f}")
    return "\n".join(lines)


def _name(operation: object) -> str:
    over_all = isinstance(operation, LRN) and operation.across_towers
    return f"{type(operation).__name__}{' over all maps' if over_all else ''}"
