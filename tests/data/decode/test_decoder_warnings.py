"""A prepared set notices changed pictures with the same names and sizes, and half-finished work is repaired."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from alexnet_jax.data.batches.training_statistics import training_statistics
from alexnet_jax.data.prepared import preparation, prepare
from alexnet_jax.data.tensorflow import tf
from alexnet_jax.messages import UserError
from alexnet_jax.modes import TrainInvocation, train
from alexnet_jax.runs.folder import create_run, open_run, require_same_pictures
from tests.data.prepared.test_prepare import config_of, contents, read
from tests.data.prepared.test_resumed_preparation import (
    add_class,
    cut_off,
    made_in_one_go,
    remove_picture,
    without_statistics_archive,
)
from tests.photographs import encoded, write_folder, write_tar


@pytest.mark.parametrize("by", ["names", "links"])
def test_folders_of_equal_names_and_sizes_that_change_places_are_heard(
    tmp_path: Path, by: str, monkeypatch: Any
) -> None:
    for name, grey in (("black", 0), ("white", 255)):
        (tmp_path / "all" / name).mkdir(parents=True)
        for number in range(40):
            Image.new("RGB", (40, 30), (grey,) * 3).save(tmp_path / "all" / name / f"{number}.png", compress_level=0)
    if by == "links":
        (tmp_path / "p").mkdir()
        for name in ("black", "white"):
            (tmp_path / "p" / name).symlink_to(tmp_path / "all" / name)
    photographs = tmp_path / ("all" if by == "names" else "p")
    config = config_of(photographs, tmp_path / "d", encoding="raw")
    prepare.open_or_prepare(config)
    cut = config_of(photographs, tmp_path / "cut", encoding="raw")
    cut_off(cut, monkeypatch)
    (photographs / "black").rename(tmp_path / "x")
    (photographs / "white").rename(photographs / "black")
    (tmp_path / "x").rename(photographs / "white")
    said: list[str] = []
    for module in (prepare, preparation):
        monkeypatch.setattr(module, "say", said.append)
    prepare.open_or_prepare(config)
    assert "was changed after" in said[-1]
    for made in (prepare.open_or_prepare(config, anew=True), prepare.open_or_prepare(cut)):
        for split in ("train", "validation"):
            for example in read(made.builder, split):
                assert example["image"].mean() == (0 if made.classes[example["label"]] == "white" else 255)


def write_of_tfds(folder: Path, flip: int) -> None:
    """A set of TFDS, black and white, with the labels right or exchanged."""
    shutil.rmtree(folder / "mine", ignore_errors=True)
    to = folder / "mine/1.0.0"
    to.mkdir(parents=True)
    label = tfds.features.ClassLabel(names=["black", "white"])
    features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(30, 40, 3)), "label": label})
    infos = []
    for split in ("train", "validation"):
        name = tfds.core.ShardedFileTemplate(data_dir=to, dataset_name="mine", split=split, filetype_suffix="tfrecord")
        with tf.io.TFRecordWriter(str(name.sharded_filepath(shard_index=0, num_shards=1))) as writer:
            for number in range(40):
                image = np.full((30, 40, 3), 255 * (number % 2), np.uint8)
                writer.write(features.serialize_example({"image": image, "label": (number + flip) % 2}))
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=[40], num_bytes=1, filename_template=name))
    tfds.folder_dataset.write_metadata(
        data_dir=to,
        features=features,
        split_infos=infos,
        version="1.0.0",
        supervised_keys=("image", "label"),
        check_data=False,
    )


def test_a_set_of_tfds_made_anew_with_other_labels_is_heard(tmp_path: Path, monkeypatch: Any) -> None:
    def config_to(to: str) -> Any:
        return config_of(Path(), tmp_path, name="mine", manual_dir="", prepared_dir=str(tmp_path / to), encoding="raw")

    write_of_tfds(tmp_path, flip=1)
    prepare.open_or_prepare(config_to("whole"))
    cut_off(config_to("cut"), monkeypatch)
    write_of_tfds(tmp_path, flip=0)
    with pytest.raises(UserError, match="is not what"):
        prepare.open_or_prepare(config_to("whole"))
    for to in ("whole", "cut"):
        made = prepare.open_or_prepare(config_to(to), anew=True)
        assert {int(e["label"]) == bool(e["image"].mean()) for e in read(made.builder, "train")} == {True}


def test_tars_of_the_same_names_and_sizes_are_heard(tmp_path: Path, monkeypatch: Any) -> None:
    def write(first: int) -> None:
        for synset in ("n01", "n02"):
            grey = {f"{synset}_{i}.png": encoded(Image.new("L", (40, 30), first), "PNG") for i in range(9)}
            write_tar(tmp_path / f"r/{synset}.tar", grey)

    write(10)
    config = config_of(tmp_path / "r", tmp_path / "d", name="synset_tars", encoding="raw")
    prepare.open_or_prepare(config)
    write(99)
    said: list[str] = []
    monkeypatch.setattr(prepare, "say", said.append)
    prepare.open_or_prepare(config)
    assert "was changed after" in said[-1]
    made = prepare.open_or_prepare(config, anew=True)
    assert {int(example["image"].max()) for example in read(made.builder, "train")} == {99}


@pytest.mark.parametrize("content", ["", '{"foo": 1}', "[1]", "{"])
def test_a_state_that_is_not_what_was_written_begins_anew(tmp_path: Path, content: str, monkeypatch: Any) -> None:
    write_folder(tmp_path / "p", {"cat": 40, "dog": 40})
    config = config_of(tmp_path / "p", tmp_path / "d")
    cut_off(config, monkeypatch)
    (state,) = (tmp_path / "d").glob("p-*_32/incomplete/state.json")
    state.write_text(content)
    made = prepare.open_or_prepare(config)
    assert sum(made.examples(split) for split in ("train", "validation")) == 80


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("listing.json", "{}", "listing.json' has changed since it was written; remove the folder"),
        ("listing.jsonl.gz", "", "is not what .* was prepared from"),
    ],
)
def test_a_listing_that_is_not_what_was_written_is_a_sentence(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    write_folder(tmp_path / "p", {"cat": 6, "dog": 6})
    config = config_of(tmp_path / "p", tmp_path / "d")
    made = prepare.open_or_prepare(config)
    (made.folder / name).write_text(content)
    add_class(tmp_path / "p")
    with pytest.raises(UserError, match=said):
        prepare.open_or_prepare(config)


@pytest.mark.parametrize("moment", range(3))
def test_killed_at_the_last_moment_nothing_is_left_over_and_nothing_lost(
    tmp_path: Path, moment: int, monkeypatch: Any
) -> None:
    write_folder(tmp_path / "p", {"cat": 12, "dog": 12})
    config = config_of(tmp_path / "p", tmp_path / "d")
    folder = prepare.open_or_prepare(config).folder
    add_class(tmp_path / "p")
    calls = iter(range(9))

    def killed(*arguments: Any) -> None:
        if next(calls) == moment:
            raise KeyboardInterrupt
        os_replace(*arguments)

    os_replace = os.replace
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "os", SimpleNamespace(**{**vars(os), "replace": killed}))
        if moment == 2:
            patch.setattr(preparation, "remove_progress", raise_interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare.open_or_prepare(config, anew=True)
    kept = config_of(tmp_path / "p", tmp_path / "d")
    kept.data.manual_dir, kept.data.prepared_dir = "", str(folder)
    assert len(prepare.open_or_prepare(kept).classes) == (
        3 if moment == 2 else 2
    )  # the set alone opens, whichever it is
    made = prepare.open_or_prepare(config, anew=True)
    whole = made_in_one_go(tmp_path / "p", tmp_path / "whole")
    assert without_statistics_archive(contents(made.folder)) == without_statistics_archive(whole)
    assert [path.name for path in made.folder.parent.iterdir()] == ["1.0.0"]


def raise_interrupt(*_: Any) -> Any:
    raise KeyboardInterrupt


def test_a_run_does_not_go_on_with_other_pictures(tmp_path: Path) -> None:
    write_folder(tmp_path / "p", {"cat": 12, "dog": 12})
    config = config_of(tmp_path / "p", tmp_path / "d", resize=72, crop=67)
    made = prepare.open_or_prepare(config)
    statistics = training_statistics(made, config)
    run = create_run(tmp_path / "run", config, statistics, made.classes, made.listing)
    require_same_pictures(open_run(tmp_path / "run"), made.listing, made.folder)
    remove_picture(tmp_path / "p")
    other = prepare.open_or_prepare(config, anew=True)
    with pytest.raises(UserError, match="was trained on other pictures than"):
        require_same_pictures(run, other.listing, other.folder)


def test_a_picture_that_was_given_to_another_class_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path / "p", {"cat": 12, "dog": 12})
    config = config_of(tmp_path / "p", tmp_path / "d")
    prepare.open_or_prepare(config)
    (tmp_path / "p/cat/0003.jpeg").rename(tmp_path / "p/dog/0003.jpeg")
    with pytest.raises(UserError, match=r"\(added: dog/0003.jpeg; removed: cat/0003.jpeg\)"):
        prepare.open_or_prepare(config)


def test_a_run_among_the_pictures_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "p", {"cat": 4, "dog": 4})
    config = config_of(tmp_path / "p", tmp_path / "d")
    (tmp_path / "link").symlink_to("p")
    with pytest.raises(UserError, match="lies in the folder of the pictures"):
        train.run(config, TrainInvocation(tmp_path / "link/runs/x"), page=False)
    assert not (tmp_path / "p/runs").exists()
