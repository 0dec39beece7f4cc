"""ImageNet 2012 from its two official tars."""

import os
import re
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.data.decode.picture import Picture
from alexnet_jax.data.sources.source import (
    Files,
    Kind,
    Source,
    Tally,
    files_in_manual_dir,
    require_not_missing,
    root,
    split_of,
)
from alexnet_jax.data.sources.splits import is_litter, leave_by_name
from alexnet_jax.data.sources.tars import Member, files_in
from alexnet_jax.data.sources.tfds_set import class_names, open_prepared, prepared_files
from alexnet_jax.data.tensorflow import tfds
from alexnet_jax.messages import UserError

TRAIN_TAR, VALIDATION_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
TRAIN, VALIDATION = 1_281_167, 50_000  # pictures, as the organisers state
UNLABELLED = ("test",)  # its labels were never published
VALIDATION_LABELS = "datasets/imagenet2012/validation_labels.txt"  # in TFDS: a synset for each picture's number


def open_imagenet(data: ConfigDict) -> Source:
    """The set that TFDS has prepared, or else the two official tars.

    Raises:
      UserError: a tar is missing or damaged, holds a file that is none of its pictures, or lacks more pictures than
        config.data.max_missing allows.
    """
    if prepared_files(data):
        return open_prepared(data, UNLABELLED)
    folder = Path(data.manual_dir).expanduser() if data.manual_dir else Path(os.devnull)
    _require_tars(folder, data)
    classes = class_names(data)
    labels = {synset: label for label, synset in enumerate(classes)}
    tally = Tally()
    synsets = Path(tfds.core.tfds_path(VALIDATION_LABELS)).read_text().split()
    validation, notes = _validation(folder / VALIDATION_TAR, labels, synsets, tally, data.max_missing)
    train, more = _train(folder / TRAIN_TAR, labels, tally, data.max_missing)
    splits = {"train": split_of(train), "validation": split_of(validation)}
    return Source(data.name, classes, splits, met=tally.met, left_out=tally.left_out(), notes=(*more, *notes))


def _require_tars(folder: Path, data: ConfigDict) -> None:
    """Raises UserError if a tar is missing, and says what the folder holds instead."""
    missing = [tar for tar in (TRAIN_TAR, VALIDATION_TAR) if not (folder / tar).is_file()]
    if not missing:
        return
    if data.manual_dir:
        there = sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []
        listed = ", ".join(there[:5]) + (f" and {len(there) - 5} more" if len(there) > 5 else "")
        where = f"'{data.manual_dir}' has no {' and no '.join(missing)} (it has {listed or 'nothing'})"
    else:
        where = "config.data.manual_dir names no folder with its tars"
    raise UserError(
        f"imagenet2012 is not prepared in {root(data)} and {where}; get {TRAIN_TAR} and {VALIDATION_TAR} "
        "from image-net.org (an account is needed) and give their folder as --config.data.manual_dir=DIR"
    )


def _train(path: Path, labels: dict[str, int], tally: Tally, allowed: float) -> tuple[list[Picture], list[str]]:
    """The training pictures, and notes on what is missing. Each synset has a tar in the tar."""
    pictures, where = [], str(path)
    synsets: set[str] = set()
    for inner in files_in(path, tally):
        if is_litter(inner.base):
            leave_by_name(tally, inner.base, f"{path}, {inner.name}")
            continue
        synset = inner.base.removesuffix(".tar")
        if synset not in labels or not inner.base.endswith(".tar"):
            raise UserError(
                f"{path} holds '{inner.name}', which is not the tar of any of the 1,000 synsets; get the official tar"
            )
        if synset in synsets:
            raise UserError(f"{path} holds {synset}.tar twice; get the official tar")
        synsets.add(synset)
        for member in files_in(path, tally, inner):
            if is_litter(member.base):
                leave_by_name(tally, member.base, f"{path}, {inner.name}, {member.name}")
                continue
            found = re.fullmatch(r"(n\d{8})_\d+\.jpe?g", member.base, re.IGNORECASE)
            if not found or found[1].lower() != synset:
                raise UserError(
                    f"{path}, {inner.name} holds '{member.name}', whose name is not that of a picture of {synset}; get "
                    "the official tar"
                )
            tally.take()
            pictures.append(_picture(member, labels[synset], where))
    present = {picture.label for picture in pictures}  # a class with an empty tar is absent
    absent = sorted(synset for synset, label in labels.items() if label not in present)
    if len(pictures) > TRAIN:
        raise UserError(
            f"{path} holds {len(pictures):,} pictures, but the official tar holds {TRAIN:,}; get the official tar"
        )
    notes = [
        require_not_missing(f"classes in {path}", len(present), len(labels), allowed, _some(absent)),
        require_not_missing(f"pictures in {path}", len(pictures), TRAIN, allowed),
    ]
    return pictures, [note for note in notes if note]


def _validation(
    path: Path, labels: dict[str, int], synsets: list[str], tally: Tally, allowed: float
) -> tuple[list[Picture], list[str]]:
    """The validation pictures, and notes on what is missing. The number in a picture's name gives its label.

    (TFDS itself assigns its list of labels to the sorted names, whatever the names are.)
    """
    pictures, where = [], str(path)
    numbers: set[int] = set()
    for member in files_in(path, tally):
        if is_litter(member.base):
            leave_by_name(tally, member.base, f"{path}, {member.name}")
            continue
        found = re.fullmatch(r"ILSVRC2012_val_(\d{8})\.jpe?g", member.base, re.IGNORECASE)
        number = int(found[1]) if found else 0
        if not 1 <= number <= VALIDATION:
            raise UserError(
                f"{path} holds '{member.name}', but its pictures must be named ILSVRC2012_val_00000001.JPEG to "
                f"ILSVRC2012_val_{VALIDATION:08d}.JPEG; get the official tar"
            )
        if number in numbers:
            raise UserError(f"{path} holds the picture number {number} twice; get the official tar")
        numbers.add(number)
        tally.take()
        pictures.append(_picture(member, labels[synsets[number - 1]], where))
    absent = [f"number {number}" for number in range(1, VALIDATION + 1) if number not in numbers]
    note = require_not_missing(f"pictures in {path}", len(pictures), VALIDATION, allowed, _some(absent))
    return pictures, [note] if note else []


def _picture(member: Member, label: int, path: str) -> Picture:
    return Picture(member.base, label, path, member.offset, member.size)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _files(data: ConfigDict) -> Files | None:
    return prepared_files(data) or files_in_manual_dir(data, (TRAIN_TAR, VALIDATION_TAR))


KIND = Kind("imagenet2012", open_imagenet, class_names, _files)
