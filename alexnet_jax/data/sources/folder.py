"""Reads a folder that has a folder of pictures for each class."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.data.decode.picture import Picture
from alexnet_jax.data.sources import kaggle_labels
from alexnet_jax.data.sources.source import Kind, Source, Tally, files_in_manual_dir, manual_dir, split_of
from alexnet_jax.data.sources.splits import (
    SUFFIXES,
    entries,
    held_out,
    is_litter,
    is_picture,
    reason_to_leave,
    split_folders,
    split_named,
)
from alexnet_jax.data.sources.walk import NOWHERE, SPECIAL, File, Place, Walk, file_of, identity
from alexnet_jax.messages import UserError

MOST_PAIRS = 3  # of classes with similar names, that a note lists
LOOSE = "pictures beside the folders of classes"
THUMBNAILS = (".thumbnails", ".thumbs")

Listed = dict[str, dict[str, list[File]]]  # for each split, the pictures by class


@dataclass(frozen=True)
class Contents:
    """What a folder holds, in the order of the names; each entry is in one of the first three."""

    path: Path
    folders: dict[str, str]  # paths by name; each may be a class or a split
    pictures: list[File]  # by their names
    left_out: list[tuple[str, str]]  # reason and path
    hidden: list[str]  # folders among those left out, by their paths


def open_folder(data: ConfigDict) -> Source:
    """The pictures in the folder that the config names. Raises UserError as `list_folder`."""
    return list_folder(manual_dir(data), data.validation_fraction, data.max_missing)


def list_folder(folder: Path, fraction: float, max_missing: float) -> Source:
    """The pictures in `folder`, or in its folders for train, validation and test (`FOLDERS`).

    Args:
      fraction: the share of each class that is held out for validation, if there is no folder for validation.
      max_missing: the share of the pictures in Kaggle's file of labels that may be missing.

    Raises:
      UserError: there are fewer than two classes, a class has no picture, a split has a class that training lacks, or
        something in the folder is ambiguous.
    """
    tally, notes = Tally(), []
    top = _contents(folder)
    splits = {split: _contents(path) for split, path in split_folders(folder, top.folders).items()}
    has_splits = _has_splits(top, splits)
    if not has_splits:
        splits = {"train": top}
    for contents in splits.values():
        for reason, path in contents.left_out:
            tally.leave(reason, path)
    if has_splits:
        _leave_beside_splits(top, tally)
    labels = _labels_of_flat_validation(splits, folder)  # may refuse, so it comes before all is read
    walk = Walk([folder, *(contents.path for contents in splits.values())], tally)
    places = {Place(split, name): path for split, inside in splits.items() for name, path in inside.folders.items()}
    listed: Listed = {split: {} for split in splits}
    for place, files in walk.files(places).items():
        listed[place.split][place.name] = files
    classes = tuple(sorted(listed["train"]))
    _require_classes(classes, listed, splits["train"].path, folder, tally)
    loose = {split: contents.pictures for split, contents in splits.items()}
    if labels:
        pictures = loose.pop("validation")
        listed["validation"], note = kaggle_labels.by_class(labels, pictures, classes, max_missing, tally)
        notes.append(note)
    if "test" in listed and not listed["test"]:
        del listed["test"]
        notes.append(
            f"'{splits['test'].path}' has no folders of classes, so its pictures have no labels: it is left out"
        )
    _leave_loose(loose, listed, tally)
    if "validation" not in listed:
        _hold_out(listed, fraction)
        notes.append(
            f"'{folder}' has no folder for validation: {fraction:.0%} of the training pictures are held out for it "
            "(config.data.validation_fraction)"
        )
    notes += [*_hidden_classes(splits.values()), *_similar_names(classes)]
    notes += _hard_links(walk.files_of_several_names(), folder)
    made = {split: split_of(_pictures(by_class, classes, folder)) for split, by_class in listed.items()}
    left_out = tally.left_out()
    return Source("folder", classes, made, (), tally.met, left_out, tuple(notes), _stamp(listed))


def _pictures(by_class: dict[str, list[File]], classes: tuple[str, ...], folder: Path) -> list[Picture]:
    return [
        Picture(os.path.relpath(file.path, folder), label, file.path, 0, file.size)
        for label, name in enumerate(classes)
        for file in by_class.get(name, ())
    ]


def _contents(folder: Path) -> Contents:
    """Classifies each entry of a folder once. Raises UserError if the folder cannot be read."""
    found = Contents(folder, {}, [], [], [])
    for entry in entries(folder):
        reason = reason_to_leave(entry.name)
        if is_litter(entry.name):
            found.left_out.append((reason, entry.path))
            if entry.name.startswith(".") and os.path.isdir(entry):
                found.hidden.append(entry.path)
        elif os.path.isdir(entry):
            found.folders[entry.name] = entry.path
        elif not os.path.isfile(entry):
            found.left_out.append((NOWHERE if entry.is_symlink() else SPECIAL, entry.path))
        elif reason:
            found.left_out.append((reason, entry.path))
        else:
            found.pictures.append(file_of(entry.path, entry.stat()))
    return found


def _stamp(listed: Listed) -> str:
    """A digest that changes with a picture, also if its name and size stay."""
    digest = hashlib.blake2b(digest_size=16)
    for by_class in listed.values():
        for files in by_class.values():
            for file in files:
                digest.update(f"{file.path!a} {file.identity}\n".encode())
    return digest.hexdigest()


def _has_splits(top: Contents, splits: dict[str, Contents]) -> bool:
    """Whether the folders in `top` are splits, and not classes. Raises UserError if they may be either.

    Args:
      splits: what the folders with the names of splits hold.
    """
    folder, others = top.path, [name for name in top.folders if split_named(name) is None]
    held_out_too = [name for name in top.folders if split_named(name) in ("validation", "test")]
    if "train" not in splits:
        if held_out_too:
            raise UserError(
                f"'{folder}' has a folder for {split_named(held_out_too[0])}, {held_out_too[0]}, and none for "
                "training; put the classes into its folder train, or, if it is a class, give it another name"
            )
        _require_no_hidden_splits(folder, others)
        return False
    if len(others) > 1 and not splits["train"].folders:
        train = splits["train"].path.name
        if held_out_too:
            raise UserError(
                f"'{folder}' has folders for splits, {train} and {held_out_too[0]}, beside {others[0]} and others, "
                f"and {train} has no classes in it; put the classes into it, or, if they are classes, give them "
                "other names"
            )
        return False  # a class with that name: trains, perhaps
    if len({identity(contents.path) for contents in splits.values()}) < len(splits):
        raise UserError(f"two folders for splits in '{folder}' are the same folder through a link; remove the link")
    return True


def _require_no_hidden_splits(folder: Path, names: list[str]) -> None:
    """Raises UserError if folders that would be classes have names like splits, or hold splits."""
    of_split: dict[str, str] = {}
    for name in names:
        for word in re.split("[^a-z]+", name.casefold()):
            of_split.setdefault(split_named(word) or "", name)
    begun = [re.match("(train|val|test|dev)", name.casefold()) for name in names]
    if all(begun):  # such as trainset and testset, or trainA and testA, with no other folder
        of_split |= {split_named(found[1]) or "": name for found, name in zip(begun, names, strict=True) if found}
    if "train" in of_split and ("validation" in of_split or "test" in of_split):
        other = of_split.get("validation") or of_split["test"]
        raise UserError(
            f"'{folder}' has the folders '{of_split['train']}' and '{other}', which would count as classes but look "
            "like splits; call them train and validation or test, or, if they are classes, give them other names"
        )
    for name in names:
        named = [entry for entry in entries(folder / name) if split_named(entry.name)]
        below = {split_named(entry.name): entry.name for entry in named if os.path.isdir(entry)}
        if "train" in below and ("validation" in below or "test" in below):
            raise UserError(
                f"'{folder}' has splits in a class's folder, '{name}/{below['train']}'; put the classes into the "
                "folders of the splits"
            )


def _leave_beside_splits(top: Contents, tally: Tally) -> None:
    """Leaves out what lies beside the folders of the splits. Raises UserError if a folder there holds pictures."""
    for path in (path for name, path in top.folders.items() if split_named(name) is None):
        _require_no_picture(path)
        tally.leave("folders beside that of training which are no split's", path)
    for file in top.pictures:
        tally.leave(LOOSE, file.path)
    for reason, path in top.left_out:
        tally.leave(reason, path)


def _require_no_picture(folder: str) -> None:
    """Raises UserError if there is a picture anywhere in a folder that would be left out."""
    for inside, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_litter(name))
        for name in names:
            if is_picture(name) and not is_litter(name):
                raise UserError(
                    f"'{folder}' lies beside the folder for training and holds pictures "
                    f"('{os.path.join(inside, name)}'), but its name is not that of a split; move it into the folder "
                    "of its split, or away"
                )


def _labels_of_flat_validation(splits: dict[str, Contents], folder: Path) -> Path | None:
    """The file that labels validation pictures without folders of classes; None if they have such folders."""
    if "validation" not in splits or splits["validation"].folders:
        return None
    where, train = splits["validation"].path, splits["train"]
    if train.pictures and not train.folders:
        raise UserError(
            f"'{train.path}' has its pictures in one flat folder, and nothing gives their classes; put each into the "
            "folder of its class"
        )
    if not splits["validation"].pictures:
        raise UserError(
            f"'{where}' holds no pictures; put pictures there, in folders of classes, or remove that folder"
        )
    return kaggle_labels.find(where, folder)


def _require_classes(classes: tuple[str, ...], listed: Listed, where: Path, folder: Path, tally: Tally) -> None:
    """Raises UserError if there are fewer than two classes, one has no picture, or a split has an unknown class.

    Args:
      where: the folder with the classes for training.
    """
    if len(classes) < 2:
        there = f"one class, '{classes[0]}'" if classes else "no class"
        below = [found.name for found in entries(where / classes[0]) if os.path.isdir(found)] if classes else []
        if len(below) > 1:
            there += f" (with the folders {', '.join(below[:2])}... in it: if those are the classes, move them up)"
        raise UserError(
            f"'{where}' has {there}; put the pictures ({', '.join(SUFFIXES)}) of each class into a folder of its own "
            f"there, for at least two classes{_left_out(tally)}"
        )
    empty = [name for name in classes if not listed["train"][name]]
    if empty:
        more = f" (and {len(empty) - 1} more)" if len(empty) > 1 else ""
        raise UserError(
            f"'{where / empty[0]}'{more} holds no picture ({', '.join(SUFFIXES)}) that can be used; put pictures "
            f"there, or move it away, as it would be a class without pictures{_left_out(tally)}"
        )
    folded = {_folded(name): name for name in classes}
    for split, by_class in listed.items():
        for name in sorted(set(by_class) - set(classes)):
            alike = folded.get(_folded(name))
            hint = f" (it has '{alike}', which is spelt differently)" if alike else ""
            unknown = f", or, if nobody knows the labels, put its pictures into '{split}' itself"
            remedy = unknown if split == "test" and len(by_class) == 1 else ""
            raise UserError(
                f"the {split} pictures in '{folder}' have the class '{name}', which '{where}' lacks{hint}; add the "
                f"class there, or remove it{remedy}"
            )
        if split != "train" and by_class and not any(by_class.values()):
            raise UserError(
                f"the {split} folder in '{folder}' holds no picture; put pictures there, or remove that folder"
            )


def _left_out(tally: Tally) -> str:
    """What was left out, for the end of a sentence about missing pictures."""
    counts = tally.counts()
    return f" (left out: {', '.join(f'{count} {reason}' for reason, count in counts[:3])})" if counts else ""


def _leave_loose(loose: dict[str, list[File]], listed: Listed, tally: Tally) -> None:
    """Leaves out pictures beside the folders of classes. Raises UserError if most pictures of a split lie there."""
    for split, files in loose.items():
        inside = sum(map(len, listed.get(split, {}).values()))
        if split in listed and len(files) > inside:
            raise UserError(
                f"{len(files)} pictures lie in '{os.path.dirname(files[0].path)}' beside the folders of classes, more "
                f"than the {inside} in those; put each into the folder of its class, or move them away"
            )
        reason = LOOSE if split in listed else f"pictures for {split} without labels"
        for file in files:
            tally.leave(reason, file.path)


def _hold_out(listed: Listed, fraction: float) -> None:
    """Moves some of each class's training pictures to validation."""
    listed["validation"] = {}
    for name, files in listed["train"].items():
        train, validation = held_out([file.path for file in files], fraction)
        listed["train"][name] = [files[i] for i in train]
        listed["validation"][name] = [files[i] for i in validation]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _hidden_classes(splits: Iterable[Contents]) -> Iterator[str]:
    """A note for each folder that may be a class by its pictures, and is left out by its name."""
    for path in (path for contents in splits for path in contents.hidden):
        if os.path.basename(path) not in THUMBNAILS and any(is_picture(found.name) for found in entries(path)):
            yield f"'{path}' is left out as hidden, though it has pictures: if it is a class, rename it"


def _similar_names(classes: tuple[str, ...]) -> Iterator[str]:
    """A note on classes whose names a person may take for the same."""
    first: dict[str, str] = {}
    pairs = [(other, name) for name in classes if (other := first.setdefault(_folded(name.strip()), name)) != name]
    if pairs:
        more = f"; and {len(pairs) - MOST_PAIRS} more pairs" if len(pairs) > MOST_PAIRS else ""
        named = "; ".join(f"'{other}' and '{name}'" for other, name in pairs[:MOST_PAIRS])
        yield f"pairs of classes whose names may mean the same class: {named}{more}"


def _hard_links(names: list[list[str]], folder: Path) -> Iterator[str]:
    """A note on pictures that are there under several names.

    Args:
      names: the paths of each such picture.
    """
    if names:
        first = " and ".join(os.path.relpath(path, folder) for path in names[0][:2])
        yield f"{len(names)} pictures are listed more than once, as the same file under several names: {first}"


def _class_names(data: ConfigDict) -> tuple[str, ...]:
    return open_folder(data).classes


KIND = Kind(
    "folder",
    open_folder,
    _class_names,
    files_in_manual_dir,
    has_own_splits=False,
    has_listing_stamp=True,
    is_named_by_folder=True,
    is_kept_apart=True,
)
