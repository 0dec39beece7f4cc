"""Every file of a run and of a prepared set, damaged in every way: gone on without it, or a sentence that names it."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Launched, launch, result
from tests.faults.conftest import Flags
from tests.faults.harness import (
    STEPS,
    require_quiet,
    require_same_end,
    require_same_parameters,
    require_sentence,
    saved_steps,
    steps_said,
    tried,
    until,
)

pytestmark = pytest.mark.faults

ESSENTIAL = ("config.json", "preprocessing.npz", "classes.txt", "pictures.txt")  # there is one of each
REFUSED = (("checkpoints", "of another run"), ("metrics.jsonl", "a folder in its place"))
KINDS = ("missing", "cut", "a flipped byte", "of another run", "empty", "a folder in its place")
OF_RUN = ("config.json", "preprocessing.npz", "classes.txt", "pictures.txt", "metrics.jsonl", "checkpoints")
OF_CHECKPOINT = ("digests.json", "progress.json", "validation.json", "state/_METADATA", "state/manifest.ocdbt", "")
OF_SET = ("dataset_info.json", "features.json", "classes.json", "settings.json", "listing.json", "preprocessing.npz")
OF_SET_TOO = ("digests.json", "digits_72-train.tfrecord*", "index-of-digits_72-train*")


def damage(path: Path, kind: str, other: Path, rng: random.Random) -> None:
    """Does it to the file; to a folder, to one of its files."""
    if path.is_dir() and kind not in ("missing", "of another run", "a folder in its place"):
        inside = [one for one in sorted(path.rglob("*")) if one.is_file()]
        return damage(rng.choice(inside), kind, other, rng)
    content = bytearray(path.read_bytes()) if path.is_file() else bytearray()
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "a flipped byte":
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
    elif kind == "of another run":
        shutil.copytree(other, path) if other.is_dir() else shutil.copy(other, path)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "a folder in its place":
        path.mkdir()
    return None


@pytest.fixture(scope="session")
def another(flags_of: Flags, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with other weights."""
    workdir = tmp_path_factory.mktemp("another") / "run"
    result(launch(*flags_of(workdir), "--config.train.seed=1", "--config.train.steps=50"))
    return workdir


CASES = [(name, kind) for name in (*OF_RUN, *(f"newest/{name}" for name in OF_CHECKPOINT)) for kind in KINDS]
SHORT = [("newest/", "a flipped byte"), ("config.json", "cut")]


@pytest.mark.parametrize(
    ("name", "kind"), [*SHORT, *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES if case not in SHORT)]
)
def test_a_damaged_run_goes_on_or_is_refused_in_a_sentence(
    name: str, kind: str, half: Path, another: Path, flags_of: Flags, undisturbed: Callable[[], Path], tmp_path: Path
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(half, workdir)
    stood = saved_steps(workdir)[-1]
    path, other = (
        (folder / name.replace("newest", f"checkpoints/{saved_steps(folder)[-1]}")) for folder in (workdir, another)
    )
    if not path.exists():
        path = path.with_name("digests.json")
    with tried(f"{'the newest checkpoint' if 'newest' in name else name} {kind}") as (case,):
        damage(path, kind, other, random.Random(f"{name} {kind}"))
        done = launch(*flags_of(workdir))
        require_quiet(done)
        if done.returncode:
            assert name in ESSENTIAL or (name, kind) in REFUSED
            assert path.name in require_sentence(done) or f"'{path}' has changed since the run began" in done.stderr
            case.refused = True
            return
        assert result(done)["step"] == STEPS
        case.again = stood - int(done.stderr.split("from step ")[-1].split()[0])
        if name == "metrics.jsonl":  # what it lost is lost, and is said
            require_same_parameters(workdir, undisturbed())
        else:
            require_same_end(workdir, undisturbed())
            case.identical = True


SET_CASES = [(name, kind) for name in (*OF_SET, *OF_SET_TOO) for kind in KINDS]
SET_SHORT = [("index-of-digits_72-train*", "a flipped byte")]


@pytest.mark.parametrize(
    ("name", "kind"),
    [*SET_SHORT, *(pytest.param(*case, marks=pytest.mark.slow) for case in SET_CASES if case not in SET_SHORT)],
)
def test_a_damaged_prepared_set_is_refused_in_a_sentence_or_prepared_anew(
    name: str, kind: str, flags_of: Flags, undisturbed: Callable[[], Path], data_dir: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(data_dir, data)
    (path,) = (data / "digits_72/1.0.0").glob(name)
    other = data / "digits/1.0.0/features.json"
    with tried(f"prepared set: {name.replace('*', '')} {kind}") as (case,):
        damage(path, kind, other, random.Random(f"{name} {kind}"))
        done = launch(*flags_of(tmp_path / "run", data=data))
        require_quiet(done)
        if done.returncode:
            require_sentence(done, str(data / "digits_72"))
            case.refused = True
            return
        assert result(done)["step"] == STEPS
        require_same_end(tmp_path / "run", undisturbed())
        case.identical = True


@pytest.mark.slow
def test_a_folder_that_is_moved_away_in_training_is_named_and_goes_on_where_it_is(
    flags_of: Flags, undisturbed: Callable[[], Path], tmp_path: Path
) -> None:
    with tried("the run's folder moved away in training") as (case,):
        launched = Launched(*flags_of(tmp_path / "run"))
        assert until(lambda: steps_said(launched.said)[-1:] >= [12], lambda: launched.runs)
        (tmp_path / "run").rename(tmp_path / "moved")
        require_sentence(launched.ended(), str(tmp_path / "run"))
        assert result(launch(*flags_of(tmp_path / "moved")))["step"] == STEPS
        require_same_end(tmp_path / "moved", undisturbed())
        case.identical = True
