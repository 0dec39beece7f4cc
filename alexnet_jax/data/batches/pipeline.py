"""uint8 batches for training and evaluation, the same on every machine and mesh.

A batch is a function of its step and nothing else: an epoch's order and draws (`epoch.py`) depend only on the seed, the
epoch and the pictures' numbers. So the number of steps done gives the position in the data. Pictures are cut out of
the prepared files (`stored_squares.py`), for several steps at a time (`prefetch.py`).
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from alexnet_jax.data import centre_offset
from alexnet_jax.data.batches.batch import DTYPES, Batch, nothing_drawn
from alexnet_jax.data.batches.epoch import Draws, epoch_groups, lighting_matrix
from alexnet_jax.data.batches.prefetch import Prefetcher, aligned
from alexnet_jax.data.prepared.prepared_set import PreparedSet
from alexnet_jax.data.prepared.statistics import Statistics
from alexnet_jax.data.prepared.stored_squares import StoredSquares
from alexnet_jax.messages import UserError

FIELDS = tuple(DTYPES)
FIELDS_WITHOUT_MASK = tuple(name for name in DTYPES if name != "mask")


def steps_per_epoch(source: PreparedSet, config: ConfigDict) -> int:
    """The number of whole training batches, and the short last batch if it is kept. Raises UserError if it is 0."""
    examples, batch_size = source.examples(config.data.train_split), config.train.batch_size
    if config.data.short_batch == "keep":
        return -(-examples // batch_size)
    if examples < batch_size:
        raise UserError(
            f"config.train.batch_size is {batch_size}, but the training set has only {examples} pictures; set "
            "--config.train.batch_size to at most that number"
        )
    return examples // batch_size


def training_batches(
    source: PreparedSet,
    config: ConfigDict,
    statistics: Statistics,
    first_step: int,
    last_step: int,
    rows: slice = slice(None),
) -> Prefetcher:
    """The batches of steps `first_step` to `last_step` - 1; the caller closes the iterator.

    Args:
      config: the whole config.
      rows: the rows of each global batch that this process needs; the others are not decoded.

    Yields:
      Batches; with a mask if an epoch's short last batch is kept, which is filled up with its last picture.

    Raises:
      UserError: a file or record of the prepared set is damaged or missing.
    """
    data, seed = config.data, config.train.seed
    batches, keeps_short = steps_per_epoch(source, config), data.short_batch == "keep"
    stored = StoredSquares(source, data.train_split)
    lighting = lighting_matrix(statistics, config.augment)
    wanted = np.arange(config.train.batch_size)[rows]

    @lru_cache(maxsize=2)  # the end of an epoch and the beginning of the next
    def order_and_draws(epoch: int) -> tuple[np.ndarray, Draws]:
        order = 0 if data.order == "fixed" else epoch
        groups = epoch_groups(stored.lengths, data.shuffle_examples, seed, order)
        return np.concatenate([numbers for _, numbers in groups]), Draws(config, lighting, sum(stored.lengths), epoch)

    def batch(step: int) -> Batch:
        epoch, first = divmod(step, batches)
        order, draws = order_and_draws(epoch)
        wished = first * config.train.batch_size + wanted
        positions = np.minimum(wished, len(order) - 1)
        numbers = order[positions]
        drawn = draws.of(numbers, positions)
        images = aligned((len(numbers), data.crop, data.crop, 3))
        labels = stored.cut(images, numbers, drawn["offset"], drawn["reflected"])
        if config.augment.mean == "centre":  # the 2012 code subtracts it from every crop (convdata_jpeg.py:95)
            drawn["offset"] = np.full_like(drawn["offset"], centre_offset(data.resize, data.crop))
            drawn["reflected"] = np.zeros_like(drawn["reflected"])
        return Batch(image=images, label=labels, mask=wished < len(order) if keeps_short else None, **drawn)

    return Prefetcher(batch, first_step, last_step, FIELDS if keeps_short else FIELDS_WITHOUT_MASK)


def evaluation_batches(
    source: PreparedSet, config: ConfigDict, split: str, whole: bool = False, rows: slice = slice(None)
) -> Prefetcher:
    """Every picture of the split once; the last batch is padded. The caller closes the iterator.

    Args:
      whole: whether to take the whole square of each picture instead of its central crop.
      rows: the rows of each global batch that this process needs; the others are not decoded.

    Yields:
      Batches without lighting, and with a mask.

    Raises:
      UserError: a file or record of the prepared set is damaged or missing; or a picture has no label.
    """
    data, wanted = config.data, np.arange(config.evaluate.batch_size)[rows]
    size = len(wanted)
    stored, examples = StoredSquares(source, split), source.examples(split)
    first = 0 if whole else centre_offset(data.resize, data.crop)
    side = data.resize if whole else data.crop
    alike = nothing_drawn(size, first)

    def batch(number: int) -> Batch:
        numbers = number * config.evaluate.batch_size + wanted
        numbers = numbers[numbers < examples]
        images = aligned((size, side, side, 3))
        images[len(numbers) :] = 0
        labels = stored.cut(images, numbers, alike["offset"], alike["reflected"])
        if len(labels) and (labels.min() < 0 or labels.max() >= len(source.classes)):
            raise UserError(f"the split '{split}' of '{source.name}' has pictures without a label; name another split")
        padded = np.concatenate([labels, np.zeros(size - len(labels), np.int32)])
        return Batch(image=images, label=padded, mask=np.arange(size) < len(labels), **alike)

    return Prefetcher(batch, 0, -(-examples // config.evaluate.batch_size), FIELDS)


def squares(source: PreparedSet, split: str) -> Iterator[UInt8[np.ndarray, "batch resize resize 3"]]:
    """The square of every picture of the split once, in small batches."""
    stored, examples, size = StoredSquares(source, split), source.examples(split), 64

    def batch(number: int) -> Batch:
        numbers = np.arange(number * size, min((number + 1) * size, examples))
        images, alike = aligned((len(numbers), source.resize, source.resize, 3)), nothing_drawn(len(numbers), 0)
        labels = stored.cut(images, numbers, alike["offset"], alike["reflected"])
        return Batch(image=images, label=labels, **alike)

    with Prefetcher(batch, 0, -(-examples // size), FIELDS_WITHOUT_MASK) as batches:
        for of_some in batches:
            yield of_some.image
