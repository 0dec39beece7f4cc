"""A set whose source has changed: it is begun anew, refused or kept, and equals a set prepared in one go."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet_jax.data.batches.training_statistics import training_statistics
from alexnet_jax.data.prepared import preparation, prepare
from alexnet_jax.data.prepared.shards import Shards
from alexnet_jax.data.prepared.statistics import Statistics
from alexnet_jax.messages import UserError
from alexnet_jax.modes import (
    EvaluateInvocation,
    FeaturesInvocation,
    FiguresInvocation,
    NeighboursInvocation,
    TrainInvocation,
    evaluate,
    features,
    figures,
    neighbours,
    train,
)
from alexnet_jax.runs.folder import Run, create_run, open_run, require_same_classes
from configs import alexnet
from tests.conftest import launch, launch_here, narrowed, refusal, result
from tests.data.prepared.test_prepare import config_of, contents, flags_of, read
from tests.photographs import encoded, photograph, write_folder, write_imagenet


def cut_off(config: Any, monkeypatch: Any, rounds: int = 2) -> None:
    """Prepares until some rounds are on disk, and is killed there."""
    append, appended = Shards.append, []

    def killed(*arguments: Any) -> None:
        append(*arguments)
        appended.append(1)
        if len(appended) == rounds:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Shards, "append", killed)
        patch.setattr(preparation, "ROUND", preparation.CHUNK)
        with pytest.raises(KeyboardInterrupt):
            prepare.open_or_prepare(config)


def made_in_one_go(photographs: Path, to: Path) -> dict[str, bytes]:
    return contents(prepare.open_or_prepare(config_of(photographs, to)).folder)


def without_statistics_archive(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name != "preprocessing.npz"}  # a zip has the time


def add_class(folder: Path) -> None:
    write_folder(folder, {"aaa": 5})


def remove_picture(folder: Path) -> None:
    sorted((folder / "cat").iterdir())[3].unlink()


def swap_names(folder: Path) -> None:
    (folder / "cat").rename(folder / "x")
    (folder / "dog").rename(folder / "cat")
    (folder / "x").rename(folder / "dog")


def mend_picture(folder: Path) -> None:
    (sorted((folder / "dog").iterdir())[0]).write_bytes(encoded(photograph(99, 70, 50)))


def replace_by_one_of_the_same_size(folder: Path) -> None:
    shorter, longer = sorted(sorted((folder / "cat").iterdir())[:2], key=lambda path: path.stat().st_size)
    longer.write_bytes(shorter.read_bytes().ljust(longer.stat().st_size, b"\0"))


def add_validation(folder: Path) -> None:
    for name in ("cat", "dog"):
        (folder / "train").mkdir(exist_ok=True)
        (folder / name).rename(folder / "train" / name)
    write_folder(folder / "Val", {"cat": 2})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (add_class, "new classes: aaa; added: aaa/0000.jpeg, aaa/0001.jpeg, aaa/0002.jpeg and 2 more"),
        (remove_picture, "removed: cat/0003.jpeg"),
        (swap_names, "added: "),
        (mend_picture, "of another size: dog/0040.jpeg"),
        (add_validation, "added: Val/cat/0000.jpeg"),
        (replace_by_one_of_the_same_size, "a file has been changed"),
    ],
)
def test_a_folder_that_changes_while_it_is_prepared(tmp_path: Path, change: Any, says: str, monkeypatch: Any) -> None:
    photographs = tmp_path / "p"
    write_folder(photographs, {"cat": 40, "dog": 40})
    config = config_of(photographs, tmp_path / "cut")
    cut_off(config, monkeypatch)
    change(photographs)
    said: list[str] = []
    monkeypatch.setattr(preparation, "say", said.append)
    made = prepare.open_or_prepare(config)
    (line,) = [line for line in said if "beginning anew" in line]
    assert says in line
    whole = made_in_one_go(photographs, tmp_path / "whole")
    assert without_statistics_archive(contents(made.folder)) == without_statistics_archive(whole)


def test_the_same_folder_is_gone_on_with(tmp_path: Path, monkeypatch: Any) -> None:
    write_folder(tmp_path / "p", {"cat": 40, "dog": 40})
    config = config_of(tmp_path / "p", tmp_path / "cut")
    cut_off(config, monkeypatch)
    (tmp_path / "p/cat/notes.txt").write_text("left out, and so no change")
    said: list[str] = []
    monkeypatch.setattr(preparation, "say", said.append)
    made = prepare.open_or_prepare(config)
    assert "continuing from picture 32" in said
    whole = made_in_one_go(tmp_path / "p", tmp_path / "whole")
    assert without_statistics_archive(contents(made.folder)) == without_statistics_archive(whole)


def test_a_finished_set_of_another_folder_is_refused_and_prepared_anew(tmp_path: Path, monkeypatch: Any) -> None:
    photographs = tmp_path / "p"
    write_folder(photographs, {"cat": 12, "dog": 12})
    config = config_of(photographs, tmp_path / "d")
    folder = prepare.open_or_prepare(config).folder
    before = contents(folder)
    add_class(photographs)
    with pytest.raises(UserError, match=r"is not what .* \(new classes: aaa; added: .*--mode=prepare to prepare anew"):
        prepare.open_or_prepare(config)
    assert contents(folder) == before
    kept = config_of(photographs, tmp_path / "d")
    kept.data.manual_dir, kept.data.prepared_dir = "", str(folder)  # the other remedy
    assert prepare.open_or_prepare(kept).classes == ("cat", "dog")

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # the old set stays until the new one is whole
        patch.setattr(preparation, "save_summary", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare.open_or_prepare(config, anew=True)
    assert contents(folder) == before
    made = prepare.open_or_prepare(config, anew=True)
    assert made.classes == ("aaa", "cat", "dog") and made.folder == folder
    whole = made_in_one_go(photographs, tmp_path / "whole")
    assert without_statistics_archive(contents(folder)) == without_statistics_archive(whole)
    assert prepare.open_or_prepare(config).folder == folder
    shutil.rmtree(photographs)
    assert prepare.open_or_prepare(config).folder == folder


def test_a_finished_set_hears_of_another_picture_of_the_same_size(tmp_path: Path, monkeypatch: Any) -> None:
    write_folder(tmp_path / "p", {"cat": 12, "dog": 12})
    config = config_of(tmp_path / "p", tmp_path / "d")
    before = contents(prepare.open_or_prepare(config).folder)
    replace_by_one_of_the_same_size(tmp_path / "p")
    said: list[str] = []
    monkeypatch.setattr(prepare, "say", said.append)
    assert contents(prepare.open_or_prepare(config).folder) == before
    assert "was changed after" in said[0] and "--mode=prepare to prepare anew" in said[0]
    made = prepare.open_or_prepare(config, anew=True)
    whole = made_in_one_go(tmp_path / "p", tmp_path / "whole")
    assert without_statistics_archive(contents(made.folder)) == without_statistics_archive(whole)
    del said[:]
    prepare.open_or_prepare(config, anew=True)
    assert not said


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("first", ["train", "validation", "train+validation", "train[:50%]"])
def test_statistics_are_of_the_split_that_is_asked_for(tmp_path: Path, first: str, monkeypatch: Any) -> None:
    write_folder(tmp_path / "p", {"cat": 40, "dog": 40})
    config = config_of(tmp_path / "p", tmp_path / "d", train_split=first, encoding="raw")
    cut_off(config, monkeypatch)
    config.data.train_split = "validation"  # the sums so far are of another split
    made = prepare.open_or_prepare(config)
    for split in ("train", "validation", "train+validation", "train[:10]", "train"):
        config.data.train_split = split
        pictures = [example["image"] for example in made.builder.as_dataset(split).as_numpy_iterator()]
        found = training_statistics(made, config)
        np.testing.assert_allclose(found.mean_image, np.mean(pictures, axis=0), rtol=1e-5, err_msg=split)


@pytest.mark.parametrize("name", ["digests.json", "listing.json", "classes.json", "settings.json"])
def test_a_set_without_one_of_its_files_is_refused_with_the_remedy(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path / "p", {"cat": 6, "dog": 6})
    config = config_of(tmp_path / "p", tmp_path / "d")
    made = prepare.open_or_prepare(config)
    (made.folder / name).unlink()
    with pytest.raises(UserError, match=r"cannot be read.*; remove .* prepare") as error:
        prepare.open_or_prepare(config)
    assert str(made.folder / name) in str(error.value)


def test_the_account_of_a_set_is_even_and_names_come_back(tmp_path: Path) -> None:
    names = (" ", "cat", "cat ", "élan", '"cat "', "日本")
    write_folder(tmp_path / "p", dict.fromkeys(names, 4))
    (tmp_path / "p/cat/empty.jpg").write_bytes(b"")
    (tmp_path / "p/cat/notes.txt").write_text("?")
    made = prepare.open_or_prepare(config_of(tmp_path / "p", tmp_path / "d", max_rejected=0.5, resize=72, crop=67))
    assert made.classes == tuple(sorted(names))
    for split in ("train", "validation"):
        for example in read(made.builder, split):
            assert Path(example["file_name"].decode()).parent.name == made.classes[example["label"]]
    summary = json.loads((made.folder / "listing.json").read_text())
    splits = summary["splits"].values()
    assert sum(s["stored"] + s["rejected"] for s in splits) + sum(o["count"] for o in summary["left_out"]) == 26
    assert (sum(s["rejected"] for s in splits), summary["met"]) == (1, 26)
    assert [sum(by) for by in zip(*(s["stored_by_class"] for s in splits), strict=True)] == [4] * 6
    config = config_of(tmp_path / "p", tmp_path / "d", resize=72, crop=67)
    create_run(tmp_path / "run", config, training_statistics(made, config), made.classes)
    assert open_run(tmp_path / "run").classes == made.classes


def test_a_class_whose_pictures_are_all_rejected_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path / "p", {"cat": 20, "dog": 2})
    for path in (tmp_path / "p/dog").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"no picture of the class 'dog' can be used for training"):
        prepare.open_or_prepare(config_of(tmp_path / "p", tmp_path / "d", max_rejected=0.5))
    assert not list((tmp_path / "d").rglob("dataset_info.json"))
    write_folder(tmp_path / "p", {"dog": 3})
    made = prepare.open_or_prepare(config_of(tmp_path / "p", tmp_path / "d", max_rejected=0.5))
    assert made.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("theirs", "ours", "says"),
    [
        (("a", "b"), ("b", "a"), "number 0 is 'b' here and 'a' there"),
        (("a", "b"), ("a", "b "), "number 1 is 'b ' here and 'b' there"),
        (("a", "b", "c"), ("a", "b"), "number 2 is None here and 'c' there"),
    ],
)
def test_a_run_of_other_classes_is_refused_with_the_first(theirs: Any, ours: Any, says: str, tmp_path: Path) -> None:
    run = Run(tmp_path, {}, Statistics(np.zeros((4, 4, 3), np.float32), np.eye(3)), theirs)
    with pytest.raises(UserError, match=says):
        require_same_classes(run, ours, "folder")


def test_training_does_not_go_on_under_other_names(tmp_path: Path) -> None:
    config = narrowed(alexnet.get_config(), tmp_path / "one")
    config.data.name, config.data.manual_dir = "folder", str(tmp_path / "p")
    config.model.classes, config.train.steps = 0, 1
    write_folder(tmp_path / "p", {"beach": 12, "garden": 12})
    train.run(config, TrainInvocation(tmp_path / "run"), page=False)
    write_folder(tmp_path / "q", {"garden": 12, "house": 12})
    config.data.manual_dir, config.data.data_dir, config.train.steps = str(tmp_path / "q"), str(tmp_path / "two"), 2
    with pytest.raises(UserError, match=r"other classes than .*classes.txt: number 0 is 'garden' here and 'beach'"):
        train.run(config, TrainInvocation(tmp_path / "run"), page=False)
    config.data.manual_dir, config.data.data_dir = str(tmp_path / "p"), str(tmp_path / "one")
    config.data.max_missing = 0.5
    assert train.run(config, TrainInvocation(tmp_path / "run"), page=False)["step"] == 2


def test_of_pictures_prepared_anew_it_is_said_that_they_may_be_of_the_training(tmp_path: Path, capsys: Any) -> None:
    config = narrowed(alexnet.get_config(), tmp_path / "d")
    config.data.name, config.data.manual_dir = "folder", str(tmp_path / "p")
    config.model.classes, config.train.steps = 0, 1
    write_folder(tmp_path / "p", {"beach": 24, "garden": 24})
    run, kept = tmp_path / "run", str(tmp_path / "features")
    train.run(config, TrainInvocation(run), page=False)
    config.evaluate.split = "train"
    features.run(config, FeaturesInvocation(run, layer=("fc7",), output=kept))
    config.evaluate.split = "validation"
    evaluate.run(config, EvaluateInvocation(run))
    assert "may have been trained on some" not in capsys.readouterr().err
    query = sorted((tmp_path / "p/garden").iterdir())[-1]
    for path in sorted((tmp_path / "p/beach").iterdir())[:8]:
        path.unlink()
    prepare.open_or_prepare(config, anew=True)

    evaluate.run(config, EvaluateInvocation(run))
    assert "may have been trained on some of these, and then errors are too low" in capsys.readouterr().err
    figures.run(config, FiguresInvocation(run, figure="confusion", output=str(tmp_path / "c.png")))
    assert "may have been trained on some" in capsys.readouterr().err
    page = figures.run(config, FiguresInvocation(run, figure="page", output=str(tmp_path / "page.html")))
    assert "was trained on other pictures" in capsys.readouterr().err and "examples" not in page
    # Rows of before lie on other pictures now: they are not drawn.
    asked = NeighboursInvocation(run, features=kept, files=(str(query),), output=str(tmp_path / "n.png"))
    neighbours.run(config, asked)
    assert "the pictures cannot be drawn: " in capsys.readouterr().err


def test_a_dry_run_lists_and_decodes_nothing(tmp_path: Path) -> None:
    write_folder(tmp_path / "p", {"cat": 6, "dog": 4})
    (tmp_path / "p/cat/0000.jpeg").write_bytes(b"no picture, which nobody looks at")
    (tmp_path / "p/cat/x.heic").write_bytes(b"")
    flags = ("--config=configs/alexnet.py", *flags_of(config_of(tmp_path / "p", tmp_path / "d", resize=72, crop=64)))
    done = launch(*flags, "--mode=prepare", "--dry_run")
    assert result(done) == {
        "name": "folder",
        "examples": 10,
        "splits": {"train": 8, "validation": 2},
        "classes": 2,
        "left_out": {"no pictures by their names: .heic": 1},
    }
    assert "left out: 1 no pictures by their names: .heic" in done.stderr
    assert not (tmp_path / "d").exists()
    assert "--dry_run belongs to --mode=prepare" in refusal(launch_here(*flags, "--mode=train", "--dry_run"))


def test_tars_are_listed_again_only_where_they_have_changed(tmp_path: Path, monkeypatch: Any) -> None:
    write_imagenet(tmp_path / "tars", ["n01440764", "n15075141"], each=3, validation=2)
    config = config_of(tmp_path / "tars", tmp_path / "d", name="imagenet2012", max_missing=1.0)
    made = prepare.open_or_prepare(config)
    assert json.loads((made.folder / "listing.json").read_text())["met"] == 8
    with monkeypatch.context() as patch:
        patch.setattr(prepare.sources, "open_source", None)  # nothing is listed
        assert prepare.open_or_prepare(config).folder == made.folder
    write_imagenet(tmp_path / "tars", ["n01440764", "n15075141"], each=4, validation=2)
    with pytest.raises(UserError, match=r"\(added: n01440764_3.JPEG, .*; removed: n15075141_3.JPEG"):
        prepare.open_or_prepare(config)
    for tar in (tmp_path / "tars").iterdir():
        tar.unlink()
    assert prepare.open_or_prepare(config).folder == made.folder


def test_two_collections_of_one_name_lie_apart(tmp_path: Path) -> None:
    made = {}
    for name in ("a", "b"):
        write_folder(tmp_path / name / "photos", {"cat": 6, "dog": 6} if name == "a" else {"red": 6, "blue": 6})
        made[name] = prepare.open_or_prepare(config_of(tmp_path / name / "photos", tmp_path / "d"))
    assert [made[name].classes for name in "ab"] == [("cat", "dog"), ("blue", "red")]
    assert all(one.folder.parent.name.startswith("photos-") for one in made.values())
    mistyped = config_of(tmp_path / "photo", tmp_path / "d")
    with pytest.raises(UserError, match="photo is not a folder"):
        prepare.open_or_prepare(mistyped)
