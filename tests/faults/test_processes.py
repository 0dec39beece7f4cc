"""One of several processes is killed, hangs, stops or fails: the others end as it does, and the run goes on."""

import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from alexnet_jax.signals import STATUS
from tests import launched, processes
from tests.conftest import SMALL, Launched, result
from tests.faults.conftest import Disk
from tests.faults.harness import require_same_parameters, steps_said, tried, until

pytestmark = pytest.mark.faults

STEPS, EVERY = 60, 10
RUN = (
    *SMALL,
    f"--config.train.steps={STEPS}",
    f"--config.train.checkpoint_every={EVERY}",
    "--config.train.log_every=1",
)
LONG = (*RUN, "--config.train.steps=100000")
MOST = 60  # seconds until the others have ended


def flags_of(workdir: Path, data_dir: Path, *more: str, run: tuple[str, ...] = RUN) -> tuple[str, ...]:
    return (*run, *processes.workdir_and_data(workdir, data_dir), *more)


def at_step(started: list[Launched], step: int) -> None:
    """Waits until process 0 has told of the step."""
    assert until(lambda: steps_said(started[0].said)[-1:] >= [step], lambda: started[0].runs, 400), started[0].said


def pid_of(one: Launched) -> int:
    pid = one._process.pid
    assert pid is not None
    return pid


@pytest.fixture(scope="module")
def undisturbed_pair(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes in one go."""
    workdir = tmp_path_factory.mktemp("pair") / "run"
    result(processes.run(2, *flags_of(workdir, data_dir))[0])
    return workdir


@pytest.mark.parametrize("victim", [0, pytest.param(1, marks=pytest.mark.slow)])  # of 1 it takes half a minute to hear
def test_a_process_that_is_killed_ends_the_other_and_the_pair_goes_on(
    victim: int, undisturbed_pair: Path, data_dir: Path, tmp_path: Path
) -> None:
    with tried(f"SIGKILL of process {victim} of two") as (case,):
        pair = processes.start(2, *flags_of(tmp_path / "run", data_dir))
        at_step(pair, 25)
        pair[victim].send(signal.SIGKILL)
        since = time.monotonic()
        other = pair[1 - victim].ended(MOST)
        assert time.monotonic() - since < MOST
        assert pair[victim].ended().returncode == -signal.SIGKILL
        last = other.stderr.strip().splitlines()[-1]
        said = re.fullmatch(
            rf"error: process {victim} on {os.uname().nodename.split('.')[0]}\S* .*its last step was (\d+)\. .*", last
        )
        assert other.returncode == 1 and said, other.stderr
        assert abs(int(said[1]) - 25) <= 15
        assert "Check failure" not in other.stderr and "Traceback" not in other.stderr
        on = processes.run(2, *flags_of(tmp_path / "run", data_dir))
        assert result(on[0])["step"] == STEPS
        require_same_parameters(tmp_path / "run", undisturbed_pair)
        case.identical = True


@pytest.mark.slow
@pytest.mark.parametrize("victim", [1, 0])
def test_a_process_that_hangs_ends_the_other(victim: int, data_dir: Path, tmp_path: Path) -> None:
    with tried(f"SIGSTOP of process {victim} of two") as (case,):
        pair = processes.start(2, *flags_of(tmp_path / "run", data_dir, run=LONG))
        at_step(pair, 12)
        os.kill(pid_of(pair[victim]), signal.SIGSTOP)
        other = pair[1 - victim].ended(MOST)
        assert f"error: process {victim} on " in other.stderr.strip().splitlines()[-1]
        assert other.returncode == 1 and "Check failure" not in other.stderr
        os.kill(pid_of(pair[victim]), signal.SIGCONT)
        assert pair[victim].ended(MOST).returncode == 1
        case.refused = True


@pytest.mark.slow
@pytest.mark.parametrize("victim", [1, 0])
def test_a_process_that_lives_but_computes_no_more_ends_all(victim: int, data_dir: Path, tmp_path: Path) -> None:
    with tried(f"the main thread of process {victim} of two hangs") as (case,):
        pair = processes.start(2, *flags_of(tmp_path / "run", data_dir, run=LONG))
        at_step(pair, 12)
        pair[victim].send(launched.HANG)
        since = time.monotonic()
        for one in (pair[1 - victim], pair[victim]):
            done = one.ended(MOST)
            assert done.returncode == 1
            last = done.stderr.strip().splitlines()[-1]
            assert re.match(
                rf"error: process {victim} on \S+ hangs: the others have waited for it for \d+ s; its", last
            )
        assert time.monotonic() - since < MOST
        case.refused = True


@pytest.mark.slow
def test_one_of_four_that_is_told_to_stop_stops_all_at_one_step(data_dir: Path, tmp_path: Path) -> None:
    mesh = ("--config.mesh.data=2", "--config.mesh.model=2")
    with tried("SIGTERM of one of four processes"):
        four = processes.start(4, *flags_of(tmp_path / "run", data_dir, *mesh, run=LONG))
        at_step(four, 5)
        four[2].send(signal.SIGTERM)
        done = processes.ended(four)
        assert [one.returncode for one in done] == [STATUS] * 4
        last = {one.stderr.strip().splitlines()[-1] for one in done}
        (sentence,) = last
        step = re.fullmatch(
            r"stopped by SIGTERM after step (\d+), which is saved; repeat the same command to continue", sentence
        )
        assert step and (tmp_path / "run" / "checkpoints" / step[1] / "digests.json").is_file()


def test_a_damaged_record_of_one_process_ends_all_with_its_sentence(data_dir: Path, tmp_path: Path) -> None:
    # Hosts that share no disk: each process has data of its own, and the second one's is damaged.
    damaged = tmp_path / "data"
    shutil.copytree(data_dir, damaged)
    shard = next(damaged.glob("digits_72/**/*train.tfrecord*"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    flags = flags_of(tmp_path / "run", data_dir, "--config.data.shared=False")
    own = {1: (f"--config.data.data_dir={damaged}",)}
    with tried("a damaged record on one of two processes") as (case,):
        first, second = processes.run(2, *flags, each=own)
        theirs = second.stderr.strip().splitlines()[-1]
        assert str(shard) in theirs and theirs.startswith("error: "), second.stderr
        assert first.returncode == second.returncode == 1
        assert first.stderr.strip().splitlines()[-1].endswith(theirs.removeprefix("error: ")), first.stderr
        assert "error: process 1 on " in first.stderr
        case.refused = True


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_all(data_dir: Path, tmp_path: Path) -> None:
    with tried("a NaN in two processes") as (case,):
        for one in processes.run(2, *flags_of(tmp_path / "run", data_dir, "--config.optimizer.learning_rate=1e9")):
            assert one.returncode == 1
            assert "is nan" in one.stderr or "is not a finite number" in one.stderr or "is inf" in one.stderr
        case.refused = True


@pytest.mark.slow
def test_a_disk_that_is_full_ends_all_and_with_room_they_go_on(
    disk: Disk, undisturbed_pair: Path, data_dir: Path, tmp_path: Path
) -> None:
    flags = flags_of(disk.folder / "run", data_dir)
    with tried("disk filled while two processes train") as (case,):
        pair = processes.start(2, *flags)
        at_step(pair, 12)
        disk.fill()
        for one in processes.ended(pair):
            last = one.stderr.strip().splitlines()[-1]
            assert one.returncode == 1 and re.search(r"make room\b.*repeat the same command to continue", last), (
                one.stderr
            )
            assert "Traceback" not in one.stderr
        disk.free()
        assert result(processes.run(2, *flags)[0])["step"] == STEPS
        require_same_parameters(disk.folder / "run", undisturbed_pair)
        case.identical = True


@pytest.mark.slow
def test_hosts_that_share_no_disk_prepare_each_their_own_and_one_s_full_disk_ends_all(
    disk: Disk, undisturbed_pair: Path, data_dir: Path, tmp_path: Path
) -> None:
    flags = flags_of(tmp_path / "run", data_dir, "--config.data.shared=False")
    own = {
        0: (f"--config.data.data_dir={tmp_path / 'first'}",),
        1: (f"--config.data.data_dir={disk.folder / 'second'}",),
    }
    with tried("the disk of one of two hosts is full while preparing") as (case,):
        disk.resize(100)
        first, second = processes.run(2, *flags, each=own)
        theirs = second.stderr.strip().splitlines()[-1]
        assert "room" in theirs and str(disk.folder) in theirs, second.stderr
        assert first.returncode == second.returncode == 1
        assert first.stderr.strip().splitlines()[-1].endswith(theirs.removeprefix("error: ")), first.stderr
        disk.resize(100_000)
        assert result(processes.run(2, *flags, each=own)[0])["step"] == STEPS
        require_same_parameters(tmp_path / "run", undisturbed_pair)
        case.identical = True
