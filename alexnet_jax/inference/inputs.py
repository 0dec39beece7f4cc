"""The pictures that a user gives: names of files and folders, a list on standard input, or pixels."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from alexnet_jax.data.decode.squares import Picture
from alexnet_jax.data.sources.source import Tally
from alexnet_jax.data.sources.splits import SUFFIXES
from alexnet_jax.data.sources.walk import Place, Walk
from alexnet_jax.messages import UserError, say

STANDARD_INPUT = "-"
Given = str | os.PathLike[str] | Image.Image | np.ndarray | jax.Array  # a picture, or an array of several
HERE = Place("", "")  # for a folder's pictures, which have no split and no class


def pictures_of(names: Sequence[str]) -> list[Picture]:
    """The pictures in the order of `names`; those in a folder are sorted by path.

    A file is used whatever its name is; if it is missing, reading it will say so. In a folder, and below it, files are
    left out that preparing would leave out: hidden files, and files that are no pictures by their names.

    Args:
      names: of files and folders; '-' stands for the lines of standard input, which are such names.

    Raises:
      UserError: no name is given, or a folder cannot be read or has no picture.
    """
    found = [picture for name in _with_listed(names) for picture in _pictures(name)]
    if not found:
        raise UserError(
            "no picture is named; give files or folders after the flags, or - for a list of them on standard input"
        )
    return found


def _with_listed(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if name != STANDARD_INPUT:
            yield name
            continue
        # Names are bytes, whatever the encoding of the terminal.
        for line in sys.stdin.buffer:
            if listed := os.fsdecode(line.rstrip(b"\r\n")):
                yield listed


def _pictures(name: str) -> Iterator[Picture]:
    if not os.path.isdir(name):
        yield Picture(name, label=-1, path=name)
        return
    tally = Tally()
    walk = Walk([Path(os.path.abspath(name)).parent], tally)
    files = walk.files({HERE: name})[HERE]
    left_out = sum(one.count for one in tally.left_out())
    if not files:
        among = f" among its {left_out} files" if left_out else ""
        raise UserError(f"the folder '{name}' has no picture ({', '.join(SUFFIXES)}){among}; name one that has")
    if left_out:
        there = "1 picture" if len(files) == 1 else f"{len(files)} pictures"
        what = (
            "1 file that is hidden, not a picture, or a link"
            if left_out == 1
            else (f"{left_out} files that are hidden, not pictures, or links")
        )
        say(f"{name}: {there}; left out: {what}")
    for file in files:
        yield Picture(file.path, label=-1, path=file.path)


def one_by_one(pictures: Given | Iterable[Given]) -> tuple[list[Picture | Image.Image], bool]:
    """The pictures in a list, and whether a single picture was given. Raises UserError for anything else."""
    if isinstance(pictures, str | os.PathLike | Image.Image):
        return [_one(pictures)], True
    if isinstance(pictures, np.ndarray | jax.Array) and pictures.ndim < 4:
        return [_one(pictures)], True
    if not isinstance(pictures, Iterable):
        raise UserError(f"a picture is a path, a PIL image or an array of uint8, and not {type(pictures).__name__}")
    return [_one(one) for one in pictures], False


def _one(picture: Given) -> Picture | Image.Image:
    if isinstance(picture, str | os.PathLike):
        path = os.fspath(picture)
        if os.path.isdir(path):
            raise UserError(f"'{path}' is a folder; give the files in it, such as sorted(Path({path!r}).iterdir())")
        return Picture(path, label=-1, path=path)
    if isinstance(picture, Image.Image):
        return picture
    if not isinstance(picture, np.ndarray | jax.Array):
        raise UserError(f"a picture is a path, a PIL image or an array of uint8, and not {type(picture).__name__}")
    array = np.asarray(picture)
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] != 3)
        or not array.size
    ):
        raise UserError(
            f"an array of {array.dtype} {list(array.shape)} is not a picture; give uint8 [height, width, 3], RGB from "
            "0 to 255, or [height, width]"
        )
    return Image.fromarray(np.ascontiguousarray(array))
