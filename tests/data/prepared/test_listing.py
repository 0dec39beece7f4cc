"""The listing: every picture has its own label, or there is an error; files left out are counted by reason."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from alexnet_jax.data import sources
from alexnet_jax.data.prepared.listing import left_out, list_whole
from alexnet_jax.data.sources import Source
from alexnet_jax.messages import UserError
from tests.data.sources.test_sources import data, listed


def touch(folder: Path, *names: str) -> None:
    """Makes empty files with the names of pictures: none is opened here."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def opened(folder: Path, **fields: Any) -> Source:
    """The source of a folder; checks that every file is accounted for."""
    source = sources.open_source(data("folder", folder, **fields))
    list_whole(source)
    assert source.met == sum(s.count for s in source.splits.values()) + sum(left_out(source).values())
    return source


def everything(source: Source) -> set[tuple[str, str]]:
    return {picture for split in source.splits for picture in listed(source, split)}


# Links, and what is no file.


def test_links_above_and_into_other_classes_are_left_out_and_others_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "f", *(f"a/{i}.jpg" for i in range(3)), "a/deep/x.jpg", "b/0.jpg", "b/1.jpg")
    touch(tmp_path / "elsewhere", "e.jpg", "inside/i.jpg")
    links = {
        "a/all": "..",
        "a/up": "../..",
        "a/self": ".",
        "a/again": "deep",
        "a/b": "../b",
        "b/from a.jpg": "../a/0.jpg",
        "b/own.jpg": "0.jpg",
        "b/lost.jpg": "nowhere.jpg",
        "b/loop": "loop",
        "b/out": "../../elsewhere",
        "b/out twice": "../../elsewhere/inside",
        "c": "a",
    }
    for name, target in links.items():
        (tmp_path / "f" / name).symlink_to(target)
    source = opened(tmp_path / "f")
    expected = {("a/0.jpg", "a"), ("a/1.jpg", "a"), ("a/2.jpg", "a"), ("a/deep/x.jpg", "a"), ("b/0.jpg", "b")}
    expected |= {("b/1.jpg", "b"), ("b/out/e.jpg", "b"), ("b/out/inside/i.jpg", "b"), ("b/lost.jpg", "b")}
    assert everything(source) == expected
    assert left_out(source) == {
        "links to a folder above, or around the folders of classes": 2,
        "links into the folder of another class or split": 3,
        "links to files or folders that are read anyway": 4,
        "links that lead nowhere": 1,
    }


def test_a_link_to_what_its_folder_leaves_out_is_read_once(tmp_path: Path) -> None:
    touch(tmp_path / "f", "a/0.jpg", "a/scan", "a/.hidden.jpg", "b/0.jpg", "b/1.jpg")
    for name, target in {"a/1.jpg": "scan", "a/2.jpg": "scan", "a/3.jpg": ".hidden.jpg", "a/4.jpg": "0.jpg"}.items():
        (tmp_path / "f" / name).symlink_to(target)
    source = opened(tmp_path / "f")
    names = {name for name, _ in everything(source)}
    assert names == {"a/0.jpg", "a/1.jpg", "a/3.jpg", "b/0.jpg", "b/1.jpg"}
    assert left_out(source)["links to files or folders that are read anyway"] == 2


def test_links_from_validation_into_training_are_named_for_what_they_are(tmp_path: Path) -> None:
    touch(tmp_path / "f", *(f"train/{c}/{i}.jpg" for c in "ab" for i in range(3)), "val/a/own.jpg", "val/b/own.jpg")
    (tmp_path / "f/val/a/0.jpg").symlink_to("../../train/a/0.jpg")
    source = opened(tmp_path / "f")
    assert source.splits["validation"].count == 2
    assert left_out(source) == {"links into the folder of another class or split": 1}


def test_classes_and_splits_that_are_links_are_read(tmp_path: Path) -> None:
    touch(tmp_path / "store", "a/0.jpg", "b/0.jpg", "v/a/1.jpg")
    (tmp_path / "f/train").mkdir(parents=True)
    for name in "ab":
        (tmp_path / "f/train" / name).symlink_to(tmp_path / "store" / name)
    (tmp_path / "f/val").symlink_to(tmp_path / "store/v")
    source = opened(tmp_path / "f")
    assert listed(source, "train") == [("train/a/0.jpg", "a"), ("train/b/0.jpg", "b")]
    assert listed(source, "validation") == [("val/a/1.jpg", "a")]
    (tmp_path / "f/test").symlink_to("train")
    with pytest.raises(UserError, match=r"two folders for splits .* are the same folder through a link"):
        opened(tmp_path / "f")


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    touch(tmp_path / "f", "a/0.jpg", "a/1.jpg", "b/0.jpg")
    os.mkfifo(tmp_path / "f/a/pipe.jpg")
    os.mkfifo(tmp_path / "f/pipe.jpg")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "f/b/s.jpg"))
    (tmp_path / "f/b/link.jpg").symlink_to("../a/pipe.jpg")
    (tmp_path / "f/b/null.jpg").symlink_to("/dev/null")
    assert left_out(opened(tmp_path / "f")) == {"no files: FIFOs, sockets or devices": 5}


def test_one_file_of_two_names_is_said_and_kept(tmp_path: Path) -> None:
    touch(tmp_path / "f", "a/0.jpg", "b/0.jpg")
    os.link(tmp_path / "f/a/0.jpg", tmp_path / "f/b/1.jpg")
    source = opened(tmp_path / "f")
    assert ("b/1.jpg", "b") in everything(source)
    assert any("1 pictures are listed more than once" in n and "a/0.jpg and b/1.jpg" in n for n in source.notes)


# What is left out is counted.


def test_litter_is_left_out_at_every_depth(tmp_path: Path) -> None:
    touch(tmp_path / "f", "a/0.jpg", "b/0.jpg", "b/deep/1.jpg")
    folders = (".ipynb_checkpoints", "@eaDir", "__MACOSX", ".thumbnails", ".Trash-1000", "$RECYCLE.BIN", "lost+found")
    for folder in folders:
        touch(tmp_path / "f", f"{folder}/x.jpg", f"a/{folder}/x.jpg", f"b/deep/{folder}/x.jpg")
    touch(tmp_path / "f", "a/Thumbs.db", "b/deep/desktop.ini", ".DS_Store", "a/._0.jpg")
    source = opened(tmp_path / "f")
    assert len(everything(source)) == 3
    assert left_out(source) == {"hidden, or of the operating system": 3 * len(folders) + 4}


def test_a_class_that_is_hidden_is_said(tmp_path: Path) -> None:
    touch(tmp_path / "f", ".net/0.jpg", "java/0.jpg", "java/1.jpg", "rust/0.jpg", ".git/config")
    notes = [note for note in opened(tmp_path / "f").notes if "left out as hidden" in note]
    assert len(notes) == 1 and "/f/.net' is left out as hidden, though it has pictures" in notes[0]


def test_other_suffixes_and_loose_pictures_are_counted_by_kind(tmp_path: Path) -> None:
    touch(tmp_path / "f", *(f"{c}/{i}.jpg" for c in "ab" for i in range(3)), "a/1.HEIC", "b/2.heic", "b/3.tif", "b/no")
    touch(tmp_path / "f", "loose.jpg", "labels.csv")
    assert left_out(opened(tmp_path / "f")) == {
        "no pictures by their names: .heic": 2,
        "no pictures by their names: .tif": 1,
        "no pictures by their names: no suffix": 1,
        "no pictures by their names: .csv": 1,
        "pictures beside the folders of classes": 1,
    }
    touch(tmp_path / "f", *(f"more {i}.jpg" for i in range(9)))
    with pytest.raises(UserError, match=r"10 pictures lie in .* beside the folders of classes, more than the 6"):
        opened(tmp_path / "f")


def test_a_class_without_a_picture_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "f", "a/0.jpg", "b/0.jpg", "c/0.heic")
    with pytest.raises(UserError, match=r"f/c' holds no picture"):
        opened(tmp_path / "f")


def test_a_refusal_says_what_was_left_out_and_what_may_be_meant(tmp_path: Path) -> None:
    touch(tmp_path / "f", "a/0.jpg", "b/0.heic", "b/1.heic")
    with pytest.raises(UserError, match=r"holds no picture .*\(left out: 2 no pictures by their names: .heic\)"):
        opened(tmp_path / "f")
    touch(tmp_path / "g", "train/images/a/0.jpg", "train/images/b/0.jpg")
    with pytest.raises(UserError, match=r"one class, 'images' \(with the folders a, b... in it: if those are"):
        opened(tmp_path / "g")
    touch(tmp_path / "h", *(f"train/{c}/{i}.jpg" for c in "ab" for i in range(2)), "test/unknown/0.jpg")
    with pytest.raises(UserError, match=r"'unknown', which .*put its pictures into 'test' itself"):
        opened(tmp_path / "h")
    (tmp_path / "h/test/unknown/0.jpg").rename(tmp_path / "h/test/0.jpg")
    (tmp_path / "h/test/unknown").rmdir()
    assert left_out(opened(tmp_path / "h")) == {"pictures for test without labels": 1}


@pytest.mark.parametrize("place", ["b", "b/deep", ""])
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, place: str, monkeypatch: Any) -> None:
    touch(tmp_path / "f", "a/0.jpg", "b/0.jpg", "b/deep/1.jpg")
    scandir = os.scandir

    def forbidden(path: Any) -> Any:
        if Path(path) == tmp_path / "f" / place:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)  # the tests may run as one who may read all
    with pytest.raises(UserError, match=f"{place}' cannot be read .Permission denied"):
        opened(tmp_path / "f")


# Folders as people have them.


@pytest.mark.parametrize(
    "names", [("train", "valid", "test"), ("Train", "Val", "Test"), ("TRAINING", "dev", "Testing")]
)
def test_the_splits_names_in_any_case(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        touch(tmp_path / "f" / name, "a/0.jpg", "b/0.jpg", "b/1.jpg")
    source = opened(tmp_path / "f")
    assert {split: listed(source, split)[0] for split in source.splits} == {
        split: (f"{name}/a/0.jpg", "a") for split, name in zip(("train", "validation", "test"), names, strict=True)
    }


def test_what_may_mean_two_things_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "two", "train/a/0.jpg", "train/b/0.jpg", "val/a/0.jpg", "valid/b/0.jpg")
    with pytest.raises(UserError, match="two folders for validation, val and valid"):
        opened(tmp_path / "two")
    touch(tmp_path / "none", "val/a/0.jpg", "val/b/0.jpg", "test/a/0.jpg")
    with pytest.raises(UserError, match="a folder for test, test, and none for training"):
        opened(tmp_path / "none")
    touch(tmp_path / "beside", "a/0.jpg", "b/0.jpg", "val/a/0.jpg")
    with pytest.raises(UserError, match="a folder for validation, val, and none for training"):
        opened(tmp_path / "beside")
    touch(tmp_path / "vehicles", "train/0.jpg", "car/0.jpg", "car/1.jpg", "bus/0.jpg")
    assert opened(tmp_path / "vehicles").classes == ("bus", "car", "train")


def test_what_is_prepared_may_not_lie_among_the_pictures(tmp_path: Path) -> None:
    touch(tmp_path / "f", "a/0.jpg", "a/1.jpg", "b/0.jpg")
    (tmp_path / "link").symlink_to("f")
    for field, place in (("data_dir", "f"), ("data_dir", "f/deep/er"), ("prepared_dir", "link/prepared")):
        with pytest.raises(UserError, match=f"config.data.{field}, .* lies in the folder of the pictures"):
            opened(tmp_path / "f", **{field: str(tmp_path / place)})
    opened(tmp_path / "f", data_dir=str(tmp_path))


def test_where_no_class_has_two_pictures_none_is_left_for_validation(tmp_path: Path) -> None:
    touch(tmp_path / "f", "a/0.jpg", "b/0.jpg")
    with pytest.raises(UserError, match="at least two pictures into a class"):
        opened(tmp_path / "f")


def test_a_flat_test_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path / "f", "train/a/0.jpg", "train/b/0.jpg", "train/b/1.jpg", *(f"test/{i}.jpg" for i in range(9)))
    source = opened(tmp_path / "f")
    assert set(source.splits) == {"train", "validation"}
    assert left_out(source) == {"pictures for test without labels": 9}
    assert any("test' has no folders of classes" in note for note in source.notes)


def test_kaggles_flat_validation(tmp_path: Path, monkeypatch: Any) -> None:
    base = tmp_path / "ILSVRC/Data/CLS-LOC"
    touch(base, "train/n01/0.JPEG", "train/n02/0.JPEG", "val/v_2.JPEG", "val/v_1.JPEG", "test/t.JPEG")
    seen: list[str] = []
    scandir = os.scandir

    def noted(path: Any) -> Any:
        seen.append(str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noted)
    with pytest.raises(UserError, match=r"there is no LOC_val_solution.csv"):
        opened(base)
    assert not any("train/n01" in path for path in seen)  # before training's classes are read
    for place in (base.parent.parent.parent, base, base / "val"):
        (place / "LOC_val_solution.csv").write_text(
            "ImageId,PredictionString\nv_1,n02 1 2 3 4 n02 5 6 7 8 \nv_2,n01 1 2 3 4 \n"
        )
        source = opened(base)
        assert set(listed(source, "validation")) == {("val/v_1.JPEG", "n02"), ("val/v_2.JPEG", "n01")}
        (place / "LOC_val_solution.csv").unlink()
    rows = {"v_1,n02 1\n": "v_2.JPEG' is not in", "v_1,n02 1\nv_2,n09 1\n": "the class 'n09', which training lacks"}
    rows["v_1,n02 1\nv_2,n01 1\nv_1,n01 1\n"] = "gives v_1 the classes n01 and n02"
    rows["v_1,n02 1 2 3 4 n01 1 2 3 4\nv_2,n01 1\n"] = "gives v_1 the classes n01 and n02"
    rows["v_1,n02 1\nv_2,n01 1\nv_3,n01 1\n"] = r"1 of 3 are missing \(v_3\)"
    for text, says in rows.items():
        (base / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + text)
        with pytest.raises(UserError, match=says):
            opened(base)
    assert opened(base, max_missing=0.5).splits["validation"].count == 2


# Names of classes.


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\x0bb", "a\x0cb", "a\x1cb", "a\x85b", "a\u2028b", "b\n", "\udcff"])
def test_a_name_that_would_not_come_back_is_refused_at_the_door(tmp_path: Path, name: str) -> None:
    for inside in ("a", name):
        (tmp_path / "f" / inside).mkdir(parents=True, exist_ok=True)
        (tmp_path / "f" / inside / "0.jpg").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"the name of the class '.*(is empty or contains a line break|is not in UTF-8)"
    ):
        opened(tmp_path / "f")


def test_classes_that_look_alike_are_said_and_spelling_is_asked(tmp_path: Path) -> None:
    touch(tmp_path / "f", "train/Cat/0.jpg", "train/cat/0.jpg", "train/cat /0.jpg", "train/dog/0.jpg", "val/dog/0.jpg")
    source = opened(tmp_path / "f")
    assert source.classes == ("Cat", "cat", "cat ", "dog")
    assert "pairs of classes whose names may mean the same class: 'Cat' and 'cat'; 'Cat' and 'cat '" in source.notes
    touch(tmp_path / "many", *(f"{name}{end}/{i}.jpg" for name in "abcde" for end in ("", " ") for i in range(2)))
    (line,) = [note for note in opened(tmp_path / "many").notes if "may mean the same class" in note]
    assert line.endswith("'a' and 'a '; 'b' and 'b '; 'c' and 'c '; and 2 more pairs")
    touch(tmp_path / "f", "val/Dog/0.jpg")
    with pytest.raises(
        UserError, match=r"the class 'Dog', which .* lacks \(it has 'dog', which is spelt differently\)"
    ):
        opened(tmp_path / "f")


def test_the_digest_is_of_names_labels_sizes_and_splits(tmp_path: Path) -> None:
    touch(tmp_path / "f", *(f"{c}/{i}.jpg" for c in "ab" for i in range(5)))
    digests = [list_whole(opened(tmp_path / "f")).digest]
    os.utime(tmp_path / "f/a/0.jpg", (1, 1))
    touch(tmp_path / "f", "a/notes.txt")
    assert list_whole(opened(tmp_path / "f")).digest == digests[0]
    digests.append(list_whole(opened(tmp_path / "f", validation_fraction=0.5)).digest)
    (tmp_path / "f/a/0.jpg").write_bytes(b"longer than it was")
    digests.append(list_whole(opened(tmp_path / "f")).digest)
    (tmp_path / "f/a/0.jpg").rename(tmp_path / "f/a/00.jpg")
    digests.append(list_whole(opened(tmp_path / "f")).digest)
    (tmp_path / "f/b").rename(tmp_path / "f/c")
    digests.append(list_whole(opened(tmp_path / "f")).digest)
    assert len(set(digests)) == len(digests)
    json.dumps(digests)
