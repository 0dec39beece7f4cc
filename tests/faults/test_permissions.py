"""Files and folders that may not be read or written, by a user who is not above that."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, environment_of_a_user, result
from tests.faults.conftest import Flags
from tests.faults.harness import STEPS, require_same_end, require_sentence, saved_steps, tried

pytestmark = pytest.mark.faults

# Root without the capabilities by which permissions do not count.
UNPRIVILEGED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


def launch_unprivileged(*flags: str) -> subprocess.CompletedProcess[str]:
    if UNPRIVILEGED and not shutil.which("setpriv"):
        pytest.skip("root, and there is no setpriv")
    command = [*UNPRIVILEGED, sys.executable, "launch.py", *flags]
    return subprocess.run(command, cwd=ROOT, env=environment_of_a_user(), capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("checkpoints", 0o555),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                *(("checkpoints", 0), ("", 0o555), ("config.json", 0), ("metrics.jsonl", 0), ("classes.txt", 0)),
                *(("pictures.txt", 0), ("preprocessing.npz", 0)),
            )
        ),
    ],
)
def test_what_may_not_be_read_or_written_is_named_at_once(
    name: str, mode: int, half: Path, flags_of: Flags, tmp_path: Path
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(half, workdir)
    with tried(f"{name or 'the folder'} {'not writable' if mode else 'not readable'}") as (case,):
        (workdir / name).chmod(mode)
        done = launch_unprivileged(*flags_of(workdir))
        (workdir / name).chmod(0o755)
        require_sentence(done, str(workdir), name)
        assert "step " not in done.stdout + done.stderr.replace("from step ", "")
        case.refused = True


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", "progress.json", "digests.json", "validation.json"])
def test_a_checkpoint_that_may_not_be_read_is_said_and_the_one_before_is_taken(
    name: str, half: Path, flags_of: Flags, undisturbed: Callable[[], Path], tmp_path: Path
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(half, workdir)
    newest = workdir / "checkpoints" / str(saved_steps(workdir)[-1])
    path = newest / name if (newest / name).exists() else newest
    with tried(f"the newest checkpoint{' ' if name else ''}{name} not readable") as (case,):
        path.chmod(0)
        done = launch_unprivileged(*flags_of(workdir))
        for left in (path, workdir / "damaged"):
            if left.exists():
                subprocess.run(["chmod", "-R", "u+rwX", str(left)], check=True)
        assert result(done)["step"] == STEPS
        assert "Traceback" not in done.stderr and "Permission denied" in done.stderr
        require_same_end(workdir, undisturbed())
        case.identical = True
