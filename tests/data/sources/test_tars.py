"""Tars: each picture has the label of its own name, and a tar that ends too early is noticed."""

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from alexnet_jax.data import sources
from alexnet_jax.data.prepared.listing import left_out, list_whole
from alexnet_jax.messages import UserError
from tests.data.sources.test_sources import data, listed, write_release
from tests.photographs import write_imagenet, write_tar

SYNSETS = ["n01440764", "n15075141", "n01443537"]


def validation_labels() -> list[str]:
    text = Path(tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt")).read_text()
    return text.split()


def imagenet(folder: Path, **fields: Any) -> ConfigDict:
    return data("imagenet2012", folder, **fields)


# Labels by the numbers in names.


@pytest.mark.parametrize("prefix", ["./", "val/", ""])
def test_a_validation_tar_packed_again_keeps_its_labels(tmp_path: Path, prefix: str) -> None:
    write_imagenet(tmp_path / "t", SYNSETS, each=1, validation=1)
    numbers = [7, 3, 50000, 12]  # with others missing
    with tarfile.open(tmp_path / "t/ILSVRC2012_img_val.tar", "w") as tar:
        if prefix:
            entry = tarfile.TarInfo(prefix.rstrip("/"))
            entry.type = tarfile.DIRTYPE
            tar.addfile(entry)
        for number in numbers:
            tar.addfile(tarfile.TarInfo(f"{prefix}ILSVRC2012_val_{number:08d}.JPEG"), io.BytesIO())
    source = sources.open_source(imagenet(tmp_path / "t"))
    truth = validation_labels()
    expected = [(f"ILSVRC2012_val_{n:08d}.JPEG", truth[n - 1]) for n in numbers]
    assert listed(source, "validation") == expected
    assert any("49,996 of 50,000 are missing (number 1, number 2, number 4, ...)" in note for note in source.notes)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ILSVRC2012_val_00050001.JPEG", "holds 'ILSVRC2012_val_00050001.JPEG', but its pictures must be named"),
        ("ILSVRC2012_val_00000000.JPEG", "holds 'ILSVRC2012_val_00000000.JPEG'"),
        ("ILSVRC2010_val_00000001.JPEG", "holds 'ILSVRC2010_val_00000001.JPEG'"),
        ("again/ILSVRC2012_val_00000001.JPEG", "the picture number 1 twice"),
    ],
)
def test_what_is_no_validation_picture_is_refused(tmp_path: Path, name: str, says: str) -> None:
    write_imagenet(tmp_path / "t", SYNSETS, each=1, validation=1)
    write_tar(tmp_path / "t/ILSVRC2012_img_val.tar", {"ILSVRC2012_val_00000001.JPEG": b"", name: b""})
    with pytest.raises(UserError, match=says):
        sources.open_source(imagenet(tmp_path / "t"))


def test_litter_in_an_official_tar_is_left_out(tmp_path: Path) -> None:
    write_imagenet(tmp_path / "t", SYNSETS, each=1, validation=1)
    files = {"./._ILSVRC2012_val_00000002.JPEG": b"", "./ILSVRC2012_val_00000002.JPEG": b""}
    write_tar(tmp_path / "t/ILSVRC2012_img_val.tar", files)
    source = sources.open_source(imagenet(tmp_path / "t"))
    assert listed(source, "validation") == [("ILSVRC2012_val_00000002.JPEG", validation_labels()[1])]
    assert left_out(source) == {"hidden, or of the operating system": 1}


def test_what_is_missing_is_refused_unless_it_may_be(tmp_path: Path) -> None:
    write_imagenet(tmp_path / "t", SYNSETS, each=2, validation=2)
    with pytest.raises(UserError, match=r"49,998 of 50,000 are missing .*config.data.max_missing, 0.0%"):
        sources.open_source(imagenet(tmp_path / "t", max_missing=0.0))
    source = sources.open_source(imagenet(tmp_path / "t", max_missing=1.0))
    assert [note.split(": ")[1].split(" (")[0] for note in source.notes] == [
        "997 of 1,000 are missing",
        "1,281,161 of 1,281,167 are missing",
        "49,998 of 50,000 are missing",
    ]


@pytest.mark.parametrize("name", ["n15075141_1.JPEG", "photo.JPEG"])
def test_a_picture_under_another_synset_is_refused(tmp_path: Path, name: str) -> None:
    write_imagenet(tmp_path / "t", SYNSETS, each=1, validation=1)
    write_tar(tmp_path / "inner.tar", {name: b""})
    write_tar(tmp_path / "t/ILSVRC2012_img_train.tar", {"n01440764.tar": (tmp_path / "inner.tar").read_bytes()})
    with pytest.raises(
        UserError, match=f"n01440764.tar holds '{name}', whose name is not that of a picture of n01440764"
    ):
        sources.open_source(imagenet(tmp_path / "t"))


def test_a_release_s_pictures_go_by_their_numbers(tmp_path: Path) -> None:
    write_release(tmp_path / "r")
    flat = tmp_path / "r/val"
    (flat / "ILSVRC2010_val_00000001.JPEG").rename(flat / "z_00000001.JPEG")  # last by name, first by number
    source = sources.open_source(data("synset_tars", tmp_path / "r"))
    assert dict(listed(source, "validation"))["z_00000001.JPEG"] == "n01"
    (flat / "z_00000001.JPEG").rename(flat / "z_00000004.JPEG")
    with pytest.raises(UserError, match="the numbers 2 to 4, not all from 1 to 3"):
        sources.open_source(data("synset_tars", tmp_path / "r"))


# Tars that end too early, wherever.


def test_a_training_tar_cut_anywhere_is_refused(tmp_path: Path) -> None:
    write_imagenet(tmp_path / "t", SYNSETS, each=2, validation=2)
    path = tmp_path / "t/ILSVRC2012_img_train.tar"
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        first = tar.getmembers()[0]
    ends = {first.offset_data + first.size, first.offset_data, 512, *range(1024, len(whole) - 10240, 3000)}
    for end in sorted(ends):  # at the end of an inner tar, in a header, in a picture
        path.write_bytes(whole[:end])
        with pytest.raises(UserError, match="is not a complete tar"):
            sources.open_source(imagenet(tmp_path / "t"))
    path.write_bytes(whole)
    assert sources.open_source(imagenet(tmp_path / "t")).splits["train"].count == 6


@pytest.mark.parametrize("cut", [10240, 10240 + 512, 700])
def test_an_inner_tar_cut_short_in_a_whole_one_is_refused(tmp_path: Path, cut: int) -> None:
    write_imagenet(tmp_path / "t", SYNSETS, each=1, validation=1)
    write_tar(tmp_path / "inner.tar", {f"n01440764_{i}.JPEG": bytes(1000) for i in range(12)})
    inner = (tmp_path / "inner.tar").read_bytes()
    files = {"n01440764.tar": inner[:-cut], "n15075141.tar": inner}
    if cut == 700:
        files["n01440764.tar"] = inner[:700]
    write_tar(tmp_path / "t/ILSVRC2012_img_train.tar", files)
    with pytest.raises(UserError, match=r"n01440764.tar is not a complete tar"):
        sources.open_source(imagenet(tmp_path / "t"))


def test_a_tar_of_a_synset_cut_between_two_pictures_is_refused(tmp_path: Path) -> None:
    for synset in ("n01", "n02"):
        write_tar(tmp_path / f"t/{synset}.tar", {f"{synset}_{i}.JPEG": bytes(512) for i in range(4)})
    path = tmp_path / "t/n02.tar"
    path.write_bytes(path.read_bytes()[:2048])  # two headers and two pictures, and no end
    with pytest.raises(UserError, match=r"n02.tar is not a complete tar"):
        sources.open_source(data("synset_tars", tmp_path / "t"))


def test_a_name_that_a_tar_has_twice_is_refused(tmp_path: Path) -> None:
    for synset, names in (("n01", ["n01_1.JPEG", "n01_2.JPEG"]), ("n02", ["n02_1.JPEG", "n02_1.JPEG"])):
        (tmp_path / "t").mkdir(exist_ok=True)
        with tarfile.open(tmp_path / f"t/{synset}.tar", "w") as tar:
            for name in names:
                tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(UserError, match=r"n02.tar holds 'n02_1.JPEG' twice"):
        list_whole(sources.open_source(data("synset_tars", tmp_path / "t", validation_fraction=0.3)))
    write_tar(tmp_path / "t/n02.tar", {"n01_9.JPEG": b"", "n02_1.JPEG": b""})
    with pytest.raises(UserError, match=r"n02.tar holds n01_9.JPEG, whose name is that of another synset"):
        sources.open_source(data("synset_tars", tmp_path / "t"))


def test_a_tar_put_behind_another_is_refused_and_not_ignored(tmp_path: Path) -> None:
    write_release(tmp_path / "r")
    first, second = sorted((tmp_path / "r").rglob("*.tar"))[:2]
    first.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(UserError, match=f"{first.name} is not a complete tar .*more data follows its end"):
        sources.open_source(data("synset_tars", tmp_path / "r"))


def test_a_synset_s_tar_with_nothing_in_it_is_no_class_that_is_there(tmp_path: Path) -> None:
    write_imagenet(tmp_path / "t", SYNSETS, each=1, validation=1)
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    with tarfile.open(tmp_path / "t/ILSVRC2012_img_train.tar", "a") as tar:
        entry = tarfile.TarInfo("n01484850.tar")
        entry.size = len(empty.getvalue())
        tar.addfile(entry, io.BytesIO(empty.getvalue()))
    source = sources.open_source(imagenet(tmp_path / "t"))
    assert any("997 of 1,000 are missing" in note for note in source.notes)


@pytest.mark.parametrize("name", ["n03.tar.gz", "n03.tar.part", "n03.tgz", "n03.tar.1"])
def test_a_tar_that_is_packed_or_not_whole_by_its_name_is_no_class_less(tmp_path: Path, name: str) -> None:
    for synset in ("n01", "n02"):
        write_tar(tmp_path / f"r/{synset}.tar", {f"{synset}_{i}.JPEG": b"" for i in range(2)})
    (tmp_path / "r" / name).write_bytes(b"")
    with pytest.raises(UserError, match=f"{name}' has the name of a compressed or incomplete tar"):
        sources.open_source(data("synset_tars", tmp_path / "r"))


def test_what_lies_beside_the_tars_is_counted_and_one_tar_is_no_two_classes(tmp_path: Path) -> None:
    for name in ("n01.tar", "n02.TAR"):
        write_tar(tmp_path / "r" / name, {f"{name[:3]}_{i}.JPEG": b"" for i in range(2)})
    write_tar(tmp_path / "r/._n01.tar", {})
    (tmp_path / "r/notes.txt").write_text("?")
    (tmp_path / "r/n04").mkdir()
    source = sources.open_source(data("synset_tars", tmp_path / "r"))
    list_whole(source)
    assert source.classes == ("n01", "n02")
    assert left_out(source) == {
        "folders beside the tars": 1,
        "hidden, or of the operating system": 1,
        "no tars by their names": 1,
    }
    (tmp_path / "r/n05.tar").symlink_to("n01.tar")
    with pytest.raises(UserError, match=r"n05.tar' is n01.tar under another name"):
        sources.open_source(data("synset_tars", tmp_path / "r"))
