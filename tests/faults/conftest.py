"""The run that nothing happened to, and one that was stopped half way."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Launched, launch, result
from tests.faults.harness import RUN, steps_said, until

Flags = Callable[..., tuple[str, ...]]


@pytest.fixture(scope="session")
def flags_of(data_dir: Path) -> Flags:
    """The command of a run in a folder, that reports so often."""

    def flags(workdir: Path, log_every: int = 3, data: Path = data_dir) -> tuple[str, ...]:
        folders = (f"--config.data.data_dir={data}", f"--workdir={workdir}")
        return (*RUN, f"--config.train.log_every={log_every}", *folders)

    return flags


@pytest.fixture(scope="session")
def undisturbed(flags_of: Flags, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The folder of the run in one go that reports so often."""
    made: dict[int, Path] = {}

    def folder(log_every: int = 3) -> Path:
        if log_every not in made:
            made[log_every] = tmp_path_factory.mktemp("undisturbed") / "run"
            result(launch(*flags_of(made[log_every], log_every)))
        return made[log_every]

    return folder


@pytest.fixture(scope="session")
def half(flags_of: Flags, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped by a signal after a validation and before the end."""
    workdir = tmp_path_factory.mktemp("half") / "run"
    launched = Launched(*flags_of(workdir))
    assert until(lambda: steps_said(launched.said)[-1:] >= [45], lambda: launched.runs)
    launched.send(signal.SIGTERM)
    done = launched.ended()
    assert done.returncode == 75, done.stderr
    return workdir
