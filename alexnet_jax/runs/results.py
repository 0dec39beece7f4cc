"""What was measured of runs: by --mode=evaluate, and by the validations of training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexnet_jax.config.config import run_exists
from alexnet_jax.messages import UserError
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.folder import evaluations, open_run
from alexnet_jax.training.step import TOP_K

NEWEST, BEST = "newest", "best"  # checkpoints


@dataclass(frozen=True)
class Measured:
    """A result that a folder holds."""

    members: tuple[str, ...]  # the configs' names, sorted
    data: str
    split: str
    views: int
    top1: float  # percent
    top5: float | None  # percent; None where it says nothing, of five classes or fewer
    run: str = ""  # the folder's name
    checkpoint: str = NEWEST  # or best, or another one, 'step N'
    seeds: tuple[int, ...] = ()  # of an ensemble's members, in their order; () where they are not known
    other_pictures: bool = False  # than the network was trained on, as far as is known; or divided in another way

    @property
    def is_of_different_runs(self) -> bool:
        """Whether no two members are of one config and one seed, as far as is known: else fewer were averaged."""
        return len(self.members) == 1 or len(set(zip(self.members, self.seeds, strict=False))) == len(self.members)


def measured(folder: Path) -> list[Measured]:
    """The results in a folder, the latest first: of --mode=evaluate, and of the newest and the best validation.

    Raises:
      UserError: the folder has neither.
    """
    lines = evaluations(folder)[::-1]
    if not run_exists(folder):
        if not lines:
            raise UserError(f"--runs names {folder}, which holds no run and no evaluation; name folders of runs")
        return [_of_line(line, kind, folder) for line in lines for kind in _checkpoints_of(line, {})]
    run, checkpoints = open_run(folder), Checkpoints(folder)
    saved = run.config
    steps = {NEWEST: max(checkpoints.steps(), default=None), BEST: checkpoints.best_step()}
    validations = {
        kind: metrics for kind, step in steps.items() if step is not None and (metrics := checkpoints.metrics(step))
    }
    checkpoints.close()
    of_training = {
        "members": [saved["name"]],
        "data": saved["data"]["name"],
        "split": saved["evaluate"]["split"],
        "views": saved["evaluate"]["views"],
        "classes": len(run.classes) or saved["model"]["classes"],
    }
    return [
        *(_of_line(line, kind, folder) for line in lines for kind in _checkpoints_of(line, steps)),
        *(_of_line({**of_training, **metrics}, kind, folder) for kind, metrics in validations.items()),
    ]


def _checkpoints_of(line: dict[str, Any], steps: dict[str, int | None]) -> list[str]:
    """Which of the run's checkpoints an evaluation is of, as they stand now; of an ensemble which it was asked for."""
    if "step" not in line:
        return [line.get("checkpoint", BEST)]
    return [kind for kind, step in steps.items() if step == line["step"]] or [f"step {line['step']}"]


def _of_line(line: dict[str, Any], checkpoint: str, folder: Path) -> Measured:
    names, seeds = line["members"], line.get("seeds")
    ordered = sorted(zip(names, seeds or [0] * len(names), strict=True))
    return Measured(
        tuple(name for name, _ in ordered),
        line["data"],
        line["split"],
        line["views"],
        100 * line["top1_error"],
        100 * line["top5_error"] if line.get("classes", TOP_K + 1) > TOP_K else None,
        folder.name,
        checkpoint,
        tuple(seed for _, seed in ordered) if seeds else (),
        bool(line.get("other_pictures")),
    )
