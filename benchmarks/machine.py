"""This machine and this checkout: the processor, the versions, and the folder of the results."""

import importlib.metadata
import os
import platform
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of the checkout
RESULTS = ROOT / "benchmarks" / "results"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    """The processor's name, as the system gives it."""
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that decide a training run's numbers."""
    libraries = {name: importlib.metadata.version(name) for name in ("jax", "flax", "optax", "numpy")}
    return {"python": platform.python_version(), **libraries}


def circumstances() -> dict[str, str | int]:
    """The first entries of a record: processor, cores and jax's version."""
    return {"machine": cpu_model(), "cores": CORES, "jax": importlib.metadata.version("jax")}
