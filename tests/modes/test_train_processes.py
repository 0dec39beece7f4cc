"""Training in several processes with a device each: the same losses, checkpoints and results as in one process."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from alexnet_jax.devices import towers
from alexnet_jax.loop.report import read_metrics
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.folder import open_run, own_recipe
from alexnet_jax.training.step import abstract_state
from tests import processes
from tests.conftest import ROOT, SMALL, Launched, launch, refusal, result

pytestmark = pytest.mark.faults

STEPS = 24  # which include the end of an epoch and its validation
RUN = (*SMALL, f"--config.train.steps={STEPS}", "--config.train.log_every=1", "--config.train.checkpoint_every=10")
FOUR = ("--config.mesh.data=2", "--config.mesh.model=2")


@pytest.fixture(scope="module")
def alone(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a single process with two devices."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    result(launch(*RUN, *processes.workdir_and_data(workdir, data_dir)))
    return workdir


@pytest.fixture(scope="module")
def of_two(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes with a tower each, after both have ended well."""
    workdir = tmp_path_factory.mktemp("two") / "run"
    first, second = processes.run(2, *RUN, *processes.workdir_and_data(workdir, data_dir))
    assert result(first)["step"] == STEPS
    assert "mesh: data 1 x model 2 on 2 of 2 cpu devices (each holds one tower)" in first.stderr
    assert (second.returncode, second.stdout) == (0, ""), second.stderr
    return workdir


def numbers(workdir: Path, name: str) -> list[float]:
    return [line[name] for line in read_metrics(workdir) if name in line]


def params_of(workdir: Path) -> dict[str, dict[str, np.ndarray]]:
    state = abstract_state(own_recipe(open_run(workdir)), towers.make_mesh(1, 1))
    return jax.tree.map(np.asarray, Checkpoints(workdir).restore(state).state.params)


def test_two_processes_with_a_tower_each_train_as_one_process(alone: Path, of_two: Path) -> None:
    losses = numbers(of_two, "train/loss")
    assert len(set(losses)) == STEPS
    np.testing.assert_allclose(losses, numbers(alone, "train/loss"), rtol=1e-4)
    for name in ("validation/loss", "validation/top1_error", "validation/top5_error"):
        np.testing.assert_allclose(numbers(of_two, name), numbers(alone, name), rtol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), params_of(of_two), params_of(alone)
    )


def test_process_0_alone_writes_and_each_part_is_digested(of_two: Path, alone: Path) -> None:
    def names(workdir: Path) -> set[str]:
        return {path.name.split(".vm")[0].split("tfevents")[0] for path in workdir.iterdir()}

    assert names(of_two) == names(alone)
    digests = json.loads((of_two / "checkpoints" / str(STEPS) / "digests.json").read_text())["files"]
    parts = {name.split("/")[1] for name in digests if name.startswith("state/ocdbt.process_")}
    assert parts == {"ocdbt.process_0", "ocdbt.process_1"}


def test_evaluation_counts_each_picture_once_whatever_the_batches(of_two: Path, data_dir: Path) -> None:
    batch = "--config.evaluate.batch_size=100"  # of 360 pictures: the last batch is short, and its second half is empty
    flags = ("--mode=evaluate", *processes.workdir_and_data(of_two, data_dir), batch)
    together = result(processes.run(2, *flags, "--config.mesh.data=2", "--config.mesh.model=1")[0])
    one = result(launch(*flags))
    assert together["examples"] == one["examples"] == 360
    assert together["worst_classes"] == one["worst_classes"]
    for name in ("top1_error", "top5_error"):
        assert together[name] == one[name]
    np.testing.assert_allclose(together["loss"], one["loss"], rtol=1e-5)


@pytest.mark.slow
def test_four_processes_go_on_on_one_and_on_two_and_the_other_way_round(
    alone: Path, data_dir: Path, tmp_path: Path
) -> None:
    def go_on(name: str, begun: Path, count: int, steps: int) -> Path:
        workdir = tmp_path / name
        if begun.exists():
            shutil.copytree(begun, workdir)
        flags = (*RUN, *processes.workdir_and_data(workdir, data_dir), f"--config.train.steps={steps}")
        if count == 1:
            result(launch(*flags))
        else:
            mesh = FOUR if count == 4 else ()
            result(processes.run(count, *flags, *mesh)[0])
        return workdir

    begun_by_four = go_on("four", tmp_path / "none", 4, STEPS)
    np.testing.assert_allclose(numbers(begun_by_four, "train/loss"), numbers(alone, "train/loss"), rtol=1e-4)
    whole = go_on("whole", alone, 1, STEPS + 10)
    for name, begun, count in (
        ("4-1", begun_by_four, 1),
        ("4-2", begun_by_four, 2),
        ("4-4", begun_by_four, 4),
        ("1-4", alone, 4),
    ):
        workdir = go_on(name, begun, count, STEPS + 10)
        np.testing.assert_allclose(numbers(workdir, "train/loss"), numbers(whole, "train/loss"), rtol=1e-4)


@pytest.mark.parametrize(
    ("count", "flags", "each", "words"),
    [
        pytest.param(
            2,
            ("--config.mesh.data=2", "--config.mesh.model=2"),
            {},
            "asks for 4 devices (data 2 x model 2) and the 2 processes have 2",
            id="too few devices",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            2, (), {1: ("--config.train.seed=3",)}, "config.train.seed is 3 in process 1 on ", id="other configs"
        ),
        pytest.param(
            2,
            ("--config.mesh.data=2", "--config.mesh.model=1", "--config.train.batch_size=63"),
            {},
            "config.train.batch_size is 63",
            id="a batch that cannot be divided",
            marks=pytest.mark.slow,
        ),
        pytest.param(3, (), {}, "an odd number for 2 towers, and leaves process 2 without any", id="an odd number"),
    ],
)
def test_what_cannot_be_is_said_by_all_in_a_sentence(
    count: int, flags: tuple[str, ...], each: dict[int, tuple[str, ...]], words: str, data_dir: Path, tmp_path: Path
) -> None:
    flags = (*RUN, *processes.workdir_and_data(tmp_path / "run", data_dir), *flags)
    for done in processes.run(count, *flags, each=each):
        assert words in refusal(done)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_workdir_that_one_process_alone_sees_is_named_with_the_file(data_dir: Path, tmp_path: Path) -> None:
    # Each process has its own folder under the same name, like hosts that share no disk.
    config = f"--config={ROOT / 'configs' / 'digits.py'}"
    flags = (*RUN, config, *processes.workdir_and_data(Path("/proc/self/cwd/run"), data_dir))
    joined = (f"--coordinator=127.0.0.1:{processes.free_port()}", "--processes=2")
    folders = [tmp_path / "first", tmp_path / "second"]
    started = []
    for process, folder in enumerate(folders):
        folder.mkdir()
        started.append(Launched(*flags, *joined, f"--process={process}", cwd=folder))
    for done in processes.ended(started):
        sentence = refusal(done)
        assert "'/proc/self/cwd/run/config.json' is missing or different on this host" in sentence
        assert "--workdir must lie on a disk that all hosts share" in sentence


def test_flags_of_a_cluster_are_all_given_or_none() -> None:
    done = launch(*SMALL, "--process=1")
    assert "--coordinator and --processes are missing" in refusal(done)
