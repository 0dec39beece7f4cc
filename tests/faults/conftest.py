"""The run that nothing happened to, one that was stopped half way, and a disk that can be filled."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
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


class Disk:
    """A file system in memory, of a size that can be changed."""

    def __init__(self, folder: Path, kilobytes: int) -> None:
        self.folder = folder
        self._mount(kilobytes)

    def _mount(self, kilobytes: int, *options: str) -> None:
        options = (*options, f"size={kilobytes}k")
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(self.folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")

    def resize(self, kilobytes: int) -> None:
        """Also to less than it holds: it is full then."""
        self._mount(kilobytes, "remount")

    def fill(self) -> None:
        """To its last byte."""
        with open(self.folder / "filler", "ab", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass

    def free(self) -> None:
        """What filled it."""
        os.unlink(self.folder / "filler")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    (tmp_path / "disk").mkdir()
    made = Disk(tmp_path / "disk", 20_000)
    yield made
    subprocess.run(["umount", "--lazy", str(made.folder)], check=True)
