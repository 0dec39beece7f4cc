"""The pipeline: the order of pictures, their crops, and the random draws."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from PIL import Image

from alexnet_jax.data.batches import pipeline
from alexnet_jax.data.batches.batch import Batch
from alexnet_jax.data.batches.epoch import epoch_groups
from alexnet_jax.data.batches.training_statistics import training_statistics
from alexnet_jax.data.prepared import preparation, prepare
from alexnet_jax.data.prepared.prepared_set import PreparedSet
from alexnet_jax.data.prepared.shards import FRAME
from alexnet_jax.data.prepared.statistics import Statistics
from alexnet_jax.data.prepared.stored_squares import StoredSquares
from alexnet_jax.messages import UserError
from configs import alexnet
from tests.conftest import ROOT
from tests.photographs import write_folder

SIDE, CROP, PICTURES = 40, 8, 180
NOTHING = Statistics(np.zeros((SIDE, SIDE, 3), np.float32), np.eye(3))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    write_folder(folder, {"cat": 100, "dog": 100})
    return folder


def config_of(photographs: Path, encoding: str, **fields: Any) -> ConfigDict:
    config = alexnet.get_config()
    config.data.update({"name": "folder", "manual_dir": str(photographs), "resize": SIDE, "crop": CROP})
    config.data.update({"encoding": encoding, "prepared_dir": str(photographs.parent / f"prepared-{encoding}")})
    config.data.shuffle_examples = 70
    config.train.batch_size, config.evaluate.batch_size = 16, 16
    config.augment.offsets_inclusive = True
    config.augment.update(fields)
    return config


@pytest.fixture(scope="module")
def sets(photographs: Path) -> dict[str, PreparedSet]:
    """Both encodings, in files of about 30 pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "PER_FILE", 30)
        return {e: prepare.open_or_prepare(config_of(photographs, e)) for e in ("jpeg", "raw")}


def batches(source: PreparedSet, config: ConfigDict, first: int, last: int, **options: Any) -> list[Batch]:
    statistics = training_statistics(source, config)
    return list(pipeline.training_batches(source, config, statistics, first, last, **options))


def stored(source: PreparedSet, split: str) -> tuple[np.ndarray, list[int]]:
    """All squares and labels of a split in the order of the dataset, as TFDS and Pillow read them."""
    options = {"decoders": {"image": tfds.decode.SkipDecoding()}} if source.encoding == "jpeg" else {}
    in_turn = tfds.ReadConfig(interleave_cycle_length=1)
    examples = list(source.builder.as_dataset(split=split, read_config=in_turn, **options).as_numpy_iterator())
    pixels = [e["image"] if source.encoding == "raw" else Image.open(io.BytesIO(e["image"])) for e in examples]
    return np.stack([np.asarray(image) for image in pixels]), [int(e["label"]) for e in examples]


def same(a: list[Batch], b: list[Batch]) -> bool:
    assert len(a) == len(b)
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def test_groups_are_whole_files_and_an_epoch_is_every_example_once() -> None:
    lengths = [5, 3, 9, 2, 7]
    first = np.concatenate([[0], np.cumsum(lengths)])
    seen = []
    for epoch in range(3):
        groups = list(epoch_groups(lengths, 10, 0, epoch))
        assert sorted(f for files, _ in groups for f in files) == [0, 1, 2, 3, 4]
        for files, numbers in groups:
            assert len(files) == 1 or len(numbers) <= 10
            held = np.concatenate([np.arange(first[f], first[f + 1]) for f in files])
            np.testing.assert_array_equal(np.sort(numbers), np.sort(held))
        seen.append(np.concatenate([numbers for _, numbers in groups]).tolist())
        assert sorted(seen[-1]) == list(range(26))
    assert seen[0] != seen[1] != seen[2]
    assert seen[0] == np.concatenate([n for _, n in epoch_groups(lengths, 10, 0, 0)]).tolist()
    assert seen[0] != np.concatenate([n for _, n in epoch_groups(lengths, 10, 1, 0)]).tolist()


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_a_batch_is_the_stored_pictures_cropped_and_mirrored(
    sets: dict[str, PreparedSet], photographs: Path, encoding: str
) -> None:
    source, config = sets[encoding], config_of(photographs, encoding)
    whole, labels = stored(source, "train")
    assert whole.shape == (PICTURES, SIDE, SIDE, 3)
    np.testing.assert_array_equal(np.concatenate(list(pipeline.squares(source, "train"))), whole)
    lengths = StoredSquares(source, "train").lengths
    numbers = np.concatenate([numbers for _, numbers in epoch_groups(lengths, 70, 0, 0)])
    found = batches(source, config, 0, 11)
    mirrored = 0
    for i, number in enumerate(numbers[: 11 * 16]):
        batch, row = found[i // 16], i % 16
        top, left = batch.offset[row]
        crop = whole[number, top : top + CROP, left : left + CROP]
        if batch.reflected[row]:
            crop, mirrored = crop[:, ::-1], mirrored + 1
        np.testing.assert_array_equal(batch.image[row], crop)
        assert batch.label[row] == labels[number]
    assert 50 < mirrored < 126
    assert (found[0].image.dtype, found[0].label.dtype) == (np.uint8, np.int32)


def test_beside_its_pixels_a_picture_takes_at_most_64_bytes(sets: dict[str, PreparedSet], photographs: Path) -> None:
    for encoding, source in sets.items():
        (batch,) = batches(source, config_of(photographs, encoding), 0, 1)
        assert batch.image[0].nbytes == CROP * CROP * 3
        assert sum(values[0].nbytes for values in jax.tree.leaves(batch)) - batch.image[0].nbytes <= 64


@pytest.mark.parametrize(("encoding", "pictures_per_draw"), [("jpeg", 1), ("raw", 1), ("raw", 3)])
def test_going_on_and_slices_give_the_same_pictures(
    sets: dict[str, PreparedSet], photographs: Path, encoding: str, pictures_per_draw: int
) -> None:
    source, config = sets[encoding], config_of(photographs, encoding, pictures_per_draw=pictures_per_draw)
    straight = batches(source, config, 0, 30)  # nearly three epochs of eleven steps
    assert same(straight, batches(source, config, 0, 30))
    for first in (1, 11, 17):
        assert same(straight[first:], batches(source, config, first, 30))
    halves = [batches(source, config, 5, 14, rows=slice(at, at + 8)) for at in (0, 8)]
    joined = jax.tree.map(lambda a, b: np.concatenate([a, b]), *halves)
    assert same(straight[5:14], joined)
    config.train.seed = 1
    assert not same(straight[:1], batches(source, config, 0, 1))


def test_both_encodings_draw_alike(sets: dict[str, PreparedSet], photographs: Path) -> None:
    both = [list(pipeline.training_batches(sets[e], config_of(photographs, e), NOTHING, 0, 3)) for e in ("jpeg", "raw")]
    for jpeg, raw in zip(*both, strict=True):
        assert same([jpeg.replace(image=None)], [raw.replace(image=None)])
        assert np.abs(jpeg.image.astype(int) - raw.image).mean() < 12


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_going_on_reads_no_file_of_earlier_groups(
    sets: dict[str, PreparedSet], photographs: Path, encoding: str, tmp_path: Path
) -> None:
    config = config_of(photographs, encoding)
    config.data.prepared_dir = str(tmp_path / "copy")
    shutil.copytree(sets[encoding].folder, tmp_path / "copy")
    source = prepare.open_or_prepare(config)
    groups = list(epoch_groups(StoredSquares(source, "train").lengths, 70, 0, 0))
    files, numbers = groups[0]
    names = [source.builder.info.splits["train"].file_instructions[file].filename for file in files]
    for name in names:
        Path(name).unlink()
    step = -(-len(numbers) // 16)
    assert len(batches(source, config, step, 11)) == 11 - step
    with pytest.raises(UserError, match="of the prepared set is missing") as refused:
        batches(source, config, 0, 1)
    assert any(name in str(refused.value) for name in names)


def test_one_fixed_order(sets: dict[str, PreparedSet], photographs: Path) -> None:
    source, config = sets["raw"], config_of(photographs, "raw", crops=False, reflections=False)
    shuffled = batches(source, config, 0, 22)
    assert not np.array_equal(shuffled[0].image, shuffled[11].image)
    config.data.order = "fixed"
    fixed = batches(source, config, 0, 22)
    for early, late in zip(fixed[:11], fixed[11:], strict=True):
        np.testing.assert_array_equal(early.image, late.image)
        assert not np.array_equal(early.lighting, late.lighting)


def drawn(source: PreparedSet, config: ConfigDict, statistics: Statistics, epochs: int) -> Batch:
    config.train.batch_size = PICTURES
    found = list(pipeline.training_batches(source, config, statistics, 0, epochs))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *found)


def test_draws_are_distributed_as_the_paper_has_them(sets: dict[str, PreparedSet], photographs: Path) -> None:
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(3, 3))
    statistics = Statistics(NOTHING.mean_image, mixed @ mixed.T / 10)
    found = drawn(sets["raw"], config_of(photographs, "raw"), statistics, 130)
    count = len(found.offset)
    cells = np.bincount(found.offset @ [33, 1], minlength=33 * 33)
    assert len(cells) == 33 * 33 and cells.min() > 0
    squares = ((cells - count / 1089) ** 2 / (count / 1089)).sum()
    assert abs(squares - 1088) < 5 * np.sqrt(2 * 1088)  # chi-squared
    assert abs(found.reflected.mean() - 0.5) < 5 * 0.5 / np.sqrt(count)
    assert np.all(found.scale == 1)
    values, axes = np.linalg.eigh(statistics.rgb_covariance)
    expected = 0.01 * 255**2 * (axes * values**2) @ axes.T
    np.testing.assert_allclose(np.cov(found.lighting.T, bias=True), expected, atol=0.05 * np.abs(expected).max())
    independent = np.corrcoef(np.column_stack([found.offset, found.reflected, found.lighting[:, 0]]).T)
    assert np.abs(independent - np.eye(4)).max() < 5 / np.sqrt(count)


def test_draws_of_the_source(sets: dict[str, PreparedSet], photographs: Path) -> None:
    statistics = Statistics(NOTHING.mean_image, np.diag([0.1, 0.2, 0.3]))
    config = config_of(photographs, "raw", lighting="root", pictures_per_draw=4, mean="centre", lighting_until=60.0)
    found = drawn(sets["raw"], config, statistics, 63)
    lit = slice(0, 60 * PICTURES)
    expected = 0.01 * 255**2 * statistics.rgb_covariance  # the sum of eigenvalue p p^T
    np.testing.assert_allclose(np.cov(found.lighting[lit].T, bias=True), expected, atol=0.05 * expected.max())
    np.testing.assert_allclose(found.scale[lit], 1 / 1.1, rtol=1e-6)
    assert np.all(found.lighting[60 * PICTURES :] == 0) and np.all(found.scale[60 * PICTURES :] == 1)
    assert np.all(found.offset == 16) and not found.reflected.any()
    config.augment.mean = "cropped"
    fours = jax.tree.map(lambda x: x.reshape(-1, 4, *x.shape[1:]), drawn(sets["raw"], config, statistics, 2))
    assert np.all(fours.offset == fours.offset[:, :1]) and np.all(fours.reflected == fours.reflected[:, :1])
    assert len(np.unique(fours.offset[:, 0], axis=0)) > 70
    assert not np.any(fours.lighting[:, 0] == fours.lighting[:, 1])


def test_the_papers_offsets_are_one_fewer(sets: dict[str, PreparedSet], photographs: Path) -> None:
    found = drawn(sets["raw"], config_of(photographs, "raw", offsets_inclusive=False), NOTHING, 6)
    assert (found.offset.min(), found.offset.max()) == (0, 31)
    still = drawn(sets["raw"], config_of(photographs, "raw", crops=False, reflections=False), NOTHING, 1)
    assert np.all(still.offset == 16) and not still.reflected.any()


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_evaluation_sees_every_picture_once(sets: dict[str, PreparedSet], photographs: Path, encoding: str) -> None:
    source, config = sets[encoding], config_of(photographs, encoding)
    whole, labels = stored(source, "validation")
    found = list(pipeline.evaluation_batches(source, config, "validation"))
    assert [batch.mask.sum() for batch in found] == [16, 4]
    assert all(len(values) == 16 for values in jax.tree.leaves(found))
    images = np.concatenate([batch.image[batch.mask] for batch in found])
    np.testing.assert_array_equal(images, whole[:, 16 : 16 + CROP, 16 : 16 + CROP])
    assert np.concatenate([batch.label[batch.mask] for batch in found]).tolist() == labels
    uncut = list(pipeline.evaluation_batches(source, config, "validation", whole=True))
    np.testing.assert_array_equal(np.concatenate([batch.image[batch.mask] for batch in uncut]), whole)
    assert not uncut[0].offset.any()


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_a_damaged_record_is_named(photographs: Path, tmp_path: Path, encoding: str, capfd: Any) -> None:
    config = config_of(photographs, encoding)
    config.data.prepared_dir = str(tmp_path / "aufbereitet für später")
    source = prepare.open_or_prepare(config)
    assert len(batches(source, config, 0, 2)) == 2
    (path,) = source.folder.glob("*-train.tfrecord*")
    lengths = [len(record.numpy()) + FRAME for record in tf.data.TFRecordDataset(str(path))]
    content = bytearray(path.read_bytes())
    content[sum(lengths[:7]) + 300] ^= 1
    path.write_bytes(content)
    for read in (
        lambda: batches(source, config, 0, 11),
        lambda: list(pipeline.evaluation_batches(source, config, "train")),
    ):
        with pytest.raises(UserError, match=rf"record 7 of '.*{path.name}' is damaged"):
            read()
    path.write_bytes(bytes(content[: sum(lengths[:5])]))
    with pytest.raises(UserError, match=rf"{path.name}' ends after 5 records and should have at least 180"):
        batches(source, config, 0, 11)
    with pytest.raises(UserError, match=rf"{path.name}' ends after 5 records and should have at least 180"):
        list(pipeline.evaluation_batches(source, config, "train"))
    assert "Traceback" not in capfd.readouterr().err


def test_a_batch_larger_than_the_set(sets: dict[str, PreparedSet], photographs: Path) -> None:
    config = config_of(photographs, "raw")
    config.train.batch_size = 181
    with pytest.raises(
        UserError, match=r"is 181, but the training set has only 180 pictures; set --config.train.batch_size"
    ):
        batches(sets["raw"], config, 0, 1)


LEFT = """
import sys
from pathlib import Path
from alexnet_jax.data.batches import pipeline
from alexnet_jax.data.batches.training_statistics import training_statistics
from alexnet_jax.data.prepared import prepare
from tests.data.batches.test_pipeline import config_of
config = config_of(Path(sys.argv[1]), "jpeg")
source = prepare.open_or_prepare(config)
kept = pipeline.training_batches(source, config, training_statistics(source, config), 0, 10**6)
next(kept)
print("read", flush=True)
raise SystemExit(3)
"""


def test_a_program_may_end_amid_its_batches(sets: dict[str, PreparedSet], photographs: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEFT, str(photographs)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout.strip()) == (3, "read")
    assert "Traceback" not in done.stderr


DIGEST = """
import hashlib, sys
import jax
from alexnet_jax.data.batches import pipeline
from alexnet_jax.data.batches.training_statistics import training_statistics
from alexnet_jax.data.prepared import prepare
from tests.data.batches.test_pipeline import config_of
from pathlib import Path
config = config_of(Path(sys.argv[1]), sys.argv[2])
source = prepare.open_or_prepare(config)
digest = hashlib.sha256()
for batch in pipeline.training_batches(source, config, training_statistics(source, config), 3, 20):
    for array in jax.tree.leaves(batch):
        digest.update(array.tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_threads_change_nothing(sets: dict[str, PreparedSet], photographs: Path, encoding: str) -> None:
    digests = set()
    for threads in ("1", "8"):
        environment = {"TF_NUM_INTEROP_THREADS": threads, "TF_NUM_INTRAOP_THREADS": threads}
        environment |= {"OPENBLAS_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", DIGEST, str(photographs), encoding],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout.strip())
    assert len(digests) == 1
    assert len(digests.pop()) == 64
