"""A file is there whole or not at all, and so is a folder that --output names."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alexnet_jax.files import new_folder, whole, write_whole
from alexnet_jax.messages import UserError


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "made" / "state.json"
    write_whole(path, "é")
    assert path.read_bytes() == b"\xc3\xa9"
    with whole(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "é" and unfinished.name == f".state.json.{os.getpid()}"
    assert path.read_text() == "new"
    with pytest.raises(RuntimeError), whole(path) as unfinished:
        unfinished.write_text("half")
        raise RuntimeError
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_writer_left_is_replaced_by_the_only_writer(tmp_path: Path) -> None:
    (tmp_path / ".state.json").write_text("half of what was begun")
    write_whole(tmp_path / "state.json", b"\xff", one_writer=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"state.json": b"\xff"}


def noted(name: str, function: Callable[..., None], calls: list[str]) -> Callable[..., None]:
    """The function, which also adds its name to the calls."""

    def call(*arguments: Any) -> None:
        calls.append(name)
        function(*arguments)

    return call


def test_bytes_are_on_the_disk_before_the_file_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name), calls))
    write_whole(tmp_path / "a", "a", fsync=True)
    write_whole(tmp_path / "b", "b")
    assert calls == ["fsync", "replace", "replace"]


def test_a_folder_is_replaced_only_if_this_mode_wrote_all_of_it(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with new_folder(str(output), False, str.isdigit) as unfinished:
        (unfinished / "1").touch()
        assert not output.exists()
    with pytest.raises(UserError, match="exists already; name another file, or replace it with --overwrite"):
        with new_folder(str(output), False, str.isdigit):
            pass
    with new_folder(str(output), True, str.isdigit) as unfinished:
        (unfinished / "2").touch()
    assert [path.name for path in output.iterdir()] == ["2"]
    (output / "notes.txt").touch()
    with pytest.raises(UserError, match=r"holds 'notes.txt', which this mode does not write; name another folder"):
        with new_folder(str(output), True, str.isdigit):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
