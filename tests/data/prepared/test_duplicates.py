"""Equal pictures are reported and listed, and all are kept."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax.data.prepared import prepare
from alexnet_jax.data.prepared.duplicates import EQUAL, groups
from tests.data.prepared.test_prepare import config_of
from tests.photographs import write_folder


def test_groups_are_those_of_a_search_by_hand() -> None:
    rng = np.random.default_rng(0)
    digests = {name: rng.integers(0, 40, size, np.uint64) for name, size in (("train", 50), ("validation", 12))}
    flat = [((split, i), int(v)) for split, values in digests.items() for i, v in enumerate(values)]
    by_hand = {v: [place for place, other in flat if other == v] for _, v in flat if v}
    expected = sorted((group for group in by_hand.values() if len(group) > 1), key=lambda group: group[0])
    assert any(v == 0 for _, v in flat) and len(expected) > 5
    assert groups(digests) == expected


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_equal_pictures_are_kept_and_named(tmp_path: Path, encoding: str, capsys: pytest.CaptureFixture[str]) -> None:
    for split, count in (("train", 6), ("validation", 2)):
        write_folder(tmp_path / "p" / split, {"cat": count, "dog": count})
    for file in (tmp_path / "p/validation").rglob("*.jpeg"):
        file.unlink()  # `write_folder` numbers its pictures anew: these are training's
    write_folder(tmp_path / "p/validation", {"cat": 0, "dog": 0})
    first = tmp_path / "p/train/cat/0000.jpeg"
    for copy in ("train/dog/copy.jpeg", "validation/cat/copy.jpeg"):
        shutil.copy(first, tmp_path / "p" / copy)
    shutil.copy(tmp_path / "p/train/dog/0007.jpeg", tmp_path / "p/validation/dog/again.jpeg")
    (tmp_path / "p/train/dog/bad1.jpeg").write_bytes(b"no picture")
    (tmp_path / "p/train/dog/bad2.jpeg").write_bytes(b"no picture")
    made = prepare.open_or_prepare(config_of(tmp_path / "p", tmp_path / "d", encoding=encoding, max_rejected=0.5))
    assert (made.examples("train"), made.examples("validation")) == (13, 2)
    rows = [json.loads(line) for line in (made.folder / EQUAL).read_text().splitlines()]
    assert [[(one["split"], one["file"], one["class"]) for one in row] for row in rows] == [
        [
            ("train", "train/cat/0000.jpeg", "cat"),
            ("train", "train/dog/copy.jpeg", "dog"),
            ("validation", "validation/cat/copy.jpeg", "cat"),
        ],
        [("train", "train/dog/0007.jpeg", "dog"), ("validation", "validation/dog/again.jpeg", "dog")],
    ]
    assert (
        "5 pictures equal another picture once they are scaled and cropped, in 2 groups, of which 2 span"
        in capsys.readouterr().err
    )
    assert not list(made.folder.glob("*.digests"))


def test_where_no_two_are_equal_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path / "p", {"cat": 6, "dog": 6})
    made = prepare.open_or_prepare(config_of(tmp_path / "p", tmp_path / "d"))
    assert not (made.folder / EQUAL).exists()
    assert "equal another picture" not in capsys.readouterr().err
