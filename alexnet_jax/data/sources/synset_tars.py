"""Reads a tar for each synset, as in the releases of 2010 and of all of ImageNet."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data.decode.picture import Picture
from alexnet_jax.data.sources.source import Kind, Source, Split, Tally, files_in_manual_dir, manual_dir, split_of
from alexnet_jax.data.sources.splits import entries, held_out, is_litter, leave_by_name, split_folders, split_named
from alexnet_jax.data.sources.tars import files_in
from alexnet_jax.data.sources.walk import identity
from alexnet_jax.messages import UserError

META, GROUND_TRUTH = "meta.mat", "ground_truth.txt"  # files of a development kit


@dataclass(frozen=True)
class _Synset:
    number: int  # by which ground-truth files name it
    wnid: str
    words: str
    is_leaf: bool


def open_synset_tars(data: ConfigDict) -> Source:
    """The pictures in the folder that the config names. Raises UserError as `list_synset_tars`."""
    return list_synset_tars(manual_dir(data), data.validation_fraction)


def list_synset_tars(folder: Path, fraction: float) -> Source:
    """A tar for each synset; flat folders for validation and test, or a share of each tar held out.

    Args:
      fraction: the share of each tar that is held out for validation, if there is no folder for validation.

    Raises:
      UserError: a tar or a file of the development kit is missing, or does not fit the others.
    """
    tally = Tally()
    folders = split_folders(folder, [entry.name for entry in entries(folder) if os.path.isdir(entry)])
    tars = _tars(folder, folders.get("train", folder), tally)
    kit = _kit(folder, tars)
    classes = tuple(synset.wnid for synset in kit) or tuple(tars)
    splits = _splits(folder, folders, [tars[wnid] for wnid in classes], kit, fraction, tally)
    notes: tuple[str, ...] = ()
    if "validation" not in folders:
        notes = (
            f"'{folder}' has no folder for validation: {fraction:.0%} of the training pictures are held out for it "
            "(config.data.validation_fraction)",
        )
    words = tuple(synset.words for synset in kit)
    return Source("synset_tars", classes, splits, words, tally.met, tally.left_out(), notes)


def _tars(folder: Path, inside: Path, tally: Tally) -> dict[str, Path]:
    """The tars of the classes, by synset. Raises UserError if there are fewer than two.

    Args:
      inside: the release's folder, or its folder for training.
    """
    tars = _tars_in(inside, tally)
    if len(tars) < 2:
        there = sorted(path.name for path in folder.iterdir())[:5]
        raise UserError(
            f"'{folder}' has {len(tars)} tars of synsets (nXXXXXXXX.tar) in it or in its folder train, and it has "
            f"{', '.join(there) or 'nothing'}; name the folder of the release as --config.data.manual_dir=DIR"
        )
    return tars


def _kit(folder: Path, tars: dict[str, Path]) -> list[_Synset]:
    """The development kit's synsets that have tars, by their numbers; none if there is no kit.

    Raises:
      UserError: a leaf of the kit has no tar, or a tar has no synset in the kit.
    """
    kit = _development_kit(folder)
    if not kit:
        return []
    missing = sorted(synset.wnid for synset in kit if synset.is_leaf and synset.wnid not in tars)
    if missing:
        raise UserError(
            f"{len(missing)} of meta.mat's synsets have no tar in '{folder}', the first being {missing[0]}.tar; put "
            f"them there, beside what was found: {', '.join(path.name for path in list(tars.values())[:5])}"
        )
    strange = sorted(set(tars) - {synset.wnid for synset in kit})
    if strange:
        raise UserError(f"{tars[strange[0]]} is the tar of no synset in meta.mat; remove it, or rename it")
    return [synset for synset in kit if synset.wnid in tars]


def _splits(
    folder: Path, folders: dict[str, Path], tars: list[Path], kit: list[_Synset], fraction: float, tally: Tally
) -> dict[str, Split]:
    """The splits of the release.

    Args:
      folders: those of the splits.
      tars: by label.
    """
    label_of = {synset.number: label for label, synset in enumerate(kit)}
    flat = {
        split: _flat_folder(inside, _ground_truth(folder, split), label_of, tally)
        for split, inside in folders.items()
        if split != "train"
    }
    synsets = [tar.stem for tar in tars]
    by_class = [_pictures(tar, label, synsets, tally) for label, tar in enumerate(tars)]
    empty = [tar for tar, pictures in zip(tars, by_class, strict=True) if not pictures]
    if empty:
        raise UserError(f"{empty[0]} holds no picture; get it again, or move it away")
    if "validation" in flat:
        return {"train": split_of([*chain.from_iterable(by_class)]), **flat}
    train, validation = [], []
    for pictures in by_class:
        places, out = held_out([picture.name for picture in pictures], fraction)
        train += [pictures[i] for i in places]
        validation += [pictures[i] for i in out]
    return {"train": split_of(train), "validation": split_of(validation), **flat}


def _tars_in(folder: Path, tally: Tally) -> dict[str, Path]:
    """The tars in the folder, by their names without suffix; other files are left out.

    Raises:
      UserError: a tar is packed by its name, or is a second link to another tar.
    """
    tars: dict[str, Path] = {}
    seen: dict[tuple[int, int], str] = {}
    for entry in entries(folder):
        name, path = entry.name, Path(entry.path)
        if is_litter(name):
            leave_by_name(tally, name, entry.path)
        elif re.search(r"\.tar\W|\.t[gbx]z2?$", name.lower()):
            raise UserError(f"'{path}' has the name of a compressed or incomplete tar; unpack it, or get it again")
        elif name.lower().endswith(".tar") and path.is_file():
            there = identity(path)
            other = seen.setdefault(there, name)
            if other != name or path.stem in tars:
                raise UserError(
                    f"'{path}' is {other} under another name, and would be a second class with the same pictures; "
                    "remove one of the two"
                )
            tars[path.stem] = path
        elif not entry.is_dir():
            if not _is_of_the_kit(name):
                tally.leave("no tars by their names", entry.path)
        elif split_named(name) is None and not any(Path(entry.path).rglob(META)):
            tally.leave("folders beside the tars", entry.path)
    return tars


def _is_of_the_kit(name: str) -> bool:
    """Whether a file with this name belongs to a development kit."""
    return name == META or name.endswith(GROUND_TRUTH)


def _pictures(path: Path, label: int, classes: list[str], tally: Tally) -> list[Picture]:
    """The pictures in a tar. Raises UserError if the name of a picture says another class."""
    found, where = [], str(path)
    for member in files_in(path, tally):
        if leave_by_name(tally, member.base, f"{path}, {member.name}"):
            continue
        own = re.match(r"(n\d+)_", member.base)
        if own and own[1] != classes[label] and own[1] in classes:
            raise UserError(
                f"{path} holds {member.name}, whose name is that of another synset; get the release's own tar"
            )
        tally.take()
        found.append(Picture(member.name, label, where, member.offset, member.size))
    return found


def _development_kit(folder: Path) -> list[_Synset]:
    """The synsets in the development kit's meta.mat, sorted by number; none if there is no such file."""
    path = _find(folder, lambda name: name == META)
    if path is None:
        return []
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        rows = np.atleast_1d(loadmat(path, squeeze_me=True)["synsets"])
        number = next(name for name in rows.dtype.names or () if name.endswith("_ID"))
        synsets = [
            _Synset(int(row[number]), str(row["WNID"]), str(row["words"]), int(row["num_children"]) == 0)
            for row in rows
        ]
    # In turn: no MATLAB file, no field synsets, other types, other values, no number, and version 7.3.
    except (MatReadError, KeyError, TypeError, ValueError, StopIteration, NotImplementedError) as error:
        raise UserError(
            f"{path} is not the meta.mat of a development kit ({error}); put the kit's own file there"
        ) from error
    return sorted(synsets, key=lambda synset: synset.number)


def _ground_truth(folder: Path, split: str) -> Path:
    within = {"validation": "val", "test": "test"}[split]
    path = _find(folder, lambda name: name.endswith(GROUND_TRUTH) and within in name)
    if path is None:
        raise UserError(
            f"'{folder}' has {split} pictures but no *_{split}_ground_truth.txt; put the development kit's file there"
        )
    return path


def _find(folder: Path, is_it: Callable[[str], bool]) -> Path | None:
    """The first file that fits, in the folder or below it, outside the folders of splits."""
    for inside, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if split_named(name) is None)
        for name in sorted(names):
            if is_it(name):
                return Path(inside, name)
    return None


def _flat_folder(folder: Path, ground_truth: Path, label_of: dict[int, int], tally: Tally) -> Split:
    """The pictures of a flat folder. The number at the end of a picture's name is that of its line in `ground_truth`.

    Args:
      label_of: the label of each synset's number, which the lines hold.
    """
    found: dict[int, tuple[str, int]] = {}
    for entry in entries(folder):
        if leave_by_name(tally, entry.name, entry.path):
            continue
        number = re.search(r"(\d+)\.\w+$", entry.name)
        if not number or int(number[1]) in found or not os.path.isfile(entry):
            raise UserError(
                f"'{entry.path}' is not a picture whose name ends in a number of its own, by which {ground_truth} "
                "gives its synset; move it away"
            )
        tally.take()
        found[int(number[1])] = entry.name, entry.stat().st_size
    lines = ground_truth.read_text().split()
    if len(lines) != len(found):
        raise UserError(
            f"{ground_truth} has {len(lines)} lines and '{folder}' has {len(found)} pictures; the two numbers must be "
            "equal: get the missing ones, or the ground truth of this release"
        )
    if found and sorted(found) != list(range(1, len(lines) + 1)):
        raise UserError(
            f"the pictures in '{folder}' have the numbers {min(found)} to {max(found)}, not all from 1 to {len(lines)} "
            f"as the lines of {ground_truth}; get this release's own"
        )
    if not label_of:
        raise UserError(
            f"{ground_truth} gives synsets by number, but without a meta.mat those numbers have no meaning; put the "
            "development kit's meta.mat beside it"
        )
    unknown = [line for line in lines if not line.isdigit() or int(line) not in label_of]
    if unknown:
        raise UserError(
            f"{ground_truth} has the synset number {unknown[0]}, which training lacks; put its tar beside the others"
        )
    by_name = sorted((name, number, size) for number, (name, size) in found.items())
    return split_of(
        [Picture(name, label_of[int(lines[n - 1])], str(folder / name), 0, size) for name, n, size in by_name]
    )


def _class_names(data: ConfigDict) -> tuple[str, ...]:
    return open_synset_tars(data).classes


KIND = Kind("synset_tars", open_synset_tars, _class_names, files_in_manual_dir, has_own_splits=False)
