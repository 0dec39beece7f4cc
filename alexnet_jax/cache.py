"""The user's cache folder, and JAX's compiled programs in it."""

import os
from pathlib import Path

COMPILED_BYTES = 1 << 30  # of compiled programs, at most; the one not used for longest goes first
COMPILED_SECONDS = "0.5"  # what compiles faster is not kept


def folder() -> Path:
    """The project's folder in the user's cache; it may not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "alexnet_jax")


def _remove_unfinished(compiled: Path) -> None:
    """Removes what a process that was killed left without its time: JAX would warn of it ever after, and keep none."""
    for program in compiled.glob("*-cache"):
        if not program.with_name(f"{program.name.removesuffix('-cache')}-atime").exists():
            program.unlink(missing_ok=True)


def keep_compiled_programs(keep: bool) -> None:
    """Has JAX, which must not be imported yet, keep what it compiles in the cache, or keep nothing.

    The environment's own JAX_COMPILATION_CACHE_DIR comes first. A cache that cannot be written is done without.
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
