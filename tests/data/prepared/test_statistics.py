"""The file with a training set's statistics, damaged in many ways."""

import random
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax.data.prepared.statistics import Statistics, load_statistics


def test_a_file_with_any_bytes_changed_is_as_it_was_or_refused_with_its_name_and_closed(tmp_path: Path) -> None:
    path, chance = tmp_path / "preprocessing.npz", random.Random(0)
    written = Statistics(np.full((4, 4, 3), 7, np.float32), np.eye(3))
    written.save(path)
    content, refused = path.read_bytes(), 0
    for _ in range(3000):
        changed = bytearray(content)
        for _ in range(chance.randint(1, 3)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        path.write_bytes(changed)
        try:
            read = load_statistics(path, 4)
            np.testing.assert_array_equal(read.mean_image, written.mean_image)
            np.testing.assert_array_equal(read.rgb_covariance, written.rgb_covariance)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 2000


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "preprocessing.npz"
    for content in (b"", b"text", b"PK\3\4", b"\x93NUMPY\1\0"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"preprocessing\.npz cannot be read"):
            load_statistics(path, 4)
