"""The record files of an unfinished set: each holds a random part of a split, and has an index beside it."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alexnet_jax.data.decode.squares import Picture
from alexnet_jax.data.prepared.prepared_set import INDEX, index_name, labels_of
from alexnet_jax.data.prepared.progress import Progress
from alexnet_jax.data.tensorflow import tf, tfds

HEADER, FRAME = 12, 16  # bytes that TFRecord adds to a record, before it and in all


class Shards:
    """The record files in the folder where a set is made; keeps `files` and `examples` of the progress up to date."""

    def __init__(self, folder: Path, set_name: str, progress: Progress) -> None:
        """Opens no file.

        Args:
          set_name: begins the files' final names.
        """
        self._folder, self._set_name, self._progress = folder, set_name, progress

    def append(self, split: str, stored: Sequence[tuple[int, Picture, bytes]]) -> None:
        """Appends records to their files.

        Args:
          stored: for each picture its number in the split, which decides the file; the picture; and its square.
        """
        lengths = self._progress.files[split]
        by_file: dict[int, list[bytes]] = {}
        index: dict[int, list[tuple[int, int]]] = {}
        for number, picture, square in stored:
            which = _file_of(number, len(lengths))
            record = _record(picture, square)
            start = lengths[which] + HEADER + record.index(square)
            index.setdefault(which, []).append((start, picture.label))
            by_file.setdefault(which, []).append(record)
            lengths[which] += len(record) + FRAME
        # TensorFlow's writer cannot append, so it writes a temporary file, whose parts are copied.
        framed = self._folder / ".round"
        with tf.io.TFRecordWriter(str(framed)) as writer:
            for records in by_file.values():
                for record in records:
                    writer.write(record)
        with open(framed, "rb") as file:
            for which, records in by_file.items():
                name = _part_name(split, which)
                with open(self._folder / name, "ab") as part:
                    part.write(file.read(sum(len(record) + FRAME for record in records)))
                with open(self._folder / index_name(name), "ab") as places:
                    places.write(np.asarray(index[which], INDEX).tobytes())
                self._progress.examples[split][which] += len(records)
        framed.unlink()

    def labels(self, split: str) -> np.ndarray:
        """int64 [pictures], the labels in the split's files, which have no final names yet."""
        examples = self._progress.examples[split]
        parts = [_part_name(split, number) for number, held in enumerate(examples) if held]
        return np.concatenate([np.zeros(0, np.int64), *(labels_of(self._folder, part) for part in parts)])

    def lengths(self) -> dict[Path, int]:
        """The length in bytes of each file and index, by the progress."""
        found = {}
        for split, files in self._progress.files.items():
            for number, length in enumerate(files):
                name = _part_name(split, number)
                found[self._folder / name] = length
                found[self._folder / index_name(name)] = self._progress.examples[split][number] * INDEX.itemsize
        return found

    def undo_names(self) -> None:
        """Takes back final names, if the preparation was killed at its very end."""
        for split in self._progress.examples:
            for part, final in self._final_names(split).items():
                if final.exists():
                    os.replace(final, part)

    def finish(self, split: str) -> tfds.core.SplitInfo:
        """Gives the split's files their final names in TFDS's format, and returns TFDS's description of the split."""
        for part, final in self._final_names(split).items():
            os.replace(part, final)
        shard_lengths = [examples for examples in self._progress.examples[split] if examples]
        return tfds.core.SplitInfo(split, shard_lengths, sum(self._progress.files[split]), self._template(split))

    def _template(self, split: str) -> tfds.core.ShardedFileTemplate:
        return tfds.core.ShardedFileTemplate(
            data_dir=self._folder, dataset_name=self._set_name, split=split, filetype_suffix="tfrecord"
        )

    def _final_names(self, split: str) -> dict[Path, Path]:
        """For each file that is not empty, its name now and its final name in TFDS's format."""
        full = [number for number, held in enumerate(self._progress.examples[split]) if held]
        template = self._template(split)
        names = {}
        for place, number in enumerate(full):
            part = _part_name(split, number)
            final = Path(template.sharded_filepath(shard_index=place, num_shards=len(full)))
            names[self._folder / part] = final
            names[self._folder / index_name(part)] = self._folder / index_name(final.name)
        return names


def _part_name(split: str, number: int) -> str:
    return f"{split}-{number:05d}.part"


def _file_of(number: int, files: int) -> int:
    digest = hashlib.blake2b(number.to_bytes(8, "little"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % files


def _record(picture: Picture, square: bytes) -> bytes:
    name = picture.name.encode(errors="surrogateescape")
    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[square])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[picture.label])),
        "file_name": tf.train.Feature(bytes_list=tf.train.BytesList(value=[name])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return example.SerializeToString(deterministic=True)  # otherwise the order of the fields differs between processes
