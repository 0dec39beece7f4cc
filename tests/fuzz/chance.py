"""How much of what chance makes is tried, and what it may cost."""

import os
import resource
import sys
from typing import Any

from hypothesis import HealthCheck, settings
from ml_collections import ConfigDict

from alexnet_jax.config.fields import FIELDS

EXAMPLES = int(os.environ.get("FUZZ", 0))
BYTES = 2 << 30  # by which a process may grow
TYPES = {field.name: field.type for field in FIELDS}


def examples(quick: int, most: int = 10_000) -> Any:
    """So many in the short form, seeded, and no deadline: machines differ.

    Args:
      most: of what takes long.
    """
    return settings(
        max_examples=min(EXAMPLES, most) or quick,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def put(config: ConfigDict, name: str, value: Any) -> None:
    """A whole number for a real one becomes one, as on the command line."""
    if TYPES[name] is float and type(value) is int:
        value = float(value)
    group, _, last = name.rpartition(".")
    with config.ignore_type(), config.unlocked():
        (config[group] if group else config)[last] = value
