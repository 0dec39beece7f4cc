"""What docs/paper_and_source.md says of the configs is what they do."""

import ast
import re
from pathlib import Path

import pytest

from alexnet_jax.runs.config import flatten, recipe_of
from configs import alexnet, alexnet_2012

TEXT = (Path(__file__).parent.parent / "docs" / "paper_and_source.md").read_text()
PAPER, SOURCE = flatten(alexnet.get_config()), flatten(alexnet_2012.get_config())


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under the heading, without its head."""
    lines = [line for line in TEXT.split(f"## {heading}\n")[1].split("\n## ")[0].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("row", rows("Fields that differ"), ids=lambda row: row[4])
def test_both_configs_set_the_field_as_said(row: list[str]) -> None:
    field, paper, source = (
        ast.literal_eval(cell.strip("`")) if i else cell.strip("`") for i, cell in enumerate(row[4:])
    )
    assert PAPER[field] == paper
    assert SOURCE[field] == source


def test_no_difference_is_left_out() -> None:
    said = {row[4].strip("`") for row in rows("Fields that differ")}
    differ = {field for field in PAPER if PAPER[field] != SOURCE[field]}
    assert differ - {"name", "schedule.rates"} == said - {"optimizer.learning_rate"}


SYSTEMS = [flatten(alexnet.get_config(variant)) for variant in ("caffe", "caffenet", "torchvision")]


@pytest.mark.parametrize("row", rows("Networks of other systems"), ids=lambda row: row[1])
def test_the_networks_of_other_systems_set_the_field_as_said(row: list[str]) -> None:
    field, *said = (cell.strip("`") for cell in row[1:])
    assert [ast.literal_eval(value) for value in said] == [config[field] for config in (PAPER, *SYSTEMS)]


def test_no_difference_of_other_systems_is_left_out() -> None:
    said = {row[1].strip("`") for row in rows("Networks of other systems")}
    differ = {field for config in SYSTEMS for field in PAPER if PAPER[field] != config[field]}
    assert differ - {"name", "schedule.rates", "train.epochs"} == said


@pytest.mark.parametrize(("variant", "steps"), [("caffe", 360_000), ("caffenet", 310_000)])
def test_caffes_steps_are_those_of_ilsvrc_2012(variant: str, steps: int) -> None:
    recipe = recipe_of(alexnet.get_config(variant), 1000, 1_281_167 // 256)
    assert round(alexnet.get_config(variant).train.epochs * (1_281_167 // 256)) == steps
    assert recipe.schedule.rates == tuple(
        line
        for start, rate in ((0, 1e-2), (100_000, 1e-3), (200_000, 1e-4), (300_000, 1e-5))
        for line in ((start, "*/kernel", pytest.approx(rate)), (start, "*/bias", pytest.approx(2 * rate)))
    )


def test_every_field_that_is_named_exists() -> None:
    groups = "model|data|augment|optimizer|schedule|mesh|train|evaluate"
    named = set(re.findall(rf"`(?:--config\.)?((?:{groups})\.\w+)`", TEXT))
    assert len(named) > 20
    assert named <= set(PAPER)


@pytest.mark.parametrize("row", rows("Rates by epoch") + rows("How CNN* came about"), ids=lambda row: row[0])
def test_the_runs_are_those_of_the_config(row: list[str]) -> None:
    log, name, end = row[0], row[1].strip("`"), float(row[-1])
    variant = name.removeprefix("configs/alexnet_2012.py").removeprefix(":")
    assert alexnet_2012.RUNS[variant].log == log
    config = alexnet_2012.get_config(variant)
    assert config.train.epochs == end
    if len(row) == 7:
        weights = [epoch for epoch, what, _ in config.schedule.rates[2:] if what == "*/kernel"]
        assert row[2] == ", ".join(f"{epoch:g}" for epoch in weights)
        own = {rate: f"{epoch:g}" for epoch, what, rate in config.schedule.rates[::-1] if what.startswith("conv1/")}
        assert row[3] == f"{own.get(1e-5, '-')}, {own[0.0]}"
        assert row[4].split(",")[0] == f"{dict((w, r) for _, w, r in config.schedule.rates)['*/bias']:g}"
        assert float(row[5]) == config.augment.lighting_until
