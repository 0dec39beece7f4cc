"""Once for a dataset: every picture a square of one size, and the statistics of the training set.

The pictures are read in their source's order, made in all cores, and dealt out to files by a digest
of their number, so that each file is a random part of the set. Every few hundred pictures the state
is written down; a run that was killed goes on from there. The finished folder appears by one
renaming.
"""

import errno
import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from alexnet_jax.data import pictures, pipeline, sources
from alexnet_jax.data.pictures import Picture, Squares
from alexnet_jax.data.prepared import (
    INDEX,
    REJECTED,
    SETTINGS,
    STATISTICS,
    VERSION,
    WORDS,
    Prepared,
    Preprocessing,
    Sums,
    features,
    folders,
    index_name,
    is_whole,
    load,
    open_set,
    require_same,
    settings,
)
from alexnet_jax.data.sources import Source
from alexnet_jax.data.tensorflow import tf, tfds
from alexnet_jax.messages import UserError, say

CHUNK = 32  # pictures that one process works on at a time
ROUND = 256  # pictures between two states on disk
PER_FILE = 1024  # pictures in a file, about
HEADER, FRAME = 12, 16  # bytes that TFRecord puts before a record, and adds to it in all


@dataclass
class State:
    """How far a run of `prepare` is; what lies on disk beyond it does not count."""

    files: dict[str, list[int]]  # of each split begun: each file's length in bytes
    examples: dict[str, list[int]]  # and the pictures in it
    done: dict[str, int] = field(default_factory=dict)  # of each split: pictures of the source that are dealt with
    finished: list[str] = field(default_factory=list)  # splits that are through
    rejected: int = 0
    rejected_bytes: int = 0  # of rejected.jsonl


def open_or_prepare(config: ConfigDict) -> Prepared:
    """The config's dataset, prepared first if it is not yet.

    Raises:
      UserError: its files are missing or bad, the disk is full, or it was prepared with other settings.
    """
    data = config.data
    for folder in folders(data):
        if is_whole(folder):
            return open_set(folder, data)
    source = sources.open_source(data)
    for folder in folders(data):
        work = folder.parent / f"{folder.name}.incomplete" if folder.name != VERSION else folder.parent / "incomplete"
        try:
            work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            refused = error
            continue
        say(f"{data.name} is not prepared yet: preparing it in {folder}")
        with _alone(work):
            if not is_whole(folder):
                _make(source, config, work, folder)
        return open_set(folder, data)
    raise UserError(
        f"the data folder '{refused.filename}' cannot be written ({refused.strerror}); set --config.data.data_dir to a "
        "folder that can"
    )


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    with open(work / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"'{work}' is being prepared by another process; wait until it has ended") from error
        yield


def _make(source: Source, config: ConfigDict, work: Path, folder: Path) -> None:
    data = config.data
    try:
        state, sums = _begin_or_go_on(data, work)
        for name, split in source.splits.items():
            if name not in state.files:
                number = max(1, round(split.about / PER_FILE))
                state.files[name], state.examples[name], state.done[name] = [0] * number, [0] * number, 0
        with _processes() as pool:
            made = _made(_chunks(source, state), data, pool)
            for name, of_split in groupby(made, key=attrgetter("split")):
                _take(name, source.splits[name].about, of_split, data, work, state, sums)
        _require_enough(data, work, state, sum(state.done.values()))
        empty = [name for name, examples in state.examples.items() if not sum(examples)]
        if empty:
            raise UserError(f"'{data.name}' has no picture that can be used in its split {empty[0]}; see {work}")
        _finish(source, data, work, state, sums, folder)
    except (OSError, tf.errors.ResourceExhaustedError) as error:
        full = getattr(error, "errno", errno.ENOSPC) in (errno.ENOSPC, errno.EDQUOT)
        remedy = "make room on that disk" if full else "see to it that the files can be read and written"
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        where = getattr(error, "filename", None) or work
        raise UserError(
            f"preparing stopped at '{where}' ({reason}): {remedy}, and the same command goes on from picture "
            f"{sum(state.done.values())}"
        ) from error
    if state.rejected:
        say(f"{state.rejected} pictures could not be used: see {folder / REJECTED}")


def _begin_or_go_on(data: ConfigDict, work: Path) -> tuple[State, Sums]:
    """The state on disk, the files cut back to it; or a new one."""
    if (work / "state.json").is_file():
        require_same(work, data)
        saved = State(**json.loads((work / "state.json").read_text()))
        sums = _load_sums(work, sum(saved.done.values()))
        for split, held in saved.examples.items():
            for part, final in _final_names(data, work, split, held).items():
                if final.exists():  # that run was killed at its very end
                    os.replace(final, part)
        lengths = {work / REJECTED: saved.rejected_bytes}
        for split, files in saved.files.items():
            for i, (length, examples) in enumerate(zip(files, saved.examples[split], strict=True)):
                part = work / _part(split, i)
                lengths |= {part: length, work / index_name(part.name): examples * INDEX.itemsize}
        short = [path for path, length in lengths.items() if length and not _at_least(path, length)]
        if sums is not None and not short:
            for path, length in lengths.items():
                if path.exists():
                    os.truncate(path, length)
            say(f"going on from picture {sum(saved.done.values())}")
            return saved, sums
        say(f"what lies in '{work}' is damaged: beginning anew")
    for path in work.iterdir():
        if path.name != ".lock":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (work / SETTINGS).write_text(json.dumps(settings(data), indent=2) + "\n")
    return State({}, {}), Sums.zero(data.resize)


def _at_least(path: Path, length: int) -> bool:
    return path.is_file() and path.stat().st_size >= length


def _load_sums(work: Path, done: int) -> Sums | None:
    try:
        with np.load(work / f"sums-{done}.npz") as saved:
            return Sums(int(saved["count"]), saved["total"], saved["products"])
    except (OSError, ValueError, KeyError, EOFError):
        return None


def _save_state(work: Path, state: State, sums: Sums) -> None:
    """The sums first, then what refers to them, by one renaming; then away with older sums."""
    done = sum(state.done.values())
    with open(work / f"sums-{done}.npz", "wb") as file:
        np.savez(file, count=sums.count, total=sums.total, products=sums.products)
    unfinished = work / ".state.json"
    unfinished.write_text(json.dumps(vars(state)))
    os.replace(unfinished, work / "state.json")
    for path in work.glob("sums-*.npz"):
        if path.name != f"sums-{done}.npz":
            path.unlink()


def _part(split: str, number: int) -> str:
    return f"{split}-{number:05d}.part"


@dataclass(frozen=True)
class Made:
    """Pictures of a split, and what was made of them."""

    split: str
    chunk: list[Picture]
    squares: Squares


def _take(
    name: str, about: int, coming: Iterator[Made], data: ConfigDict, work: Path, state: State, sums: Sums
) -> None:
    """Writes down what was made of a split, round by round, each with the state after it."""
    done = state.done[name]
    with tqdm(total=max(about, done), initial=done, desc=name, unit=" pictures", disable=None, smoothing=0.1) as bar:
        for batch in _lists(coming, ROUND // CHUNK):
            if name == _training(data):
                for made in batch:
                    stored = len(made.chunk) - made.squares.stored.count(None)
                    sums.add(stored, made.squares.total, made.squares.products)
            _append(name, batch, work, state)
            state.done[name] += sum(len(made.chunk) for made in batch)
            _save_state(work, state, sums)
            bar.update(state.done[name] - bar.n)
            _require_enough(data, work, state, max(about, sum(state.done.values())))
    state.finished.append(name)
    _save_state(work, state, sums)


def _training(data: ConfigDict) -> str:
    """The split whose statistics are taken."""
    return data.train_split.partition("[")[0]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _processes() -> Iterator[ProcessPoolExecutor]:
    """One for each core; they import no TensorFlow, and a fork would take its locks along."""
    pool = ProcessPoolExecutor(_cores(), multiprocessing.get_context("spawn"), pictures.start_worker)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise UserError(
            "a process that makes pictures died, most likely for want of memory; lower --config.data.max_pixels, and "
            "the same command goes on"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _chunks(source: Source, state: State) -> Iterator[tuple[str, list[Picture]]]:
    """What is left to do, split by split."""
    for name, split in source.splits.items():
        if name not in state.finished:
            for chunk in _lists(islice(split.pictures(), state.done[name], None), CHUNK):
                yield name, chunk


def _made(chunks: Iterator[tuple[str, list[Picture]]], data: ConfigDict, pool: ProcessPoolExecutor) -> Iterator[Made]:
    """The pictures, in their order, made into squares by all cores; a bounded number is under way."""
    quality = data.jpeg_quality if data.encoding == "jpeg" else 0
    waiting: deque[tuple[str, list[Picture], Future[Squares]]] = deque()

    def first() -> Made:
        split, chunk, future = waiting.popleft()
        return Made(split, chunk, future.result())

    for split, chunk in chunks:
        summed = split == _training(data)
        future = pool.submit(pictures.prepare, chunk, data.resize, quality, data.max_pixels, summed)
        waiting.append((split, chunk, future))
        if len(waiting) > 3 * _cores():
            yield first()
    while waiting:
        yield first()


def _lists(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """The items in lists of `size`; the last may have fewer."""
    return iter(lambda: list(islice(items, size)), [])


def _append(split: str, batch: list[Made], work: Path, state: State) -> None:
    """Puts a round's records at the end of their files, and its rejected pictures on the list."""
    number, lengths = state.done[split], state.files[split]
    by_file: dict[int, list[bytes]] = {}
    index: dict[int, list[tuple[int, int]]] = {}
    lines = []
    for made in batch:
        for picture, stored, reason in zip(made.chunk, made.squares.stored, made.squares.reasons, strict=True):
            if stored is None:
                line = {"split": split, "file": picture.name, "in": picture.path, "reason": reason}
                lines.append(json.dumps(line) + "\n")
            else:
                which = _file_of(number, len(lengths))
                record = _record(picture, stored)
                start = lengths[which] + HEADER + record.index(stored)
                index.setdefault(which, []).append((start, picture.label))
                by_file.setdefault(which, []).append(record)
                lengths[which] += len(record) + FRAME
            number += 1
    # TensorFlow's writer cannot append: it frames the round's records in a file of their own.
    framed = work / ".round"
    with tf.io.TFRecordWriter(str(framed)) as writer:
        for records in by_file.values():
            for record in records:
                writer.write(record)
    with open(framed, "rb") as file:
        for which, records in by_file.items():
            length = sum(len(record) + FRAME for record in records)
            with open(work / _part(split, which), "ab") as part:
                part.write(file.read(length))
            with open(work / index_name(_part(split, which)), "ab") as places:
                places.write(np.asarray(index[which], INDEX).tobytes())
            state.examples[split][which] += len(records)
    framed.unlink()
    text = "".join(lines).encode()
    with open(work / REJECTED, "ab") as file:
        file.write(text)
    state.rejected += len(lines)
    state.rejected_bytes += len(text)


def _file_of(number: int, files: int) -> int:
    digest = hashlib.blake2b(number.to_bytes(8, "little"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % files


def _record(picture: Picture, stored: bytes) -> bytes:
    name = picture.name.encode(errors="surrogateescape")
    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[stored])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[picture.label])),
        "file_name": tf.train.Feature(bytes_list=tf.train.BytesList(value=[name])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return example.SerializeToString(deterministic=True)  # or each process orders the fields in its own way


def _require_enough(data: ConfigDict, work: Path, state: State, expected: int) -> None:
    """Raises UserError if more pictures are rejected than may be of the `expected` ones."""
    if state.rejected > data.max_rejected * expected:
        raise UserError(
            f"{state.rejected} of {sum(state.done.values())} pictures could not be used, more than "
            f"config.data.max_rejected, {data.max_rejected:.1%}: see {work / REJECTED}; mend them (and remove "
            f"'{work}' to begin anew), or raise --config.data.max_rejected, and the same command goes on"
        )


def _finish(source: Source, data: ConfigDict, work: Path, state: State, sums: Sums, folder: Path) -> None:
    """Names the files as TFDS does, adds its metadata, and puts the folder in its place."""
    infos = []
    for split, lengths in state.examples.items():
        for part, final in _final_names(data, work, split, lengths).items():
            os.replace(part, final)
        shard_lengths = [examples for examples in lengths if examples]
        infos.append(tfds.core.SplitInfo(split, shard_lengths, sum(state.files[split]), _template(data, work, split)))
    sums.preprocessing().save(work / STATISTICS)
    if source.words:
        lines = (f"{synset}\t{words}\n" for synset, words in zip(source.classes, source.words, strict=True))
        (work / WORDS).write_text("".join(lines))
    tfds.folder_dataset.write_metadata(
        data_dir=work,
        features=features(data.resize, data.encoding, source.classes),
        split_infos=infos,
        version=VERSION,
        check_data=False,
        description=f"{data.name}: the central {data.resize}x{data.resize} of each picture.",
        supervised_keys=("image", "label"),
        disable_shuffling=False,
    )
    for path in work.iterdir():
        with open(path, "rb") as file:  # so that the renaming comes last on disk too
            os.fsync(file.fileno())
    os.replace(work, folder)
    for path in (folder / "state.json", *folder.glob("sums-*.npz"), folder / ".lock"):
        path.unlink()


def _template(data: ConfigDict, work: Path, split: str) -> tfds.core.ShardedFileTemplate:
    name = "".join(c if c.isalnum() else "_" for c in data.name) + f"_{data.resize}"
    return tfds.core.ShardedFileTemplate(data_dir=work, dataset_name=name, split=split, filetype_suffix="tfrecord")


def _final_names(data: ConfigDict, work: Path, split: str, examples: list[int]) -> dict[Path, Path]:
    """Of each file that holds anything, its name now and its name in TFDS's format."""
    full = [number for number, held in enumerate(examples) if held]
    template = _template(data, work, split)
    names = {}
    for place, number in enumerate(full):
        part, final = _part(split, number), Path(template.sharded_filepath(shard_index=place, num_shards=len(full)))
        names[work / part] = final
        names[work / index_name(part)] = work / index_name(final.name)
    return names


def statistics(batches: Iterable[np.ndarray]) -> Preprocessing:
    """Mean image and covariance of uint8 [b, side, side, 3] pictures, by sums that are exact."""
    sums = None
    for images in batches:
        sums = sums or Sums.zero(images.shape[1])
        sums.add(
            len(images),
            images.sum(axis=0, dtype=np.int64),
            np.sum([pictures.products(image) for image in images], axis=0),
        )
    if sums is None:
        raise ValueError("there are no pictures to take statistics of")
    return sums.preprocessing()


def preprocessing(source: Prepared, config: ConfigDict) -> Preprocessing:
    """The statistics of the config's training split; those of a slice are computed when first asked for."""
    data = config.data
    if "[" not in data.train_split and "+" not in data.train_split:
        return _load(source.folder / STATISTICS)
    name = f"preprocessing-{quote(data.train_split, safe='')}.npz"
    cache = [*folders(data)][-1]
    for folder in (source.folder, cache):
        if (folder / name).is_file():
            return _load(folder / name)
    say(f"computing the mean image and the RGB covariance of {source.examples(data.train_split)} pictures")
    result = statistics(pipeline.squares(source, data.train_split))
    for folder in (source.folder, cache):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            result.save(folder / name)
            break
        except OSError:
            continue  # data that cannot be written to has its statistics in the user's cache
    return result


def _load(path: Path) -> Preprocessing:
    try:
        return load(path)
    except ValueError as error:
        raise UserError(f"{error}; remove '{path.parent}' to prepare anew") from error
