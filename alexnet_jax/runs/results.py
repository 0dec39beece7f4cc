"""The errors that were measured of runs: by --mode=evaluate in evaluations.jsonl, and by training's validations."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexnet_jax.config.config import run_exists
from alexnet_jax.messages import UserError, say
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.folder import open_run
from alexnet_jax.training.step import TOP_K

NEWEST, BEST = "newest", "best"  # kinds of checkpoint
EVALUATIONS_FILE = "evaluations.jsonl"
KEYS = ("members", "seeds", "data", "split", "views", "checkpoint", "classes", "other_pictures")  # beside the errors


@dataclass(frozen=True)
class Measured:
    """A result that a folder holds."""

    members: tuple[str, ...]  # the configs' names, sorted
    data: str
    split: str
    views: int
    top1: float  # percent
    top5: float | None  # percent; None for five classes or fewer, where it says nothing
    run: str = ""  # the folder's name
    checkpoint: str = NEWEST  # or best, or 'step N' for a checkpoint that is neither any more
    seeds: tuple[int, ...] = ()  # of an ensemble's members, in their order; () for one network's validation
    other_pictures: bool = False  # whether the pictures differ from those of training, as far as is known

    @property
    def is_of_different_runs(self) -> bool:
        """Whether no two members have the same config and seed: else fewer networks were averaged."""
        return len(self.members) == 1 or len(set(zip(self.members, self.seeds, strict=False))) == len(self.members)


def record_evaluation(workdir: Path, line: dict[str, Any]) -> None:
    """Adds the line to `evaluations.jsonl`, which --mode=table reads; prints a message if it cannot."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with open(workdir / EVALUATIONS_FILE, "a") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        say(f"{workdir} cannot be written ({error.strerror}): the result is not kept for --mode=table")


def evaluations(workdir: Path) -> list[dict[str, Any]]:
    """The lines of `evaluations.jsonl`, none without that file; a message names each line that cannot be used.

    Raises:
      UserError: the file cannot be read.
    """
    path, found = workdir / EVALUATIONS_FILE, []
    try:
        texts = path.read_bytes().splitlines() if path.exists() else []
    except OSError as error:
        raise UserError(f"'{path}' cannot be read ({error.strerror}); make it readable, or move it away") from error
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
            line |= {name: float(line[name]) for name in ("top1_error", "top5_error")}
            if missing := [name for name in KEYS if name not in line]:
                raise KeyError(missing[0])
            found.append(line)
        except (ValueError, KeyError, TypeError):
            say(f"'{path}': line {number} cannot be used and is left out")
    return found


def measured(folder: Path) -> list[Measured]:
    """The results in a folder: evaluations, the latest first, then the validations of the newest and best checkpoint.

    Raises:
      UserError: the folder has neither.
    """
    lines = evaluations(folder)[::-1]
    if not run_exists(folder):
        if not lines:
            raise UserError(f"--runs names {folder}, which holds no run and no evaluation; name folders of runs")
        return [_of_evaluation(line, kind, folder) for line in lines for kind in _checkpoints_of(line, {})]
    run, checkpoints = open_run(folder), Checkpoints(folder)
    steps = {NEWEST: max(checkpoints.steps(), default=None), BEST: checkpoints.best_step()}
    found = [_of_evaluation(line, kind, folder) for line in lines for kind in _checkpoints_of(line, steps)]
    for kind, step in steps.items():
        if step is not None and (metrics := checkpoints.metrics(step)):
            of_validation = {
                "members": [run.config["name"]],
                "seeds": [],
                "data": run.config["data"]["name"],
                "split": run.config["evaluate"]["split"],
                "views": run.config["evaluate"]["views"],
                "classes": run.classes_in_data,
                "other_pictures": False,
            }
            found.append(_of_evaluation({**of_validation, **metrics}, kind, folder))
    return found


def _checkpoints_of(line: dict[str, Any], steps: dict[str, int | None]) -> list[str]:
    """Which of the run's present checkpoints were evaluated; for an ensemble, which kind it was asked for."""
    if "step" not in line:
        return [line["checkpoint"]]
    return [kind for kind, step in steps.items() if step == line["step"]] or [f"step {line['step']}"]


def _of_evaluation(line: dict[str, Any], checkpoint: str, folder: Path) -> Measured:
    names, seeds = line["members"], line["seeds"]
    ordered = sorted(zip(names, seeds or [0] * len(names), strict=True))
    return Measured(
        tuple(name for name, _ in ordered),
        line["data"],
        line["split"],
        line["views"],
        100 * line["top1_error"],
        100 * line["top5_error"] if line["classes"] > TOP_K else None,
        folder.name,
        checkpoint,
        tuple(seed for _, seed in ordered) if seeds else (),
        line["other_pictures"],
    )
