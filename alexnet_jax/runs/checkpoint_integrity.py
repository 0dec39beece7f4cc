"""Seals, by which damage is found: of a checkpoint its step, its run and its files' digests; of a run its files'."""

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

from alexnet_jax.files import whole

PROGRESS, DIGESTS, RUN = "progress.json", "digests.json", "run.txt"


def name_run(workdir: Path, files: Mapping[str, Path]) -> None:
    """Gives a new run what tells it from all others, and its files' digests. Raises OSError.

    Args:
      files: where each lies now, by its name in the run.
    """
    digests = [f"{digest_of(path)}  {name}" for name, path in files.items()]
    (workdir / RUN).write_text("\n".join([uuid.uuid4().hex, *digests, ""]))


def let_change(workdir: Path, name: str, to: Path) -> None:
    """Lets the run's file `name` be as `to` is from now on, beside as it is. Raises OSError.

    Both are let, so that a process that ends between this and the change leaves no file that seems damaged.
    """
    first, *others = _lines_of(workdir)
    if not first:
        return
    held = [line for line in others if line and not line.endswith(f"  {name}")]
    now = [f"{digest_of(path)}  {name}" for path in (workdir / name, to)]
    with whole(workdir / RUN) as unfinished:
        unfinished.write_text("\n".join([first, *held, *now, ""]))


def run_of(workdir: Path) -> str:
    """What tells the run from all others; '' for one of an earlier version."""
    return _lines_of(workdir)[0]


def changed_files(workdir: Path) -> list[str]:
    """Files of the run that are not as the program left them; none of one of an earlier version."""
    digests: dict[str, list[str]] = {}
    for digest, gap, name in (line.partition("  ") for line in _lines_of(workdir)[1:]):
        if gap:
            digests.setdefault(name, []).append(digest)
    return [name for name, known in digests.items() if not _is_one_of(workdir / name, known)]


def _is_one_of(path: Path, digests: list[str]) -> bool:
    try:
        return digest_of(path) in digests
    except (OSError, ValueError):  # no file can have such a name
        return False


def _lines_of(workdir: Path) -> list[str]:
    try:
        return (workdir / RUN).read_text(errors="replace").split("\n")
    except OSError:
        return [""]


def digest_of(path: Path) -> str:
    """Of a file's bytes. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def seal(folder: Path, run: str, of_others: Callable[[int], Mapping[str, str]]) -> None:
    """Puts the progress and each file's digest beside the arrays; with all written, before the folder gets its name.

    Args:
      of_others: the digests of what other processes have written of a step's checkpoint, by the files' names.
    """
    for unfinished in folder.glob("*orbax-checkpoint-tmp*"):
        os.replace(folder / f".{PROGRESS}", unfinished / PROGRESS)
        step = int(unfinished.name.partition(".")[0])
        files = digests_in(unfinished, of_others(step))
        (unfinished / DIGESTS).write_text(json.dumps({"step": step, "run": run, "files": files}))


def digests_in(checkpoint: Path, known: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Of each file of a checkpoint; those that are known are taken, and their files not read. Raises OSError."""
    # Beside the folders lies what Orbax changes later.
    paths = [path for path in [*sorted(checkpoint.glob("*/**/*")), checkpoint / PROGRESS] if path.is_file()]
    names = [str(path.relative_to(checkpoint)) for path in paths]

    def digest(name: str, path: Path) -> str:
        return known[name] if name in known else digest_of(path)

    with ThreadPoolExecutor(2) as pool:  # most of it is in two files
        return dict(zip(names, pool.map(digest, names, paths), strict=True))


def damage_of(checkpoint: Path, run: str) -> str | None:
    """What is wrong with the checkpoint's files, if anything is; whether they are of another run than `run`, too."""
    try:
        written = json.loads((checkpoint / DIGESTS).read_text())
        # Earlier versions wrote the files alone.
        files, step = (written["files"], written["step"]) if "step" in written else (written, None)
        if not files or not all(isinstance(digest, str) for digest in files.values()):
            raise ValueError(f"{DIGESTS} names no files")
        present = digests_in(checkpoint)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its files cannot be read: {error}"
    if step is not None and str(step) != checkpoint.name:
        return f"it is the one of step {step}"
    if run and written.get("run") and written["run"] != run:
        return "it is of another run"
    if lost := files.keys() - present.keys():
        return f"its file {min(lost)} is lost"
    changed = [name for name in files if files[name] != present[name]]
    return f"its file {changed[0]} is not what was written" if changed else None
