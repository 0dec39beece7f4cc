"""Runs of launch.py that are harmed, and whether they end as if nothing had been."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from alexnet_jax.devices import towers
from alexnet_jax.loop.report import read_metrics
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.folder import open_run, own_recipe
from alexnet_jax.training.step import abstract_state
from tests.conftest import SMALL

STEPS, EVERY = 60, 10  # of a run, and between its checkpoints
RUN = (*SMALL, f"--config.train.steps={STEPS}", f"--config.train.checkpoint_every={EVERY}")
PICTURES = ("kernels", "predictions")  # in TensorBoard, of each validation
RECORDS = "FAULTS"  # the environment's variable that names a file for the table's lines


@dataclass
class Case:
    """One harm, and what came of it."""

    fault: str
    survived: bool = False
    again: int = 0  # steps that were done a second time
    identical: bool = False  # whether the result is the undisturbed run's
    refused: bool = False  # whether it was refused in a sentence


@contextmanager
def tried(*faults: str) -> Iterator[list[Case]]:
    """Lines for the table, one for each harm; survived where nothing is raised within."""
    cases = [Case(fault) for fault in faults]
    try:
        yield cases
        for case in cases:
            case.survived = True
    finally:
        if RECORDS in os.environ:
            with open(os.environ[RECORDS], "a") as file:
                file.write("".join(json.dumps(asdict(case)) + "\n" for case in cases))


def until(holds: Callable[[], Any], runs: Callable[[], bool], timeout: float = 120) -> bool:
    """Waits until it holds; whether it did before the process ended."""
    end = time.monotonic() + timeout
    while runs() and time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.002)
    return False


def steps_said(said: str) -> list[int]:
    """The steps that log lines report."""
    return [int(step) for step in re.findall(r"^step (\d+)/", said, re.MULTILINE)]


def step_gone_on_from(said: str) -> list[int]:
    """Where a start says that it stands; nothing where it did not come to that."""
    return [int(step) for step in re.findall(r"from step (\d+)$", said, re.MULTILINE)]


def saved_steps(workdir: Path) -> list[int]:
    """Those whose checkpoints have their names."""
    folder = workdir / "checkpoints"
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []


def require_quiet(done: subprocess.CompletedProcess[str]) -> None:
    """No traceback, of whatever thread."""
    assert "Traceback" not in done.stdout + done.stderr, done.stderr


def require_sentence(done: subprocess.CompletedProcess[str], *words: str) -> str:
    """Status 1, and one sentence at the end that has the words."""
    require_quiet(done)
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: "), done.stderr
    for word in words:
        assert word in last
    return last


def _board(workdir: Path) -> list[tuple[int, str, float]]:
    """What TensorBoard shows: step, name, number; of a picture, how many bytes it has."""
    from alexnet_jax.data.tensorflow import tf

    shown = []
    for series in ("", "validation/"):
        for path in workdir.glob(f"{series}events.out.tfevents.*"):
            for record in tf.data.TFRecordDataset(str(path)):
                event = tf.compat.v1.Event.FromString(record.numpy())
                for value in event.summary.value:
                    content = np.ravel(tf.make_ndarray(value.tensor))
                    is_image = value.metadata.plugin_data.plugin_name == "images"
                    name = value.tag if is_image else f"{series}{value.tag}"
                    shown.append((event.step, name, float(len(content[2]) if is_image else content[0])))
    return sorted(shown)


def _lines(workdir: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in read_metrics(workdir)]


def require_same_parameters(workdir: Path, undisturbed: Path) -> None:
    """Bit for bit, with all else that the next step depends on."""
    run = open_run(undisturbed)
    state = abstract_state(own_recipe(run), towers.make_mesh(1, 1))
    ours, theirs = (Checkpoints(folder).restore(state) for folder in (workdir, undisturbed))
    assert (ours.step, ours.progress, ours.validation) == (theirs.step, theirs.progress, theirs.validation)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), ours.state, theirs.state)


def require_same_end(workdir: Path, undisturbed: Path, pictures_wait: bool = False) -> None:
    """The same parameters, metrics but for the speed, and best step; each step once in TensorBoard.

    Args:
      pictures_wait: whether some validations' pictures may be missing: where the disk had no room for them, they wait
        until it has, and are not made again if the run ends before.
    """
    require_same_parameters(workdir, undisturbed)
    assert _lines(workdir) == _lines(undisturbed)
    # A signal's own checkpoint may be among the newest three.
    assert Checkpoints(workdir).best_step() == Checkpoints(undisturbed).best_step()
    pictures = [point for point in _board(workdir) if point[1] in PICTURES]
    expected_pictures = [point for point in _board(undisturbed) if point[1] in PICTURES]
    validated = [int(line["step"]) for line in _lines(workdir) if "validation/loss" in line]
    assert [point[:2] for point in expected_pictures] == sorted((step, name) for step in validated for name in PICTURES)
    if pictures_wait:
        assert pictures == sorted(set(pictures) & set(expected_pictures))
    else:
        assert pictures == expected_pictures
    board = [point for point in _board(workdir) if point[1] not in ("images_per_second", *PICTURES)]
    expected = [
        (int(line["step"]), name.removeprefix("train/"), np.float32(value))
        for line in _lines(workdir)
        for name, value in line.items()
        if name not in ("step", "epoch")
    ]
    assert [(step, name, np.float32(value)) for step, name, value in board] == sorted(expected)
    assert (workdir / "curves.png").read_bytes().endswith(b"IEND\xaeB`\x82")
