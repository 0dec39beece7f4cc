"""A checkpoint's seal: the digests of its files, its step and its run, by which damage is found."""

import hashlib
import json
import os
import uuid
from pathlib import Path

PROGRESS, DIGESTS, RUN = "progress.json", "digests.json", "run.txt"


def name_run(workdir: Path) -> None:
    """Gives a new run what tells it from all others. Raises OSError."""
    (workdir / RUN).write_text(f"{uuid.uuid4().hex}\n")


def run_of(workdir: Path) -> str:
    """What tells the run from all others; '' for one of an earlier version."""
    try:
        return (workdir / RUN).read_text(errors="replace").strip()
    except OSError:
        return ""


def seal(folder: Path, run: str) -> None:
    """Puts the progress and each file's digest beside the arrays; with all written, before the folder gets its name."""
    for unfinished in folder.glob("*orbax-checkpoint-tmp*"):
        os.replace(folder / f".{PROGRESS}", unfinished / PROGRESS)
        step = int(unfinished.name.partition(".")[0])
        (unfinished / DIGESTS).write_text(json.dumps({"step": step, "run": run, "files": _digests(unfinished)}))


def _digests(checkpoint: Path) -> dict[str, str]:
    digests = {}
    # Beside the folders lies what Orbax changes later.
    for path in [*sorted(checkpoint.glob("*/**/*")), checkpoint / PROGRESS]:
        if path.is_file():
            with path.open("rb") as file:
                digests[str(path.relative_to(checkpoint))] = hashlib.file_digest(file, "blake2b").hexdigest()
    return digests


def damage_of(checkpoint: Path, run: str) -> str | None:
    """What is wrong with the checkpoint's files, if anything is; whether they are of another run than `run`, too."""
    try:
        written = json.loads((checkpoint / DIGESTS).read_text())
        # Earlier versions wrote the files alone.
        files, step = (written["files"], written["step"]) if "step" in written else (written, None)
        if not files or not all(isinstance(digest, str) for digest in files.values()):
            raise ValueError(f"{DIGESTS} names no files")
        present = _digests(checkpoint)
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
