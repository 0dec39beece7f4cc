"""What crosses between the devices in one training step, by arithmetic."""

import math
from collections import Counter
from dataclasses import dataclass, field

import jax.numpy as jnp
from jax.sharding import Mesh

from alexnet_jax.devices import towers
from alexnet_jax.network import architecture


@dataclass(frozen=True)
class Collective:
    """One exchange. `bytes` is of the whole array that one group of devices gathers or reduces."""

    op: str
    layer: str  # of the network, or softmax, rank, gradients
    direction: str  # forward or backward
    bytes: int
    groups: tuple[tuple[int, ...], ...] = field(default=(), compare=False)  # of devices, side by side; (): not known

    @property
    def sent_by_a_device(self) -> float:
        """Bytes, where a group hands what it exchanges around in a ring, as libraries do with large arrays."""
        size = len(self.groups[0])
        rounds = 2 * (size - 1) if self.op == "all-reduce" else size - 1  # a reduction, and a gathering of it
        return self.bytes * rounds / size

    def on_a_link(self, devices_per_host: int) -> tuple[float, bool]:
        """Bytes over the link that carries most, one way, and whether that is a link between hosts.

        Devices of a host have their numbers one after the other. Between two of them lies a link of their own; between
        two hosts one, which all rings share that go from the one to the other.
        """
        rings: Counter[tuple[int, int]] = Counter()
        for group in self.groups:
            hosts = [device // devices_per_host for device in group]
            for here, there in zip(hosts, [*hosts[1:], hosts[0]], strict=True):
                rings[here, there] += here != there
        shared = max(rings.values(), default=0)
        return self.sent_by_a_device * max(1, shared), shared > 0


def predict(
    net: architecture.Architecture, mesh: Mesh, batch_size: int, dtype: str, masked: bool = False
) -> list[Collective]:
    """The same by arithmetic: what the design needs, and nothing else.

    A layer that reads both towers gathers what it reads, and scatters the gradient back. A response
    normalisation over all maps exchanges those of each tower that the other's windows reach. The
    softmax reduces a maximum, a sum and the label's score of every picture, the rank a count.
    Over `data` go the gradients of each device's own half, the mean loss and the two errors, and of batches that
    may be short, which are masked, the number of examples.
    """
    slices, devices = mesh.shape[towers.DATA], mesh.shape[towers.MODEL]
    examples, activation, number = batch_size // slices, jnp.dtype(dtype).itemsize, 4
    found = []
    if devices > 1:
        crossing = [row for row in architecture.table(net) if getattr(row.layer, "reads", "") == "both"]
        for row in crossing:
            size = examples * math.prod(row.input_shape) * activation
            found.append(Collective("all-gather", row.name, "forward", size))
            found.append(Collective("reduce-scatter", row.name, "backward", size))
        found += _edges(net, examples, activation)
        found.append(Collective("all-reduce", "softmax", "forward", examples * number))
        found.append(Collective("all-reduce", "softmax", "forward", 2 * examples * number))
        found.append(Collective("all-reduce", "rank", "forward", examples * number))
    if slices > 1:
        held = 0
        for row in architecture.table(net):
            if row.parameters:
                outputs = net.padded_classes if row.layer is net.layers[-1] else row.output_shape[-1]
                held += row.parameters // row.output_shape[-1] * outputs // devices
        found.append(Collective("all-reduce", "gradients", "backward", held * number))
        found += [Collective("all-reduce", "softmax", "forward", number)] * (2 if masked else 1)
        found.append(Collective("all-reduce", "rank", "forward", 2 * number))
    return found


def _edges(net: architecture.Architecture, examples: int, activation: int) -> list[Collective]:
    """What response normalisation over all maps exchanges between two devices, forward and backward."""
    found, name = [], ""
    for row in architecture.table(net):
        name = row.name if row.parameters else name
        for norm in row.then:
            if isinstance(norm, architecture.LRN) and norm.across_towers and norm.n > 1:
                maps = min(norm.n // 2, row.output_shape[-1] // 2)
                size = 2 * examples * math.prod(row.output_shape[:-1]) * maps * activation
                found += [Collective("collective-permute", name, way, size) for way in ("forward", "backward")]
    return found
