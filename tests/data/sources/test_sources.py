"""Sources: their pictures, and the errors for missing and damaged files."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from scipy.io import savemat

from alexnet_jax.data import sources
from alexnet_jax.messages import UserError
from configs import alexnet
from tests.conftest import ROOT
from tests.photographs import encoded, photograph, write_folder, write_imagenet, write_tar


def data(name: str, manual_dir: Path, **fields: Any) -> ConfigDict:
    config = alexnet.get_config().data
    config.name, config.manual_dir = name, str(manual_dir)
    config.data_dir = str(manual_dir.parent / "prepared")
    if name == "imagenet2012":
        config.max_missing = 1.0  # the tests' tars are small
    config.update(fields)
    return config


def listed(source: sources.Source, split: str) -> list[tuple[str, str]]:
    """Name and class of each picture."""
    return [(picture.name, source.classes[picture.label]) for picture in source.splits[split].pictures()]


def test_a_folder_with_splits(tmp_path: Path) -> None:
    write_folder(tmp_path / "f/train", {"dog": 2, "cat": 3})
    write_folder(tmp_path / "f/val", {"cat": 1})
    inside = tmp_path / "f/train/dog/more/still more"
    inside.mkdir(parents=True)
    for name in ("A.PNG", "b.JpEg", "c.WebP"):
        (inside / name).write_bytes(encoded(photograph(1), "PNG"))
    for name in (".hidden.jpg", "notes.txt"):
        (inside / name).write_bytes(b"?")
    source = sources.open_source(data("folder", tmp_path / "f"))
    assert source.classes == ("cat", "dog")
    train = listed(source, "train")
    assert [label for _, label in train] == ["cat"] * 3 + ["dog"] * 5
    assert [Path(name).name for name, _ in train[-3:]] == ["A.PNG", "b.JpEg", "c.WebP"]
    assert listed(source, "validation") == [("val/cat/0000.jpeg", "cat")]
    assert source.splits["train"].count == 8


def test_a_folder_without_splits_is_split_alike_wherever_it_lies(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        write_folder(tmp_path / name, {"a": 20, "b": 10, "single": 1})
        source = sources.open_source(data("folder", tmp_path / name, validation_fraction=0.3))
        found.append((listed(source, "train"), listed(source, "validation")))
    assert found[0] == found[1]
    train, validation = found[0]
    assert not set(train) & set(validation)
    assert len(train) + len(validation) == 31
    assert [sum(label == c for _, label in validation) for c in ("a", "b", "single")] == [6, 3, 0]
    assert validation != sorted(train + validation)[:9]


@pytest.mark.parametrize(
    ("classes", "validation", "says"),
    [
        ({}, {}, "no class"),
        ({"cat": 2}, {}, "one class, 'cat'"),
        ({"cat": 1, "dog": 1}, {"cat": 1, "emu": 1}, "'emu', which .*train' lacks"),
    ],
)
def test_bad_folders(tmp_path: Path, classes: dict[str, int], validation: dict[str, int], says: str) -> None:
    (tmp_path / "f/train").mkdir(parents=True)
    write_folder(tmp_path / "f/train", classes)
    write_folder(tmp_path / "f/validation", validation)
    with pytest.raises(UserError, match=says):
        sources.open_source(data("folder", tmp_path / "f"))


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--config.data.manual_dir=.*gone is not a folder"):
        sources.open_source(data("folder", tmp_path / "gone"))
    with pytest.raises(UserError, match=r"name the folder of the data with --config.data.manual_dir"):
        config = data("folder", tmp_path / "x")
        config.manual_dir = ""
        sources.open_source(config)


def test_the_official_tars_are_read_as_tfds_reads_them(tmp_path: Path) -> None:
    write_imagenet(tmp_path / "tars", ["n01440764", "n15075141", "n01443537"], each=3, validation=5)
    ours = sources.open_source(data("imagenet2012", tmp_path / "tars"))
    builder = tfds.builder("imagenet2012", data_dir=str(tmp_path / "theirs"))
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(tmp_path / "tars")))
    assert ours.classes == tuple(builder.info.features["label"].names)
    for split in ("train", "validation"):
        theirs = {
            example["file_name"].decode(): (int(example["label"]), example["image"])
            for example in builder.as_dataset(
                split=split, decoders={"image": tfds.decode.SkipDecoding()}
            ).as_numpy_iterator()
        }
        assert {p.name: (p.label, p.read()) for p in ours.splits[split].pictures()} == theirs
    assert (ours.splits["train"].count, ours.splits["validation"].count, ours.met) == (9, 5, 14)
    # And what TFDS has prepared is read as it is, tars or not.
    again = sources.open_source(data("imagenet2012", tmp_path / "gone", data_dir=str(tmp_path / "theirs")))
    assert {p.name for p in again.splits["train"].pictures()} == {p.name for p in ours.splits["train"].pictures()}


def test_a_renamed_tar_is_named_with_what_is_there(tmp_path: Path) -> None:
    write_imagenet(tmp_path / "tars", ["n01440764"], each=1, validation=1)
    (tmp_path / "tars/ILSVRC2012_img_train.tar").rename(tmp_path / "tars/train_t12.tar")
    with pytest.raises(
        UserError, match=r"no ILSVRC2012_img_train.tar \(it has ILSVRC2012_img_val.tar, train_t12.tar\)"
    ):
        sources.open_source(data("imagenet2012", tmp_path / "tars"))


def test_a_tar_cut_short_is_named(tmp_path: Path) -> None:
    write_imagenet(tmp_path / "tars", ["n01440764", "n15075141"], each=40, validation=1)
    path = tmp_path / "tars/ILSVRC2012_img_train.tar"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"ILSVRC2012_img_train.tar.* is not a complete tar"):
        list(sources.open_source(data("imagenet2012", tmp_path / "tars")).splits["train"].pictures())


NUMBERS = {"n03": 1, "n01": 2, "n02": 3}  # not in the order of the names, as in the real kit


def write_release(folder: Path) -> None:
    """ILSVRC-2010's layout: tars, flat folders, the kit's meta.mat with an inner synset after the leaves."""
    for number, synset in enumerate(NUMBERS):
        write_tar(
            folder / f"train/{synset}.tar",
            {f"{synset}_{i}.JPEG": encoded(photograph(4 * number + i)) for i in range(4)},
        )
    fields = [("ILSVRC2010_ID", "i4"), ("WNID", "O"), ("words", "O"), ("num_children", "i4")]
    rows = [(number, synset, f"thing, {synset}", 0) for synset, number in NUMBERS.items()]
    (folder / "devkit/data").mkdir(parents=True)
    savemat(folder / "devkit/data/meta.mat", {"synsets": np.array([*rows, (4, "n00", "all things", 3)], fields)})
    for split, numbers in (("val", [2, 1, 3]), ("test", [3, 3])):
        (folder / split).mkdir()
        for i in range(len(numbers)):
            (folder / split / f"ILSVRC2010_{split}_{i + 1:08d}.JPEG").write_bytes(encoded(photograph(i)))
        name = {"val": "validation", "test": "test"}[split]
        text = "".join(f"{n}\n" for n in numbers)
        (folder / f"devkit/data/ILSVRC2010_{name}_ground_truth.txt").write_text(text)


def test_synset_tars_with_the_kits_numbers(tmp_path: Path) -> None:
    write_release(tmp_path / "r")
    source = sources.open_source(data("synset_tars", tmp_path / "r"))
    assert source.classes == ("n03", "n01", "n02")
    assert source.words == ("thing, n03", "thing, n01", "thing, n02")
    assert listed(source, "train")[:5] == [(f"n03_{i}.JPEG", "n03") for i in range(4)] + [("n01_0.JPEG", "n01")]
    assert [label for _, label in listed(source, "validation")] == ["n01", "n03", "n02"]
    assert [label for _, label in listed(source, "test")] == ["n02", "n02"]
    first = next(source.splits["train"].pictures())
    assert first.read() == encoded(photograph(0))


def test_synset_tars_alone_are_halved(tmp_path: Path) -> None:
    for number, synset in enumerate(NUMBERS):
        write_tar(tmp_path / f"t/{synset}.tar", {f"{synset}_{i}.JPEG": encoded(photograph(number)) for i in range(10)})
    source = sources.open_source(data("synset_tars", tmp_path / "t", validation_fraction=0.5))
    assert source.classes == ("n01", "n02", "n03")
    halves = [listed(source, split) for split in ("train", "validation")]
    assert [len(half) for half in halves] == [15, 15]
    assert not set(halves[0]) & set(halves[1])
    assert all(sum(label == c for _, label in half) == 5 for half in halves for c in source.classes)


def test_bad_releases(tmp_path: Path) -> None:
    def refused(change: Any, says: str) -> None:
        folder = tmp_path / says.split()[0]
        write_release(folder)
        change(folder)
        with pytest.raises(UserError, match=says):
            sources.open_source(data("synset_tars", folder))

    truth = "devkit/data/ILSVRC2010_validation_ground_truth.txt"
    refused(lambda f: (f / truth).write_text("2\n1\n"), "2 lines and .* has 3 pictures")
    refused(lambda f: (f / truth).write_text("2\n1\n9\n"), "the synset number 9, which training lacks")
    refused(lambda f: (f / truth).unlink(), r"no \*_validation_ground_truth.txt")
    refused(lambda f: (f / "train/n01.tar").rename(f / "train/x.tar"), "synsets have no tar .*n01.tar.* n02.tar")
    refused(lambda f: (f / "devkit/data/meta.mat").unlink(), "without a meta.mat")
    refused(lambda f: (f / "devkit/data/meta.mat").write_bytes(b"nothing"), "is not the meta.mat")


def test_an_unknown_set_and_one_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'no_such_set', which is not a dataset of TFDS"):
        sources.open_source(data("no_such_set", tmp_path))
    with pytest.raises(UserError, match="nothing is downloaded here"):
        sources.open_source(data("mnist", tmp_path))


LITERAL = (ast.Constant, ast.Tuple, ast.List, ast.Set)


def comparisons_of_kinds(tree: ast.AST) -> list[str]:
    """Where a name of a source is compared with a literal: `data.name` with any, and any value with a kind's name."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            literals = {inner.value for side in sides for inner in ast.walk(side) if isinstance(inner, ast.Constant)}
            is_name = any(ast.unparse(side).endswith("data.name") for side in sides)
            if literals & set(sources.KINDS) or (is_name and any(isinstance(side, LITERAL) for side in sides)):
                found.append(ast.unparse(node))
    return found


def test_what_a_kind_of_source_is_is_decided_by_its_record_alone() -> None:
    tests = ('config.data.name == "cifar10"', 'data.name in ("a", "b")', '"folder" != name', 'x["name"] in {"idx"}')
    for text in tests:
        assert comparisons_of_kinds(ast.parse(text)), text
    assert not comparisons_of_kinds(ast.parse('data.name == builder.name and split == "train"'))
    package = (ROOT / "alexnet_jax").rglob("*.py")
    found = {str(path): comparisons_of_kinds(ast.parse(path.read_text())) for path in package}
    assert {path: comparisons for path, comparisons in found.items() if comparisons} == {}
