"""An epoch's last batch, if fewer pictures are left than fit into it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax.data.batches import pipeline
from alexnet_jax.data.batches.epoch import epoch_groups
from alexnet_jax.data.prepared import preparation, prepare
from alexnet_jax.data.prepared.prepared_set import PreparedSet
from alexnet_jax.data.prepared.stored_squares import StoredSquares
from alexnet_jax.messages import UserError
from tests.data.batches.test_pipeline import CROP, batches, config_of, same, stored
from tests.photographs import write_folder


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    write_folder(folder, {"cat": 100, "dog": 100})
    return folder


@pytest.fixture(scope="module")
def source(photographs: Path) -> PreparedSet:
    """180 pictures for training, in files of about 30."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "PER_FILE", 30)
        return prepare.open_or_prepare(config_of(photographs, "raw"))


@pytest.mark.parametrize("per_draw", [1, 32])
def test_an_epochs_short_last_batch_is_dropped_or_kept(photographs: Path, source: PreparedSet, per_draw: int) -> None:
    config = config_of(photographs, "raw", pictures_per_draw=per_draw)
    assert pipeline.steps_per_epoch(source, config) == 11
    dropped = batches(source, config, 0, 13)
    assert all(batch.mask is None for batch in dropped)
    config.data.short_batch = "keep"
    assert pipeline.steps_per_epoch(source, config) == 12  # 180 = 11 * 16 + 4
    kept = batches(source, config, 0, 14)
    assert [int(batch.mask.sum()) for batch in kept] == [*[16] * 11, 4, 16, 16]
    assert same(dropped[:11], [replace(batch, mask=None) for batch in kept[:11]])
    assert same(dropped[11:], [replace(batch, mask=None) for batch in kept[12:]])  # the next epoch's
    # Each picture of the epoch once, and nothing but a picture behind the mask.
    whole, _ = stored(source, "train")
    lengths = StoredSquares(source, "train").lengths
    numbers = np.concatenate([numbers for _, numbers in epoch_groups(lengths, 70, 0, 0)])
    last = kept[11]
    assert last.mask.tolist() == [True] * 4 + [False] * 12
    for row in range(16):
        number = numbers[min(176 + row, 179)]
        top, left = last.offset[row]
        crop = whole[number, top : top + CROP, left : left + CROP]
        np.testing.assert_array_equal(last.image[row], crop[:, ::-1] if last.reflected[row] else crop)
    halves = [batches(source, config, 11, 12, rows=rows)[0] for rows in (slice(0, 8), slice(8, 16))]
    for name in ("image", "label", "mask", "offset", "reflected", "lighting", "scale"):
        np.testing.assert_array_equal(np.concatenate([getattr(half, name) for half in halves]), getattr(last, name))


def test_a_set_of_less_than_a_batch_is_one_short_batch_where_it_is_kept(photographs: Path, source: PreparedSet) -> None:
    config = config_of(photographs, "raw")
    config.train.batch_size = 256
    with pytest.raises(UserError, match=r"batch_size is 256, but the training set has only 180 pictures"):
        pipeline.steps_per_epoch(source, config)
    config.data.short_batch = "keep"
    (only,) = batches(source, config, 0, 1)
    assert len(only.label) == 256 and only.mask.sum() == 180
