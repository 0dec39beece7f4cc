"""The table of published and measured errors."""

import re
from pathlib import Path

import pytest

from alexnet_jax.modes import table
from alexnet_jax.runs.results import Measured, measured, record_evaluation
from configs import alexnet_2012, cifar10, variants
from tests.conftest import launch, launch_here, refusal, result


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
    assert published["section 6", "Fall 2009, best before"] == (78.1, 60.9)
    assert published["Table 2", "SIFT + FVs, test"] == (None, 26.2)
    assert published["Table 2", "5 CNNs, test"] == (None, 16.4)
    assert published["Table 2", "7 CNNs*, test"] == (None, 15.3)
    said = {row.what: table.published(row) for row in table.ROWS}
    assert said["no PCA lighting"] == "over 1 more / -" and said["conv4 removed"] == "about 2 more / -"
    assert said["fc6 removed"] == said["fc7 removed"] == ""
    assert {row.what: (row.data, row.split) for row in table.ROWS}["one GPU"] == ("synset_tars", "test")


def test_the_logs_round_to_what_is_published() -> None:
    absolute = [row for row in table.ROWS if row.log and not row.relative and row.published[0]]
    assert len(absolute) == 4
    for row in absolute:
        assert row.log
        assert (round(row.log[1], 1), round(row.log[2], 1)) == row.published, row.what
    logs = {row.what: row.log for row in table.ROWS}
    relative = [row for row in table.ROWS if row.relative and row.log]
    assert len(relative) == 3
    for row in relative:
        base = logs["CNN, ten views" if row.what == "one GPU" else "1 CNN"]
        assert base and row.log
        assert (round(row.log[1] - base[1], 1), round(row.log[2] - base[2], 1)) == row.published, row.what
        assert table.percent(table.log_errors(row), True) == table.percent(row.published, True)


def test_every_member_is_a_variant_and_every_log_a_run() -> None:
    for row in table.ROWS:
        assert set(row.members) <= {"", *(cifar10.NORMS if row.configs == ("cifar10",) else variants.VARIANTS)}
        if row.log:
            assert alexnet_2012.RUNS[row.members[0]].log == row.log[0]


def test_a_result_goes_to_its_row_and_column() -> None:
    measured = [
        Measured(("alexnet:no_lrn",), "digits", "validation", 10, 3.0, 1.0),
        Measured(("alexnet:no_lrn",), "imagenet2012", "validation", 10, 42.0, 19.5),
        Measured(("alexnet:no_conv3",), "imagenet2012", "validation", 1, 43.0, 20.0),
        Measured(("alexnet_2012",), "imagenet2012", "validation", 1, 43.0, 20.0),
        Measured(("alexnet_2012:no_lrn",), "imagenet2012", "validation", 10, 42.0, 19.5),
        Measured(("alexnet",), "imagenet2012", "validation", 10, 40.5, 18.0),
        Measured(
            *(("alexnet",) * 5 + ("alexnet:star",) * 2, "imagenet2012", "validation", 10, 36.7, 15.4),
            seeds=(0, 1, 2, 3, 4, 0, 1),
        ),
        Measured(("alexnet",) * 5, "imagenet2012", "validation", 10, 38.1, 16.4, seeds=(0, 1, 2, 3, 3)),
        Measured(("alexnet",), "imagenet2012", "validation", 10, 40.25, 17.9, checkpoint="best"),
        Measured(("alexnet:no_lrn",), "imagenet2012", "validation", 10, 41.5, 19.0, checkpoint="best"),
        Measured(("alexnet:one_gpu",), "synset_tars", "test", 10, 39.0, 18.0),
        Measured(("alexnet:ilsvrc2010",), "synset_tars", "test", 10, 37.5, 17.0),
        Measured(("cifar10:lrn",), "cifar10", "test", 10, 11.5, 0.5),
        Measured(("alexnet_2012:fall2009",), "synset_tars", "validation", 10, 60.0, 40.0),
        Measured(("digits",), "digits", "validation", 1, 0.6, 0.0, "digits"),
    ]
    found = rows(measured)
    where = {"data": "imagenet2012", "split": "validation"}
    # As the row: more than the base, each at the same checkpoint.
    assert found["no LRN"]["alexnet"] == {**where, "top1": 1.5, "top5": 1.5, "best": {"top1": 1.25, "top5": 19 - 17.9}}
    assert found["no LRN"]["alexnet_2012"] is None  # its base has been measured on one view alone
    assert found["conv3 removed"]["alexnet"] is None  # one view is not ten
    assert found["1 CNN"]["alexnet"] == {**where, "top1": 40.5, "top5": 18.0, "best": {"top1": 40.25, "top5": 17.9}}
    assert found["1 CNN"]["alexnet_2012"] is None
    seven = found["7 CNNs*"]["alexnet"]
    assert isinstance(seven, dict) and seven["top1"] == 36.7
    assert found["5 CNNs"]["alexnet"] is None  # two of them have the same seed
    assert found["Fall 2009"]["alexnet_2012"] is None  # its run was trained on the whole release
    of_cifar = found["CIFAR-10, with LRN"]["alexnet"]
    assert isinstance(of_cifar, dict) and of_cifar["top1"] == 11.5
    assert found["CIFAR-10, with LRN"]["alexnet_2012"] is found["CIFAR-10, no LRN"]["alexnet"] is None
    one_gpu = found["one GPU"]["alexnet"]
    assert isinstance(one_gpu, dict) and (one_gpu["top1"], one_gpu["top5"]) == (1.5, 1.0)
    lines = table.markdown(measured).splitlines()
    assert len(lines) == len(table.ROWS) + 2
    assert any("| no LRN |" in line and line.endswith("| +1.5 / +1.5 (+1.2 / +1.1) |  |") for line in lines)
    whole = "| 40.7 / 18.2 | 40.7 / 18.2 (145) | 40.5 / 18.0 (40.2 / 17.9) |"
    assert any("| 1 CNN |" in line and whole in line for line in lines)
    assert max(map(len, table.terminal(measured, []))) <= 100


def test_results_without_a_row_are_shown_apart_and_fit_a_terminal() -> None:
    own = Measured(("photos",), "folder", "validation", 1, 1.7, 0.0, "holiday")
    others = table.other_results([own, own, Measured(("alexnet",), "imagenet2012", "validation", 10, 40.5, 18.0)])
    assert others == [own]
    few = Measured(("photos",), "folder", "validation", 1, 1.7, None, "holiday", other_pictures=True)
    assert table.terminal([few], [few])[-1].endswith("folder, validation, 1 view, newest, other pictures 1.7 / -")
    base = Measured(("alexnet",), "imagenet2012", "validation", 10, 40.5, 18.0, other_pictures=True)
    assert table.other_results([base]) == [base]  # it may have been trained on some of them: no row of the paper
    lines = table.terminal([own], others)
    assert max(map(len, lines)) <= 100
    assert lines[-1].split() == "holiday (photos) folder, validation, 1 view, newest 1.7 / 0.0".split()


def test_an_evaluation_says_how_many_classes_it_told_apart_and_whether_of_other_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {"members": ["photos"], "data": "folder", "split": "validation", "views": 1, "top1_error": 0.1}
    line |= {"seeds": [0], "checkpoint": "best", "step": 7}
    record_evaluation(tmp_path, {**line, "top5_error": 0.0, "classes": 5, "other_pictures": True})
    record_evaluation(tmp_path, {**line, "top5_error": 0.0, "classes": 6})
    record_evaluation(tmp_path, {**line, "top5_error": 0.02, "classes": 6, "other_pictures": False})
    found = [(one.top5, one.other_pictures, one.checkpoint) for one in measured(tmp_path)]
    assert found == [(2.0, False, "step 7"), (None, True, "step 7")]
    assert "evaluations.jsonl': line 2 cannot be used and is left out" in capsys.readouterr().err


def test_every_command_is_whole_and_names_a_config_that_is_there() -> None:
    for row in table.ROWS:
        if row.members:
            assert table.command(row).startswith(f"python launch.py --config=configs/{row.configs[0]}.py")
            assert table.command(row).endswith(" --config.evaluate.checkpoint=newest")
            named = re.findall(r"runs/([\w-]+)", table.command(row))
            assert len(set(named)) == len(named) == (len(row.members) if len(row.members) > 1 else 0)
    five = next(row for row in table.ROWS if row.what == "5 CNNs")
    names = ",".join(f"runs/alexnet-seed{seed}" for seed in range(5))
    assert f" --ensemble={names} " in table.command(five)


def test_the_entry_point_shows_the_table_and_writes_it(tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    done = launch("--mode=table", f"--output={output}")
    assert len(result(done)["rows"]) == len(table.ROWS)
    assert len(done.stdout.splitlines()) == 1  # standard output holds the JSON alone
    assert "no cross connections" in done.stderr
    assert output.read_text().startswith("|  | row | command")
    assert "is not FILE.md" in refusal(launch_here("--mode=table", f"--output={tmp_path / 'table'}"))
    assert "holds no run and no evaluation" in refusal(launch_here("--mode=table", "--runs=/nowhere"))
