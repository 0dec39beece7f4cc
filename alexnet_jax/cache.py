"""The project's folder in the user's cache, and JAX's compiled programs in it."""

import os
from pathlib import Path

COMPILED_BYTES = 1 << 30  # at most, for compiled programs; the least recently used go first
COMPILED_SECONDS = "0.5"  # programs that compile faster are not kept


def folder() -> Path:
    """The project's folder in the user's cache; it may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "alexnet_jax")


def _remove_unfinished(compiled: Path) -> None:
    """Removes programs that a killed process left without their access time; JAX would warn about them for ever."""
    for program in compiled.glob("*-cache"):
        if not program.with_name(f"{program.name.removesuffix('-cache')}-atime").exists():
            program.unlink(missing_ok=True)


def keep_compiled_programs(keep: bool) -> None:
    """Tells JAX, by the environment, whether to keep compiled programs; call it before JAX is imported.

    JAX_COMPILATION_CACHE_DIR takes precedence if it is set. Without a writable folder, nothing is kept.
    """
    if not keep:
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    elif not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        compiled = folder() / "compiled"
        try:
            compiled.mkdir(parents=True, exist_ok=True)
            _remove_unfinished(compiled)
        except OSError:
            return
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(compiled)
        os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(COMPILED_BYTES))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", COMPILED_SECONDS)
