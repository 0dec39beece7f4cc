"""The digits as a dataset, their statistics, and the batches made of them."""

from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.datasets import load_digits

from alexnet_jax.data.batches import pipeline
from alexnet_jax.data.batches.epoch import epoch_groups
from alexnet_jax.data.batches.training_statistics import training_statistics
from alexnet_jax.data.prepared import prepare
from alexnet_jax.data.prepared.statistics import Statistics, statistics_of
from configs import digits


@pytest.fixture
def config(data_dir: Path) -> ConfigDict:
    config = digits.get_config()
    config.data.data_dir = str(data_dir)
    return config


def all_squares(config: ConfigDict, split: str) -> np.ndarray:
    source = prepare.open_or_prepare(config)
    return np.concatenate(list(pipeline.squares(source, split)))


def test_the_split_is_fixed_and_stratified(config: ConfigDict) -> None:
    source = prepare.open_or_prepare(config)
    assert (source.examples("train"), source.examples("validation")) == (1437, 360)
    assert source.classes == tuple("0123456789")
    labels = np.concatenate(
        [batch.label[batch.mask] for batch in pipeline.evaluation_batches(source, config, "validation")]
    )
    share = np.bincount(load_digits().target) / 1797
    np.testing.assert_allclose(np.bincount(labels), 360 * share, atol=1)


def test_every_digit_is_there_once(config: ConfigDict) -> None:
    config.data.resize = config.data.crop = 8
    ours = np.concatenate([all_squares(config, "train"), all_squares(config, "validation")])
    assert (ours == ours[..., :1]).all()
    expected = np.round(load_digits().images * 255 / 16).astype(np.uint8)
    assert sorted(x.tobytes() for x in ours[..., 0]) == sorted(x.tobytes() for x in expected)


def test_statistics_are_numpys(config: ConfigDict) -> None:
    found = training_statistics(prepare.open_or_prepare(config), config)
    pixels = all_squares(config, "train").astype(np.float64)
    np.testing.assert_allclose(found.mean_image, pixels.mean(axis=0), rtol=1e-6)
    expected = np.cov(pixels.reshape(-1, 3) / 255, rowvar=False, bias=True)
    np.testing.assert_allclose(found.rgb_covariance, expected, rtol=1e-6)


def test_statistics_of_colour_and_the_lighting_drawn_from_them() -> None:
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(20, 6, 6, 3)) @ rng.normal(0, 20, (3, 3)) + [120, 110, 100]
    images = np.clip(mixed, 0, 255).astype(np.uint8)
    found = statistics_of([images[:13], images[13:]])
    covariance = np.cov(images.reshape(-1, 3) / 255.0, rowvar=False, bias=True)
    np.testing.assert_allclose(found.rgb_covariance, covariance, rtol=1e-9)
    np.testing.assert_allclose(found.mean_image, images.mean(axis=0), rtol=1e-6)
    # Shifts are P (alpha * lambda) on 0..255: with unit alphas their covariance is P lambda^2 P' 255^2.
    np.testing.assert_allclose(found.lighting @ found.lighting.T, covariance @ covariance * 255**2, rtol=1e-9)


def test_a_run_can_enter_its_pictures_anywhere(config: ConfigDict) -> None:
    source = prepare.open_or_prepare(config)
    statistics = Statistics(np.zeros((72, 72, 3), np.float32), np.diag([0.3, 0.2, 0.1]))
    whole = list(pipeline.training_batches(source, config, statistics, 0, 50))
    assert len(whole) == 50
    for first in (7, 22, 40):
        entered = pipeline.training_batches(source, config, statistics, first, 50)
        for expected, batch in zip(whole[first:], entered, strict=True):
            jax.tree.map(np.testing.assert_array_equal, batch, expected)


def test_epochs_never_mix_and_never_repeat_their_order(config: ConfigDict) -> None:
    numbers = [
        np.concatenate([numbers for _, numbers in epoch_groups([5, 7, 4, 9], 12, seed, epoch)])
        for seed, epoch in [(0, 0), (0, 1), (1, 0), (0, 0)]
    ]
    for order in numbers:
        assert sorted(order) == list(range(25))
    assert (numbers[0] == numbers[3]).all()
    assert (numbers[0] != numbers[1]).any() and (numbers[0] != numbers[2]).any()


def test_evaluation_sees_every_picture_once_and_masks_the_rest(config: ConfigDict) -> None:
    config.evaluate.batch_size = 50
    source = prepare.open_or_prepare(config)
    batches = list(pipeline.evaluation_batches(source, config, "validation"))
    assert [batch.mask.sum() for batch in batches] == [50] * 7 + [10]
    seen = np.concatenate([batch.image[batch.mask] for batch in batches])
    np.testing.assert_array_equal(seen, all_squares(config, "validation")[:, 4:68, 4:68])


def test_crops_follow_their_offsets(config: ConfigDict) -> None:
    config.augment.reflections = True
    source = prepare.open_or_prepare(config)
    statistics = training_statistics(source, config)
    (batch,) = pipeline.training_batches(source, config, statistics, 0, 1)
    squares = all_squares(config, "train")
    mirrored = 0
    for image, (row, column), reflected in zip(batch.image, batch.offset, batch.reflected, strict=True):
        plain = image[:, ::-1] if reflected else image
        mirrored += int(reflected)
        assert (squares[:, row : row + 64, column : column + 64] == plain).all(axis=(1, 2, 3)).any()
    assert 16 < mirrored < 48
    assert len({tuple(offset) for offset in batch.offset}) > 30
    assert batch.image.dtype == np.uint8
