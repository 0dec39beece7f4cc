"""Prepares a set: makes squares and statistics from the pictures of a source, and resumes where it was interrupted.

All cores make squares, in the order of the source. A digest of a picture's number decides its file, so each file is a
random part of the set. The progress is written every few hundred pictures, and a preparation that was killed resumes
from there. The finished folder gets its name by one renaming.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data.decode import squares, worker_processes
from alexnet_jax.data.decode.decoder import rules_of
from alexnet_jax.data.decode.squares import Picture, Squares
from alexnet_jax.data.decode.worker_processes import bounded_map, lists
from alexnet_jax.data.prepared import duplicates
from alexnet_jax.data.prepared.class_words import write_words
from alexnet_jax.data.prepared.listing import Listing, difference, save_summary
from alexnet_jax.data.prepared.prepared_set import (
    CLASSES,
    DIGESTS,
    REJECTED,
    SETTINGS,
    STATISTICS,
    VERSION,
    WITHOUT_CHECKSUM,
    begins_anew,
    digest_of,
    features,
    index_name,
    plain_name,
    require_same,
    require_same_place,
    settings,
)
from alexnet_jax.data.prepared.progress import Progress, is_begun, load_progress, remove_progress
from alexnet_jax.data.prepared.shards import Shards
from alexnet_jax.data.prepared.statistics import Sums
from alexnet_jax.data.tensorflow import tf, tfds
from alexnet_jax.locks import LOCK
from alexnet_jax.messages import Advance, UserError, say
from alexnet_jax.signals import Stop, Stopped, stop_signals

CHUNK = 32  # pictures that a process gets at a time
ROUND = 256  # pictures between two writes of the progress
PER_FILE = 1024  # pictures in a record file, about
STORED_PART = {"crop": "the centre", "crop_down": "the centre", "squeeze": "the whole"}  # in the description


@dataclass(frozen=True)
class Decoded:
    """Pictures of a split, and their squares."""

    split: str
    pictures: list[Picture]
    squares: Squares


class Preparation:
    """An unfinished set: the folder where it grows, its progress, and the sums for its statistics."""

    def __init__(self, listing: Listing, data: ConfigDict, work: Path, folder: Path) -> None:
        """Writes nothing yet.

        Args:
          data: the config's group.
          work: the folder where the set grows; this process holds its lock.
          folder: its final place.
        """
        self._listing, self._source = listing, listing.source
        self._data, self._work, self._folder = data, work, folder
        self._progress, self._sums = Progress(), Sums.zero(data.resize)
        self._shards = self._shards_of(self._progress)

    def run(self) -> None:
        """Prepares the set, from the progress on disk to the finished folder.

        Raises:
          UserError: the disk is full, a file cannot be read, or too many pictures cannot be used. The progress stays,
            so that the same command resumes.
        """
        try:
            self._begin_or_resume()
            with stop_signals() as stop:
                try:
                    with worker_processes.processes() as pool:
                        for split, decoded in groupby(self._decode(pool), key=attrgetter("split")):
                            self._write_split(split, decoded, stop)
                except worker_processes.Died as error:
                    if stop.name:  # the scheduler sent its signal to all processes
                        raise self._stopped_by_signal(stop.name) from error
                    raise
            self._require_enough(self._progress.pictures)
            empty = [name for name, examples in self._progress.examples.items() if not sum(examples)]
            if empty:
                raise UserError(f"'{self._data.name}' has no usable picture in its split {empty[0]}; see {self._work}")
            stored = {split: self._stored_by_class(split) for split in self._progress.examples}
            self._require_no_class_is_lost(stored)
            self._finish(stored)
        except (OSError, tf.errors.ResourceExhaustedError) as error:
            raise self._stopped_by(error) from error
        if self._progress.rejected:
            rejected = self._progress.rejected
            what = "1 picture" if rejected == 1 else f"{rejected} pictures"
            say(f"{what} could not be used: see {self._folder / REJECTED}")
        of_class = np.sum(list(stored.values()), axis=0).tolist()
        obeyed = self._data.colour_profiles == "srgb"
        for sentence in squares.warnings_of(self._progress.notes, self._source.classes, of_class, obeyed):
            say(sentence)

    def _shards_of(self, progress: Progress) -> Shards:
        return Shards(self._work, f"{plain_name(self._data.name)}_{self._data.resize}", progress)

    def _begin_or_resume(self) -> None:
        if not self._resume():
            self._begin()
        for name, split in self._source.splits.items():
            if name not in self._progress.files:
                self._progress.begin_split(name, max(1, round(split.count / PER_FILE)))

    def _resume(self) -> bool:
        """Loads the progress on disk and cuts the files back to it. Returns whether there was usable progress."""
        if not is_begun(self._work):
            return False
        if begins_anew(self._work, self._data):
            return False
        require_same(self._work, self._data)
        progress, sums = load_progress(self._work)
        if sums is None:
            say(f"the unfinished preparation in '{self._work}' is damaged: beginning anew")
            return False
        if progress.listing != self._listing.digest:
            require_same_place(self._work, self._data)
            changed = difference(self._work, self._listing)
            say(f"the pictures to prepare have changed since preparing began ({changed}): beginning anew")
            return False
        if progress.stamp != self._listing.stamp:
            say("a file has been changed since preparing began: beginning anew")
            return False
        shards = self._shards_of(progress)
        shards.undo_names()
        lengths = {self._work / REJECTED: progress.rejected_bytes, **shards.lengths()}
        lengths |= {
            self._work / duplicates.digests_name(name): duplicates.BYTES * done for name, done in progress.done.items()
        }
        if any(length and not _at_least(path, length) for path, length in lengths.items()):
            say(f"the unfinished preparation in '{self._work}' is damaged: beginning anew")
            return False
        for path, length in lengths.items():
            if path.exists():
                os.truncate(path, length)
        say(f"continuing from picture {progress.pictures}")
        self._progress, self._sums, self._shards = progress, sums, shards
        return True

    def _begin(self) -> None:
        """Empties the folder, and writes the settings and the listing."""
        for path in self._work.iterdir():
            if path.name != LOCK:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        (self._work / SETTINGS).write_text(json.dumps(settings(self._data), indent=2) + "\n")
        self._listing.save(self._work)
        self._progress.listing, self._progress.stamp = self._listing.digest, self._listing.stamp
        trained_on = self._data.train_split.partition("[")[0]
        if trained_on in self._source.splits:  # not so for a sum of splits
            self._progress.summed = trained_on

    def _decode(self, pool: ProcessPoolExecutor) -> Iterator[Decoded]:
        """The squares of the pictures that are left, split by split and in order, made by all cores."""
        data = self._data
        for name, split in self._source.splits.items():
            if name in self._progress.finished:
                continue
            make = partial(
                squares.make_squares,
                side=data.resize,
                quality=data.jpeg_quality if data.encoding == "jpeg" else 0,
                rules=rules_of(data),
                summed=name == self._progress.summed,
            )
            chunks = lists(islice(split.pictures(), self._progress.done[name], None), CHUNK)
            for chunk, made in bounded_map(pool, make, chunks, 3 * worker_processes.cores()):
                yield Decoded(name, chunk, made)

    def _write_split(self, split: str, decoded: Iterator[Decoded], stop: Stop) -> None:
        """Writes a split in rounds, with the progress after each. Raises Stopped after a signal."""
        progress, count = self._progress, self._source.splits[split].count
        done = progress.done[split]
        with Advance(f"preparing {split}", count, "pictures", done) as advance:
            for of_round in lists(decoded, ROUND // CHUNK):
                self._write_round(split, of_round)
                progress.save(self._work, self._sums)
                advance.add(progress.done[split] - advance.done)
                if stop.name:
                    raise self._stopped_by_signal(stop.name)
                self._require_enough(max(count, progress.pictures))
        if progress.done[split] != count:
            raise UserError(
                f"'{self._data.name}' gave {progress.done[split]} pictures for its split {split}, but {count} were "
                "listed; make sure that no file changes while they are prepared, and repeat the same command to begin "
                "anew"
            )
        progress.finished.append(split)
        progress.save(self._work, self._sums)

    def _write_round(self, split: str, of_round: list[Decoded]) -> None:
        """Appends a round's squares to their files, adds up its sums, and lists its rejected pictures."""
        number, stored, rejected, digests = self._progress.done[split], [], [], bytearray()
        for decoded in of_round:
            made = decoded.squares
            digests += b"".join(map(duplicates.digest, made.stored))
            for picture, square, reason in zip(decoded.pictures, made.stored, made.reasons, strict=True):
                if square is None:
                    line = {"split": split, "file": picture.name, "in": picture.path, "reason": reason}
                    rejected.append(json.dumps(line) + "\n")
                else:
                    stored.append((number, picture, square))
                number += 1
            for what, often in made.notes.items():
                self._progress.notes[what] = self._progress.notes.get(what, 0) + often
            if split == self._progress.summed:
                count = len(decoded.pictures) - made.stored.count(None)
                self._sums.add(count, made.total, made.products)
        self._shards.append(split, stored)
        text = "".join(rejected).encode()
        with open(self._work / REJECTED, "ab") as file:
            file.write(text)
        with open(self._work / duplicates.digests_name(split), "ab") as file:
            file.write(digests)
        self._progress.rejected += len(rejected)
        self._progress.rejected_bytes += len(text)
        self._progress.done[split] = number

    def _require_enough(self, expected: int) -> None:
        """Raises UserError if too many of `expected` pictures are rejected."""
        rejected, allowed = self._progress.rejected, self._data.max_rejected
        if rejected > allowed * expected:
            raise UserError(
                f"{rejected} of {self._progress.pictures} pictures could not be used, more than "
                f"config.data.max_rejected, {allowed:.1%}: see {self._work / REJECTED}; repair them (and remove "
                f"'{self._work}' to begin anew), or raise --config.data.max_rejected, and repeat the same command to "
                "continue"
            )

    def _stored_by_class(self, split: str) -> list[int]:
        """The number of pictures in the split's files, by label."""
        return np.bincount(self._shards.labels(split), minlength=len(self._source.classes)).tolist()

    def _require_no_class_is_lost(self, stored: dict[str, list[int]]) -> None:
        """Raises UserError if all training pictures of a class are rejected."""
        named = [part.partition("[")[0] for part in self._data.train_split.split("+")]
        splits = [name for name in named if name in stored and self._source.splits[name].read is None]
        if not splits:
            return
        usable = np.sum([stored[name] for name in splits], axis=0)
        for label in np.unique(np.concatenate([self._listing.labels(name) for name in splits])).tolist():
            if not usable[label]:
                raise UserError(
                    f"no picture of the class '{self._source.classes[label]}' can be used for training: see "
                    f"{self._work / REJECTED}; repair them, or remove the class, and repeat the same command"
                )

    def _finish(self, stored: dict[str, list[int]]) -> None:
        """Gives the files their final names, adds TFDS's metadata, and puts the folder in its place."""
        data, source, work = self._data, self._source, self._work
        infos = [self._shards.finish(split) for split in self._progress.examples]
        summed = self._progress.summed
        if summed:
            self._sums.statistics().save(work / STATISTICS)
        (work / CLASSES).write_text(json.dumps(source.classes) + "\n")
        save_summary(work, self._listing, stored, summed)
        for sentence in duplicates.write_equal(work, source):
            say(sentence)
        if source.words:
            write_words(work, source.classes, source.words)
        form = f"{STORED_PART[data.square]} of each picture as {data.resize}x{data.resize} pixels"
        tfds.folder_dataset.write_metadata(
            data_dir=work,
            features=features(data.resize, data.encoding, source.classes),
            split_infos=infos,
            version=VERSION,
            check_data=False,
            description=f"{data.name}: {form}.",
            supervised_keys=("image", "label"),
            disable_shuffling=False,
        )
        names = [*WITHOUT_CHECKSUM, *sorted(path.name for path in work.glob(index_name("*")))]
        (work / DIGESTS).write_text(json.dumps({name: digest_of(work / name) for name in names}, indent=1) + "\n")
        for path in work.iterdir():
            with open(path, "rb") as file:  # so that the disk has the files before the renaming
                os.fsync(file.fileno())
        _put_in_place(work, self._folder)

    def _stopped_by_signal(self, name: str) -> Stopped:
        return Stopped(
            f"stopped by {name} after picture {self._progress.pictures}, which is saved; repeat the same command to "
            "continue"
        )

    def _stopped_by(self, error: Exception) -> UserError:
        full = getattr(error, "errno", errno.ENOSPC) in (errno.ENOSPC, errno.EDQUOT)
        remedy = "make room on that disk" if full else "make sure that the files can be read and written"
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        where = getattr(error, "filename", None) or self._work
        return UserError(
            f"preparing stopped at '{where}' ({reason}): {remedy}, and repeat the same command to continue from "
            f"picture {self._progress.pictures}"
        )


def _at_least(path: Path, length: int) -> bool:
    return path.is_file() and path.stat().st_size >= length


def _put_in_place(work: Path, folder: Path) -> None:
    """Gives the finished folder its final name. Raises OSError."""
    if folder.exists():  # an older set, which comes back if this process is killed between the renamings
        os.replace(folder, _replaced(folder))
    os.replace(work, folder)
    finish_interrupted(folder)


def finish_interrupted(folder: Path) -> None:
    """Finishes what a preparation that was killed at its very end left undone; does nothing otherwise."""
    replaced = _replaced(folder)
    with suppress(OSError):  # nothing was prepared in a folder that cannot be written
        if replaced.exists() and not folder.exists():
            os.replace(replaced, folder)
        elif folder.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            if is_begun(folder):
                for path in folder.glob(duplicates.digests_name("*")):
                    path.unlink()
                (folder / LOCK).unlink(missing_ok=True)
                remove_progress(folder)


def _replaced(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.replaced")
