"""The network as a sequence of named stages, any part of which a caller may run."""

from collections import Counter
from dataclasses import dataclass

from alexnet_jax.messages import UserError
from alexnet_jax.network.architecture import (
    LRN,
    Architecture,
    Conv,
    Dense,
    Dropout,
    MaxPool,
    Operation,
    ReLU,
    Tanh,
    WithinMapNorm,
)

NAMES: dict[type[Operation], str] = {
    ReLU: "relu",
    Tanh: "tanh",
    LRN: "norm",
    WithinMapNorm: "within_map_norm",
    MaxPool: "pool",
    Dropout: "dropout",
}


@dataclass(frozen=True)
class Stage:
    """A layer's sums, or an operation that follows them."""

    name: str  # LAYER/sums, LAYER/relu, LAYER/norm, LAYER/pool, ...; a layer's second pooling: LAYER/pool2
    layer: Conv | Dense
    operation: Operation | None  # None: the layer's sums with its bias


def stages(net: Architecture) -> tuple[Stage, ...]:
    """All stages of the network, in order."""
    found = []
    for layer in net.layers:
        found.append(Stage(f"{layer.name}/sums", layer, None))
        seen: Counter[str] = Counter()
        for operation in layer.then:
            kind = NAMES[type(operation)]
            seen[kind] += 1
            number = str(seen[kind]) if seen[kind] > 1 else ""  # a removed layer leaves its pooling behind
            found.append(Stage(f"{layer.name}/{kind}{number}", layer, operation))
    return tuple(found)


def place_of_pooling(net: Architecture) -> int:
    """The number of stages before the first layer's pooling, or of the first layer's stages if it has none."""
    first = net.layers[0]
    pool = next((i for i, operation in enumerate(first.then) if isinstance(operation, MaxPool)), len(first.then))
    return 1 + pool


def place_of_dense(net: Architecture) -> int:
    """The number of stages before the first dense layer."""
    return next(i for i, stage in enumerate(stages(net)) if isinstance(stage.layer, Dense))


def place_of(net: Architecture, name: str) -> int:
    """The place of a stage among the network's stages, by the stage's or a layer's name.

    A layer's name stands for its output: its last stage that is no dropout.

    Raises:
      UserError: the network has no such stage.
    """
    every = stages(net)
    places = {stage.layer.name: i for i, stage in enumerate(every) if not isinstance(stage.operation, Dropout)}
    places |= {stage.name: i for i, stage in enumerate(every)}
    if name not in places:
        layers = ", ".join(layer.name for layer in net.layers)
        raise UserError(
            f"'{name}' is not a stage of this network; name a layer for its output, {layers}, or a stage, "
            f"{', '.join(stage.name for stage in every)}"
        )
    return places[name]
