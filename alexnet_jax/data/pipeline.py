"""uint8 batches for training and evaluation, the same on every machine and mesh.

Randomness is stateless. The order of an epoch depends on the seed and the epoch; a picture's crop,
reflection and lighting on the seed, the epoch and the picture's number in the dataset. So the
position in the data is the number of steps done, and nothing else: a batch is a function of it.

tf.data computes that function for several steps at a time. All is drawn by NumPy, for a whole epoch
at once, and cut out of the prepared files where they lie: by TensorFlow, picture by picture, the
draws alone would take longer than a raw picture does.
"""

import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import simplejpeg

from alexnet_jax.data.prepared import INDEX, Prepared, Preprocessing, index_name
from alexnet_jax.data.tensorflow import tf
from alexnet_jax.messages import UserError

Batch = dict[str, np.ndarray]
Part = tuple[str, int, int]  # of a file: its name, records to skip, records to take
ANEW = "remove the folder of the prepared set, and it is prepared anew"
ALIGNMENT = 64  # bytes; TensorFlow and JAX copy an array that does not begin at a multiple


# What a batch may hold, see `training_batches` and `evaluation_batches`.
TYPES = {
    "image": np.uint8,
    "label": np.int32,
    "lighting": np.float32,
    "offset": np.int32,
    "reflected": np.bool_,
    "scale": np.float32,
}


def steps_per_epoch(source: Prepared, split: str, batch_size: int) -> int:
    """Whole batches in the split. Raises UserError if there is none."""
    examples = source.examples(split)
    if examples < batch_size:
        raise UserError(
            f"config.train.batch_size is {batch_size} and the training set has {examples} pictures; "
            "set --config.train.batch_size to no more than that"
        )
    return examples // batch_size


def epoch_groups(
    lengths: Sequence[int], together: int, seed: int, epoch: int
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """One epoch's order: the files shuffled, then the examples of every few of them.

    Args:
      lengths: examples in each file.
      together: at most so many examples in a group, but always one whole file.

    Yields:
      Of each group its files, and its examples' numbers in the dataset in the order in which they are used.
    """
    first = np.concatenate([[0], np.cumsum(lengths)])
    queue = deque(int(file) for file in np.random.default_rng((seed, epoch)).permutation(len(lengths)))
    while queue:
        files = [queue.popleft()]
        size = lengths[files[0]]
        while queue and size + lengths[queue[0]] <= together:
            size += lengths[queue[0]]
            files.append(queue.popleft())
        numbers = np.concatenate([np.arange(first[f], first[f + 1]) for f in files])
        yield tuple(files), numbers[np.random.default_rng((seed, epoch, files[0])).permutation(size)]


def lighting_matrix(preprocessing: Preprocessing, augment: Any) -> np.ndarray:
    """float64 [3, 3], a column per principal axis of RGB, times what the config scales it by, on 0..255."""
    return preprocessing.lighting if augment.lighting == "eigenvalue" else preprocessing.root_lighting


def training_batches(
    source: Prepared,
    config: Any,
    preprocessing: Preprocessing,
    first_step: int,
    last_step: int,
    rows: slice = slice(None),
) -> Iterator[Batch]:
    """The batches of steps `first_step` to `last_step` - 1.

    Args:
      config: the whole config.
      rows: of each global batch, those that are wanted; the others are not decoded.

    Yields:
      `image` uint8 [b, crop, crop, 3]; `label` int32 [b]; `lighting` float32 [b, 3] on 0..255;
      `offset` int32 [b, 2], the first pixel of the part of the mean image to subtract, and
      `reflected` bool [b], whether to mirror it; `scale` float32 [b], a factor at the end.

    Raises:
      UserError: a file or record of the prepared set is damaged or not there.
    """
    data, seed = config.data, config.train.seed
    batches = steps_per_epoch(source, data.train_split, config.train.batch_size)
    pictures = Pictures(source, data.train_split)
    lighting = lighting_matrix(preprocessing, config.augment)
    wanted = np.arange(config.train.batch_size)[rows]

    @lru_cache(maxsize=2)  # the end of an epoch and the beginning of the next
    def order_and_draws(epoch: int) -> tuple[np.ndarray, Draws]:
        order = 0 if data.order == "fixed" else epoch
        groups = epoch_groups(pictures.lengths, data.shuffle_examples, seed, order)
        return np.concatenate([numbers for _, numbers in groups]), Draws(config, lighting, sum(pictures.lengths), epoch)

    def batch(step: int) -> Batch:
        epoch, first = divmod(step, batches)
        order, draws = order_and_draws(epoch)
        positions = first * config.train.batch_size + wanted
        numbers = order[positions]
        drawn = draws.of(numbers, positions)
        images = _aligned((len(numbers), data.crop, data.crop, 3))
        labels = pictures.cut(images, numbers, drawn["offset"], drawn["reflected"])
        if config.augment.mean == "centre":  # the source subtracts it from every crop (convdata_jpeg.py:95)
            drawn["offset"] = np.full_like(drawn["offset"], (data.resize - data.crop) // 2)
            drawn["reflected"] = np.zeros_like(drawn["reflected"])
        return {"image": images, "label": labels, **drawn}

    return _computed(batch, first_step, last_step, TYPES)


class Draws:
    """What is drawn for the pictures of one epoch."""

    def __init__(self, config: Any, lighting: np.ndarray, examples: int, epoch: int) -> None:
        """Draws for all of them.

        Args:
          lighting: see `lighting_matrix`.
          examples: in the split.
        """
        augment, room = config.augment, config.data.resize - config.data.crop
        self._per_draw = augment.pictures_per_draw
        count = -(-examples // self._per_draw)
        # Four words: no draw of an order has as many, and shorter keys are filled up with zeros.
        rng = np.random.default_rng((config.train.seed, epoch, 0, 1))
        places = max(1, room + 1 if augment.offsets_inclusive else room)  # 33 or the paper's 32
        offsets = rng.integers(0, places, (count, 2), np.int16)
        reflected = rng.random(count, np.float32) < 0.5
        self._offsets = offsets if augment.crops else np.full_like(offsets, room // 2)
        self._reflected = reflected if augment.reflections else np.zeros_like(reflected)
        rng = np.random.default_rng((config.train.seed, epoch, 0, 2))
        is_lit = epoch < (augment.lighting_until or np.inf)
        stddev = augment.lighting_stddev if is_lit else 0.0
        factors = stddev * rng.standard_normal((examples, 3), np.float32)
        axes = lighting.astype(np.float32)
        # A sum of three, and no product of matrices: that one's rounding is the library's and its threads'.
        self._lighting = factors[:, :1] * axes[:, 0] + factors[:, 1:2] * axes[:, 1] + factors[:, 2:] * axes[:, 2]
        # The source scales a lit picture down, so that its pixels vary no more than before (convdata_jpeg.py:155-179).
        self._scale = 1 / (1 + augment.lighting_stddev) if is_lit and augment.lighting == "root" else 1.0

    def of(self, numbers: np.ndarray, positions: np.ndarray) -> Batch:
        """`offset`, `reflected`, `lighting` and `scale` of pictures, see `training_batches`.

        Args:
          numbers: in the dataset.
          positions: in the epoch; neighbours there may share a crop and a reflection.
        """
        place = numbers if self._per_draw == 1 else positions // self._per_draw
        return {
            "offset": self._offsets[place].astype(np.int32),
            "reflected": self._reflected[place],
            "lighting": self._lighting[numbers],
            "scale": np.full(len(numbers), self._scale, np.float32),
        }


def _computed(batch: Callable[[int], Batch], first: int, last: int, types: dict[str, Any]) -> Iterator[Batch]:
    """`batch` of each number from `first` to `last` - 1, in their order, as many at a time as there are cores."""
    refused: list[UserError] = []

    def arrays(number: np.ndarray) -> list[np.ndarray]:
        try:
            made = batch(int(number))
        except UserError as error:  # raised below: here TensorFlow would print where it came from
            refused.append(error)
            return [np.empty(0, dtype) for dtype in types.values()]
        return [made[name] for name in types]

    def tensors(number: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(types, tf.numpy_function(arrays, [number], [*types.values()]), strict=True))

    dataset = tf.data.Dataset.range(first, last).map(tensors, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    running = [dataset.prefetch(2).as_numpy_iterator()]

    def batches() -> Iterator[Batch]:
        while running:
            made = next(running[0], None)
            if made is None:
                return
            if not len(made["image"]):
                raise refused[0]
            yield made

    coming = batches()
    # TensorFlow's threads run `batch`: they end before the interpreter does, or it would wait for them forever.
    weakref.finalize(coming, running.clear)
    return coming


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """uint8 of that shape, at an address that TensorFlow and JAX take as it is and need not copy."""
    size = int(np.prod(shape))
    room = np.empty(size + ALIGNMENT, np.uint8)
    first = -room.ctypes.data % ALIGNMENT
    return room[first : first + size].reshape(shape)


class Pictures:
    """The squares of a split, cut out of its files where they lie in memory."""

    def __init__(self, source: Prepared, split: str) -> None:
        """Opens nothing yet. Raises UserError if there is no such split."""
        source.examples(split)
        files = source.builder.info.splits[split].file_instructions
        self._files: list[Part] = [
            (str(f.filename), f.skip, f.examples_in_shard - f.skip if f.take == -1 else f.take) for f in files
        ]
        self.lengths = [take for _, _, take in self._files]  # examples of each file
        self._resize, self._encoding = source.resize, source.encoding
        self._first = np.concatenate([[0], np.cumsum(self.lengths)])
        self._checked: set[int] = set()
        self._one_at_a_time = Lock()
        self._opened = lru_cache(maxsize=64)(self._open)  # each holds a file descriptor

    def cut(self, images: np.ndarray, numbers: np.ndarray, offset: np.ndarray, reflected: np.ndarray) -> np.ndarray:
        """Fills `images`, and returns their labels, int32 [b].

        Args:
          images: uint8 [b, side, side, 3], of which as many are filled as there are numbers.
          numbers: [b], of pictures in the split.
          offset: [b, 2], row and column of the first pixel.
          reflected: bool [b], whether the picture is mirrored, left to right, after the cut.

        Raises:
          UserError: a file is not there or a record of it is damaged; looked for when first used.
        """
        size = images.shape[1]
        labels = np.empty(len(numbers), np.int32)
        files = np.searchsorted(self._first, numbers, side="right") - 1
        for i, (number, file) in enumerate(zip(numbers.tolist(), files.tolist(), strict=True)):
            with self._one_at_a_time:
                content, starts, labels_there = self._opened(file)
            place = number - int(self._first[file])
            labels[i] = labels_there[place]
            row, column = offset[i]
            square = self._square(file, place, content[starts[place] : starts[place + 1]])
            crop = square[row : row + size, column : column + size]
            if reflected[i]:
                for channel in range(3):  # a channel at a time is seven times faster than all at once
                    images[i, :, :, channel] = crop[:, ::-1, channel]
            else:
                images[i] = crop
        return labels

    def _square(self, file: int, place: int, stored: np.ndarray) -> np.ndarray:
        """uint8 [resize, resize, 3] of a picture's bytes and those that follow it in its record."""
        side = self._resize
        if self._encoding == "raw":
            return stored[: side * side * 3].reshape(side, side, 3)
        try:
            return simplejpeg.decode_jpeg(stored)
        except ValueError as error:
            name, skip, _ = self._files[file]
            raise UserError(f"record {skip + place} of '{name}' cannot be decoded ({error}); {ANEW}") from error

    def _open(self, file: int) -> tuple[np.ndarray, list[int], list[int]]:
        """A file's bytes; where each of its pictures begins, and where the last one's record ends; the labels."""
        name, skip, take = self._files[file]
        if file not in self._checked:
            damage = _damage_in(self._files[file])
            if damage:
                raise UserError(damage)
            self._checked.add(file)
        index = np.fromfile(Path(name).with_name(index_name(Path(name).name)), INDEX)
        content = np.asarray(np.memmap(name, np.uint8, "r"))
        starts = [*index["offset"].tolist(), len(content)]
        return content, starts[skip : skip + take + 1], index["label"][skip : skip + take].tolist()


def evaluation_batches(source: Prepared, config: Any, split: str, whole: bool = False) -> Iterator[Batch]:
    """Every picture of the split once; the last batch is padded.

    Args:
      whole: the whole square of each picture instead of its central crop.

    Yields:
      As `training_batches`, with no lighting, and `mask` bool [b], False for padding. With `whole`,
      `image` is uint8 [b, resize, resize, 3] and `offset` is 0.

    Raises:
      UserError: as `training_batches`; or a picture has no label.
    """
    data, size = config.data, config.evaluate.batch_size
    pictures, examples = Pictures(source, split), source.examples(split)
    first = 0 if whole else (data.resize - data.crop) // 2
    side = data.resize if whole else data.crop
    alike = {
        "lighting": np.zeros((size, 3), np.float32),
        "offset": np.full((size, 2), first, np.int32),
        "reflected": np.zeros(size, bool),
        "scale": np.ones(size, np.float32),
    }

    def batch(number: int) -> Batch:
        numbers = np.arange(number * size, min((number + 1) * size, examples))
        images = _aligned((size, side, side, 3))
        images[len(numbers) :] = 0
        labels = pictures.cut(images, numbers, alike["offset"], alike["reflected"])
        if labels.min() < 0 or labels.max() >= len(source.classes):
            raise UserError(f"the split '{split}' of '{source.name}' has pictures without a label; name another split")
        padded = np.concatenate([labels, np.zeros(size - len(labels), np.int32)])
        return {"image": images, "label": padded, "mask": np.arange(size) < len(labels), **alike}

    return _computed(batch, 0, -(-examples // size), {**TYPES, "mask": np.bool_})


def squares(source: Prepared, split: str) -> Iterator[np.ndarray]:
    """Every picture of the split once, as uint8 [b, resize, resize, 3] in small batches."""
    pictures, examples, size = Pictures(source, split), source.examples(split), 64

    def batch(number: int) -> Batch:
        numbers = np.arange(number * size, min((number + 1) * size, examples))
        images = _aligned((len(numbers), source.resize, source.resize, 3))
        pictures.cut(images, numbers, np.zeros((len(numbers), 2), int), np.zeros(len(numbers), bool))
        return {"image": images}

    for made in _computed(batch, 0, -(-examples // size), {"image": np.uint8}):
        yield made["image"]


def _damage_in(file: Part) -> str | None:
    """What is wrong with the file, by the checksums of its records."""
    name, skip, take = file
    record = 0
    try:
        for _ in tf.data.TFRecordDataset(name):
            record += 1
    except tf.errors.NotFoundError:
        return f"'{name}' of the prepared set is not there; {ANEW}"
    except tf.errors.DataLossError:
        return f"record {record} of '{name}' is damaged (counted from 0); {ANEW}"
    if record < skip + take:
        return f"'{name}' ends after {record} records and should have {skip + take} at least; {ANEW}"
    return None
