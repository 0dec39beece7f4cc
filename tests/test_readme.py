"""README says what the code says."""

import re

import launch as entry
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_the_table_of_modes_is_the_programs() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", README, re.MULTILINE))
    assert rows == {name: what for name, (_, what) in entry.MODES.items()}


def test_every_room_and_picture_is_there() -> None:
    block = README.split("## How the code is laid out")[1].split("```")[1]
    named = set(re.findall(r"\b(\w+\.py)\b", block))
    there = {path.name for path in (ROOT / "alexnet_jax").glob("*.py")} - {"__init__.py"}
    assert there - {"messages.py"} <= named
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / picture).is_file()
