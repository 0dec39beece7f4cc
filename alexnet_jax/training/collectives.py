"""The exchanges between the devices in one training step, predicted by arithmetic."""

import math
from collections import Counter
from dataclasses import dataclass, field

import jax.numpy as jnp
from jax.sharding import Mesh

from alexnet_jax.devices import towers
from alexnet_jax.network import architecture


@dataclass(frozen=True)
class Collective:
    """An exchange. `bytes` is the size of the whole array that a group of devices gathers or reduces."""

    op: str
    layer: str  # a layer of the network, or softmax, rank, gradients
    direction: str  # forward or backward
    bytes: int
    groups: tuple[tuple[int, ...], ...] = field(default=(), compare=False)  # of devices, side by side; (): not known

    @property
    def sent_by_a_device(self) -> float:
        """Bytes that a device sends if its group exchanges in a ring, as libraries do with large arrays."""
        size = len(self.groups[0])
        rounds = 2 * (size - 1) if self.op == "all-reduce" else size - 1  # a reduction, then a gathering
        return self.bytes * rounds / size

    def on_a_link(self, devices_per_host: int) -> tuple[float, bool]:
        """Bytes that the busiest link carries one way, and whether that link is between hosts.

        A host's devices have consecutive numbers. Any two of them have their own link. Two hosts have one link, which
        all rings between them share.
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
    """The exchanges that the design needs, and no others.

    A layer that reads both towers gathers its input, and scatters the gradient back. A response normalisation over
    all maps exchanges the maps of each tower that the other's windows reach. The softmax reduces a maximum, a sum and
    the label's score for every picture, the rank a count. Over `data` the devices reduce the gradients of their own
    halves, the mean loss and the two errors, and with `masked` the number of examples.

    Args:
      batch_size: pictures in the global batch.
      dtype: the type of activations.
      masked: whether batches may be short.
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
    """The exchanges of response normalisation over all maps, between two devices, forward and backward."""
    found, name = [], ""
    for row in architecture.table(net):
        name = row.name if row.parameters else name
        for norm in row.then:
            if isinstance(norm, architecture.LRN) and norm.across_towers and norm.n > 1:
                maps = min(norm.n // 2, row.output_shape[-1] // 2)
                size = 2 * examples * math.prod(row.output_shape[:-1]) * maps * activation
                found += [Collective("collective-permute", name, way, size) for way in ("forward", "backward")]
    return found
