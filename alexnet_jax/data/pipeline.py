"""tf.data: uint8 batches for training and evaluation, the same on every machine and mesh.

Randomness is stateless. The order of an epoch depends on the seed and the epoch; a picture's crop,
reflection and lighting on the seed, the epoch and the picture's number in the dataset. So the
position in the data is the number of steps done, and nothing else.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from alexnet_jax.data.sources import Source
from alexnet_jax.messages import UserError

Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class Group:
    """Files whose examples are in memory together, and the order in which they are used."""

    files: tuple[int, ...]
    order: np.ndarray  # places among the files' examples read one after the other
    numbers: np.ndarray  # the examples' numbers in the dataset, in that order


def steps_per_epoch(source: Source, split: str, batch_size: int) -> int:
    """Whole batches in the split. Raises UserError if there is none."""
    examples = source.examples(split)
    if examples < batch_size:
        raise UserError(
            f"config.train.batch_size is {batch_size} and the training set has {examples} pictures; "
            "set --config.train.batch_size to no more than that"
        )
    return examples // batch_size


def epoch_groups(lengths: list[int], together: int, seed: int, epoch: int) -> Iterator[Group]:
    """One epoch's order: the files shuffled, then the examples of every few of them.

    Args:
      lengths: examples in each file.
      together: at most so many examples in a group, but always one whole file.
    """
    first = np.concatenate([[0], np.cumsum(lengths)])
    queue = list(np.random.default_rng((seed, epoch)).permutation(len(lengths)))
    while queue:
        files = [queue.pop(0)]
        while queue and sum(lengths[f] for f in files) + lengths[queue[0]] <= together:
            files.append(queue.pop(0))
        numbers = np.concatenate([np.arange(first[f], first[f + 1]) for f in files])
        order = np.random.default_rng((seed, epoch, int(files[0]))).permutation(len(numbers))
        yield Group(tuple(int(f) for f in files), order, numbers[order])


def training_batches(
    source: Source, config: Any, lighting: np.ndarray, first_step: int, last_step: int
) -> Iterator[Batch]:
    """The batches of steps `first_step` to `last_step` - 1.

    Args:
      config: the whole config.
      lighting: float64 [3, 3], a column per principal axis of RGB, times its eigenvalue, on 0..255.

    Yields:
      `image` uint8 [b, crop, crop, 3], `label` int32 [b], `lighting` float32 [b, 3] on 0..255,
      `offset` int32 [b, 2] of the crop's first pixel, `reflected` bool [b].
    """
    split = config.data.train_split
    batch_size, seed, augment = config.train.batch_size, config.train.seed, config.augment
    batches = steps_per_epoch(source, split, batch_size)
    files = _files(source, split)
    lengths = [take for _, _, take in files]

    def groups() -> Iterator[tuple[Any, ...]]:
        step = first_step
        while step < last_step:
            epoch, batch = divmod(step, batches)
            skip = batch * batch_size
            left = (min(last_step - epoch * batches, batches)) * batch_size
            for group in epoch_groups(lengths, config.data.shuffle_examples, seed, epoch):
                used = slice(skip, left)
                if len(group.order[used]):
                    names, skips, takes = zip(*(files[f] for f in group.files), strict=True)
                    yield names, skips, takes, group.order[used], group.numbers[used], epoch
                skip, left = max(0, skip - len(group.order)), max(0, left - len(group.order))
            step = (epoch + 1) * batches

    def read(names: Any, skips: Any, takes: Any, order: Any, numbers: Any, epoch: Any) -> tf.data.Dataset:
        records = tf.data.Dataset.from_tensor_slices((names, skips, takes)).flat_map(_records)
        whole = records.batch(tf.cast(tf.reduce_sum(takes), tf.int64))
        return whole.map(lambda group: (tf.gather(group, order), numbers, tf.fill(tf.shape(numbers), epoch)))

    def example(record: tf.Tensor, number: tf.Tensor, epoch: tf.Tensor) -> dict[str, tf.Tensor]:
        image, label = _decode(source, record, config.data.resize)
        key = tf.random.fold_in(tf.random.fold_in(tf.constant([seed, 0], tf.int64), epoch), number)
        crop_key, flip_key, light_key = tf.unstack(tf.random.split(key, 3))
        room = config.data.resize - config.data.crop
        offset = tf.constant([room // 2] * 2, tf.int32)
        if augment.crops:
            offset = tf.random.stateless_uniform([2], crop_key, 0, room + 1, tf.int32)
        crop = _crop(image, offset, config.data.crop)
        reflected = tf.constant(False)
        if augment.reflections:
            reflected = tf.random.stateless_uniform([], flip_key) < 0.5
            crop = tf.cond(reflected, lambda: tf.reverse(crop, [1]), lambda: crop)
        draws = tf.random.stateless_normal([3], light_key, stddev=augment.lighting_stddev)
        shift = tf.linalg.matvec(tf.constant(lighting, tf.float32), draws)
        return {"image": crop, "label": label, "lighting": shift, "offset": offset, "reflected": reflected}

    file = tf.TensorSpec((None,), tf.int64)
    signature = (tf.TensorSpec((None,), tf.string), file, file, file, file, tf.TensorSpec((), tf.int64))
    dataset = tf.data.Dataset.from_generator(groups, output_signature=signature)
    dataset = dataset.flat_map(read).prefetch(1).unbatch()
    dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return iter(dataset.batch(batch_size, drop_remainder=True).prefetch(2).as_numpy_iterator())


def evaluation_batches(source: Source, config: Any, split: str) -> Iterator[Batch]:
    """Every picture of the split once, its centre crop; the last batch is padded.

    Yields:
      As `training_batches`, with no lighting, and `mask` bool [b], False for padding.
    """
    data, size = config.data, config.evaluate.batch_size
    source.examples(split)
    room = data.resize - data.crop

    def example(record: tf.Tensor) -> dict[str, tf.Tensor]:
        image, label = _decode(source, record, data.resize)
        offset = tf.constant([room // 2] * 2, tf.int32)
        return {"image": _crop(image, offset, data.crop), "label": label, "offset": offset}

    dataset = tf.data.Dataset.from_tensor_slices(_columns(_files(source, split))).flat_map(_records)
    dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    for batch in dataset.batch(size).prefetch(2).as_numpy_iterator():
        real = len(batch["label"])
        padded = {
            name: np.concatenate([values, np.zeros((size - real, *values.shape[1:]), values.dtype)])
            for name, values in batch.items()
        }
        yield {
            **padded,
            "lighting": np.zeros((size, 3), np.float32),
            "reflected": np.zeros(size, bool),
            "mask": np.arange(size) < real,
        }


def squares(source: Source, split: str, resize: int) -> Iterator[np.ndarray]:
    """Every picture of the split once, as uint8 [b, resize, resize, 3] in small batches."""
    dataset = tf.data.Dataset.from_tensor_slices(_columns(_files(source, split))).flat_map(_records)
    dataset = dataset.map(
        lambda record: _decode(source, record, resize)[0], num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    yield from dataset.batch(64).prefetch(2).as_numpy_iterator()


def _files(source: Source, split: str) -> list[tuple[str, int, int]]:
    source.examples(split)
    info = source.builder.info
    if info.file_format != tfds.core.FileFormat.TFRECORD:
        raise UserError(
            f"'{source.name}' in {source.folder} is stored as {info.file_format.value}, and only tfrecord is read; "
            f"run `tfds build {source.name} --file_format=tfrecord` with another --data_dir, and name that one"
        )
    files = info.splits[split].file_instructions
    return [(str(f.filename), f.skip, f.examples_in_shard - f.skip if f.take == -1 else f.take) for f in files]


def _columns(files: list[tuple[str, int, int]]) -> tuple[list[str], list[int], list[int]]:
    return [f[0] for f in files], [f[1] for f in files], [f[2] for f in files]


def _records(name: tf.Tensor, skip: tf.Tensor, take: tf.Tensor) -> tf.data.Dataset:
    count = (tf.cast(skip, tf.int64), tf.cast(take, tf.int64))
    return tf.data.TFRecordDataset(name).skip(count[0]).take(count[1])


def _decode(source: Source, record: tf.Tensor, resize: int) -> tuple[tf.Tensor, tf.Tensor]:
    """uint8 [resize, resize, 3]: the central square of the picture with its shorter side resized."""
    skip = {source.image_key: tfds.decode.SkipDecoding()}
    example = source.builder.info.features.deserialize_example(record, decoders=skip)
    image = tf.io.decode_image(example[source.image_key], channels=3, expand_animations=False)
    shape = tf.shape(image)
    shorter = tf.minimum(shape[0], shape[1])

    def resized() -> tf.Tensor:
        sides = tf.cast(tf.round(shape[:2] * resize / shorter), tf.int32)
        floats = tf.image.resize(image, sides, antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(floats), 0, 255), tf.uint8)

    image = tf.cond(shorter == resize, lambda: image, resized)
    first = (tf.shape(image)[:2] - resize) // 2
    return _crop(image, first, resize), tf.cast(example[source.label_key], tf.int32)


def _crop(image: tf.Tensor, first: tf.Tensor, size: int) -> tf.Tensor:
    part = tf.slice(image, [first[0], first[1], 0], [size, size, 3])
    return tf.ensure_shape(part, (size, size, 3))
