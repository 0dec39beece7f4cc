"""The listing of a source: checked before a picture is decoded, summarised, saved, and compared with another.

It is saved as JSON lines, one for each picture, in a gzip file with the same bytes for the same listing. Its digest is
that of the lines. Files that were left out are not part of it.
"""

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alexnet_jax.data.prepared.prepared_set import SUMMARY
from alexnet_jax.data.sources import Source
from alexnet_jax.messages import UserError, say

LISTING = "listing.jsonl.gz"
LINES = 4096  # written and digested together
REASONS = 6  # to leave files out, that have a line each
NAMED = 3  # pictures or classes that a difference names for each change


@dataclass(frozen=True)
class Listing:
    """A source's classes, splits and pictures, without pixels."""

    source: Source
    stamp: str  # changes when a picture does, also if its name and size stay

    @cached_property
    def digest(self) -> str:
        """A digest of classes, splits, and each picture's name, label and size, in order."""
        digest = hashlib.blake2b(digest_size=16)
        for part in self.lines():
            digest.update(part)
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Writes the lines into the folder."""
        with open(folder / LISTING, "wb") as raw, gzip.GzipFile("", "wb", 1, raw, mtime=0) as file:
            for part in self.lines():
                file.write(part)

    def lines(self) -> Iterator[bytes]:
        """The listing as JSON lines, some thousand at a time: first classes and splits, then each picture."""
        head = {"classes": self.source.classes, "splits": {n: s.count for n, s in self.source.splits.items()}}
        yield f"{json.dumps(head)}\n".encode()
        rows = (
            f"{json.dumps([split, p.label, p.size, p.name])}\n"
            for split, of_split in self.source.splits.items()
            for p in of_split.listed
        )
        while part := "".join(islice(rows, LINES)):
            yield part.encode()

    def labels(self, split: str) -> np.ndarray:
        """int64 [pictures]; for a set of TFDS zeros, one for each file."""
        return np.fromiter((picture.label for picture in self.source.splits[split].listed), np.int64)


def list_whole(source: Source, stamp: str = "") -> Listing:
    """Checks a source and returns its listing. Raises UserError if it cannot be prepared as it is."""
    for name in source.classes:
        _require_storable(name)
    if len(set(source.classes)) < len(source.classes):
        twice = Counter(source.classes).most_common(1)[0][0]
        raise UserError(f"'{source.name}' has two classes with the name '{twice}'; rename one")
    for name, split in source.splits.items():
        path, names = "", set[str]()
        for picture in split.listed:
            if picture.path != path:
                path, names = picture.path, set()
            if picture.name in names:
                raise UserError(f"{path} holds '{picture.name}' twice (in {name}); get it again, or remove one")
            names.add(picture.name)
        if not split.count:
            raise UserError(
                f"'{source.name}' has no picture in its split {name}; put pictures there, or, if that split is held "
                "out of training, put at least two pictures into a class"
            )
    return Listing(source, stamp)


def _require_storable(name: str) -> None:
    """Raises UserError if a class's name cannot be a line of a file."""
    problem = ""
    if name.splitlines() != [name] or "\0" in name:
        problem = "is empty or contains a line break"
    try:
        name.encode()
    except UnicodeEncodeError:
        problem = "is not in UTF-8"
    if problem:
        raise UserError(f"the name of the class {name!a} {problem}; rename it")


def say_summary(listing: Listing) -> None:
    """Reports in about ten lines what the listing has and what it leaves out."""
    source = listing.source
    say(f"{source.name}: {sum(s.count for s in source.splits.values()):,} pictures of {len(source.classes):,} classes")
    for name, split in source.splits.items():
        counts = np.bincount(listing.labels(name), minlength=len(source.classes))
        without = int((counts == 0).sum())
        spread = f", {counts.min():,} to {counts.max():,} a class" if split.read is None else ""
        lacking = (
            f"; {without} {'class has' if without == 1 else 'classes have'} none"
            if split.read is None and without
            else ""
        )
        say(f"  {name}: {split.count:,} pictures{spread}{lacking}")
    for one in source.left_out[:REASONS]:
        named = ", ".join(one.examples) + ", ..." * (one.count > len(one.examples))
        say(f"  left out: {one.count:,} {one.reason} ({named})")
    if rest := source.left_out[REASONS:]:
        say(f"  left out: {sum(one.count for one in rest):,} for other reasons, {len(rest)} of them")
    for note in source.notes:
        say(f"  {note}")


def left_out(source: Source) -> dict[str, int]:
    """The number of files left out, by reason."""
    return {one.reason: one.count for one in source.left_out}


def save_summary(folder: Path, listing: Listing, stored: dict[str, list[int]], summed: str) -> None:
    """Writes the summary of a preparation, after a check that each file is stored, rejected or left out.

    Args:
      stored: for each split, the numbers of pictures by label.
      summed: the split of the set's statistics; '' if it has none.

    Raises:
      UserError: some files are not accounted for.
    """
    source = listing.source
    splits = {
        name: {"listed": split.count, "stored": sum(stored[name]), "rejected": split.count - sum(stored[name])}
        for name, split in source.splits.items()
    }
    left = sum(one.count for one in source.left_out)
    if source.met != left + sum(split.count for split in source.splits.values()):
        raise UserError(
            f"the program found {source.met} files but accounts only for {splits} and {left} that are left out; this "
            f"is a fault of the program: please report it with {folder / LISTING}"
        )
    summary = {
        "digest": listing.digest,
        "stamp": listing.stamp,
        "statistics": summed,
        "met": source.met,
        "splits": {name: {**counts, "stored_by_class": stored[name]} for name, counts in splits.items()},
        "left_out": [vars(one) for one in source.left_out],
        "notes": source.notes,
    }
    (folder / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")


def load_summary(folder: Path) -> dict[str, Any]:
    """What `save_summary` wrote into a prepared set. Raises UserError if it cannot be read."""
    try:
        known = json.loads((folder / SUMMARY).read_text())
        if not {"digest", "stamp", "statistics", "left_out"} <= known.keys():
            raise ValueError("it is not a summary of a listing")
        return known
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{folder / SUMMARY} cannot be read ({error}); remove '{folder}' to prepare anew") from error


def difference(folder: Path, listing: Listing) -> str:
    """What has changed since the listing in the folder was written, in words."""
    try:
        with gzip.open(folder / LISTING, "rt") as file:
            before, classes_before = _by_name_and_class(file)
    except (OSError, ValueError, EOFError, KeyError, IndexError, TypeError):
        return "the previous listing cannot be read"
    now, classes_now = _by_name_and_class(line for part in listing.lines() for line in part.decode().splitlines())
    kept, added, removed = now.keys() & before.keys(), now.keys() - before.keys(), before.keys() - now.keys()
    reclassified = {name for name, _ in added} & {name for name, _ in removed}
    moved = {key for key in kept if now[key].split != before[key].split}
    resized = {key for key in kept - moved if now[key] != before[key]}
    changes = {
        "new classes": classes_now - classes_before,
        "classes gone": classes_before - classes_now,
        "added": [name for name, _ in sorted(added) if name not in reclassified],
        "removed": [name for name, _ in sorted(removed) if name not in reclassified],
        "of another size": [name for name, _ in sorted(resized)],
        "in another split": [name for name, _ in sorted(moved)],
        "of another class": reclassified,
    }
    said = [f"{what}: {_some(sorted(names))}" for what, names in changes.items() if names]
    return "; ".join(said) or "the order of the pictures"


class _Place(NamedTuple):
    split: str
    size: int


def _by_name_and_class(lines: Iterable[str]) -> tuple[dict[tuple[str, str], _Place], set[str]]:
    """The split and size of each picture by its name and class; and the classes."""
    rows = iter(lines)
    classes = json.loads(next(rows, "{}"))["classes"]
    found = {}
    for row in rows:
        split, label, size, name = json.loads(row)
        found[name, classes[label]] = _Place(split, size)
    return found, set(classes)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
