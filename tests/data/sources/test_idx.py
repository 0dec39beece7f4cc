"""The four files of the MNIST family, against NumPy, and their faults."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from alexnet_jax.data import sources
from alexnet_jax.data.batches import pipeline
from alexnet_jax.data.batches.training_statistics import training_statistics
from alexnet_jax.data.prepared import prepare
from alexnet_jax.data.sources.idx import FILES, list_idx, read_idx
from alexnet_jax.messages import UserError
from configs import digits
from tests.conftest import launch, launch_here, refusal, result

COUNTS = {"train": 60, "test": 30}
PICTURES, LABELS = FILES["train"]


def idx(magic: int, array: np.ndarray) -> bytes:
    """An idx file by its description: the magic number, the lengths, the bytes."""
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes()


def made(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Writes a set of three classes, and returns its pixels and labels."""
    folder.mkdir(exist_ok=True)
    rng, arrays = np.random.default_rng(0), {}
    for split, count in COUNTS.items():
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.permutation(np.arange(count) % 3).astype(np.uint8)
        for name, content in zip(FILES[split], (idx(0x803, pixels), idx(0x801, labels)), strict=True):
            (folder / name).write_bytes(gzip.compress(content, 1))
        arrays[split] = pixels, labels
    return arrays


def config_of(folder: Path, data_dir: Path) -> ConfigDict:
    config = digits.get_config()
    config.data.update({"name": "idx", "manual_dir": str(folder), "data_dir": str(data_dir)})
    config.data.update({"resize": 28, "crop": 28})
    return config


def test_prepared_pixels_and_labels_are_numpys(tmp_path: Path) -> None:
    arrays, config = made(tmp_path / "set"), config_of(tmp_path / "set", tmp_path / "data")
    source = prepare.open_or_prepare(config)
    assert source.classes == sources.class_names(config.data) == ("0", "1", "2")
    config.evaluate.batch_size = 30
    for split, (pixels, labels) in arrays.items():
        with pipeline.evaluation_batches(source, config, split, whole=True) as batches:
            found = list(batches)
        images, theirs = (np.concatenate([getattr(batch, name) for batch in found]) for name in ("image", "label"))
        assert images.shape == (COUNTS[split], 28, 28, 3)
        # The prepared set has an order of its own: each picture is found by its pixels.
        place = {picture.tobytes(): number for number, picture in enumerate(pixels)}
        numbers = [place[np.ascontiguousarray(image[..., 0]).tobytes()] for image in images]
        assert sorted(numbers) == list(range(COUNTS[split]))
        np.testing.assert_array_equal(theirs, labels[numbers])
        for channel in (1, 2):
            np.testing.assert_array_equal(images[..., channel], images[..., 0])
    mean = training_statistics(source, config).mean_image
    np.testing.assert_allclose(mean[..., 0], arrays["train"][0].mean(axis=0), rtol=1e-6)


def test_two_sets_of_one_size_lie_apart_and_one_that_changed_is_noticed(tmp_path: Path, capsys: Any) -> None:
    made(tmp_path / "one")
    made(tmp_path / "two")
    one, two = (prepare.open_or_prepare(config_of(tmp_path / name, tmp_path / "data")) for name in ("one", "two"))
    assert one.folder != two.folder
    again = prepare.open_or_prepare(config_of(tmp_path / "one", tmp_path / "data"))
    assert again.folder == one.folder and "was changed" not in capsys.readouterr().err
    pixels = np.zeros((61, 28, 28), np.uint8)
    (tmp_path / "one" / PICTURES).write_bytes(gzip.compress(idx(0x803, pixels)))
    (tmp_path / "one" / LABELS).write_bytes(gzip.compress(idx(0x801, np.arange(61, dtype=np.uint8) % 3)))
    with pytest.raises(UserError, match=r"is not what .* was prepared from \(added: train/60.png; of another size"):
        prepare.open_or_prepare(config_of(tmp_path / "one", tmp_path / "data"))


def damaged(folder: Path, name: str, change: Any) -> None:
    path = folder / name
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        (PICTURES, lambda content: content[:-1], "cut short: 47,039 bytes of pictures of shape \\(60, 28, 28\\)"),
        (LABELS, lambda content: content[:-7], "cut short: 53 bytes of labels"),
        (PICTURES, lambda content: content[:9], "is cut short; get it again"),
        (LABELS, lambda content: b"", "is cut short; get it again"),
        (PICTURES, lambda content: content + b"\0", "is longer than pictures of shape"),
        (
            PICTURES,
            lambda content: idx(0x801, np.zeros(60, np.uint8)),
            "begins with 0x0801 and should begin with 0x0803",
        ),
        (LABELS, lambda content: b"\x89PNG" + content[4:], "begins with 0x89504e47 and should begin with 0x0801"),
        (LABELS, lambda content: idx(0x801, np.zeros(59, np.uint8) + np.arange(59, dtype=np.uint8) % 3), "59 labels"),
        (
            FILES["test"][1],
            lambda content: idx(0x801, np.full(30, 3, np.uint8)),
            "has the label 3, but training has only the labels from 0 to 2;",
        ),
        (LABELS, lambda content: idx(0x801, np.zeros(60, np.uint8)), "has labels of 1 class; at least two are needed"),
        (
            LABELS,
            lambda content: idx(0x801, np.arange(60, dtype=np.uint8) % 2 * 2),
            "no label 1, so that this class has no pictures",
        ),
        (PICTURES, lambda content: content[:4] + b"\xff" * 12, "says that it holds pictures of shape .* too large"),
    ],
)
def test_a_file_that_is_not_whole_or_not_of_its_kind(tmp_path: Path, name: str, change: Any, problem: str) -> None:
    made(tmp_path)
    damaged(tmp_path, name, change)
    with pytest.raises(UserError, match=problem) as error:
        list_idx(tmp_path)
    assert name in str(error.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (lambda content: content[: len(content) // 2], "is cut short"),
        (lambda content: content[:200] + bytes(len(content) - 200), "is damaged, or no gzip file"),
        (lambda content: gzip.decompress(content), "is damaged, or no gzip file"),
        (lambda content: b"", "is cut short"),
    ],
)
def test_gzip_that_is_not_whole(tmp_path: Path, content: Any, problem: str) -> None:
    made(tmp_path)
    path = tmp_path / PICTURES
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(UserError, match=problem):
        read_idx(path, 0x803)


@pytest.mark.parametrize("name", [name for pair in FILES.values() for name in pair])
def test_one_of_the_four_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    made(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=f"lacks {name}; put the set's four files there"):
        list_idx(tmp_path)


def test_the_entry_point_prepares_them_and_says_what_is_missing(tmp_path: Path) -> None:
    made(tmp_path / "set")
    flags = (
        *("--config=configs/digits.py", "--mode=prepare", "--config.data.name=idx"),
        *(f"--config.data.manual_dir={tmp_path / 'set'}", f"--config.data.data_dir={tmp_path}/data"),
    )
    prepared = result(launch(*flags))
    assert (prepared["classes"], prepared["splits"]) == (3, {"train": 60, "test": 30})
    (tmp_path / "set" / LABELS).unlink()
    assert f"lacks {LABELS}" in refusal(launch_here(*flags[:4], f"--config.data.data_dir={tmp_path}/other"))
