"""docs/paper_and_source.md describes the configs as they are."""

import ast
import re
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from alexnet_jax.config.config import flatten, network_of, recipe_of
from alexnet_jax.modes import table
from configs import alexnet, alexnet_2012, cifar10, variants
from configs.alexnet_2012 import RUNS

TEXT = (Path(__file__).parent.parent / "docs" / "paper_and_source.md").read_text()
PAPER, SOURCE = flatten(alexnet.get_config()), flatten(alexnet_2012.get_config())


def rows(heading: str) -> list[list[str]]:
    """The cells of the tables under the heading, without the tables' heads."""
    lines = [line for line in TEXT.split(f"## {heading}\n")[1].split("\n## ")[0].splitlines() if line.startswith("| ")]
    heads = {i - 1 for i, line in enumerate(lines) if line.startswith("| --- |")}  # a head for each table
    kept = [line for i, line in enumerate(lines) if not heads & {i, i - 1}]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in kept]


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


def config_at(cell: str) -> tuple[str, ConfigDict]:
    """The variant and the config that a cell names."""
    name = cell.strip("`").removeprefix("configs/")
    base, _, variant = name.partition(":")
    return variant, {"alexnet.py": alexnet, "alexnet_2012.py": alexnet_2012}[base].get_config(variant)


def biases_at(config: ConfigDict) -> str:
    """The rates of the biases in the words of the page."""
    lines = [line for line in config.schedule.rates if line[1].endswith("/bias")]
    first, *later = [(epoch, rate) for epoch, what, rate in lines if what == "*/bias"]
    own = {what.partition("/")[0]: rate for _, what, rate in lines if what != "*/bias"}
    named = {"conv[12]": "conv1 and conv2"}
    said = [f"{first[1]:g}", *(f"from {epoch:g} on {rate:g}" for epoch, rate in later)]
    return ", ".join(said + [f"on {named.get(what, what)} {rate:g}" for what, rate in own.items()])


LOGGED = [row for row in rows("Rates by epoch") + rows("How CNN* came about") if "configs/" not in row[0]]
HAND_OVER = [row for row in rows("How CNN* came about") if "configs/" in row[0]]


@pytest.mark.parametrize("row", LOGGED, ids=lambda row: row[0])
def test_the_runs_are_those_of_the_config(row: list[str]) -> None:
    variant, config = config_at(row[1])
    run = alexnet_2012.RUNS[variant]
    assert run.log == row[0]
    end, *in_log = row[-1].split()
    assert f"{config.train.epochs:.2f}".rstrip("0").rstrip(".") == end
    assert in_log == ([f"(`{run.end}`)"] if isinstance(run.end, str) else [])
    if len(row) == 7:
        weights = [epoch for epoch, what, _ in config.schedule.rates[1:] if what == "*/kernel"]
        assert row[2] == ", ".join(f"{epoch:g}" for epoch in weights)
        own = {rate: f"{epoch:g}" for epoch, what, rate in config.schedule.rates[::-1] if what.startswith("conv1/")}
        assert row[3] == f"{own.get(1e-5, '-')}, {own[0.0]}"
        assert float(row[5]) == config.augment.lighting_until
    else:
        logged = [when for when, _, _ in run.rates if isinstance(when, str) and when != "1.300"]
        assert all(f"{alexnet_2012.passes(when, run.batches):.2f} (`{when}`)" in row[2] for when in logged)
    assert row[-3 if len(row) == 7 else -2] == biases_at(config)


@pytest.mark.parametrize("row", HAND_OVER, ids=lambda row: row[0])
def test_the_hand_over_is_that_of_the_config(row: list[str]) -> None:
    _, config = config_at(row[0])
    assert config.train.init_after == row[1].strip("`")
    _, before = config_at(row[1])
    names, theirs = ([layer.name for layer in network_of(one, 1000).layers] for one in (config, before))
    anew = [name.strip() for name in config.train.init_except.split(",")]
    assert row[2] == ", ".join(name for name in names if name not in anew and name in theirs)
    assert row[3] == ", ".join(name for name in names if name in anew)
    assert set(anew) <= set(names)


def test_every_hand_over_is_there() -> None:
    starting = {f"configs/alexnet.py:{name}" for name in variants.VARIANTS if alexnet.get_config(name).train.init_after}
    starting |= {f"configs/alexnet_2012.py:{name}" for name in RUNS if alexnet_2012.get_config(name).train.init_after}
    assert {row[0].strip("`") for row in HAND_OVER} == starting


def test_every_run_is_there() -> None:
    assert sorted(row[0] for row in LOGGED) == sorted(run.log for run in RUNS.values())


@pytest.mark.parametrize("row", rows("Rows of the paper's tables"), ids=lambda row: row[0])
def test_the_rows_are_those_of_the_table(row: list[str]) -> None:
    what, errors, members, files, where, base, log = row
    (one,) = [one for one in table.ROWS if one.what == what and one.members]
    assert errors == table.published(one)
    times = [re.fullmatch(r"(?:(\d+) . )?(none|`(\w+)`)", part) for part in members.split(" + ")]
    named = [name for found in times if found for name in [found[3] or ""] * int(found[1] or 1)]
    assert tuple(named) == one.members
    assert f"{one.data}, {one.split}, {one.views}" == where
    assert (base.strip("`").removeprefix("none") if base else None) == one.base
    assert log == (one.log[0] if one.log else "")
    for file in files.split(", "):
        config = {"alexnet.py": alexnet, "alexnet_2012.py": alexnet_2012, "cifar10.py": cifar10}[file]
        assert file.removesuffix(".py") in one.configs
        for name in set(named):
            data = config.get_config(name).data
            # ILSVRC-2010, Fall 2009 and 2011 come as tars of synsets.
            assert data.name == one.data, (file, name)
    if log:
        assert {RUNS[name].log for name in named} == {log}
        assert "alexnet_2012.py" in files


def test_every_row_with_networks_is_there() -> None:
    assert [row[0] for row in rows("Rows of the paper's tables")] == [one.what for one in table.ROWS if one.members]
