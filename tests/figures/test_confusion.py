"""Confusions, compared with counts by hand and with the network's own outputs."""

import csv
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import alexnet_jax
from alexnet_jax.figures import confusion
from alexnet_jax.figures.drawing import Place
from alexnet_jax.messages import UserError
from alexnet_jax.modes import FiguresInvocation, figures
from tests.conftest import small_config
from tests.figures.made_up import made_up

# Twelve pictures of four classes; the last class has no picture.
LABELS = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
GUESSES = np.array([0, 0, 1, 2, 2, 1, 1, 0, 0, 0, 0, 3])
BY_HAND = [[2, 1, 2, 0], [1, 2, 0, 0], [3, 0, 0, 1], [0, 0, 0, 0]]
CLASSES = ("ant", "bee", "cat", "dog")


def test_twelve_pictures_counted_by_hand(tmp_path: Path, capsys: Any) -> None:
    found = confusion.make("t", confusion.counted(LABELS, GUESSES, CLASSES), list(CLASSES), Place(tmp_path / "c.png"))
    assert found["matrix"] == BY_HAND
    assert (found["examples"], found["errors"], found["classes"]) == (12, 8, 4)
    assert found["top1_error"] == 8 / 12
    assert [(one["true"], one["guessed"], one["count"]) for one in found["pairs"]] == [
        ("cat", "ant", 3),
        ("ant", "cat", 2),
        ("ant", "bee", 1),  # of those that tie by class
        ("bee", "ant", 1),
        ("cat", "dog", 1),
    ]
    assert [(one["class"], one["errors"], one["examples"]) for one in found["errors_by_class"]] == [
        ("cat", 4, 4),
        ("ant", 3, 5),
        ("bee", 1, 3),
    ]
    assert capsys.readouterr().err.splitlines()[1:] == [
        "cat: 4 of 4 wrong",
        "ant: 3 of 5 wrong",
        "bee: 1 of 3 wrong",
    ]
    rows = list(csv.reader((tmp_path / "c.csv").read_text().splitlines()))[1:]
    assert {(true, guessed): int(count) for true, guessed, count in rows} == {
        (CLASSES[i], CLASSES[j]): count for i, row in enumerate(BY_HAND) for j, count in enumerate(row) if count
    }
    worst = list(csv.reader((tmp_path / "c-classes.csv").read_text().splitlines()))
    assert worst[:2] == [["class", "examples", "errors", "error"], ["cat", "4", "4", "1.0"]]
    assert (tmp_path / "c.pdf").is_file() and found["picture"] == str(tmp_path / "c.png")


def test_22_000_classes_need_no_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = tuple(f"n{number:08}" for number in range(22_000))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 22_000, 50_000)
    guesses = np.where(rng.random(50_000) < 0.5, labels, rng.integers(0, 22_000, 50_000))
    labels[:40], guesses[:40] = 21_999, 21_998  # the most confused pair
    tracemalloc.start()
    counts = confusion.counted(labels, guesses, classes)
    most_confused = counts.pairs[0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6  # the matrix would be 3.9 GB
    assert most_confused[:2] == (21_999, 21_998)
    monkeypatch.delattr(confusion.Confusions, "matrix")
    found = confusion.make("t", counts, list(classes), Place(tmp_path / "c.png"))
    assert "matrix" not in found and len(found["pairs"]) == 30
    most = found["pairs"][0]
    assert (most["true"], most["guessed"]) == (classes[-1], classes[-2]) and most["count"] >= 40
    assert found["errors"] == (labels != guesses).sum()
    assert len(found["errors_by_class"]) == 30
    lines = (tmp_path / "c-classes.csv").read_text().splitlines()
    assert len(lines) == 1 + len(set(labels.tolist()))


@pytest.mark.parametrize("count", [2, 60, 101])
def test_more_classes_than_numbers_fit(count: int, tmp_path: Path) -> None:
    labels = np.arange(count).repeat(3)
    guesses = (labels + (np.arange(len(labels)) % 3 == 0)) % count
    classes = [f"a class with the name {i} $" for i in range(count)]
    found = confusion.make("t", confusion.counted(labels, guesses, tuple(classes)), classes, Place(tmp_path / "c.png"))
    assert ("matrix" in found) == (count <= 100) and found["errors"] == count


def test_of_a_split_as_the_network_answers(data_dir: Path, tmp_path: Path) -> None:
    import tensorflow_datasets as tfds

    workdir = made_up(tmp_path / "run", small_config(data_dir))
    found = figures.run(None, FiguresInvocation(workdir, figure="confusion"))
    examples = list(
        tfds.builder_from_directory(data_dir / "digits_72" / "1.0.0").as_dataset("validation").as_numpy_iterator()
    )
    guesses = alexnet_jax.load(workdir).probabilities(np.stack([one["image"] for one in examples])).argmax(axis=1)
    matrix = np.zeros((10, 10), int)
    for one, guess in zip(examples, guesses.tolist(), strict=True):
        matrix[int(one["label"]), guess] += 1
    assert found["matrix"] == matrix.tolist() and found["examples"] == 360
    assert (workdir / "confusion.png").is_file()
    config = small_config()
    config.update({"data": {"data_dir": str(data_dir)}, "evaluate": {"split": "validation[:1]"}})
    alone = figures.run(config, FiguresInvocation(workdir, figure="confusion"))
    assert alone["examples"] == 1 and len(alone["errors_by_class"]) == 1
    broken = made_up(tmp_path / "nan", small_config(data_dir), fc6={"kernel": np.full((8, 16), np.nan)})
    with pytest.raises(UserError, match="not numbers"):
        figures.run(None, FiguresInvocation(broken, figure="confusion"))
