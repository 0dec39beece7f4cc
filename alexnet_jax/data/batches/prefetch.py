"""Computes batches ahead of their use, in threads with an owner."""

import atexit
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

import numpy as np
from jaxtyping import UInt8

from alexnet_jax.data.batches.batch import DTYPES, Batch
from alexnet_jax.data.tensorflow import tf
from alexnet_jax.messages import UserError

ALIGNMENT = 64  # bytes; TensorFlow and JAX copy an array whose address is no multiple


class Prefetcher(Iterator[Batch]):
    """Batches in the order of their numbers, computed by as many threads as there are cores.

    The threads are TensorFlow's, and belong to the maker of the `Prefetcher`. They end with `close` or `with`, after
    the last batch or an error, and at the latest with the program.
    """

    def __init__(self, compute: Callable[[int], Batch], first: int, last: int, fields: Sequence[str]) -> None:
        """Computes nothing before the first batch is asked for.

        Args:
          compute: makes the batch with a number; several threads call it at a time. It may raise UserError.
          first: the number of the first batch.
          last: the number of the last batch, plus one.
          fields: the batch's fields that are arrays; the others are None. `image` has at least one row.
        """
        self._compute, self._fields = compute, fields
        self._error: UserError | None = None
        numbers = tf.data.Dataset.range(first, last)
        tensors = tf.autograph.experimental.do_not_convert(self._tensors)  # conversion would take a fifth of a second
        dataset = numbers.map(tensors, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        # Deleting TensorFlow's iterator ends its threads, and waits for them.
        self._iterator: Iterator[dict[str, np.ndarray]] | None = dataset.prefetch(2).as_numpy_iterator()
        # The threads run Python, so they must end before the interpreter, which would wait for them forever.
        atexit.register(self.close)

    def __next__(self) -> Batch:
        """The next batch. Raises UserError if it could not be computed; StopIteration also after `close`."""
        arrays = next(self._iterator, None) if self._iterator else None
        if arrays is None:
            self.close()
            raise StopIteration
        if not len(arrays["image"]) and self._error:
            self.close()
            raise self._error
        return Batch(**{name: arrays.get(name) for name in DTYPES})

    def close(self) -> None:
        """Ends the threads; no batches follow. May be called again."""
        self._iterator = None
        atexit.unregister(self.close)

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _tensors(self, number: tf.Tensor) -> dict[str, tf.Tensor]:
        arrays = tf.numpy_function(self._arrays, [number], [DTYPES[name] for name in self._fields])
        return dict(zip(self._fields, arrays, strict=True))

    def _arrays(self, number: np.int64) -> list[np.ndarray]:
        try:
            batch = self._compute(int(number))
        except UserError as error:  # `__next__` raises it; here TensorFlow would print a traceback
            self._error = self._error or error
            return [np.empty(0, DTYPES[name]) for name in self._fields]
        return [getattr(batch, name) for name in self._fields]


def aligned(shape: tuple[int, ...]) -> UInt8[np.ndarray, "..."]:
    """An uninitialised array, at an address that TensorFlow and JAX use without a copy."""
    size = int(np.prod(shape))
    room = np.empty(size + ALIGNMENT, np.uint8)
    first = -room.ctypes.data % ALIGNMENT
    return room[first : first + size].reshape(shape)
