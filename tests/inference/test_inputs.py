"""The pictures that a user names: their order, litter, links and lists."""

import io
import os
from pathlib import Path
from typing import Any

import pytest

from alexnet_jax.inference import inputs
from alexnet_jax.messages import UserError


def named(*names: Any) -> list[str]:
    return [picture.path for picture in inputs.pictures_of(list(map(str, names)))]


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("pixels")


def test_files_as_given_and_folders_by_name(tmp_path: Path) -> None:
    fill(tmp_path / "f", "b.jpg", "a.PNG", "in/c.jpeg", ".d.jpg", "e.txt", "@eaDir/a.jpg", "Thumbs.db")
    fill(tmp_path, "z.jpg", "no-suffix")
    found = named(tmp_path / "z.jpg", tmp_path / "f", tmp_path / "none.jpg", tmp_path / "no-suffix", tmp_path / "z.jpg")
    inside = [tmp_path / "f" / name for name in ("a.PNG", "b.jpg", "in/c.jpeg")]
    assert found == [
        str(path) for path in (tmp_path / "z.jpg", *inside, *(tmp_path / n for n in ("none.jpg", "no-suffix", "z.jpg")))
    ]


def test_links_are_followed_once_and_never_up(tmp_path: Path) -> None:
    fill(tmp_path, "f/a.jpg", "elsewhere/b.jpg", "c.jpg")
    for name, target in (("up", ".."), ("self", "."), ("other", "../elsewhere"), ("c.jpg", "../c.jpg")):
        (tmp_path / "f" / name).symlink_to(target)
    (tmp_path / "linked").symlink_to("f")
    expected = ["a.jpg", "c.jpg", "other/b.jpg"]
    for folder in ("f", "linked", "f/"):
        assert named(f"{tmp_path}/{folder}") == [os.path.join(tmp_path, folder, name) for name in expected]


def test_a_list_on_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "f/a.jpg", "f/b.jpg")
    lines = b"x y.jpg\r\n\n" + os.fsencode(tmp_path / "f") + b"\nbytes\xff.jpg"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert named("first.jpg", "-") == [
        *("first.jpg", "x y.jpg", str(tmp_path / "f" / "a.jpg"), str(tmp_path / "f" / "b.jpg")),
        os.fsdecode(b"bytes\xff.jpg"),
    ]


def test_no_picture_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no picture is named"):
        named()
    fill(tmp_path, "a.txt")
    with pytest.raises(UserError, match=r"has no picture \(.jpg, .jpeg, .png, .webp\) among its 1 files"):
        named(tmp_path)
