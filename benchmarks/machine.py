"""The machine that is measured on, as results name it."""

import importlib.metadata
import os
import platform
import re
from pathlib import Path

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    """As the system names it."""
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def circumstances() -> dict[str, str | int]:
    """What a record of this machine begins with."""
    return {"machine": cpu_model(), "cores": CORES, "jax": importlib.metadata.version("jax")}
