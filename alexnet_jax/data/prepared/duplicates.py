"""Finds pictures with equal squares, by digests; lists them, and keeps them all."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from alexnet_jax.data.sources import Source

EQUAL = "equal.jsonl"  # in the prepared set, with a line for each group of equal pictures
BYTES = 8  # of a digest, which is zeros for a rejected picture
NAMED = 3  # groups, and pictures of each, that the message names


def digests_name(split: str) -> str:
    """The file with the digests of a split's pictures, in order, in the folder where a set is made."""
    return f"squares-of-{split}.digests"


def digest(square: bytes | None) -> bytes:
    """The digest of a stored square; zeros, which equal nothing, for None."""
    return bytes(BYTES) if square is None else hashlib.blake2b(square, digest_size=BYTES).digest()


def write_equal(folder: Path, source: Source) -> Iterator[str]:
    """Writes the groups of equal pictures into the folder, if there are any.

    Yields:
      A message about them.
    """
    found = groups({name: np.fromfile(folder / digests_name(name), "<u8") for name in source.splits})
    if not found:
        return
    rows = [[_described(source, split, number) for split, number in group] for group in found]
    (folder / EQUAL).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    apart = sum(len({(one["split"], one.get("class")) for one in row}) > 1 for row in rows)
    named = "; ".join(" = ".join(one["file"] for one in row[:NAMED]) for row in rows[:NAMED])
    yield (
        f"{sum(map(len, rows))} pictures equal another picture once they are scaled and cropped, in {len(rows)} "
        f"groups, of which {apart} span classes or splits: all are kept, see {EQUAL}; "
        f"{named}{'; …' if len(rows) > NAMED else ''}"
    )


def groups(digests: Mapping[str, np.ndarray]) -> list[Sequence[tuple[str, int]]]:
    """The groups of pictures with equal digests, each picture as its split and number, in order; zeros equal nothing.

    Args:
      digests: for each split uint64 [pictures].
    """
    every = np.concatenate(list(digests.values()))
    place = [(split, number) for split, values in digests.items() for number in range(len(values))]
    order = np.argsort(every, kind="stable")
    borders = np.flatnonzero(np.diff(every[order])) + 1
    equal = [part for part in np.split(order, borders) if len(part) > 1 and every[part[0]]]
    return [[place[number] for number in part] for part in sorted(equal, key=lambda part: int(part[0]))]


def _described(source: Source, split: str, number: int) -> dict[str, str]:
    of_split = source.splits[split]
    if of_split.read is not None:  # its pictures have only numbers
        return {"split": split, "file": f"{split}/{number}"}
    picture = of_split.listed[number]
    return {"split": split, "file": picture.name, "class": source.classes[picture.label]}
