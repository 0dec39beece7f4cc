"""TensorBoard's pictures: each validation once, however the run was stopped, and the right answers."""

import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from alexnet_jax.config.config import recipe_of
from alexnet_jax.data.prepared import prepare
from alexnet_jax.data.tensorflow import tf
from alexnet_jax.devices import towers
from alexnet_jax.inference import examples
from alexnet_jax.inference.neighbour_sources import StoredSplit
from alexnet_jax.loop import tensorboard_images
from alexnet_jax.loop.report import Report
from alexnet_jax.loop.tensorboard import EVENTS, read_pictures
from alexnet_jax.loop.tensorboard_images import OTHER, TRUE, ValidationImages
from alexnet_jax.network import kernels
from alexnet_jax.training.step import class_probabilities, create_state
from tests.conftest import SMALL, launch, result, small_config


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)


def in_board(workdir: Path) -> dict[tuple[int, str], np.ndarray]:
    return read_pictures(sorted((workdir / "validation").glob(EVENTS)), 10**9)


def events_in(workdir: Path) -> list[tuple[int, str]]:
    """The step and name of each picture, duplicates included."""
    records = (
        record for path in (workdir / "validation").glob(EVENTS) for record in tf.data.TFRecordDataset(str(path))
    )
    events = [tf.compat.v1.Event.FromString(record.numpy()) for record in records]
    named = [(event.step, value.tag) for event in events for value in event.summary.value]
    return sorted(one for one in named if one[1] in ("kernels", "predictions"))


def test_pictures_outlive_a_run_that_goes_on_each_step_once(tmp_path: Path) -> None:
    report = Report(tmp_path, 0, 40, 10)
    report.start()
    for step in (10, 20, 30):
        report.validation(step, {"loss": 1.0, "top1_error": 0.5, "top5_error": 0.1})
        report.pictures(step, {"kernels": picture(step), "predictions": picture(step + 1)})
    report.close()
    (file,) = (tmp_path / "validation").glob(EVENTS)
    file.write_bytes(file.read_bytes()[:-20])  # as after a kill
    kept = in_board(tmp_path)
    assert set(kept) == {(step, name) for step in (10, 20, 30) for name in ("kernels", "predictions")} - {
        (30, "predictions")
    }
    np.testing.assert_array_equal(kept[20, "predictions"], picture(21))

    # Resumed from step 30, which was not validated: its validation comes again.
    report = Report(tmp_path, 30, 40, 10)
    report.start()
    report.pictures(30, {"kernels": picture(5), "predictions": picture(6)})
    report.close()
    (file,) = (tmp_path / "validation").glob(EVENTS)
    kept = in_board(tmp_path)
    assert sorted(kept) == sorted((step, name) for step in (10, 20, 30) for name in ("kernels", "predictions"))
    assert events_in(tmp_path) == sorted(kept)
    np.testing.assert_array_equal(kept[30, "kernels"], picture(5))
    np.testing.assert_array_equal(kept[10, "kernels"], picture(10))
    report = Report(tmp_path, 30, 40, 10, validated=True)
    report.start()
    report.close()
    assert events_in(tmp_path) == sorted(kept)
    report = Report(tmp_path, 20, 40, 10, validated=True)
    report.start()
    report.close()
    assert {step for step, _ in in_board(tmp_path)} == {10, 20}


def test_on_a_full_disk_pictures_wait_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    report = Report(tmp_path, 0, 40, 10)
    report.start()
    report.pictures(10, {"kernels": picture(1)})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=300))
    report.pictures(20, {"kernels": picture(2)})
    assert set(in_board(tmp_path)) == {(10, "kernels")}
    monkeypatch.undo()
    report.pictures(30, {"kernels": picture(3)})
    assert set(in_board(tmp_path)) == {(step, "kernels") for step in (10, 20, 30)}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=300))
    report.pictures(40, {"kernels": picture(4)})
    monkeypatch.undo()
    report.close()
    np.testing.assert_array_equal(in_board(tmp_path)[40, "kernels"], picture(4))


def test_a_run_is_shown_at_each_validation_also_when_it_goes_on(data_dir: Path, tmp_path: Path) -> None:
    flags = (*SMALL, f"--config.data.data_dir={data_dir}")
    found = result(launch(*flags, f"--workdir={tmp_path / 'run'}", "--config.train.steps=30"))
    seen = in_board(tmp_path / "run")
    assert sorted(seen) == sorted((step, name) for step in (22, 30) for name in ("kernels", "predictions"))
    assert seen[30, "predictions"].shape == (2 * (64 + 6 * 15 + 8) + 8, 4 * 104 + 8, 3)
    shutil.copytree(tmp_path / "run", tmp_path / "more")
    more = (*flags, f"--workdir={tmp_path / 'more'}", "--config.train.steps=44")
    assert result(launch(*more))["step"] == 44 and found["step"] == 30
    again = in_board(tmp_path / "more")
    assert sorted({step for step, _ in again}) == [22, 30, 44]
    for key, one in seen.items():
        np.testing.assert_array_equal(again[key], one)


@pytest.mark.parametrize(
    "mesh_shape", [pytest.param((1, 1), marks=pytest.mark.slow), (1, 2), pytest.param((2, 2), marks=pytest.mark.slow)]
)
def test_the_same_eight_pictures_with_the_networks_answers(data_dir: Path, mesh_shape: tuple[int, int]) -> None:
    config = small_config(data_dir)
    source, mesh = prepare.open_or_prepare(config), towers.make_mesh(*mesh_shape)
    recipe = recipe_of(config, 10, steps_per_epoch=1)
    mean_image = np.full((72, 72, 3), 100, np.float32)
    params = create_state(recipe, mesh).params
    drawn: list[Any] = []

    def sheet(*given: Any) -> np.ndarray:
        drawn.append(given)
        return picture(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorboard_images, "sheet", sheet)
        found = ValidationImages(config, source, recipe, mesh, towers.replicate(mean_image, mesh)).pictures(params)
    images, labels, probabilities, classes = drawn[0]
    stored = StoredSplit(config, source, "validation")
    rows = examples.chosen(360, config.train.seed)[0].tolist()
    np.testing.assert_array_equal(images, np.stack([one for one in stored.centres(rows) if one is not None]))
    assert labels == stored.labels(rows) and classes == source.classes
    one = towers.make_mesh(1, 1)
    batch = examples.from_split(config, source, "validation", np.array(rows)).batches(config.data, 8)
    host = jax.device_get(params)
    expected = jax.jit(lambda *given: class_probabilities(recipe, one, 1, *given), compiler_options=None)(
        host, next(batch).batch, mean_image
    )
    np.testing.assert_allclose(probabilities, np.asarray(expected), rtol=1e-4)
    kernel = np.asarray(host["conv1"]["kernel"])
    first, second = (kernels.sheet(one, float(np.abs(kernel).max())) for one in kernels.by_tower(kernel, 2))
    np.testing.assert_array_equal(found["kernels"][::3, ::3][: len(first)], first)
    np.testing.assert_array_equal(found["kernels"][::3, ::3][len(first) + 2 :], second)


def test_bars_are_as_long_as_the_probabilities_and_the_true_one_is_orange() -> None:
    images = np.zeros((2, 64, 64, 3), np.uint8)
    probabilities = np.array([[0.25, 0.75, 0, 0], [np.nan, 0, 0, 1]], np.float32)
    drawn = tensorboard_images.sheet(images, [1, 2], probabilities, ("a", "b", "c"))  # and a padded class
    first = 8 + 15 + 64 + 2 + 1  # a row of pixels within the first bar, above its letters
    for line, (colour, length) in enumerate([(TRUE, 72), (OTHER, 24)]):
        row = drawn[first + 15 * line - 1, 8 : 8 + 96]
        assert (row == colour).all(axis=1).sum() == length
    assert not (drawn[:, 8 + 104 :] == TRUE).all(axis=2).any()
