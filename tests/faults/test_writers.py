"""Two processes where one belongs, also where files cannot be locked."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Launched, launch, launch_anew, result
from tests.faults.conftest import Flags
from tests.faults.harness import require_quiet, require_same_end, require_sentence, steps_said, tried, until

pytestmark = pytest.mark.faults

NO_LOCKS = """
#include <errno.h>
int flock(int file, int how) { errno = ENOLCK; return -1; }
"""


def test_a_second_trainer_is_refused_and_the_first_is_none_the_worse(
    flags_of: Flags, undisturbed: Callable[[], Path], tmp_path: Path
) -> None:
    flags = flags_of(tmp_path / "run")
    with tried("a second trainer in the folder") as (case,):
        first = Launched(*flags)
        assert until(lambda: "mesh:" in first.said and (tmp_path / "run/.lock").exists(), lambda: first.runs)
        require_sentence(launch(*flags), f"{tmp_path / 'run'}' is being trained by process ")
        done = first.ended()
        require_quiet(done)
        assert result(done)["step"] == steps_said(done.stderr)[-1]
        require_same_end(tmp_path / "run", undisturbed())
        case.identical = True


@pytest.mark.slow
def test_a_second_process_that_prepares_is_refused_and_the_set_is_the_same(data_dir: Path, tmp_path: Path) -> None:
    flags = ("--config=configs/digits.py", "--mode=prepare", f"--config.data.data_dir={tmp_path}")
    with tried("a second process that prepares") as (case,):
        first = Launched(*flags)
        assert until(lambda: (tmp_path / "digits_72/incomplete/.lock").exists(), lambda: first.runs)
        require_sentence(launch(*flags), f"{tmp_path / 'digits_72/incomplete'}' is being prepared by process ")
        done = first.ended()
        require_quiet(done)
        made = Path(result(done)["data_dir"])
        for path in made.glob("*tfrecord*"):
            assert path.read_bytes() == (data_dir / "digits_72/1.0.0" / path.name).read_bytes()
        case.identical = True


@pytest.fixture(scope="session")
def no_locks(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library that has every `flock` fail, as it does on a file system without locks."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("no_locks")
    (folder / "flock.c").write_text(NO_LOCKS)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "flock.so", folder / "flock.c"], check=True)
    return str(folder / "flock.so")


@pytest.mark.slow
def test_without_locks_a_run_says_so_and_is_the_same(
    no_locks: str, flags_of: Flags, undisturbed: Callable[[], Path], tmp_path: Path
) -> None:
    flags = flags_of(tmp_path / "run", data=tmp_path / "data")
    with tried("a file system without locks") as (case,):
        done = launch_anew(*flags, LD_PRELOAD=no_locks)
        require_quiet(done)
        result(done)
        assert (
            len(re.findall("cannot be locked; make sure that no other host", done.stderr)) == 2
        )  # the set, and the run
        require_same_end(tmp_path / "run", undisturbed())
        case.identical = True
