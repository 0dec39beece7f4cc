"""What a source and a kind of source are, and where their files lie."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.data.decode.picture import Picture
from alexnet_jax.messages import Advance, UserError

EXAMPLES = 3  # names that are kept for each reason to leave files out


@dataclass(frozen=True)
class LeftOut:
    """The files that a source leaves out for one reason."""

    reason: str  # as in "left out: 3 ..."
    count: int
    examples: tuple[str, ...]  # names of the first few


class Tally:
    """Counts the files that a listing finds, and those that it leaves out, by reason; shows the progress."""

    def __init__(self) -> None:
        """Starts at zero."""
        self.met = 0
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}
        self._advance = Advance("listing", None, "files")

    def take(self, count: int = 1) -> None:
        """Counts files that are used."""
        before, self.met = self.met, self.met + count
        if before >> 10 != self.met >> 10:
            self._advance.add(self.met - self._advance.done)

    def leave(self, reason: str, name: str) -> None:
        """Counts a file that is left out."""
        self.take()
        self._counts[reason] = self._counts.get(reason, 0) + 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < EXAMPLES:
            examples.append(name)

    def counts(self) -> list[tuple[str, int]]:
        """Each reason and the number of files left out for it so far, the largest number first."""
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))

    def left_out(self) -> tuple[LeftOut, ...]:
        """The files left out, the most frequent reason first. Ends the listing."""
        self._advance.close()
        return tuple(LeftOut(reason, count, tuple(self._examples[reason])) for reason, count in self.counts())


@dataclass(frozen=True)
class Split:
    """Some of a source's pictures, in an order that never changes.

    Attributes:
      count: the number of pictures.
      listed: the pictures; for a set of TFDS, whose pictures have only numbers, its record files.
      read: yields the pictures from the first one on, if `listed` has record files.
    """

    count: int
    listed: Sequence[Picture]
    read: Callable[[], Iterator[Picture]] | None = None

    def pictures(self) -> Iterator[Picture]:
        """The pictures from the first one on, in the fixed order."""
        return self.read() if self.read else iter(self.listed)


def split_of(pictures: Sequence[Picture]) -> Split:
    """A split with these pictures."""
    return Split(len(pictures), pictures)


@dataclass(frozen=True)
class Source:
    """A set of labelled pictures that has not been prepared yet, listed as a whole."""

    name: str
    classes: tuple[str, ...]  # names, by label
    splits: dict[str, Split]
    words: tuple[str, ...] = ()  # what people call the classes, if that is known
    met: int = 0  # files that the listing found: those in the splits, and those left out
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()  # sentences for the user
    stamp: str = ""  # for a folder: a digest that changes with a picture, also if its name and size stay


@dataclass(frozen=True)
class Files:
    """The files that a set is prepared from."""

    folder: Path
    names: tuple[str, ...] = ()  # of files in `folder`; empty for all files in it and below it


@dataclass(frozen=True)
class Kind:
    """A kind of source: how to list it, and how it differs from other kinds.

    Attributes:
      name: the `config.data.name` that selects it; "" for the sets of TFDS, which have many names.
      open: lists the source. Raises UserError, or OSError, if its files are missing or damaged.
      class_names: the classes, without listing the pictures if that is possible. Raises UserError.
      files: the files that the set is prepared from; None if they are missing.
      has_own_splits: whether it says which pictures are for validation; otherwise config.data.validation_fraction does.
      has_listing_stamp: whether its listing is stamped (`Source.stamp`), because listing it is as quick as `stamp`.
      is_named_by_folder: whether a prepared set has the name of config.data.manual_dir, and not that of the set.
      is_kept_apart: whether runs and prepared sets must lie outside config.data.manual_dir, as they would be classes.
      is_written_when_listed: whether listing it writes a set of TFDS into config.data.data_dir first.
    """

    name: str
    open: Callable[[ConfigDict], Source]
    class_names: Callable[[ConfigDict], tuple[str, ...]]
    files: Callable[[ConfigDict], Files | None]
    has_own_splits: bool = True
    has_listing_stamp: bool = False
    is_named_by_folder: bool = False
    is_kept_apart: bool = False
    is_written_when_listed: bool = False


def root(data: ConfigDict) -> Path:
    """The folder with all datasets: config.data.data_dir, or TFDS's own."""
    chosen = data.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(chosen).expanduser().absolute()


def manual_dir(data: ConfigDict) -> Path:
    """The folder config.data.manual_dir. Raises UserError if the config names none, or it does not exist."""
    if not data.manual_dir:
        raise UserError(
            f"config.data.name is '{data.name}' but no folder is named; name the folder of the data with "
            "--config.data.manual_dir=DIR"
        )
    folder = Path(data.manual_dir).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(
            f"--config.data.manual_dir={data.manual_dir} is not a folder; name the folder that holds the data"
        )
    return folder


def files_in_manual_dir(data: ConfigDict, names: tuple[str, ...] = ()) -> Files | None:
    """The files in config.data.manual_dir, or those of `names` in it; None if the folder or a file is missing."""
    folder = Path(data.manual_dir).expanduser()
    if not data.manual_dir or not folder.is_dir() or not all((folder / name).is_file() for name in names):
        return None
    return Files(folder, names)


def require_not_missing(what: str, found: int, expected: int, allowed: float, examples: str = "") -> str:
    """A sentence on what is missing; "" if nothing is.

    Args:
      what: begins the sentence "what: 3 of 5 are missing".
      allowed: the share of `expected` that may be missing, config.data.max_missing.
      examples: names of a few missing files, for the sentence.

    Raises:
      UserError: more than `allowed` is missing.
    """
    missing = expected - found
    if missing <= 0:
        return ""
    named = f" ({examples})" if examples else ""
    sentence = f"{what}: {missing:,} of {expected:,} are missing{named}"
    if missing > allowed * expected:
        raise UserError(
            f"{sentence}, more than config.data.max_missing, {allowed:.1%}; get the missing ones, or do without them "
            "by raising --config.data.max_missing"
        )
    return sentence
