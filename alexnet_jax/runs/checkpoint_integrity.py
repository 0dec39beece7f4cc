"""Digests that show damage: run.txt has those of a run's files, digests.json those of a checkpoint's.

A checkpoint's digests.json also names its step and its run, so that no checkpoint is taken for another.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from orbax.checkpoint import multihost

from alexnet_jax.devices import cluster
from alexnet_jax.files import write_whole

RUN_FILE = "run.txt"  # first what tells the run from all others, then a line for each file: its digest and its name
PROGRESS_FILE, DIGESTS_FILE = "progress.json", "digests.json"  # in a checkpoint
ALL_WRITTEN = "async_write_complete"  # Orbax's name for its barrier where each process has written its part


def name_run(workdir: Path, files: Mapping[str, Path]) -> None:
    """Writes run.txt for a new run. Raises OSError.

    Args:
      files: where each file lies now, by its name in the run.
    """
    digests = [f"{digest_of(path)}  {name}" for name, path in files.items()]
    (workdir / RUN_FILE).write_text("\n".join([uuid.uuid4().hex, *digests, ""]))


def let_change(workdir: Path, name: str, to: Path) -> None:
    """Makes run.txt accept the run's file `name` both as it is and as `to` is. Raises OSError.

    A process that is killed before the file is replaced then leaves no file that seems damaged.
    """
    run, *others = _lines_of(workdir)
    if not run:
        return
    kept = [line for line in others if line and not line.endswith(f"  {name}")]
    accepted = [f"{digest_of(path)}  {name}" for path in (workdir / name, to)]
    write_whole(workdir / RUN_FILE, "\n".join([run, *kept, *accepted, ""]), one_writer=True)


def run_of(workdir: Path) -> str:
    """What tells the run from all others; '' if run.txt cannot be read."""
    return _lines_of(workdir)[0]


def changed_files(workdir: Path) -> list[str]:
    """The run's files that differ from what the program wrote."""
    changed: dict[str, bool] = {}
    for digest, gap, name in (line.partition("  ") for line in _lines_of(workdir)[1:]):
        if gap:  # a file may have two lines, of which one must hold; see `let_change`
            changed[name] = changed.get(name, True) and not _has_digest(workdir / name, digest)
    return [name for name, is_changed in changed.items() if is_changed]


def _has_digest(path: Path, digest: str) -> bool:
    try:
        return digest_of(path) == digest
    except (OSError, ValueError):  # ValueError: run.txt is damaged, and no file can have such a name
        return False


def _lines_of(workdir: Path) -> list[str]:
    try:
        return (workdir / RUN_FILE).read_text(errors="replace").split("\n")
    except OSError:
        return [""]


def digest_of(path: Path) -> str:
    """The digest of a file's bytes. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def barrier_with_digests(checkpoints: Path) -> multihost.BarrierSyncFn | None:
    """A barrier for Orbax's writer, at which each process publishes the digests of the files that it has written.

    Hashing here saves process 0, which writes digests.json, from reading the files back over the network.

    Args:
      checkpoints: the folder of all checkpoints.

    Returns:
      None if there is one process, where Orbax needs no barrier.
    """
    if cluster.count() == 1:
        return None
    orbax_barrier: Any = multihost.get_barrier_sync_fn()

    def barrier(*, key: str, timeout_ms: int) -> None:
        if ALL_WRITTEN in key:
            step = int(key.split(ALL_WRITTEN)[1].split(".")[1])
            cluster.put(f"digests/{step}/{cluster.index()}", json.dumps(_digests_of_own_part(checkpoints, step)))
        orbax_barrier(key=key, timeout_ms=timeout_ms)

    return barrier


def _digests_of_own_part(checkpoints: Path, step: int) -> dict[str, str]:
    """The digests of the files that this process has written, by their names in the finished checkpoint."""
    own = f"process_{cluster.index()}"
    found = {}
    for state in checkpoints.glob(f"{step}.orbax-checkpoint-tmp*/state*"):
        for path in (*state.glob(f"ocdbt.{own}/**/*"), *state.glob(f"*/{own}")):
            if path.is_file():
                found[f"state/{path.relative_to(state)}"] = digest_of(path)
    return found


def seal(unfinished: Path, run: str, progress: str) -> None:
    """Adds progress.json and digests.json to a checkpoint whose arrays are written. Raises OSError.

    Args:
      unfinished: the checkpoint, before Orbax renames it to its step.
      run: what tells the run from all others.
      progress: the contents of progress.json.
    """
    step = int(unfinished.name.partition(".")[0])
    (unfinished / PROGRESS_FILE).write_text(progress)
    published = cluster.got(f"digests/{step}").values() if cluster.count() > 1 else ()
    known = {name: digest for text in published for name, digest in json.loads(text).items()}
    digests = _digests_in(unfinished, known)
    (unfinished / DIGESTS_FILE).write_text(json.dumps({"step": step, "run": run, "files": digests}))


def _digests_in(checkpoint: Path, known: Mapping[str, str]) -> dict[str, str]:
    """The digest of each file of a checkpoint, by name; a file whose digest is known is not read. Raises OSError."""
    # Files beside the folders are Orbax's own, which it changes later.
    paths = [path for path in [*sorted(checkpoint.glob("*/**/*")), checkpoint / PROGRESS_FILE] if path.is_file()]
    names = [str(path.relative_to(checkpoint)) for path in paths]

    def digest(name: str, path: Path) -> str:
        return known[name] if name in known else digest_of(path)

    with ThreadPoolExecutor(2) as pool:  # two files hold most of the bytes
        return dict(zip(names, pool.map(digest, names, paths), strict=True))


def damage_of(checkpoint: Path, run: str) -> str | None:
    """What is wrong with the checkpoint's files, as a sentence's part; None if nothing is.

    Args:
      run: what tells the run from all others; a checkpoint of another run counts as damaged.
    """
    try:
        sealed = json.loads((checkpoint / DIGESTS_FILE).read_text())
        files, step, of_run = sealed["files"], sealed["step"], sealed["run"]
        if not files or not all(isinstance(digest, str) for digest in files.values()):
            raise ValueError(f"{DIGESTS_FILE} names no files")
        present = _digests_in(checkpoint, {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its files cannot be read: {error}"
    if str(step) != checkpoint.name:
        return f"it belongs to step {step}"
    if run and of_run not in (run, ""):
        return "it belongs to another run"
    if lost := files.keys() - present.keys():
        return f"its file {min(lost)} is lost"
    changed = [name for name in files if files[name] != present[name]]
    return f"its file {changed[0]} has changed since it was written" if changed else None
