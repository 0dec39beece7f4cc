"""Estimates whether this machine has enough memory for a step, before the step allocates any."""

import math
import os
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.config.config import network_of
from alexnet_jax.messages import UserError
from alexnet_jax.network import architecture
from alexnet_jax.network.architecture import Architecture, Conv, Row

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # a container's


def check_memory(config: ConfigDict, classes: int, training: bool, share: float = 1.0) -> None:
    """Raises UserError if a step needs more than this machine's memory. For devices that share the memory: CPUs.

    Args:
      training: whether the command trains, or only evaluates.
      share: the part of the step that this machine computes, from 0 to 1.
    """
    net = network_of(config, classes)
    needs = {"evaluate": evaluation_bytes(net, config.evaluate.batch_size)}
    if training:
        needs["train"] = architecture.training_bytes(net, config.train.batch_size)
    group, needed = max(((name, share * size) for name, size in needs.items()), key=lambda item: item[1])
    if needed > (there := memory()):
        parameters = sum(row.parameters for row in architecture.table(net))
        raise UserError(
            f"with {parameters:,} parameters and config.{group}.batch_size {config[group].batch_size} a step needs "
            f"about {needed / 1e9:,.1f} GB of memory, but this machine has only {there / 1e9:,.1f} GB; lower "
            f"--config.{group}.batch_size, --config.model.classes, kernels or units, or --config.data.crop "
            "(--mode=describe shows what each layer needs)"
        )


def evaluation_bytes(net: Architecture, batch: int) -> int:
    """An estimate of the bytes that the forward pass of a batch needs in float32 on a CPU.

    These are the parameters and, for the largest layer, its input, its output and a convolution's patches: a CPU
    computes a convolution as a product with patches of its input.
    """

    def numbers(row: Row) -> int:
        patches = 0
        if isinstance(row.layer, Conv):
            patches = math.prod(row.output_shape[:2]) * row.layer.size**2 * row.input_shape[-1]
        return math.prod(row.input_shape) + math.prod(row.output_shape) + patches

    rows = architecture.table(net)
    return 4 * (sum(row.parameters for row in rows) + batch * max(map(numbers, rows)))


def memory() -> int:
    """The bytes that this process may use: the machine's memory, or its container's limit."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in LIMITS:
        try:
            there = min(there, int(Path(limit).read_text()))
        except (OSError, ValueError):  # no such limit, or 'max'
            continue
    return there
