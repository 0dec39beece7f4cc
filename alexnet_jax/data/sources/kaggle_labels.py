"""Reads Kaggle's file of labels for ImageNet's validation pictures, which lie in one flat folder."""

import csv
import os
from pathlib import Path

from alexnet_jax.data.sources.source import Tally, require_not_missing
from alexnet_jax.data.sources.walk import File
from alexnet_jax.messages import UserError

NAME = "LOC_val_solution.csv"
WORDS_A_BOX = 5  # in a prediction string: a synset and four numbers
FOLDERS_ABOVE = 3  # Kaggle's file lies beside ILSVRC, three folders above ILSVRC/Data/CLS-LOC


def find(pictures: Path, folder: Path) -> Path:
    """The file in the folder of the pictures, in `folder`, or up to three folders above it. Raises UserError."""
    for place in (pictures, folder, *folder.parents[:FOLDERS_ABOVE]):
        if (place / NAME).is_file():
            return place / NAME
    raise UserError(
        f"'{pictures}' has its pictures in one flat folder, without folders of classes, and there is no {NAME} with "
        f"their labels; put that file into '{folder}', or the pictures into folders named like training's"
    )


def by_class(
    path: Path, files: list[File], classes: tuple[str, ...], max_missing: float, tally: Tally
) -> tuple[dict[str, list[File]], str]:
    """The pictures of each class by the file at `path`, and a note for the user.

    Raises:
      UserError: the file is not Kaggle's, lacks a picture, or names too many pictures that are missing.
    """
    synsets = _synsets(path)
    found: dict[str, list[File]] = {name: [] for name in classes}
    for file in files:
        stem = os.path.splitext(os.path.basename(file.path))[0]
        synset = synsets.pop(stem, None)
        if synset is None:
            raise UserError(f"'{file.path}' is not in {path} (or is there twice); move it away, or get the right file")
        if synset not in found:
            raise UserError(
                f"{path} gives {stem} the class '{synset}', which training lacks; add that class to training"
            )
        tally.take()
        found[synset].append(file)
    some = ", ".join(sorted(synsets)[:3])
    missing = require_not_missing(f"pictures of {path}", len(files), len(files) + len(synsets), max_missing, some)
    return found, "; ".join(filter(None, (f"the labels for validation are those of {path}", missing)))


def _synsets(path: Path) -> dict[str, str]:
    """The synset of each picture, by its name without suffix: that of the boxes in its prediction string."""
    found: dict[str, str] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                name, words = row["ImageId"], row["PredictionString"].split()
                several = {*words[::WORDS_A_BOX], found.setdefault(name, words[0])}
                if len(several) > 1:
                    raise UserError(
                        f"{path} gives {name} the classes {' and '.join(sorted(several))}; get the right file"
                    )
        return found
    except (OSError, ValueError, KeyError, IndexError, AttributeError, csv.Error) as error:
        raise UserError(
            f"{path} is not Kaggle's file with the columns ImageId and PredictionString ({error}); get it again"
        ) from error
