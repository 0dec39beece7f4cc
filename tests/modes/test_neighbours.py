"""`--mode=neighbours`: the same neighbours as by brute force, each training picture nearest to itself, the sheet."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import alexnet_jax
from alexnet_jax.modes import neighbours
from tests.conftest import launch, launch_here, refusal, result


def brute_force(queries: np.ndarray, rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and rows, the nearest first; among equals the first rows."""
    distances = np.sqrt(((queries[:, None].astype(np.float64) - rows[None].astype(np.float64)) ** 2).sum(axis=2))
    order = np.argsort(distances, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(distances, order, 1), order


@pytest.mark.parametrize("sizes", [(500,), (3, 200, 297), (1, 1, 1)])
def test_the_nearest_are_those_of_brute_force(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    # Far from the origin, where squares less products lose what tells them apart, and with rows that are equal.
    rows = (1000 + rng.normal(size=(sum(sizes), 32))).astype(np.float32)
    rows[sum(sizes) // 2] = rows[0]
    queries = np.concatenate([rows[:20], rows[:5] + np.float32(0.25)])
    found, places = neighbours.nearest(queries, iter(np.split(rows, np.cumsum(sizes)[:-1])), 6)
    expected, right = brute_force(queries, rows, 6)
    np.testing.assert_array_equal(places, right)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (found[: min(20, len(rows)), 0] == 0).all()


@pytest.fixture(scope="module")
def squares(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The training set as TFDS reads it: names, labels and images; and some images as files."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(data_dir / "digits_72" / "1.0.0")
    config = tfds.ReadConfig(interleave_cycle_length=1)
    examples = list(builder.as_dataset("train", read_config=config).as_numpy_iterator())
    files = tmp_path_factory.mktemp("squares")
    for number in (3, 700, 1400):
        Image.fromarray(examples[number]["image"]).save(files / f"{number}.png")
    return {
        "files": files,
        "names": [one["file_name"].decode() for one in examples],
        "labels": [int(one["label"]) for one in examples],
        "images": np.stack([one["image"] for one in examples]),
    }


def test_a_training_picture_is_nearest_to_itself(
    workdir: Path,
    folder: Path,
    squares: dict[str, Any],
    tmp_path: Path,
) -> None:
    numbers = (3, 700, 1400)
    files = [squares["files"] / f"{number}.png" for number in numbers]
    flags = ("--mode=neighbours", f"--workdir={workdir}")
    found = result(launch(*flags, *files, folder / "broken.jpg"))
    features = alexnet_jax.load(workdir).features(squares["images"], "fc7")
    distances, rows = brute_force(features[list(numbers)], features, 6)
    assert [one["file"] for one in found["queries"]] == list(map(str, files))
    for query, number, right, near in zip(found["queries"], numbers, distances, rows.tolist(), strict=True):
        assert query["neighbours"][0]["name"] == squares["names"][number]
        assert [one["name"] for one in query["neighbours"]] == [squares["names"][row] for row in near]
        assert [one["label"] for one in query["neighbours"]] == [squares["labels"][row] for row in near]
        assert [one["class"] for one in query["neighbours"]] == [str(squares["labels"][row]) for row in near]
        assert [one["distance"] for one in query["neighbours"]] == pytest.approx(right.tolist(), rel=1e-3, abs=1e-4)
    assert [one["file"] for one in found["rejected"]] == [str(folder / "broken.jpg")]
    assert found["picture"] == str(workdir / "neighbours.png")
    with Image.open(found["picture"]) as sheet:
        drawn = np.asarray(sheet)
    # Each query and its nearest neighbour, the same picture, side by side.
    centre = squares["images"][3][4:68, 4:68]
    spots = [(44, 16), (44, 16 + 68)]
    assert all((drawn[top : top + 64, left : left + 64] == centre).all() for top, left in spots)

    # The same from a folder of features; and of a folder of another network nothing.
    kept = tmp_path / "kept"
    split = "--config.evaluate.split=train"
    result(launch("--mode=features", f"--workdir={workdir}", "--layer=fc7", f"--output={kept}", split))
    again = result(launch(*flags, *files, f"--features={kept}", f"--output={tmp_path / 's.png'}"))
    for one, other in zip(found["queries"], again["queries"], strict=True):
        assert [near["name"] for near in one["neighbours"]] == [near["name"] for near in other["neighbours"]]
        assert [near["label"] for near in one["neighbours"]] == [near["label"] for near in other["neighbours"]]
    with Image.open(tmp_path / "s.png") as sheet:
        np.testing.assert_array_equal(np.asarray(sheet), drawn)
    assert "exists already" in refusal(launch_here(*flags, *files, f"--output={tmp_path / 's.png'}"))
    about = (kept / "features.json").read_text()
    (kept / "features.json").write_text(about.replace('"network": "', '"network": "0'))
    assert "was made with another network or checkpoint" in refusal(launch_here(*flags, *files, f"--features={kept}"))
    (kept / "features.json").write_text(about)
    with open(kept / "fc7.npy", "r+b") as file:
        file.truncate(2000)
    assert "ends before its last row" in refusal(launch_here(*flags, *files, f"--features={kept}"))
    shutil.rmtree(kept)
    assert "was not made by --mode=features" in refusal(launch_here(*flags, *files, f"--features={kept}"))


def test_among_files_there_are_no_labels(workdir: Path, folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    result(launch("--mode=features", f"--workdir={workdir}", "--layer=fc6,fc7", f"--output={kept}", folder))
    flags = ("--mode=neighbours", f"--workdir={workdir}", f"--features={kept}", f"--output={tmp_path / 's.png'}")
    found = result(launch(*flags, folder / "b.png"))
    near = found["queries"][0]["neighbours"]
    assert len(near) == 4 and near[0]["name"] == str(folder / "b.png") and near[0]["distance"] < 1e-4
    assert {one["label"] for one in near} == {None}
    assert (tmp_path / "s.png").is_file()
    assert "is not FILE.png" in refusal(launch_here(*flags[:3], f"--output={tmp_path / 's.jpg'}", folder / "b.png"))
