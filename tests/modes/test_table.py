"""The table of published and measured errors."""

from alexnet_jax.modes import table
from alexnet_jax.modes.table import Measured
from configs import alexnet_2012, variants
from tests.conftest import launch, refusal, result


def rows(found: list[Measured]) -> dict[str, dict[str, object]]:
    return {row.what: table.as_json(row, found) for row in table.ROWS}


def test_published_numbers_as_in_the_paper() -> None:
    published = {(row.where, row.what): row.published for row in table.ROWS}
    assert published["Table 1", "CNN, ten views"] == (37.5, 17.0)
    assert published["Table 2", "1 CNN"] == (40.7, 18.2)
    assert published["Table 2", "5 CNNs"] == (38.1, 16.4)
    assert published["Table 2", "1 CNN*"] == (39.0, 16.6)
    assert published["Table 2", "7 CNNs*"] == (36.7, 15.4)
    assert published["section 6", "Fall 2009"] == (67.4, 40.9)


def test_the_logs_round_to_what_is_published() -> None:
    absolute = [row for row in table.ROWS if row.log and not row.relative and row.published[0]]
    assert len(absolute) == 4
    for row in absolute:
        assert row.log
        assert (round(row.log[1], 1), round(row.log[2], 1)) == row.published, row.what
    base = next(row.log for row in table.ROWS if row.what == "1 CNN")
    assert base
    for row in table.ROWS:
        if row.relative and row.log and row.what != "one GPU":  # that one is of 2010
            assert (round(row.log[1] - base[1], 1), round(row.log[2] - base[2], 1)) == row.published, row.what


def test_every_member_is_a_variant_and_every_log_a_run() -> None:
    for row in table.ROWS:
        assert set(row.members) <= {"", *variants.VARIANTS}
        if row.log:
            assert alexnet_2012.RUNS[row.members[0]].log == row.log[0].split(",")[0]


def test_a_result_goes_to_its_row_and_column() -> None:
    measured = [
        Measured(("alexnet:no_lrn",), "digits", "validation", 10, 3.0, 1.0),
        Measured(("alexnet:no_lrn",), "imagenet2012", "validation", 10, 42.0, 19.0),
        Measured(("alexnet_2012",), "imagenet2012", "validation", 1, 43.0, 20.0),
        Measured(("alexnet",) * 5 + ("alexnet:star",) * 2, "imagenet2012", "validation", 10, 36.7, 15.4),
    ]
    found = rows(measured)
    assert found["no LRN"]["alexnet"] == {"top1": 42.0, "top5": 19.0, "data": "imagenet2012", "split": "validation"}
    assert found["1 CNN"]["alexnet"] is None
    assert found["1 CNN"]["alexnet_2012"] is None  # one view is not ten
    seven = found["7 CNNs*"]["alexnet"]
    assert isinstance(seven, dict) and seven["top1"] == 36.7
    lines = table.markdown(measured).splitlines()
    assert len(lines) == len(table.ROWS) + 2
    assert any("| no LRN |" in line and line.endswith("| 42.0 / 19.0 |  |") for line in lines)
    assert any("| 1 CNN |" in line and "| 40.7 / 18.2 | 40.7 / 18.2 (145) |" in line for line in lines)


def test_the_entry_point_prints_the_table() -> None:
    done = launch("--mode=table")
    assert len(result(done)["rows"]) == len(table.ROWS)
    assert done.stdout.startswith("|  | row | command")
    assert "holds no run and no evaluation" in refusal(launch("--mode=table", "--runs=/nowhere"))
