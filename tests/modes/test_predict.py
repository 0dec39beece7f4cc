"""`--mode=predict` as a user runs it, and modes that use the run's own config."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import alexnet_jax
from tests.conftest import ROOT, SMALL, environment_of_a_user, launch, launch_here, refusal, result


def predict(workdir: Path, *arguments: Any) -> subprocess.CompletedProcess[str]:
    return launch("--mode=predict", f"--workdir={workdir}", *arguments)


def test_predictions_are_in_order_and_unusable_pictures_are_named(workdir: Path, folder: Path) -> None:
    done = predict(workdir, folder / "d.webp", folder, "none.jpg", "--config.mesh.model=1")
    found = result(done)
    used = [folder / name for name in ("d.webp", "a.jpg", "b.png", "d.webp", "inside/c.JPG")]
    assert [one["file"] for one in found["predictions"]] == list(map(str, used))
    net = alexnet_jax.load(workdir)
    for one, probabilities in zip(found["predictions"], net.probabilities(used), strict=True):
        order = np.argsort(-probabilities, kind="stable")[:5]
        assert [entry["class"] for entry in one["top5"]] == [str(i) for i in order]
        assert [entry["probability"] for entry in one["top5"]] == pytest.approx(probabilities[order].tolist(), rel=1e-4)
    reasons = {one["file"]: one["reason"] for one in found["rejected"]}
    assert reasons.keys() == {str(folder / "broken.jpg"), "none.jpg"}
    assert "truncated" in reasons[str(folder / "broken.jpg")] and "No such file" in reasons["none.jpg"]
    assert f"{folder / 'broken.jpg'} cannot be used: truncated" in done.stderr
    assert "left out: 3 files" in done.stderr
    top = found["predictions"][0]["top5"][0]
    assert f"  {top['class']}  {top['probability']:6.1%}  █" in done.stderr


def test_a_list_on_standard_input_and_ten_views(workdir: Path, folder: Path) -> None:
    command = [sys.executable, "launch.py", "--mode=predict", f"--workdir={workdir}", "-", "--config.evaluate.views=10"]
    listed = f"{folder / 'b.png'}\n\n{folder / 'a.jpg'}\n"
    done = subprocess.run(
        command, cwd=ROOT, env=environment_of_a_user(), capture_output=True, text=True, input=listed, timeout=300
    )
    found = result(done)
    assert [one["file"] for one in found["predictions"]] == [str(folder / "b.png"), str(folder / "a.jpg")]
    assert found["views"] == 10
    right = alexnet_jax.load(workdir).probabilities([folder / "b.png"], views=10)[0]
    of_class = {entry["class"]: entry["probability"] for entry in found["predictions"][0]["top5"]}
    assert of_class == pytest.approx({name: right[int(name)] for name in of_class}, rel=1e-4)


def test_tables_of_many_predictions(workdir: Path, folder: Path, tmp_path: Path) -> None:
    found = result(predict(workdir, folder, f"--output={tmp_path / 'new' / 'o.csv'}"))
    with open(tmp_path / "new" / "o.csv", newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert list(rows)[:4] == [one["file"] for one in found["predictions"]]
    for one in found["predictions"]:
        row = rows[one["file"]]
        assert [row[f"class{i}"] for i in range(1, 6)] == [entry["class"] for entry in one["top5"]]
        assert float(row["probability1"]) == pytest.approx(one["top5"][0]["probability"], rel=1e-5)
        assert not row["reason"]
    assert rows[str(folder / "broken.jpg")]["reason"] == found["rejected"][0]["reason"]
    output = tmp_path / "o.jsonl"
    output.write_text("precious")
    assert "--overwrite" in refusal(predict(workdir, folder, f"--output={output}"))
    assert output.read_text() == "precious"
    found = result(predict(workdir, folder, f"--output={output}", "--overwrite"))
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert lines == found["predictions"] + found["rejected"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "o.jsonl"]


def test_mistakes_are_one_sentence_and_leave_nothing(workdir: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        ((), "no picture is named"),
        ((tmp_path / "empty",), f"the folder '{tmp_path / 'empty'}' has no picture"),
        ((folder / "broken.jpg", f"--output={tmp_path / 'o.csv'}"), "broken.jpg cannot be used: truncated"),
        ((folder, "--output=/proc/none/o.csv"), "--output=/proc/none/o.csv cannot be written"),
        ((folder, f"--output={tmp_path / 'o.txt'}"), "neither FILE.csv nor FILE.jsonl"),
        ((folder, "--layer=fc7"), "--layer belongs to --mode=features"),
        ((folder, "--config.model.dropout=0.3"), "model.dropout is 0.3 here and 0.5 there"),
        ((folder, "--config.evaluate.vews=1"), "the nearest is --config.evaluate.views"),
        ((folder, "--config=configs/alexnet.py"), "model.kernels"),
    ):
        assert words in refusal(predict(workdir, *arguments))
    assert "holds no run" in refusal(predict(tmp_path / "empty", folder))
    assert "or --workdir=DIR, the folder of a run" in refusal(launch_here("--mode=predict", folder))
    assert os.listdir(tmp_path) == ["empty"] and not os.listdir(tmp_path / "empty")


def test_evaluating_needs_no_config(workdir: Path, data_dir: Path) -> None:
    flags = (f"--workdir={workdir}", "--mode=evaluate", "--config.evaluate.split=train[:50]")
    found = result(launch(*flags))
    assert found["examples"] == 50
    again = result(launch(*SMALL, *flags, f"--config.data.data_dir={data_dir}"))
    assert again["loss"] == pytest.approx(found["loss"], rel=1e-6)
