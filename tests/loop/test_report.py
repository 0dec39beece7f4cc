"""A run's numbers: metrics.jsonl and TensorBoard's series."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet_jax.loop import report


def test_training_and_validation_have_one_chart_in_tensorboard_and_the_epoch_has_none(tmp_path: Path) -> None:
    from alexnet_jax.data.tensorflow import tf

    one = report.Report(tmp_path, 0, 100, 10)
    one.start()
    one.training(10, {"loss": 1.5, "top1_error": 0.5}, 0.01, 100.0, 8)
    one.validation(10, {"loss": 1.25, "top1_error": 0.25, "top5_error": 0.0})
    one.close()
    shown = {}
    for series in ("", "validation"):
        (path,) = (tmp_path / series).glob("events.out.tfevents.*")
        for record in tf.data.TFRecordDataset(str(path)):
            for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
                shown[series, value.tag] = float(np.ravel(tf.make_ndarray(value.tensor))[0])
    assert shown == {
        ("", "loss"): 1.5,
        ("", "top1_error"): 0.5,
        ("", "learning_rate"): np.float32(0.01),
        ("", "images_per_second"): 100.0,
        ("validation", "loss"): 1.25,
        ("validation", "top1_error"): 0.25,
        ("validation", "top5_error"): 0.0,
    }


def test_a_series_that_is_none_is_left_out(tmp_path: Path, capsys: Any) -> None:
    good = {"step": 1, "train/loss": 2.0}
    texts = [json.dumps(good), json.dumps({"step": 2, "valadation/loss": 2.0})]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{text}\n" for text in texts))
    assert report.read_metrics(tmp_path) == [good]
    assert "line 2 cannot be read and is left out" in capsys.readouterr().err


def test_a_report_changes_no_file_before_it_starts(tmp_path: Path) -> None:
    texts = [json.dumps({"step": step, "train/loss": 2.0}) + "\n" for step in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("".join(texts))
    one = report.Report(tmp_path, 2, 100, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(texts)
    one.start()
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(texts[:2])  # the third line comes again
    assert list(tmp_path.glob("events.out.tfevents.*"))
    one.close()


def test_lines_wait_in_memory_while_the_file_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = report.MetricsFile(tmp_path / "metrics.jsonl", [{"step": 1}])
    metrics.rewrite()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    assert metrics._file is not None
    metrics._file.close()
    metrics._file = open("/dev/full", "a", buffering=1)
    with monkeypatch.context() as patch:
        patch.setattr(report.MetricsFile, "rewrite", full)
        assert metrics.add({"step": 2}) == "No space left on device"
        assert metrics.add({"step": 3}) == ""  # reported once
    assert report.read_metrics(tmp_path) == [{"step": 1}]
    assert metrics.add({"step": 4}) == ""
    assert report.read_metrics(tmp_path) == [{"step": 1}, {"step": 2}, {"step": 3}, {"step": 4}]
    metrics.close()
