"""Preparing odd pictures: the warnings at the end, and other rules for pictures, which begin anew."""

import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alexnet_jax.data.decode import decoder, squares
from alexnet_jax.data.prepared import preparation, prepare
from alexnet_jax.data.prepared.prepared_set import PreparedSet
from alexnet_jax.data.prepared.shards import Shards
from alexnet_jax.messages import UserError
from tests.data.decode.test_colours import profile_of
from tests.data.decode.test_decoder import BASELINE, overwritten
from tests.data.prepared.test_prepare import config_of, contents, read
from tests.photographs import photograph, write_folder

DAMAGED = overwritten(BASELINE, len(BASELINE) // 2)


def rejected(prepared: PreparedSet) -> dict[str, str]:
    """The reasons why pictures are rejected, by file name."""
    lines = [json.loads(line) for line in (prepared.folder / "rejected.jsonl").read_text().splitlines()]
    assert all(list(line) == ["split", "file", "in", "reason"] for line in lines)
    return {Path(line["file"]).name: line["reason"] for line in lines}


def stored(prepared: PreparedSet) -> int:
    return sum(prepared.examples(split) for split in ("train", "validation"))


def write_deep(path: Path, factor: int) -> None:
    """A grey PNG of 16 bits."""
    grey = np.asarray(photograph(1).convert("L")).astype(np.uint16)
    Image.fromarray(grey * factor).save(path, "PNG")


def test_files_that_cannot_be_read_are_rejected_like_others(tmp_path: Path) -> None:
    write_folder(tmp_path / "p", {"cat": 10, "dog": 10})
    for name in ("a", "b"):
        (tmp_path / f"p/cat/{name}.jpg").symlink_to(tmp_path / "nowhere.jpg")
    config = config_of(tmp_path / "p", tmp_path / "d", max_rejected=0.0)
    with pytest.raises(UserError, match=r"of \d+ pictures could not be used, more than config.data.max_rejected"):
        prepare.open_or_prepare(config)
    config.data.max_rejected = 0.2
    made = prepare.open_or_prepare(config)
    assert set(rejected(made)) == {"a.jpg", "b.jpg"}
    assert all(reason.startswith("cannot be read (") for reason in rejected(made).values())
    assert stored(made) == 20


def test_damaged_pictures_are_taken_where_that_is_said(tmp_path: Path) -> None:
    write_folder(tmp_path / "p", {"cat": 6, "dog": 6})
    (tmp_path / "p/dog/damaged.jpg").write_bytes(DAMAGED)
    (tmp_path / "p/dog/half.jpg").write_bytes(BASELINE[: len(BASELINE) // 2])
    made = prepare.open_or_prepare(config_of(tmp_path / "p", tmp_path / "d", max_rejected=0.5))
    assert stored(made) == 12
    reasons = rejected(made)
    assert reasons["damaged.jpg"].startswith("damaged pixels (Corrupt JPEG data")
    assert reasons["half.jpg"].startswith("truncated (")
    beside = config_of(
        tmp_path / "p", tmp_path / "d", max_rejected=0.5, accept_damaged=True, prepared_dir=str(tmp_path / "other")
    )
    taken = prepare.open_or_prepare(beside)
    assert (stored(taken), rejected(taken)) == (14, {})


def test_what_is_worth_a_sentence_is_said_at_the_end_of_a_run_that_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "p", {"cat": 40, "dog": 30, "scan": 0, "wide": 0})
    for number in range(20):
        write_deep(tmp_path / f"p/scan/{number:02d}.png", 16)
        write_deep(tmp_path / f"p/wide/{number:02d}.png", 257 if number == 7 else 16)
    for number, profile in enumerate((profile_of(1.0), profile_of(1.8), b"of no use")):
        photograph(number).save(tmp_path / f"p/cat/with {number}.jpg", icc_profile=profile)
    monkeypatch.setattr(preparation, "ROUND", preparation.CHUNK)
    append, appended = Shards.append, []

    def full(*arguments: Any) -> None:
        append(*arguments)
        appended.append(1)
        if len(appended) == 2:
            raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(Shards, "append", full)
    config = config_of(tmp_path / "p", tmp_path / "d")
    with pytest.raises(UserError, match="No space left"):
        prepare.open_or_prepare(config)
    monkeypatch.setattr(Shards, "append", append)
    capsys.readouterr()
    prepare.open_or_prepare(config)
    said = capsys.readouterr().err
    assert "continuing from picture 32" in said
    assert "not sRGB, which are ignored: 2 pictures; --config.data.colour_profiles=srgb converts them to sRGB" in said
    assert "an unusable colour profile, so their colours are left unchanged: 1 picture\n" in said
    assert "all pictures of 'scan' have 16 bits a channel but use less than an eighth of that range" in said
    obeyed = config_of(
        tmp_path / "p", tmp_path / "d", colour_profiles="srgb", prepared_dir=str(tmp_path / "srgb"), encoding="raw"
    )
    made = prepare.open_or_prepare(obeyed)
    said = capsys.readouterr().err
    assert "converted from their own colour profiles to sRGB: 2 pictures" in said
    by_name = {
        example["file_name"].decode(): example["image"]
        for split in ("train", "validation")
        for example in read(made.builder, split)
    }
    with Image.open(tmp_path / "p/cat/with 0.jpg") as lit, Image.open(tmp_path / "p/cat/with 2.jpg") as left:
        plain = np.asarray(squares.square(lit, 32))
        assert by_name["cat/with 0.jpg"].mean() > plain.mean() + 20  # its curve is the straight one
        np.testing.assert_array_equal(by_name["cat/with 2.jpg"], np.asarray(squares.square(left, 32)))


def test_a_set_that_accepted_pictures_by_other_rules_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "p", {"cat": 6, "dog": 6})
    made = prepare.open_or_prepare(config_of(tmp_path / "p", tmp_path / "d"))
    settings = json.loads((made.folder / "settings.json").read_text())
    assert (settings["accept_damaged"], settings["colour_profiles"]) == (False, "ignore")
    before = contents(made.folder)
    for name, value in {"accept_damaged": True, "colour_profiles": "srgb"}.items():
        with pytest.raises(UserError, match=rf"prepared with other settings: {name} .* there and .* here"):
            prepare.open_or_prepare(config_of(tmp_path / "p", tmp_path / "d", **{name: value}))
    assert contents(made.folder) == before


@pytest.mark.parametrize(
    "changed", [{"max_pixels": 4000}, {"accept_damaged": True}, {"colour_profiles": "srgb"}, {"max_pixels": 10**9}]
)
def test_other_rules_begin_anew_to_the_same_bytes_as_in_one_go(
    tmp_path: Path, changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "p", {"cat": 40, "dog": 30})
    Image.new("RGB", (100, 100), "red").save(tmp_path / "p/cat/0000 large.jpg")
    (tmp_path / "p/cat/0001 damaged.jpg").write_bytes(DAMAGED)
    photograph(3).save(tmp_path / "p/cat/0002 lit.jpg", icc_profile=profile_of(1.0))
    monkeypatch.setattr(preparation, "ROUND", preparation.CHUNK)
    config = config_of(tmp_path / "p", tmp_path / "cut", max_rejected=1.0)
    append = Shards.append

    def killed(self: Shards, *arguments: Any) -> None:
        append(self, *arguments)
        if self._progress.done["train"]:
            raise KeyboardInterrupt

    monkeypatch.setattr(Shards, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare.open_or_prepare(config)
    monkeypatch.setattr(Shards, "append", append)
    capsys.readouterr()
    config.data.update(changed)
    made = contents(prepare.open_or_prepare(config).folder)
    name, value = next(iter(changed.items()))
    said = capsys.readouterr().err
    assert f"as config.data.{name} was " in said and f" and is {value!r}" in said and "going on" not in said
    whole = prepare.open_or_prepare(config_of(tmp_path / "p", tmp_path / "whole", max_rejected=1.0, **changed))
    theirs = contents(whole.folder)
    assert made.keys() == theirs.keys()
    assert {n for n in made if made[n] != theirs[n]} <= {"preprocessing.npz"}  # an archive has its times in it
    ours, there = (np.load(io.BytesIO(c["preprocessing.npz"])) for c in (made, theirs))
    np.testing.assert_array_equal(ours["mean_image"], there["mean_image"])


@pytest.mark.slow
def test_the_remedy_for_a_process_that_died_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture is named, and left out by the remedy."""
    write_folder(tmp_path / "p", {"cat": 40, "dog": 30})
    Image.new("RGBA", (6000, 5000), (9, 99, 200, 100)).save(tmp_path / "p/cat/0005 deadly.png", compress_level=1)
    config = config_of(tmp_path / "p", tmp_path / "d", max_rejected=0.1)
    monkeypatch.setattr(squares, "make_squares", deadly)
    with pytest.raises(UserError, match=r"died over 'cat/0005 deadly\.png', .* lower --config\.data\.max_pixels"):
        prepare.open_or_prepare(config)
    config.data.max_pixels = 29_999_999
    made = prepare.open_or_prepare(config)
    assert rejected(made)["0005 deadly.png"] == "6000x5000 pixels, more than config.data.max_pixels, 29,999,999"
    assert stored(made) == 70


def deadly(*arguments: Any, **fields: Any) -> squares.Squares:
    """`make_squares` in a process that is killed, as by the system, at a picture of more than 25 million pixels."""
    read_header = decoder.read_header

    def killed(data: bytes, rules: decoder.Rules) -> Any:
        header = read_header(data, rules)
        if header.pixels > 25_000_000:
            os.kill(os.getpid(), signal.SIGKILL)
        return header

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "read_header", killed)
        return squares.make_squares(*arguments, **fields)
