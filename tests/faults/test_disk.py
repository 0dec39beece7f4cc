"""A disk that is full, and one that has room again."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Launched, launch, result
from tests.faults.conftest import Disk, Flags
from tests.faults.harness import require_quiet, require_same_end, require_sentence, steps_said, tried, until

pytestmark = pytest.mark.faults


def reaches(launched: Launched, step: int) -> None:
    assert until(lambda: steps_said(launched.said)[-1:] >= [step], lambda: launched.runs), launched.said


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [200, 400, 600, 700, 800])
def test_a_disk_too_small_for_a_run_is_said_and_with_room_it_goes_on(
    kilobytes: int, disk: Disk, flags_of: Flags, undisturbed: Callable[[], Path]
) -> None:
    flags = flags_of(disk.folder / "run")
    with tried("disk too small for all checkpoints") as (case,):
        disk.resize(kilobytes)
        require_sentence(launch(*flags), "make room")
        disk.resize(20_000)
        result(launch(*flags))
        require_same_end(disk.folder / "run", undisturbed(), pictures_wait=True)
        case.identical = True


@pytest.mark.parametrize(
    ("step", "freed"),
    [
        (12, True),
        *(pytest.param(step, True, marks=pytest.mark.slow) for step in (3, 21)),
        *(pytest.param(step, False, marks=pytest.mark.slow) for step in (3, 12, 21, 42)),
    ],
)
def test_a_disk_that_gets_full_while_training_costs_nothing(
    step: int, freed: bool, disk: Disk, flags_of: Flags, undisturbed: Callable[[], Path]
) -> None:
    flags = flags_of(disk.folder / "run")
    with tried(f"disk filled while training{', and freed' if freed else ''}") as (case,):
        launched = Launched(*flags, page=True)
        reaches(launched, step)
        disk.fill()
        if freed:
            reaches(launched, step + 12)
            disk.free()
            result(done := launched.ended())
        else:
            require_sentence(done := launched.ended(), "make room")
            disk.free()
            result(launch(*flags, page=True))
        require_quiet(done)
        require_same_end(disk.folder / "run", undisturbed())
        case.identical = True


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [100, 600, 1_500, 3_000, 10_000, 25_000])
def test_a_disk_too_small_for_a_prepared_set_is_said(kilobytes: int, disk: Disk, data_dir: Path) -> None:
    flags = ("--config=configs/digits.py", "--mode=prepare", f"--config.data.data_dir={disk.folder / 'data'}")
    with tried("disk full while preparing") as (case,):
        disk.resize(kilobytes)
        require_sentence(launch(*flags), "room")
        disk.resize(100_000)
        result(launch(*flags))
        require_same_set(disk.folder / "data/digits_72/1.0.0", data_dir / "digits_72/1.0.0")
        case.identical = True


def require_same_set(ours: Path, theirs: Path) -> None:
    names = [path.name for path in sorted(theirs.iterdir()) if path.is_file()]
    assert names == [path.name for path in sorted(ours.iterdir()) if path.is_file()]
    for name in names:
        if name.startswith(("digits_72-", "index-")) or name == "classes.json":
            assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
