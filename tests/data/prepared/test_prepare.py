"""Preparing: the files on disk, statistics, rejected pictures, and interrupted preparations."""

import errno
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from PIL import Image

from alexnet_jax.data.batches.training_statistics import training_statistics
from alexnet_jax.data.prepared import preparation, prepare
from alexnet_jax.data.prepared.prepared_set import STATISTICS
from alexnet_jax.data.prepared.shards import Shards
from alexnet_jax.data.prepared.statistics import load_statistics
from alexnet_jax.messages import UserError
from configs import alexnet
from tests.conftest import ROOT, launch, launch_here, refusal, result
from tests.photographs import encoded, photograph, write_folder, write_imagenet

SIDE = 32


def config_of(folder: Path, to: Path, **fields: Any) -> ConfigDict:
    config = alexnet.get_config()
    config.data.update(
        {"name": "folder", "manual_dir": str(folder), "data_dir": str(to), "resize": SIDE, "crop": 24, **fields}
    )
    return config


def flags_of(config: ConfigDict) -> list[str]:
    names = ("name", "manual_dir", "data_dir", "resize", "crop", "encoding", "max_rejected", "jpeg_quality")
    return [f"--config.data.{name}={config.data[name]}" for name in names]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read(builder: tfds.core.DatasetBuilder, split: str) -> list[dict[str, Any]]:
    """The split through TFDS, a JPEG decoded by Pillow: TensorFlow's default is not accurate."""
    is_jpeg = isinstance(builder.info.features["image"], tfds.features.Image)
    decoders = {"image": tfds.decode.SkipDecoding()} if is_jpeg else None
    examples = builder.as_dataset(split=split, decoders=decoders).as_numpy_iterator()
    return [
        {**example, "image": np.asarray(Image.open(io.BytesIO(example["image"]))) if is_jpeg else example["image"]}
        for example in examples
    ]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    write_folder(folder, {"cat": 40, "dog": 30})
    return folder


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_tfds_opens_it_and_the_statistics_are_those_of_its_pictures(
    photographs: Path, tmp_path: Path, encoding: str
) -> None:
    made = prepare.open_or_prepare(config_of(photographs, tmp_path, encoding=encoding))
    builder = tfds.builder_from_directory(made.folder)
    assert builder.info.features["label"].names == ["cat", "dog"]
    assert builder.info.splits["validation"].num_examples == 7
    train = read(builder, "train")
    assert len(train) == 63
    for example in train:
        original = photographs / example["file_name"].decode()
        assert original.parent.name == ["cat", "dog"][example["label"]]
        with Image.open(original) as image:  # 60x48 to 40x32: the middle of it, roughly
            rough = np.asarray(image.resize((40, 32), Image.Resampling.BILINEAR))[:, 4:36]
        assert np.abs(example["image"].astype(int) - rough).mean() < (12 if encoding == "jpeg" else 0.5)
    pixels = np.stack([example["image"] for example in train]).astype(np.float64)
    statistics = load_statistics(made.folder / STATISTICS, SIDE)
    np.testing.assert_allclose(statistics.mean_image, pixels.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(statistics.rgb_covariance, np.cov(pixels.reshape(-1, 3).T / 255, bias=True), rtol=1e-6)
    of_slice = config_of(photographs, tmp_path, encoding=encoding)
    of_slice.data.train_split = "train[:50%]"
    half = [example["image"] for example in read(builder, "train[:50%]")]
    mean = training_statistics(made, of_slice).mean_image
    np.testing.assert_allclose(mean, np.mean(half, axis=0, dtype=np.float64), rtol=1e-6)


def test_classes_are_dealt_out_over_the_files(photographs: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(preparation, "PER_FILE", 12)
    made = prepare.open_or_prepare(config_of(photographs, tmp_path))
    labels = [example["label"] for example in made.builder.as_dataset(split="train").as_numpy_iterator()]
    lengths = made.builder.info.splits["train"].shard_lengths
    assert len(lengths) > 3 and sum(lengths) == 63
    files = np.split(np.array(labels), np.cumsum(lengths)[:-1])
    assert sum(0 < file.mean() < 1 for file in files) >= len(lengths) - 1


def test_odd_pictures_are_rejected_and_listed(tmp_path: Path) -> None:
    write_folder(tmp_path / "p", {"cat": 20, "dog": 20})
    bad = {
        "empty.jpg": b"",
        "text.png": b"not at all a picture",
        "cut.jpg": encoded(photograph(1))[:-300],
        "large.png": encoded(photograph(2, 100, 100), "PNG"),
    }
    for name, content in bad.items():
        (tmp_path / "p/cat" / name).write_bytes(content)
    (tmp_path / "p/dog/png named.jpeg").write_bytes(encoded(photograph(3), "PNG"))
    config = config_of(tmp_path / "p", tmp_path / "d", max_rejected=0.05, max_pixels=9999)
    with pytest.raises(UserError, match=r"4 of \d+ pictures .* config.data.max_rejected, 5.0%"):
        prepare.open_or_prepare(config)
    assert not list((tmp_path / "d").rglob("dataset_info.json"))
    config.data.max_rejected = 0.1
    made = prepare.open_or_prepare(config)
    lines = [json.loads(line) for line in (made.folder / "rejected.jsonl").read_text().splitlines()]
    assert {Path(line["file"]).name for line in lines} == set(bad)
    reasons = {Path(line["file"]).name: line["reason"] for line in lines}
    assert reasons["empty.jpg"] == "empty file"
    assert reasons["text.png"] == "not a picture: text"
    assert reasons["large.png"].startswith("100x100 pixels")
    assert sum(made.examples(split) for split in ("train", "validation")) == 41


def test_other_settings_are_named_and_a_set_beside_it_is_offered(photographs: Path, tmp_path: Path) -> None:
    made = prepare.open_or_prepare(config_of(photographs, tmp_path))
    before = contents(made.folder)
    with pytest.raises(
        UserError, match=r"jpeg_quality 95 there and 90 here; .*prepared_dir=(\S+) to prepare anew"
    ) as e:
        prepare.open_or_prepare(config_of(photographs, tmp_path, jpeg_quality=90))
    assert contents(made.folder) == before
    beside = str(e.value).split("prepared_dir=")[1].split()[0]
    other = prepare.open_or_prepare(config_of(photographs, tmp_path, jpeg_quality=90, prepared_dir=beside))
    assert str(other.folder) == beside
    with pytest.raises(UserError, match="'jpeg' there and 'raw' here"):
        prepare.open_or_prepare(config_of(photographs, tmp_path, encoding="raw"))
    no_longer_there = config_of(photographs, tmp_path)
    no_longer_there.data.manual_dir = ""
    assert prepare.open_or_prepare(no_longer_there).folder == made.folder


def test_a_full_disk_and_a_kill_at_the_end_lose_nothing(photographs: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(preparation, "ROUND", preparation.CHUNK)
    whole = contents(prepare.open_or_prepare(config_of(photographs, tmp_path / "whole")).folder)
    append, appended = Shards.append, []

    def full(*arguments: Any) -> None:
        append(*arguments)  # a torn round: on disk, and in no state
        appended.append(1)
        if len(appended) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    config = config_of(photographs, tmp_path / "cut")
    monkeypatch.setattr(Shards, "append", full)
    with pytest.raises(UserError, match=r"No space left on device.*: make room on that disk.* from picture 32"):
        prepare.open_or_prepare(config)
    assert not list((tmp_path / "cut").rglob("dataset_info.json"))

    def killed(**arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Shards, "append", append)
    monkeypatch.setattr(preparation.tfds.folder_dataset, "write_metadata", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare.open_or_prepare(config)
    monkeypatch.undo()
    monkeypatch.setattr(Shards, "append", None)  # nothing is left to be made
    folder = prepare.open_or_prepare(config).folder
    own = {name: (folder / name).read_bytes() for name in ("settings.json", "preprocessing.npz")}
    assert contents(folder) == {**whole, **own}


@pytest.mark.slow
def test_a_killed_run_goes_on_within_a_few_hundred_pictures(tmp_path: Path) -> None:
    write_folder(tmp_path / "p", {"a": 800, "b": 700}, width=400, height=300)
    whole, cut = (config_of(tmp_path / "p", tmp_path / name, resize=72, crop=64) for name in ("whole", "cut"))
    made = prepare.open_or_prepare(whole)
    command = [sys.executable, "launch.py", "--config=configs/alexnet.py", "--mode=prepare", *flags_of(cut)]
    work = tmp_path / "cut" / made.folder.parent.name / "incomplete"
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while process.poll() is None and not (work / "state.json").exists():
            time.sleep(0.01)
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
    assert not (work.parent / "1.0.0").exists()
    assert json.loads((work / "state.json").read_text())["done"]["train"] >= preparation.ROUND
    done = launch(*command[2:])
    assert result(done)["examples"] == 1350
    assert "continuing from picture" in done.stderr
    again = contents(work.parent / "1.0.0")
    for name, content in contents(made.folder).items():
        if name not in ("settings.json", "preprocessing.npz"):
            assert again[name] == content, name
    ours, theirs = (np.load(io.BytesIO(c["preprocessing.npz"])) for c in (again, contents(made.folder)))
    np.testing.assert_array_equal(ours["mean_image"], theirs["mean_image"])
    np.testing.assert_array_equal(ours["rgb_covariance"], theirs["rgb_covariance"])


@pytest.mark.slow
def test_the_official_tars_from_tars_to_an_error_rate(tmp_path: Path) -> None:
    write_imagenet(tmp_path / "tars", ["n01440764", "n01443537", "n15075141"], each=4, validation=6)
    flags = (
        "--config=configs/alexnet.py",
        f"--config.data.manual_dir={tmp_path / 'tars'}",
        f"--config.data.data_dir={tmp_path / 'd'}",
        "--config.data.max_missing=1.0",
        f"--workdir={tmp_path / 'run'}",
        *("--config.train.batch_size=4", "--config.evaluate.batch_size=4"),
    )
    ready = result(launch(*flags, "--mode=prepare"))
    assert (ready["classes"], ready["splits"], ready["rejected"]) == (1000, {"train": 12, "validation": 6}, 0)
    trained = result(launch(*flags, "--config.train.steps=3"))
    assert trained["step"] == 3
    evaluated = result(launch(*flags, "--mode=evaluate"))
    assert evaluated["examples"] == 6


@pytest.mark.slow
def test_a_dozen_photographs_train_from_one_command(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", {"beach": 6, "garden": 6}, width=400, height=300)
    done = launch(
        "--config=configs/alexnet.py",
        "--config.data.name=folder",
        f"--config.data.manual_dir={tmp_path / 'photos'}",
        f"--config.data.data_dir={tmp_path / 'd'}",
        f"--workdir={tmp_path / 'run'}",
        *("--config.train.batch_size=8", "--config.train.steps=4", "--config.evaluate.batch_size=2"),
    )
    assert result(done)["step"] == 4
    assert "is not prepared yet: preparing it in" in done.stderr


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    write_folder(tmp_path / "p", {"only": 2})
    config = config_of(tmp_path / "p", tmp_path / "d", resize=72, crop=64)
    assert "one class, 'only'" in refusal(
        launch_here("--config=configs/alexnet.py", "--mode=prepare", *flags_of(config))
    )
