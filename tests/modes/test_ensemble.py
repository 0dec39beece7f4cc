"""Runs that are averaged, and runs that start from other runs: narrow networks, trained for two steps."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from alexnet_jax.config.config import check_config, config_of, network_of
from alexnet_jax.devices import towers
from alexnet_jax.loop import finetune
from alexnet_jax.messages import UserError
from alexnet_jax.modes import EvaluateInvocation, TableInvocation, TrainInvocation, evaluate, table, train
from alexnet_jax.runs.folder import open_run, restore_params
from alexnet_jax.runs.results import measured
from configs import alexnet, alexnet_2012
from tests.conftest import launch, narrowed, refusal
from tests.photographs import write_folder


@pytest.fixture(scope="module")
def trained(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run with two towers and a run with one tower, of different widths."""
    folder = tmp_path_factory.mktemp("runs")
    jax.config.update("jax_disable_most_optimizations", True)
    for name, variant in (("two", ""), ("one", "one_gpu")):
        config = narrowed(alexnet.get_config(variant), data_dir)
        config.train.steps, config.model.weight_stddev = 2, 0.1  # outputs that differ by picture
        train.run(config, TrainInvocation(folder / name), page=False)
    jax.config.update("jax_disable_most_optimizations", False)
    return {"two": folder / "two", "one": folder / "one"}


def ensemble(workdir: Path, *folders: Path) -> dict[str, Any]:
    return evaluate.run(None, EvaluateInvocation(workdir, ensemble=tuple(map(str, folders))))


def saved_probabilities(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """A run's softmax for the centre views, float32 [examples, classes], and the labels."""
    found = open_run(folder)
    config = config_of(found.config)
    rows, labels = zip(*evaluate.outputs(evaluate.open_network(found, config)), strict=True)
    return np.concatenate(rows), np.concatenate(labels)


def test_an_ensemble_is_the_mean_of_saved_probabilities(trained: dict[str, Path], tmp_path: Path) -> None:
    result = ensemble(tmp_path, trained["two"], trained["one"])
    (first, labels), (second, _) = saved_probabilities(trained["two"]), saved_probabilities(trained["one"])
    mean = (first + second) / 2
    assert result["examples"] == 360
    for found, p in ((result, mean), (result["nets"][0], first), (result["nets"][1], second)):
        of_label = p[np.arange(360), labels].astype(np.float64)
        assert found["loss"] == pytest.approx(-np.log(of_label).mean(), rel=1e-9)
        place = (
            np.argsort(-p, axis=1, kind="stable") == labels[:, None]
        )  # among classes that tie, the lower index first
        assert found["top1_error"] == pytest.approx(1 - place[:, :1].any(axis=1).mean(), abs=1e-12)
        assert found["top5_error"] == pytest.approx(1 - place[:, :5].any(axis=1).mean(), abs=1e-12)
    assert result["nets"][0]["loss"] != pytest.approx(result["nets"][1]["loss"], rel=1e-4)


def test_an_ensemble_of_one_is_that_one(trained: dict[str, Path], tmp_path: Path) -> None:
    config = config_of(open_run(trained["two"]).config)
    alone = evaluate.run(config, EvaluateInvocation(trained["two"]))
    result = ensemble(tmp_path, trained["two"])
    for name in ("examples", "top1_error", "top5_error"):
        assert result[name] == alone[name]
    assert result["loss"] == pytest.approx(alone["loss"], rel=1e-6)


def test_the_table_shows_what_was_measured(trained: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    result = ensemble(tmp_path, trained["two"], trained["one"])
    folders = tuple(map(str, (tmp_path, trained["one"])))
    found_table = table.run(None, TableInvocation(tmp_path, runs=folders))
    rows = {row["row"]: row for row in found_table["rows"]}
    five = rows["5 CNNs"]["alexnet"]
    assert rows["1 CNN"]["alexnet"] is None  # its only result is for the centre view
    assert rows["5 CNNs"]["views"] == 10 and five is None  # and so is the ensemble's result
    assert rows["one GPU"]["published"] == [1.7, 1.2] and rows["one GPU"]["relative"]
    line = json.loads((tmp_path / "evaluations.jsonl").read_text())
    assert line["members"] == ["alexnet", "alexnet:one_gpu"] and line["top1_error"] == result["top1_error"]
    assert (line["seeds"], line["checkpoint"]) == ([0, 0], "best")
    line = {**line, "members": ["alexnet"] * 5, "seeds": [0, 1, 2, 3, 4], "views": 10, "top1_error": 0.381}
    (tmp_path / "evaluations.jsonl").write_text(json.dumps(line) + "\n")
    found_table = table.run(None, TableInvocation(tmp_path, runs=(str(tmp_path),)))
    five = next(row for row in found_table["rows"] if row["row"] == "5 CNNs")["alexnet"]
    assert five is None  # no row is about digits
    (other,) = found_table["other_data"]
    assert other["members"] == ["alexnet"] * 5 and (other["data"], other["views"]) == ("digits", 10)
    assert (other["top1"], other["top5"]) == (pytest.approx(38.1), 100 * line["top5_error"])
    printed = capsys.readouterr()
    assert not printed.out
    assert "5 networks" in printed.err and "38.1 / " in printed.err
    assert "digits, validation, 10 views, best" in printed.err


def test_the_mean_of_a_run_and_itself_is_refused(trained: dict[str, Path], tmp_path: Path) -> None:
    copied = shutil.copytree(trained["two"], tmp_path / "copied")
    for other in (trained["two"], copied):
        with pytest.raises(UserError, match=r"equal configuration and seed \(0\), .*with another --config.train.seed"):
            ensemble(tmp_path / "none", trained["one"], trained["two"], other)
    saved = json.loads((copied / "config.json").read_text())
    saved["train"]["seed"] = 1
    saved["train"]["log_every"] = 7  # which changes no weight
    (copied / "config.json").write_text(json.dumps(saved))
    ensemble(tmp_path / "other", trained["two"], copied)
    saved["train"]["seed"], saved["train"]["steps"] = 0, 7 + saved["train"]["steps"]  # the same trajectory, further
    (copied / "config.json").write_text(json.dumps(saved))
    with pytest.raises(UserError, match="equal configuration and seed"):
        ensemble(tmp_path / "none", trained["two"], copied)
    assert not (tmp_path / "none").exists()


def test_what_a_folder_holds_is_of_its_newest_and_of_its_best_checkpoint(
    trained: dict[str, Path], tmp_path: Path
) -> None:
    workdir = shutil.copytree(trained["two"], tmp_path / "run")
    (workdir / "evaluations.jsonl").unlink(missing_ok=True)
    (of_newest, of_best) = measured(workdir)
    assert (of_newest.checkpoint, of_best.checkpoint) == ("newest", "best")  # the same step
    assert of_newest.top1 == of_best.top1
    line = {"members": ["alexnet"], "seeds": [0], "data": "digits", "split": "validation", "views": 10}
    line |= {"checkpoint": "best", "classes": 10, "other_pictures": False}
    lines = [{**line, "step": step, "top1_error": step / 10, "top5_error": 0.0} for step in (1, 2)]
    (workdir / "evaluations.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    found = {(one.views, one.checkpoint): one.top1 for one in measured(workdir)}
    assert found[10, "newest"] == found[10, "best"] == pytest.approx(20)
    assert found[10, "step 1"] == pytest.approx(10)  # no longer the newest nor the best


def test_class_lists_must_be_the_same(trained: dict[str, Path], tmp_path: Path) -> None:
    other = shutil.copytree(trained["one"], tmp_path / "other")
    (other / "classes.txt").write_text("".join(f"class {i}\n" for i in range(10)))
    with pytest.raises(UserError, match=r"class lists .* differ"):
        ensemble(tmp_path, trained["two"], other)


def test_a_folder_without_a_run_is_no_member(trained: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        ensemble(tmp_path, trained["two"], tmp_path / "nothing")


def fine_tuning(trained: dict[str, Path], data_dir: Path, **train_fields: str) -> ConfigDict:
    config = narrowed(alexnet.get_config("star"), data_dir)
    config.train.steps, config.train.init_from = 1, str(trained["two"])
    config.train.update(train_fields)
    return config


def test_layers_whose_shapes_agree_are_taken(
    trained: dict[str, Path], data_dir: Path, tmp_path: Path, capsys: Any, quick_compile: None
) -> None:
    config = fine_tuning(trained, data_dir, init_except="fc7, fc8")
    config.model.kernels = (12, 32, 48, 48, 64)  # a wider conv5
    config.model.sixth_convolution = 64
    config.train.seed = 1  # so that new layers differ from the donor's
    config.optimizer.learning_rate = 1e-30  # so that taken layers stay as they were
    train.run(config, TrainInvocation(tmp_path), page=False)
    said = capsys.readouterr().err
    assert "conv1, conv2, conv3, conv4; started anew: conv5, conv6, fc6, fc7, fc8" in said
    mesh = towers.make_mesh(1, 1)
    found = {"mine": open_run(tmp_path), "theirs": open_run(trained["two"])}
    params = {name: restore_params(run, mesh, "newest")[1] for name, run in found.items()}
    for layer in params["mine"]:
        same = finetune.shapes(params["mine"][layer]) == finetune.shapes(params["theirs"].get(layer, {}))
        if layer in ("conv1", "conv2", "conv3", "conv4"):
            np.testing.assert_array_equal(params["mine"][layer]["kernel"], params["theirs"][layer]["kernel"])
        elif same:
            assert np.abs(params["mine"][layer]["kernel"] - params["theirs"][layer]["kernel"]).max() > 0.01


def test_a_run_without_a_checkpoint_is_gone_on_with_from_its_own_start(
    trained: dict[str, Path], data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would be trained from scratch, and its config would say that it was fine-tuned."""
    config, run = fine_tuning(trained, data_dir, init_except="fc8"), TrainInvocation(tmp_path / "run")

    def killed(*_: Any) -> None:
        raise UserError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(train, "_train", killed)
        with pytest.raises(UserError, match="killed"):
            train.run(config, run)
    for field in ("init_from", "init_except"):
        config = fine_tuning(trained, data_dir, init_except="fc8")
        config.train[field] = ""
        with pytest.raises(UserError, match=f"train.{field} is .*give it the run's own values"):
            train.run(config, run)


def test_a_run_does_not_start_from_itself(trained: dict[str, Path], data_dir: Path) -> None:
    there = sorted(trained["two"].parent.iterdir())
    with pytest.raises(UserError, match=r"init_from is the run in --workdir=.* itself; name another --workdir"):
        train.run(fine_tuning(trained, data_dir), TrainInvocation(trained["two"], restart=True))
    assert sorted(trained["two"].parent.iterdir()) == there


def test_ones_own_photographs_start_from_any_run(trained: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    write_folder(tmp_path / "photographs", {"beach": 12, "garden": 12})
    config = narrowed(alexnet.get_config(), tmp_path)
    config.data.name, config.data.manual_dir = "folder", str(tmp_path / "photographs")
    config.model.classes = 0
    config.train.steps, config.train.init_from = 1, str(trained["two"])
    result = train.run(config, TrainInvocation(tmp_path / "run"), page=False)
    assert result["step"] == 1 and result["top1_error"] is not None
    assert "conv1, conv2, conv3, conv4, conv5, fc6, fc7; started anew: fc8" in capsys.readouterr().err
    assert open_run(tmp_path / "run").classes == ("beach", "garden")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"init_except": "fc9"}, "names 'fc9', but no layer has that name; the nearest is 'fc"),
        ({"init_from": "one"}, "is a run with 1 tower, and this network has 2"),
        ({"init_from": "bare"}, "has no checkpoint"),
        ({"init_from": "nothing"}, "holds no run"),
        ({"init_from": "", "init_after": "configs/alexnet.py:fall2011"}, "first run .*configs/alexnet.py:fall2011"),
    ],
)
def test_a_start_that_cannot_be(
    changes: dict[str, str], problem: str, trained: dict[str, Path], data_dir: Path, tmp_path: Path
) -> None:
    bare = shutil.copytree(trained["two"], tmp_path / "bare")
    shutil.rmtree(bare / "checkpoints")
    places = {"one": trained["one"], "bare": bare, "nothing": tmp_path / "nothing"}
    changes = {name: str(places.get(value, value)) for name, value in changes.items()}
    with pytest.raises(UserError, match=problem):
        train.run(fine_tuning(trained, data_dir, **changes), TrainInvocation(tmp_path / "new"), page=False)
    assert not (tmp_path / "new").exists()


def test_what_comes_first_is_said_before_pictures_are_looked_for(tmp_path: Path) -> None:
    done = launch("--config=configs/alexnet.py:star", f"--config.data.data_dir={tmp_path}", f"--workdir={tmp_path}/run")
    assert "first run python launch.py --config=configs/alexnet.py:fall2011" in refusal(done)
    assert not any(tmp_path.iterdir())


def test_star_and_the_sources_pretraining_say_what_comes_first() -> None:
    needs = {name: alexnet_2012.get_config(name).train.init_after for name in ("fall2009", "fall2011", "star")}
    assert needs == {
        "fall2009": "configs/alexnet_2012.py",
        "fall2011": "configs/alexnet_2012.py:fall2009",
        "star": "configs/alexnet_2012.py:fall2011",
    }
    config = alexnet.get_config("star")
    with pytest.raises(UserError, match=r"first run python launch\.py --config=configs/alexnet\.py:fall2011"):
        finetune.donor(config, network_of(config, 1000))
    with pytest.raises(UserError, match=r"evaluate\.views is 4 and must be 1"):
        config.evaluate.views = 4
        check_config(config)
