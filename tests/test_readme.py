"""README says what the code says."""

import json
import re

from alexnet_jax.modes import MODES
from alexnet_jax.modes import table as paper_table
from benchmarks import own_pictures, table
from configs import variants
from tests.conftest import ROOT, part_of_readme

README = (ROOT / "README.md").read_text()


def test_the_table_of_modes_is_the_programs() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", README, re.MULTILINE))
    assert rows == MODES


def test_the_rows_of_the_paper_are_the_tables() -> None:
    section = README.split("## Every row of the paper")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \| (.*?) ?\|", section, re.MULTILINE)
    said = {(where, what): (set(re.findall(r"`(\w+)`", variant)), errors) for where, what, variant, errors in rows}
    expected = {
        (row.where, row.what): (set(row.members) - {""}, paper_table.published(row))
        for row in paper_table.ROWS
        if row.members
    }
    assert expected.items() <= said.items()
    rowless = re.findall(r"`(\w+)`", section.split("without a row:")[1].split(".")[0])
    of_variants = [row for row in paper_table.ROWS if set(row.configs) & set(paper_table.CONFIGS)]
    assert {name for row in of_variants for name in row.members} | set(rowless) == {"", *variants.VARIANTS}


def test_every_picture_is_there() -> None:
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / picture).is_file()


def test_the_table_of_speed_is_that_of_the_results() -> None:
    assert part_of_readme("speed") == table.markdown(ROOT / "benchmarks" / "results").strip()


def test_the_table_of_own_pictures_is_that_of_its_file_and_keeps_what_was_promised() -> None:
    record = json.loads(own_pictures.RECORD.read_text())
    assert part_of_readme("own pictures") == own_pictures.table(record)
    most = {"few": (0.05, 3), "digits": (0.25, 10), "rings": (0.15, 15)}  # error, minutes on two cores
    assert sorted(one["collection"] for one in record["results"]) == sorted(2 * list(most))
    for one in record["results"]:
        error, minutes = most[one["collection"]]
        assert one["error"] <= error and one["seconds"] < 60 * minutes, one


def test_figure_1_s_numbers_are_those_of_its_file() -> None:
    found = json.loads((ROOT / "docs" / "figure1-digits.json").read_text())
    section = " ".join(README.split("### Figure 1")[1].split("\n## ")[0].split())
    said = [f"ahead by {found['ratio']:.1f}", f"{found['pictures']:,} pictures"]
    for activation in ("relu", "tanh"):
        epochs = found[f"{activation}_epochs_of_seeds"].values()
        assert len(epochs) == 5
        said.append(
            f"after {found[f'{activation}_epochs']:.2f} epochs ({min(epochs):.2f} to {max(epochs):.2f}) "
            f"at {found[f'{activation}_learning_rate']:g}"
        )
    assert [one for one in said if one not in section] == []
    assert found["command"] in README
