"""The table of published and measured errors."""

from pathlib import Path

from alexnet_jax.modes import table
from alexnet_jax.modes.table import Measured
from alexnet_jax.runs.folder import record_evaluation
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
        Measured(("alexnet:no_lrn",), "imagenet2012", "validation", 10, 42.0, 19.5),
        Measured(("alexnet:no_conv3",), "imagenet2012", "validation", 1, 43.0, 20.0),
        Measured(("alexnet_2012",), "imagenet2012", "validation", 1, 43.0, 20.0),
        Measured(("alexnet_2012:no_lrn",), "imagenet2012", "validation", 10, 42.0, 19.5),
        Measured(("alexnet",), "imagenet2012", "validation", 10, 40.5, 18.0),
        Measured(("alexnet",) * 5 + ("alexnet:star",) * 2, "imagenet2012", "validation", 10, 36.7, 15.4),
        Measured(("digits",), "digits", "validation", 1, 0.6, 0.0, "digits"),
    ]
    found = rows(measured)
    less = {"top1": 1.5, "top5": 1.5, "data": "imagenet2012", "split": "validation"}  # as the row: more than the base
    assert found["no LRN"]["alexnet"] == less
    assert found["no LRN"]["alexnet_2012"] is None  # its base has been measured on one view alone
    assert found["conv3 removed"]["alexnet"] is None  # one view is not ten
    assert found["1 CNN"]["alexnet"] == {**less, "top1": 40.5, "top5": 18.0}
    assert found["1 CNN"]["alexnet_2012"] is None
    seven = found["7 CNNs*"]["alexnet"]
    assert isinstance(seven, dict) and seven["top1"] == 36.7
    lines = table.markdown(measured).splitlines()
    assert len(lines) == len(table.ROWS) + 2
    assert any("| no LRN |" in line and line.endswith("| +1.5 / +1.5 |  |") for line in lines)
    assert any("| 1 CNN |" in line and "| 40.7 / 18.2 | 40.7 / 18.2 (145) | 40.5 / 18.0 |" in line for line in lines)


def test_what_is_no_row_is_shown_apart_and_a_terminal_has_room_for_all() -> None:
    own = Measured(("photos",), "folder", "validation", 1, 1.7, 0.0, "holiday")
    others = table.of_other_data([own, own, Measured(("alexnet",), "imagenet2012", "validation", 10, 40.5, 18.0)])
    assert others == [own]
    few = Measured(("photos",), "folder", "validation", 1, 1.7, None, "holiday", other_pictures=True)
    assert table.terminal([few], [few])[-2].endswith("folder, validation, 1 view, other pictures 1.7 / -")
    base = Measured(("alexnet",), "imagenet2012", "validation", 10, 40.5, 18.0, other_pictures=True)
    assert table.of_other_data([base]) == [base]  # it may have been trained on some of them: no row of the paper
    lines = table.terminal([own], others)
    assert max(map(len, lines)) <= 100
    assert lines[-2].split() == ["holiday", "(photos)", "folder,", "validation,", "1", "view", "1.7", "/", "0.0"]


def test_an_evaluation_says_how_many_classes_it_told_apart_and_whether_of_other_pictures(tmp_path: Path) -> None:
    line = {"members": ["photos"], "data": "folder", "split": "validation", "views": 1, "top1_error": 0.1}
    record_evaluation(tmp_path, {**line, "top5_error": 0.0})  # of an earlier version
    record_evaluation(tmp_path, {**line, "top5_error": 0.0, "classes": 5, "other_pictures": True})
    record_evaluation(tmp_path, {**line, "top5_error": 0.02, "classes": 6, "other_pictures": False})
    found = [(one.top5, one.other_pictures) for one in table.measured(tmp_path)]
    assert found == [(2.0, False), (None, True), (0.0, False)]


def test_every_command_is_whole_and_names_a_config_that_is_there() -> None:
    for row in table.ROWS:
        if row.members:
            assert table.command(row).startswith("python launch.py --config=configs/alexnet.py")
            assert table.command(row).count("DIR") == (len(row.members) if len(row.members) > 1 else 0)


def test_the_entry_point_shows_the_table_and_writes_it(tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    done = launch("--mode=table", f"--output={output}")
    assert len(result(done)["rows"]) == len(table.ROWS)
    assert len(done.stdout.splitlines()) == 1  # standard output holds the JSON alone
    assert "no cross connections" in done.stderr
    assert output.read_text().startswith("|  | row | command")
    assert "is not FILE.md" in refusal(launch("--mode=table", f"--output={tmp_path / 'table'}"))
    assert "holds no run and no evaluation" in refusal(launch("--mode=table", "--runs=/nowhere"))
