"""A folder with a folder of pictures for each class."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.data.decode.squares import Picture
from alexnet_jax.data.sources import kaggle_labels
from alexnet_jax.data.sources.source import Kind, Source, Tally, files_in_manual_dir, manual_dir, split_of
from alexnet_jax.data.sources.splits import (
    FOLDERS,
    SUFFIXES,
    entries,
    held_out,
    is_litter,
    is_picture,
    leave_by_name,
    split_folder,
    split_named,
)
from alexnet_jax.data.sources.walk import NOWHERE, SPECIAL, File, Place, Walk, file_of, identity
from alexnet_jax.messages import UserError

ALIKE = 3  # pairs of names that are said
LOOSE = "pictures beside the folders of classes"

Listed = dict[str, dict[str, list[File]]]  # of each split, by class


def open_folder(data: ConfigDict) -> Source:
    """The pictures in the folder that the config names. Raises UserError as `list_folder`."""
    return list_folder(manual_dir(data), data.validation_fraction, data.max_missing)


def list_folder(folder: Path, fraction: float, max_missing: float) -> Source:
    """The pictures in `folder`, or in its folders for train, validation and test (`FOLDERS`).

    Args:
      fraction: of each class, held out for validation where there is no folder for it.
      max_missing: share of a solution file's pictures that may be missing.

    Raises:
      UserError: there are not two classes, one has no picture, or a split has a class that training lacks; or
        something in the folder may mean two things.
    """
    tally, notes = Tally(), []
    splits = _split_folders(folder)
    where = splits.get("train", folder)
    walk = Walk([folder, *splits.values()], tally)
    found, loose = {}, {}
    for split, inside in (splits or {"train": folder}).items():
        classes_in, loose[split] = _class_folders(inside, tally)
        found.update({Place(split, name): path for name, path in classes_in.items()})
    if splits:
        _leave_the_rest(folder, splits, tally)
    flat = _flat_validation(splits, {place.split for place in found}, loose, folder)  # refused before all is read
    listed: Listed = {split: {} for split in splits or ("train",)}
    for place, files in walk.files(found).items():
        listed[place.split][place.name] = files
    classes = tuple(sorted(listed["train"]))
    _require_classes(classes, listed, where, folder, tally)
    if flat:
        by_class, note = kaggle_labels.by_class(flat, loose.pop("validation"), classes, max_missing, tally)
        listed["validation"] = by_class
        notes.append(note)
    if "test" in listed and not listed["test"]:
        del listed["test"]
        notes.append(f"'{splits['test']}' has no folders of classes: it is left out, as nobody knows its labels")
    _leave_loose(loose, listed, where, tally)
    if "validation" not in listed:
        _hold_out(listed, fraction)
        notes.append(f"'{folder}' has no folder for validation: {fraction:.0%} are (config.data.validation_fraction)")
    notes += _hidden_classes(splits or {"train": folder})
    notes += [*_alike(classes), *_of_several_names(walk.files_of_several_names(), folder)]

    def pictures(by_class: dict[str, list[File]]) -> list[Picture]:
        return [
            Picture(os.path.relpath(file.path, folder), label, file.path, 0, file.size)
            for label, name in enumerate(classes)
            for file in by_class.get(name, ())
        ]

    made = {split: split_of(pictures(by_class)) for split, by_class in listed.items()}
    left_out = tally.left_out()
    return Source("folder", classes, made, (), tally.met, left_out, tuple(notes), _stamp(listed))


def _stamp(listed: Listed) -> str:
    """A digest that changes when a picture does, also where its name and its size stay."""
    digest = hashlib.blake2b(digest_size=16)
    for by_class in listed.values():
        for files in by_class.values():
            for file in files:
                digest.update(f"{file.path!a} {file.identity}\n".encode())
    return digest.hexdigest()


def _split_folders(folder: Path) -> dict[str, Path]:
    """The folders of the splits; none where the folders in `folder` are the classes."""
    train = split_folder(folder, "train")
    inside = [entry for entry in entries(folder) if not is_litter(entry.name) and os.path.isdir(entry)]
    others = [entry.name for entry in inside if split_named(entry.name) is None]
    of_others = [entry.name for entry in inside if split_named(entry.name) in ("validation", "test")]
    if train is None:
        if of_others:
            raise UserError(
                f"'{folder}' has a folder for {split_named(of_others[0])}, {of_others[0]}, and none for training; put "
                "the classes into its folder train, or, if it is a class, give it another name"
            )
        _require_no_hidden_splits(folder, others)
        return {}
    if len(others) > 1 and not any(os.path.isdir(entry) for entry in entries(train) if not is_litter(entry.name)):
        if of_others:
            raise UserError(
                f"'{folder}' has folders for splits, {train.name} and {of_others[0]}, beside {others[0]} and others, "
                f"and {train.name} has no classes in it; put the classes into it, or, if they are classes, give them "
                "other names"
            )
        return {}  # a class that is called so, trains perhaps
    found = {split: path for split in FOLDERS if (path := split_folder(folder, split))}
    by_identity = {identity(path): path for path in found.values()}
    if len(by_identity) < len(found):
        raise UserError(f"two folders for splits in '{folder}' are one by a link; remove the link")
    return found


def _require_no_hidden_splits(folder: Path, names: list[str]) -> None:
    """Raises UserError if what would be classes looks like splits by their names, or has splits in it."""
    of_split: dict[str, str] = {}
    for name in names:
        for word in re.split("[^a-z]+", name.casefold()):
            of_split.setdefault(split_named(word) or "", name)
    begun = [re.match("(train|val|test|dev)", name.casefold()) for name in names]
    if all(begun):  # trainset and testset, trainA and testA: not one that is no split
        of_split |= {split_named(found[1]) or "": name for found, name in zip(begun, names, strict=True) if found}
    if "train" in of_split and ("validation" in of_split or "test" in of_split):
        other = of_split.get("validation") or of_split["test"]
        raise UserError(
            f"'{folder}' has the folders '{of_split['train']}' and '{other}', which would be classes and look like "
            "splits; call them train and validation or test, or, if they are classes, give them other names"
        )
    for name in names:
        below = {split_named(found.name): found.name for found in entries(folder / name) if os.path.isdir(found)}
        if "train" in below and ("validation" in below or "test" in below):
            raise UserError(
                f"'{folder}' has splits in a class's folder, '{name}/{below['train']}'; put the classes into the "
                "folders of the splits"
            )


def _class_folders(folder: Path, tally: Tally) -> tuple[dict[str, str], list[File]]:
    """The folders in `folder` by name, and the pictures beside them; what is neither is left out."""
    folders, loose = {}, []
    for entry in entries(folder):
        if is_litter(entry.name):
            leave_by_name(tally, entry.name, entry.path)
        elif os.path.isdir(entry):
            folders[entry.name] = entry.path
        elif not os.path.isfile(entry):
            tally.leave(NOWHERE if entry.is_symlink() else SPECIAL, entry.path)
        elif not leave_by_name(tally, entry.name, entry.path):
            loose.append(file_of(entry.path, entry.stat()))
    return folders, loose


def _leave_the_rest(folder: Path, splits: dict[str, Path], tally: Tally) -> None:
    """Leaves out what lies beside the folders of the splits."""
    for entry in entries(folder):
        if Path(entry.path) in splits.values():
            continue
        if os.path.isdir(entry) and not is_litter(entry.name):
            _require_no_picture(entry.path)
            tally.leave("folders beside that of training which are no split's", entry.path)
        elif not leave_by_name(tally, entry.name, entry.path):
            tally.leave(LOOSE, entry.path)


def _require_no_picture(folder: str) -> None:
    """Raises UserError if there is a picture anywhere in a folder that would be left out."""
    for inside, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_litter(name))
        for name in names:
            if is_picture(name) and not is_litter(name):
                raise UserError(
                    f"'{folder}' lies beside the folder for training, is no split by its name, and holds pictures "
                    f"('{os.path.join(inside, name)}'); move it into the folder of its split, or away"
                )


def _flat_validation(
    splits: dict[str, Path], with_classes: set[str], loose: dict[str, list[File]], folder: Path
) -> Path | None:
    """The file that labels validation pictures without folders of classes; None where they have such folders."""
    if "validation" not in splits or "validation" in with_classes:
        return None
    where = splits["validation"]
    if loose["train"] and "train" not in with_classes:
        raise UserError(
            f"'{splits['train']}' has its pictures beside one another, and nothing says which is which; put each into "
            "the folder of its class"
        )
    if not loose["validation"]:
        raise UserError(f"'{where}' holds no pictures; put some there, in folders of classes, or remove it")
    return kaggle_labels.find(where, folder)


def _require_classes(classes: tuple[str, ...], listed: Listed, where: Path, folder: Path, tally: Tally) -> None:
    if len(classes) < 2:
        there = f"one class, '{classes[0]}'" if classes else "no class"
        below = [found.name for found in entries(where / classes[0]) if os.path.isdir(found)] if classes else []
        if len(below) > 1:
            there += f" (with the folders {', '.join(below[:2])}... in it: if those are the classes, move them up)"
        raise UserError(
            f"'{where}' has {there}; put the pictures ({', '.join(SUFFIXES)}) of each class into a folder of its own "
            f"there, of two classes at least{_left_out(tally)}"
        )
    empty = [name for name in classes if not listed["train"][name]]
    if empty:
        more = f" (and {len(empty) - 1} more)" if len(empty) > 1 else ""
        raise UserError(
            f"'{where / empty[0]}'{more} holds no picture ({', '.join(SUFFIXES)}) that is not left out; put some "
            f"there, or move it away, as it would be a class without any{_left_out(tally)}"
        )
    folded = {_folded(name): name for name in classes}
    for split, by_class in listed.items():
        for name in sorted(set(by_class) - set(classes)):
            alike = folded.get(_folded(name))
            hint = f" ('{alike}' is spelt otherwise)" if alike else ""
            unknown = f", or, where nobody knows the labels, put its pictures into '{split}' itself"
            remedy = unknown if split == "test" and len(by_class) == 1 else ""
            raise UserError(
                f"the {split} pictures in '{folder}' have the class '{name}', which '{where}' lacks{hint}; add it "
                f"there, or remove it{remedy}"
            )
        if split != "train" and by_class and not any(by_class.values()):
            raise UserError(f"the {split} folder in '{folder}' holds no picture; put some there, or remove it")


def _left_out(tally: Tally) -> str:
    """What was met and is none of the pictures, for the end of a sentence about their lack."""
    counts = tally.counts()
    return f" (left out: {', '.join(f'{count} {reason}' for reason, count in counts[:3])})" if counts else ""


def _leave_loose(loose: dict[str, list[File]], listed: Listed, where: Path, tally: Tally) -> None:
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
    """Divides the training pictures, class by class."""
    listed["validation"] = {}
    for name, files in listed["train"].items():
        train, validation = held_out([file.path for file in files], fraction)
        listed["train"][name] = [files[i] for i in train]
        listed["validation"][name] = [files[i] for i in validation]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _hidden_classes(places: dict[str, Path]) -> Iterable[str]:
    """A line for what may be a class by its pictures, and is left out by its name."""
    for inside in places.values():
        for entry in entries(inside):
            if entry.name.startswith(".") and os.path.isdir(entry) and entry.name not in (".thumbnails", ".thumbs"):
                if any(is_picture(found.name) for found in entries(entry.path)):
                    yield f"'{entry.path}' is left out as hidden, though it has pictures: if it is a class, rename it"


def _alike(classes: tuple[str, ...]) -> Iterable[str]:
    """A line for classes whose names a person may take for one."""
    first: dict[str, str] = {}
    pairs = [(other, name) for name in classes if (other := first.setdefault(_folded(name.strip()), name)) != name]
    if pairs:
        more = f"; and {len(pairs) - ALIKE} more pairs" if len(pairs) > ALIKE else ""
        named = "; ".join(f"'{other}' and '{name}'" for other, name in pairs[:ALIKE])
        yield f"two classes each, though one may be meant: {named}{more}"


def _of_several_names(names: list[list[str]], folder: Path) -> Iterable[str]:
    if names:
        first = " and ".join(os.path.relpath(path, folder) for path in names[0][:2])
        yield f"{len(names)} pictures are there more than once, as one file of several names: {first}"


def _class_names(data: ConfigDict) -> tuple[str, ...]:
    return open_folder(data).classes


FOLDER = Kind(
    "folder",
    open_folder,
    _class_names,
    files_in_manual_dir,
    has_own_splits=False,
    has_listing_stamp=True,
    is_named_by_folder=True,
    is_kept_apart=True,
)
