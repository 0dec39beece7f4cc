"""A tar for each synset, as in the releases of 2010 and of the whole of ImageNet."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from alexnet_jax.data.pictures import Picture
from alexnet_jax.data.sources.source import Source, Split
from alexnet_jax.data.sources.splits import FOLDERS, SUFFIXES, held_out, split_folder
from alexnet_jax.data.sources.tars import files_in, open_tar
from alexnet_jax.messages import UserError, say


def open_synset_tars(folder: Path, fraction: float) -> Source:
    """One tar per synset; flat folders for validation and test, or a share of each tar held out.

    Args:
      fraction: of each tar, held out for validation where there is no folder for it.

    Raises:
      UserError: a tar or a file of the development kit is missing, or one does not go with the others.
    """
    tars = {path.stem: path for path in sorted((split_folder(folder, "train") or folder).glob("*.tar"))}
    kit = _development_kit(folder)
    if len(tars) < 2:
        there = sorted(path.name for path in folder.iterdir())[:5]
        raise UserError(
            f"'{folder}' has {len(tars)} tars of synsets (nXXXXXXXX.tar) in it or in its folder train, and it has "
            f"{', '.join(there) or 'nothing'}; name the folder of the release as --config.data.manual_dir=DIR"
        )
    if kit:
        _require_one_another(kit, tars, folder)
        kit = [synset for synset in kit if synset.wnid in tars]  # in the order of their numbers
    classes = tuple(synset.wnid for synset in kit) if kit else tuple(tars)
    words = tuple(synset.words for synset in kit)
    by_number = {synset.number: label for label, synset in enumerate(kit)}
    splits = {
        split: _flat_folder(found, _ground_truth(folder, split), by_number)
        for split in ("validation", "test")
        if (found := split_folder(folder, split))
    }

    def pictures(part: str) -> Iterator[Picture]:
        for label, synset in enumerate(classes):
            path = tars[synset]
            with open_tar(path) as tar:
                members = {member.name: member for member in files_in(tar, path)}
            names = list(members)
            if part != "all":
                names = held_out(names, fraction)[0 if part == "train" else 1]
            for name in names:
                yield Picture(name, label, str(path), members[name].offset_data, members[name].size)

    with open_tar(tars[classes[0]]) as tar:
        sizes = [member.size + 512 for member in files_in(tar, tars[classes[0]])]
    total = sum(path.stat().st_size for path in tars.values())
    about = max(1, round(total / (sum(sizes) / len(sizes)))) if sizes else 1
    if "validation" in splits:
        return Source("synset_tars", classes, {"train": Split(about, lambda: pictures("all")), **splits}, words)
    held = {"train": 1 - fraction, "validation": fraction}
    shares = {part: Split(max(1, round(about * share)), partial(pictures, part)) for part, share in held.items()}
    say(f"'{folder}' has no folder for validation: config.data.validation_fraction, {fraction:.0%}, is taken")
    return Source("synset_tars", classes, {**shares, **splits}, words)


@dataclass(frozen=True)
class _Synset:
    number: int  # as ground-truth files have it
    wnid: str
    words: str
    is_leaf: bool


def _require_one_another(kit: list[_Synset], tars: dict[str, Path], folder: Path) -> None:
    """Raises UserError if a leaf of the kit has no tar, or a tar no synset in the kit."""
    missing = sorted(synset.wnid for synset in kit if synset.is_leaf and synset.wnid not in tars)
    if missing:
        raise UserError(
            f"{len(missing)} of meta.mat's synsets have no tar in '{folder}', {missing[0]}.tar first of all; found "
            f"instead {', '.join(path.name for path in list(tars.values())[:5])}"
        )
    strange = sorted(set(tars) - {synset.wnid for synset in kit})
    if strange:
        raise UserError(f"{tars[strange[0]]} is the tar of no synset in meta.mat; remove it, or rename it")


def _development_kit(folder: Path) -> list[_Synset]:
    """The synsets of the development kit's meta.mat by their numbers; none where there is no such file."""
    path = _find(folder, lambda name: name == "meta.mat")
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
    # Each way of being another file has its own: no MATLAB file, version 7.3, no synsets, other fields.
    except (MatReadError, KeyError, TypeError, ValueError, StopIteration, NotImplementedError) as error:
        raise UserError(f"{path} is no meta.mat of a development kit ({error}); put the kit's own there") from error
    return sorted(synsets, key=lambda synset: synset.number)


def _ground_truth(folder: Path, split: str) -> Path:
    names = FOLDERS[split]
    path = _find(folder, lambda name: name.endswith("ground_truth.txt") and any(n in name for n in names))
    if path is None:
        raise UserError(
            f"'{folder}' has {split} pictures and no *_{split}_ground_truth.txt; put the development kit's there"
        )
    return path


def _find(folder: Path, is_it: Callable[[str], bool]) -> Path | None:
    """The first such file in the folder, the folders of pictures left out."""
    pictures = {name for names in FOLDERS.values() for name in names}
    for inside, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - pictures)
        for name in sorted(names):
            if is_it(name):
                return Path(inside, name)
    return None


def _flat_folder(folder: Path, ground_truth: Path, by_number: dict[int, int]) -> Split:
    names = sorted(path.name for path in folder.iterdir() if path.name.lower().endswith(SUFFIXES))
    lines = ground_truth.read_text().split()
    if len(lines) != len(names):
        raise UserError(
            f"{ground_truth} has {len(lines)} lines and '{folder}' has {len(names)} pictures; they must be as many: "
            "get the missing ones, or the ground truth of this release"
        )
    if not by_number:
        raise UserError(
            f"{ground_truth} gives synsets by number and there is no meta.mat to say which is which; put the "
            "development kit's beside it"
        )
    unknown = [line for line in lines if not line.isdigit() or int(line) not in by_number]
    if unknown:
        raise UserError(
            f"{ground_truth} has the synset number {unknown[0]}, which training lacks; put its tar beside the others"
        )
    labels = [by_number[int(line)] for line in lines]

    def pictures() -> Iterator[Picture]:
        for name, label in zip(names, labels, strict=True):
            yield Picture(name, label, str(folder / name))

    return Split(len(names), pictures)
