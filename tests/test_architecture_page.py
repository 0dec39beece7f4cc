"""docs/architecture.md names every room and every file of the package, and nothing that is not there."""

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "alexnet_jax"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
NAMES_TO_FILL_IN = ("NAME", "FILE", "ROOM")


def rooms() -> dict[str, set[str]]:
    """The files that the page names under the heading of each room."""
    sections = re.split(r"^### `(.*)/`$", PAGE.split("\n## The rooms\n")[1].split("\n## ")[0], flags=re.MULTILINE)[1:]
    return {
        room.removeprefix("alexnet_jax"): set(re.findall(r"`(\w+\.py)`", text))
        for room, text in zip(sections[::2], sections[1::2], strict=True)
    }


def files() -> dict[str, set[str]]:
    """The files of each room, apart from those that hold no code."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if len(ast.parse(path.read_text()).body) > 1 or path.name != "__init__.py":
            room = path.parent.relative_to(PACKAGE).as_posix()
            found.setdefault("" if room == "." else room, set()).add(path.name)
    return found


def test_the_rooms_and_their_files_are_those_of_the_package() -> None:
    assert rooms() == files()


def place_of(name: str) -> Path:
    """Where a path of the page lies: below the package, or below the root."""
    return next((base / name for base in (PACKAGE, ROOT) if (base / name).exists()), ROOT / name)


def test_every_path_that_is_named_is_there() -> None:
    named = set(re.findall(r"`([\w./-]+/[\w./-]*)`", PAGE)) - {"alexnet_jax/", "checkpoints/STEP"}
    assert len(named) > 50
    missing = set()
    for name in named:
        places = [name.rpartition("/")[0]] if any(word in name for word in NAMES_TO_FILL_IN) else [name]
        places = [place.replace("/ROOM", "") for place in places]
        missing |= {place for place in places if not place_of(place).exists()}
    assert missing == set()


@pytest.mark.parametrize(("file", "name"), re.findall(r"^\|.*\| `([\w./]+\.py)` \| `([\w.]+)` \|$", PAGE, re.MULTILINE))
def test_the_functions_of_each_step_are_where_the_page_says(file: str, name: str) -> None:
    inside = ast.parse((PACKAGE / file).read_text()).body
    for part in name.split("."):
        (found,) = [node for node in inside if getattr(node, "name", "") == part]
        inside = getattr(found, "body", [])


def test_the_tree_at_the_top_has_every_room() -> None:
    tree = PAGE.split("```\n")[1]
    for room in files():
        assert f"  {room}/ " in tree or room in ("", "data"), room
