"""README and the pages of docs say what the code says."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from alexnet_jax.modes import MODES
from alexnet_jax.modes import table as paper_table
from benchmarks import own_pictures, table
from configs import variants
from tests.conftest import ROOT, part_of

README = (ROOT / "README.md").read_text()
PAPER = (ROOT / "docs/paper.md").read_text()
PAGES = [
    *("README.md", "docs/pictures.md", "docs/training.md", "docs/use.md", "docs/figures.md", "docs/paper.md"),
    *("CONTRIBUTING.md", "CHANGELOG.md", "tests/README.md", "docs/architecture.md"),
    *("docs/speed.md", "docs/stages.md", "docs/paper_and_source.md", "docs/faults.md", "docs/tour.ipynb"),
]
MOST_LINES, MOST_WORDS = 150, 1400  # of README
MOST_WORDS_OF_A_SENTENCE = 31


def test_readme_is_a_first_page() -> None:
    assert README.count("\n") <= MOST_LINES and len(README.split()) <= MOST_WORDS


def test_the_table_of_modes_is_the_programs() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", README, re.MULTILINE))
    assert rows == MODES


def test_the_rows_of_the_paper_are_the_tables() -> None:
    section = PAPER.split("## Every row of the paper")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \| (.*?) ?\|", section, re.MULTILINE)
    said = {(where, what): (set(re.findall(r"`(\w+)`", variant)), errors) for where, what, variant, errors in rows}
    expected = {
        (row.where, row.what): (set(row.members) - {""}, paper_table.published(row))
        for row in paper_table.ROWS
        if row.members
    }
    assert expected.items() <= said.items()
    rowless = re.findall(r"`(\w+)`", section.split("without a row:")[1].split(".\n")[0])
    of_variants = [row for row in paper_table.ROWS if set(row.configs) & set(paper_table.CONFIGS)]
    assert {name for row in of_variants for name in row.members} | set(rowless) == {"", *variants.VARIANTS}


@pytest.mark.parametrize("page", PAGES)
def test_every_picture_page_and_heading_that_is_linked_is_there(page: str) -> None:
    for target, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", text_of(page)):
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), f"{page} links to {target}"
        assert not heading or heading in headings(path), f"{page} links to {target}#{heading}"


def headings(path: Path) -> list[str]:
    """The page's headings as links name them."""
    found = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found]


def text_of(page: str) -> str:
    """The page; for a notebook the text between its code."""
    if not page.endswith(".ipynb"):
        return (ROOT / page).read_text()
    cells = nbformat.read(ROOT / page, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("page", PAGES)
def test_no_sentence_is_long(page: str) -> None:
    text = re.sub(r"^```.*?^```|<!-- ([\w ]+): begin -->.*?<!-- \1: end -->", "", text_of(page), flags=re.M | re.S)
    blocks = re.split(r"\n\s*\n|^[-#|].*?(?=\s)|^\d\. ", re.sub(r"^\|.*$", "", text, flags=re.M), flags=re.M)
    sentences = [one for block in blocks for one in re.split(r"(?<=[.!?])[\"*)]*\s+(?=\S)", " ".join(block.split()))]
    assert [one for one in sentences if len(one.split()) > MOST_WORDS_OF_A_SENTENCE] == []


def test_the_tables_and_the_line_of_speed_are_those_of_the_results() -> None:
    results = ROOT / "benchmarks" / "results"
    assert part_of("docs/speed.md", "speed") == table.markdown(results).strip()
    assert part_of("README.md", "speed line") == table.line(results) != ""


def test_the_table_of_own_pictures_is_that_of_its_file_and_keeps_what_was_promised() -> None:
    record = json.loads(own_pictures.RECORD.read_text())
    assert part_of("docs/pictures.md", "own pictures") == own_pictures.table(record)
    most = {"few": (0.05, 3), "digits": (0.25, 10), "rings": (0.15, 15)}  # error, minutes on two cores
    assert sorted(one["collection"] for one in record["results"]) == sorted(2 * list(most))
    for one in record["results"]:
        error, minutes = most[one["collection"]]
        assert one["error"] <= error and one["seconds"] < 60 * minutes, one


def test_figure_1_s_numbers_are_those_of_its_file() -> None:
    found = json.loads((ROOT / "docs" / "figure1-digits.json").read_text())
    section = " ".join(PAPER.split("## Figure 1")[1].split("\n## ")[0].split())
    said = [f"ahead by {found['ratio']:.1f}", f"{found['pictures']:,} pictures"]
    for activation in ("relu", "tanh"):
        epochs = found[f"{activation}_epochs_of_seeds"].values()
        assert len(epochs) == 5
        said.append(
            f"after {found[f'{activation}_epochs']:.2f} epochs ({min(epochs):.2f} to {max(epochs):.2f}) "
            f"at {found[f'{activation}_learning_rate']:g}"
        )
    assert [one for one in said if one not in section] == []
    assert found["command"] in PAPER
