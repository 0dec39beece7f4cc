"""Folders that look like splits and folders that look like classes are not confused."""

from pathlib import Path

import pytest

from alexnet_jax.messages import UserError
from tests.data.prepared.test_listing import opened, touch


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (
            ("seg_train/cat/0.jpg", "seg_train/dog/0.jpg", "seg_test/cat/1.jpg"),
            "'seg_train' and 'seg_test'",
        ),
        (("training_set/a/0.jpg", "test_set/a/0.jpg"), "look like splits"),
        (("train2017/a/0.jpg", "val2017/a/0.jpg"), "look like splits"),
        (("train /a/0.jpg", "val /a/0.jpg"), "look like splits"),
        (("trainset/a/0.jpg", "testset/a/0.jpg"), "look like splits"),
        (("trainA/0.jpg", "trainB/0.jpg", "testA/0.jpg"), "look like splits"),
        (("TrainingData/a/0.jpg", "TestData/a/0.jpg"), "look like splits"),
        (("trainval/a/0.jpg", "tests/a/0.jpg"), "look like splits"),
        (("a/train/0.jpg", "a/val/0.jpg", "a/extra/0.jpg", "b/0.jpg"), "splits in a class's folder"),
        (("train/0.jpg", "val/0.jpg"), "train' has its pictures in one flat folder"),
        (("Cat/0.jpg", "Dog/0.jpg", "val/cat/0.jpg", "val/dog/0.jpg"), "a folder for validation, val, and none"),
        (("cat/0.jpg", "dog/0.jpg", "val/0.jpg"), "a folder for validation, val, and none"),
        (("cat/0.jpg", "dog/0.jpg", "test/0.jpg"), "if it is a class, give it another name"),
        (("train/0.jpg", "val/1.jpg", "cat/0.jpg", "dog/0.jpg"), "folders for splits, train and val, beside cat"),
        (("cat/train/0.jpg", "cat/val/1.jpg", "dog/train/0.jpg", "dog/val/1.jpg"), "splits in a class's folder"),
        (("car/0.jpg", "plane/0.jpg", "train/steam/0.jpg", "train/diesel/0.jpg"), "car' lies beside the folder for"),
        (("train/a/0.jpg", "train/b/0.jpg", "validate/a/0.jpg"), "validate' lies beside the folder for training"),
    ],
)
def test_splits_are_never_taken_for_classes_nor_classes_for_splits(
    tmp_path: Path, names: tuple[str, ...], says: str
) -> None:
    touch(tmp_path / "f", *names)
    with pytest.raises(UserError, match=says):
        opened(tmp_path / "f")


def test_words_of_splits_in_a_class_s_name_are_no_splits(tmp_path: Path) -> None:
    touch(tmp_path / "f", "train station/0.jpg", "steam train/0.jpg", "latest/2019/0.jpg", "trained dogs/0.jpg")
    touch(tmp_path / "f", "latest/2019/1.jpg")
    assert opened(tmp_path / "f").classes == ("latest", "steam train", "train station", "trained dogs")
