"""jobs/slurm.sbatch under a real Slurm on this machine: two tasks, a signal, a preemption, an allocation's shell."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alexnet_jax.loop.report import read_metrics
from tests.conftest import ROOT, SMALL, environment_of_a_user

SLURM = Path(__file__).with_name("slurm.sh")
DAEMONS = ("munged", "slurmctld", "slurmd")
STEPS = 400
RUN = (*SMALL, f"--config.train.steps={STEPS}", "--config.train.log_every=1", "--config.train.checkpoint_every=0")
CPU = ("--nodes=1", "--ntasks=2", "--ntasks-per-node=2", "--gpus-per-node=0")  # these replace the job's own flags
pytestmark = [pytest.mark.slow, pytest.mark.faults]


def missing() -> str:
    """Why Slurm cannot run here; '' if it can."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    lacking = [name for name in (*DAEMONS, "sbatch") if shutil.which(name, path=path) is None]
    if lacking:
        return f"{lacking[0]} is not installed (Debian: slurm-wlm, munge)"
    return "" if os.geteuid() == 0 else "only root can start Slurm's daemons"


@pytest.fixture(scope="module")
def slurm() -> Iterator[Callable[..., str]]:
    """A function that runs one of Slurm's commands and returns its output."""
    if why := missing():
        pytest.skip(why)
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)  # munged's clients need access
    started = subprocess.run([SLURM, "start", folder], capture_output=True, text=True, timeout=120)
    if started.returncode == 2:
        pytest.skip(started.stderr.strip())
    environment = {**environment_of_a_user(), "SLURM_CONF": str(folder / "slurm.conf"), "PYTHON": sys.executable}

    def command(*words: Any) -> str:
        done = subprocess.run(
            list(map(str, words)), env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + (done.stderr if words[0] in ("srun", "salloc") else "")

    try:
        assert started.returncode == 0, started.stderr
        yield command
    finally:
        subprocess.run([SLURM, "stop", folder], timeout=150, check=True)
        shutil.rmtree(folder)


def until(holds: Callable[[], Any], what: str, seconds: float = 240) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.2)
    raise TimeoutError(what)


class Job:
    """The repository's job, training digits as two tasks."""

    def __init__(self, slurm: Callable[..., str], data_dir: Path, folder: Path) -> None:
        self._slurm, self._output, self.workdir = slurm, folder / "job.txt", folder / "run"
        flags = (*RUN, f"--config.data.data_dir={data_dir}", f"--workdir={self.workdir}")
        self.number = slurm(
            "sbatch", "--parsable", *CPU, f"--output={self._output}", "jobs/slurm.sbatch", *flags
        ).strip()

    @property
    def said(self) -> str:
        """The output of its script and its tasks so far."""
        return self._output.read_text() if self._output.exists() else ""

    @property
    def state(self) -> str:
        """Its state in Slurm's words."""
        return re.findall(r"JobState=(\w+)", self._slurm("scontrol", "show", "job", self.number))[0]

    def until_step(self, step: int) -> None:
        """Waits until the log has the step."""
        until(lambda: f"step {step}/" in self.said, f"step {step}: {self.said}")

    def starts_again(self) -> None:
        """Waits until it is back in the queue, and releases it, where Slurm would hold it for two minutes."""
        until(lambda: self.state == "PENDING", f"in the queue: {self.state} {self.said}")
        time.sleep(15)  # until the first start's credential expires; slurmd would take the new one for it
        self._slurm("scontrol", "update", f"JobId={self.number}", "StartTime=now")

    def require_went_on_to_the_end(self) -> None:
        """It resumed at the stop and made each step once."""
        until(lambda: self.state == "COMPLETED", f"its end: {self.state} {self.said}")
        stops = re.findall(r"stopped by SIGTERM after step (\d+), which is saved", self.said)
        assert len(stops) == 2 and stops[0] == stops[1], self.said  # both tasks, the same step
        assert f"going on with the run in {self.workdir} from step {stops[0]}" in self.said
        steps = [int(line["step"]) for line in read_metrics(self.workdir) if "train/loss" in line]
        assert steps == [*range(1, STEPS + 1)]
        assert json.loads(self.said.strip().splitlines()[-1])["step"] == STEPS


def test_two_tasks_join_without_any_flag(slurm: Callable[..., str], data_dir: Path, tmp_path: Path) -> None:
    flags = (*SMALL, "--config.train.steps=5", f"--config.data.data_dir={data_dir}", f"--workdir={tmp_path / 'run'}")
    said = slurm("srun", "--ntasks=2", sys.executable, "launch.py", *flags)
    assert "2 processes on 1 host" in said
    assert "mesh: data 1 x model 2 on 2 of 2 cpu devices (each holds one tower)" in said
    assert len(re.findall(r"^\{.*\}$", said, re.MULTILINE)) == 1  # process 0 alone has a result


def test_a_shell_of_an_allocation_starts_alone(slurm: Callable[..., str], data_dir: Path, tmp_path: Path) -> None:
    flags = (*SMALL, "--config.train.steps=5", f"--config.data.data_dir={data_dir}", f"--workdir={tmp_path / 'run'}")
    said = slurm("salloc", "--ntasks=2", sys.executable, "launch.py", *flags)
    assert "this process starts alone, though it is in one of Slurm's jobs" in said
    assert '"step": 5' in said


def test_a_job_that_is_told_to_stop_goes_back_into_the_queue_and_on(
    slurm: Callable[..., str], data_dir: Path, tmp_path: Path
) -> None:
    job = Job(slurm, data_dir, tmp_path)
    job.until_step(30)
    slurm("scancel", "--signal=TERM", job.number)
    job.starts_again()
    job.require_went_on_to_the_end()


def test_a_job_that_is_preempted_goes_on_after_the_urgent_one(
    slurm: Callable[..., str], data_dir: Path, tmp_path: Path
) -> None:
    job = Job(slurm, data_dir, tmp_path)
    job.until_step(30)
    slurm("sbatch", "--wait", "--partition=urgent", "--ntasks=4", f"--output={tmp_path}/urgent", "--wrap", "sleep 1")
    job.starts_again()
    job.require_went_on_to_the_end()
