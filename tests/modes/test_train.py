"""Trainings with launch.py: resumed, stopped, broken, evaluated."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.config.config import run_exists
from alexnet_jax.data.prepared.statistics import load_statistics
from alexnet_jax.loop import loop, report
from alexnet_jax.messages import UserError
from alexnet_jax.modes import TrainInvocation, train
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.folder import open_run
from configs import alexnet
from tests.conftest import ROOT, SMALL, environment_of_a_user, launch, narrowed, result


@pytest.fixture(scope="module")
def at(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The flags for a small run in a folder of this module."""
    folder = tmp_path_factory.mktemp("runs")

    def flags(name: str) -> tuple[str, ...]:
        return (*SMALL, f"--config.data.data_dir={data_dir}", f"--workdir={folder / name}")

    return flags


@pytest.fixture(scope="module")
def whole(at: Any) -> dict[str, Any]:
    """A run of 60 steps in one go, two epochs of 22 and a part; its folder is given as a relative path."""
    *flags, workdir = at("whole")
    relative = os.path.relpath(workdir.split("=")[1], ROOT)
    found = result(launch(*flags, f"--workdir={relative}", "--config.train.steps=60"))
    assert f"--workdir={found['workdir']}" == workdir
    return found


def without_speed(workdir: str) -> list[dict[str, float]]:
    return [
        {key: value for key, value in line.items() if key != "images_per_second"}
        for line in report.read_metrics(Path(workdir))
    ]


def test_a_run_leaves_all_that_later_modes_need(whole: dict[str, Any], at: Any) -> None:
    workdir = Path(whole["workdir"])
    names = {path.name for path in workdir.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "curves.png", "preprocessing.npz", "classes.txt"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert (workdir / "classes.txt").read_text().split() == list("0123456789")
    assert load_statistics(workdir / "preprocessing.npz", 72).mean_image.shape == (72, 72, 3)
    assert json.loads((workdir / "config.json").read_text())["train"]["steps"] == 60
    assert whole["step"] == 60
    assert whole["epoch"] == pytest.approx(60 / 22)
    lines = report.read_metrics(workdir)
    assert [line["step"] for line in lines if "validation/top1_error" in line] == [22, 44, 60]
    validated = [line for line in lines if "validation/top1_error" in line]
    best = min(validated, key=lambda line: (line["validation/top1_error"], line["validation/loss"]))
    assert whole["best_step"] == best["step"]
    for name in ("loss", "top1_error", "top5_error"):  # all for the checkpoint that later modes use
        assert whole[name] == best[f"validation/{name}"]
    assert whole["train_loss"] == [line["train/loss"] for line in lines if "train/loss" in line][-1]
    assert whole["images_per_second"] > 0


def test_a_run_gone_on_with_is_the_run_in_one_go(whole: dict[str, Any], at: Any) -> None:
    first = result(launch(*at("parts"), "--config.train.steps=30"))
    shutil.rmtree(Path(first["workdir"], "checkpoints", "30"))  # as if the run had crashed between 22 and 30
    second = launch(*at("parts"), "--config.train.steps=60")
    assert f"going on with the run in {first['workdir']} from step 22" in second.stderr
    ours, theirs = without_speed(result(second)["workdir"]), without_speed(whole["workdir"])
    assert theirs[0]["train/loss"] - theirs[-1]["validation/loss"] > 0.02  # something is learnt
    assert [line.keys() for line in ours] == [line.keys() for line in theirs]
    assert ours == theirs


def test_a_finished_run_says_so_and_restart_sets_it_aside(at: Any) -> None:
    flags = (*at("finished"), "--config.train.steps=3")
    first = result(launch(*flags))
    again = launch(*flags)
    assert "is finished at step 3" in again.stderr
    assert result(again) == {**first, "images_per_second": result(again)["images_per_second"]}
    anew = launch(*flags, "--restart")
    assert result(anew)["loss"] == pytest.approx(first["loss"], rel=1e-4)
    assert Path(first["workdir"] + ".1", "config.json").is_file()


def test_evaluate_finds_what_training_found(whole: dict[str, Any], at: Any) -> None:
    best = result(launch(*at("whole"), "--mode=evaluate"))
    assert {"examples", "loss", "top1_error", "top5_error", "views"} <= best.keys()
    assert best["examples"] == 360
    assert (best["step"], best["views"]) == (whole["best_step"], 1)
    assert (best["top1_error"], best["top5_error"]) == (whole["top1_error"], whole["top5_error"])
    newest = result(
        launch(*at("whole"), "--mode=evaluate", "--config.evaluate.checkpoint=newest", "--config.mesh.model=1")
    )
    assert newest["step"] == 60
    on_train = result(launch(*at("whole"), "--mode=evaluate", "--config.evaluate.split=train"))
    assert on_train["examples"] == 1437


def test_a_nan_stops_the_run_and_leaves_the_last_good_checkpoint(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_compile: None
) -> None:
    config = narrowed(alexnet.get_config(), data_dir)
    config.train.steps, config.train.checkpoint_every, config.train.log_every = 8, 2, 3
    spoil(monkeypatch, {5})
    with pytest.raises(
        UserError,
        match=r"step 6 is nan .*layer .*: training stopped, and the last good checkpoint is that of step 4.*=rewind",
    ):
        train.run(config, TrainInvocation(tmp_path / "run"), page=False)
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == ["2", "4"]


def spoil(patch: pytest.MonkeyPatch, numbers: set[int]) -> None:
    """Makes the batches with these numbers, counted from 0, give NaN."""
    training_batches = loop.pipeline.training_batches

    @contextmanager
    def spoilt(*arguments: Any) -> Iterator[Any]:
        with training_batches(*arguments) as batches:
            numbered = enumerate(batches, arguments[3])
            yield (replace(one, scale=one.scale * np.nan) if number in numbers else one for number, one in numbered)

    patch.setattr(loop.pipeline, "training_batches", spoilt)


def test_past_a_nan_a_run_is_rewound_and_leaves_out_the_batches(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_compile: None, capsys: Any
) -> None:
    config = narrowed(alexnet.get_config(), data_dir)
    config.train.steps, config.train.checkpoint_every, config.train.log_every = 8, 2, 3
    config.train.on_nan, config.train.rewinds = "rewind", 2
    spoil(monkeypatch, {5, 8})
    assert train.run(config, TrainInvocation(tmp_path / "run"), page=False)["step"] == 8
    said = capsys.readouterr().err
    assert "the loss of step 6 is nan" in said
    assert "back to the checkpoint of step 4, and the 2 batches after it are skipped (rewind 1 of 2)" in said
    # Batches 4 and 5 were left out, so step 7 has batch 8; now 8 is left out too, while 6 and 7 stay.
    assert "the loss of step 7 is nan" in said and "the 1 batches after it are skipped (rewind 2 of 2)" in said
    steps = [line["step"] for line in report.read_metrics(tmp_path / "run")]
    assert steps == [3, 6, 8, 8]
    spoil(monkeypatch, {5, 8, 9})
    with pytest.raises(UserError, match="training stopped despite 2 rewinds") as refused:
        train.run(config, TrainInvocation(tmp_path / "other"), page=False)
    assert "on_nan=rewind" not in str(refused.value)  # the run has it already


def test_a_training_opens_its_checkpoints_once(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_compile: None
) -> None:
    opened: list[Path] = []
    before = Checkpoints.__init__

    def counted(self: Checkpoints, workdir: Path) -> None:
        opened.append(workdir)
        before(self, workdir)

    monkeypatch.setattr(Checkpoints, "__init__", counted)
    config = narrowed(alexnet.get_config(), data_dir)
    for steps in (1, 2, 2):  # a new run, a resumed run, a finished run
        config.train.steps = steps
        opened.clear()
        assert train.run(config, TrainInvocation(tmp_path / "run"), page=False)["step"] == steps
        assert opened == [tmp_path / "run"]
    unfinished = tmp_path / "run" / "checkpoints" / "7.orbax-checkpoint-tmp-1"
    unfinished.mkdir()
    config.train.seed += 1
    with pytest.raises(UserError, match=r"train\.seed"):  # a refused training changes nothing
        train.run(config, TrainInvocation(tmp_path / "run"), page=False)
    assert unfinished.is_dir()


def forget_to_place(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(loop.towers, "put_batch", lambda batch, mesh: batch)


def read_a_host_array_in_validation(patch: pytest.MonkeyPatch) -> None:
    def whole_set(*arguments: Any) -> tuple[dict[str, float], None]:
        ones = jnp.asarray(np.ones(2)) + 1
        return dict.fromkeys(("loss", "top1_error", "top5_error"), float(ones.sum())), None

    patch.setattr(loop.validation, "whole_set", whole_set)


@pytest.mark.parametrize("mistake", [forget_to_place, read_a_host_array_in_validation])
def test_what_crosses_to_the_devices_unasked_is_refused(
    mistake: Any, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_compile: None
) -> None:
    config = narrowed(alexnet.get_config(), data_dir)
    config.train.steps = 1
    mistake(monkeypatch)
    with pytest.raises(RuntimeError, match="Disallowed host-to-device transfer"):
        train.run(config, TrainInvocation(tmp_path / "run"), page=False)


@pytest.mark.parametrize(
    ("name", "damage"),
    [("config.json", "[]"), ("config.json", "{"), ("config.json", None), ("preprocessing.npz", "half")],
)
def test_a_run_that_is_not_whole_is_refused(
    whole: dict[str, Any], tmp_path: Path, name: str, damage: str | None
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(whole["workdir"], workdir)
    (workdir / name).unlink() if damage is None else (workdir / name).write_text(damage)
    assert run_exists(workdir)
    with pytest.raises(UserError, match=r"is not a complete run .*--restart"):
        open_run(workdir)


def test_the_plateau_rule_ends_a_run_and_it_stays_ended(at: Any) -> None:
    flags = (
        *(
            *at("plateau"),
            "--config.schedule.kind=plateau",
            "--config.schedule.patience=1",
            "--config.schedule.drops=2",
        ),
        *("--config.optimizer.learning_rate=1e-12", "--config.train.epochs=9", "--config.train.checkpoint_every=10"),
    )
    done = launch(*flags)
    # The first evaluation is the best; each later evaluation, with the same weights, is a plateau.
    assert result(done)["epoch"] == 4
    assert "the plateau rule ends training at step 88" in done.stderr
    lines = report.read_metrics(Path(result(done)["workdir"]))
    rates = [line["learning_rate"] for line in lines if "learning_rate" in line]
    assert rates == pytest.approx([1e-12, 1e-12, 1e-13, 1e-14])
    again = launch(*flags)
    assert "is finished at step 88" in again.stderr


def test_checkpoints_within_an_epoch(at: Any) -> None:
    first = result(launch(*at("within"), "--config.train.steps=19", "--config.train.checkpoint_every=6"))
    kept = sorted(int(path.name) for path in Path(first["workdir"], "checkpoints").iterdir())
    assert kept == [12, 18, 19]


def test_a_stall_is_one_warning_with_causes_and_dead_units(at: Any) -> None:
    stalled = (
        *(*at("stall"), "--config.train.steps=60", "--config.train.stall_steps=44", "--config.train.log_every=5"),
        *("--config.model.weight_stddev=0.001", "--config.model.hidden_bias=1.0"),
    )
    done = launch(*stalled)
    result(done)
    (warning,) = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert "After 44 steps" in warning or "After 45 steps" in warning
    for word in ("ln(10) = 2.3026", "0..1", "hidden_bias", "shuffled", "conv1 ", "fc7 "):
        assert word in warning


def test_a_run_in_which_no_unit_is_alive_says_so_however_short(at: Any) -> None:
    done = launch(*at("dead"), "--config.train.steps=3", "--config.model.hidden_bias=-100.0")
    assert result(done)["loss"] == pytest.approx(np.log(10), rel=0.01)
    (warning,) = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert ", fc6, fc7 are zero on a whole batch" in warning and "--config.model.hidden_bias" in warning


@pytest.mark.slow
def test_a_stall_of_tanh_units_names_no_dead_ones(at: Any) -> None:
    stalled = (
        *(*at("tanh"), "--config.train.steps=3", "--config.train.stall_steps=2", "--config.train.log_every=1"),
        *("--config.model.activation=tanh", "--config.model.weight_stddev=0.00001", "--config.model.hidden_bias=0.0"),
    )
    done = launch(*stalled)
    result(done)
    (warning,) = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert warning.endswith("not shuffled.")


def test_a_signal_saves_and_the_same_command_goes_on(at: Any) -> None:
    flags = (*at("signal"), "--config.train.steps=100000", "--config.train.log_every=1")
    process = subprocess.Popen(
        [sys.executable, "launch.py", *flags],
        cwd=ROOT,
        env=environment_of_a_user(),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith("step 5/"):
            process.send_signal(signal.SIGTERM)
            break
    seen += process.communicate(timeout=120)[1].splitlines()
    assert process.returncode == 75
    assert seen[-1].startswith("stopped by SIGTERM after step"), seen
    step = int(seen[-1].split("after step ")[1].split(",")[0])
    on = launch(*at("signal"), f"--config.train.steps={step + 1}", "--config.train.log_every=1")
    assert f"from step {step}" in on.stderr
    assert result(on)["step"] == step + 1


@pytest.mark.slow
def test_shuffled_labels_teach_nothing(tmp_path: Path, data_dir: Path) -> None:
    shuffled = tmp_path / "data"
    shutil.copytree(data_dir, shuffled)
    shutil.rmtree(shuffled / "digits_72")  # the prepared squares, which are then prepared again
    _shuffle_labels(shuffled / "digits" / "1.0.0")
    losses = {}
    for name, folder in (("shuffled", shuffled), ("true", data_dir)):
        flags = (f"--config.data.data_dir={folder}", f"--workdir={tmp_path / name}", "--config.train.epochs=4")
        result(launch("--config=configs/digits.py", *flags))
        lines = report.read_metrics(tmp_path / name)
        losses[name] = min(line["validation/loss"] for line in lines if "validation/loss" in line)
    # The loss of guessing is ln 10. Errors would say less: a network that has learnt nothing may still give most
    # pictures of a digit the same class, which moves its error by tenths from 90 %.
    assert losses["shuffled"] > np.log(10) - 0.02
    assert losses["true"] < 1


def _shuffle_labels(folder: Path) -> None:
    import tensorflow as tf

    path = next(folder.glob("*train*"))
    examples = [tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(path))]
    labels = [example.features.feature["label"].int64_list.value[0] for example in examples]
    np.random.default_rng(0).shuffle(labels)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example, label in zip(examples, labels, strict=True):
            example.features.feature["label"].int64_list.value[0] = label
            writer.write(example.SerializeToString())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_default_run_learns_the_digits(data_dir: Path, tmp_path: Path, seed: int) -> None:
    found = result(
        launch(
            *("--config=configs/digits.py", f"--config.data.data_dir={data_dir}", f"--workdir={tmp_path / 'run'}"),
            f"--config.train.seed={seed}",
            timeout=900,
        )
    )
    assert found["top1_error"] <= 0.03
    assert found["top5_error"] <= 0.005


@pytest.mark.slow
def test_the_full_network_trains_on_digits(data_dir: Path, tmp_path: Path) -> None:
    found = result(
        launch(
            *("--config=configs/alexnet.py", "--config.data.name=digits", f"--config.data.data_dir={data_dir}"),
            *("--config.train.steps=5", "--config.mesh.model=2", f"--workdir={tmp_path / 'full'}"),
            timeout=900,
        )
    )
    assert found["step"] == 5
    assert 0 < found["loss"] < 20
    assert found["images_per_second"] > 0
