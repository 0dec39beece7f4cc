"""The pictures whose features are nearest to those of others, by Euclidean distance (section 6.1)."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from alexnet_jax.data import centre_offset
from alexnet_jax.data.batches.batch import without_draws
from alexnet_jax.inference.decode_pool import Some
from alexnet_jax.inference.neighbour_sources import StoredSplit, stored_batches
from alexnet_jax.inference.net import Net
from alexnet_jax.messages import say

NEAREST = 6
SPARE = 4  # more than that are measured anew, as the quick search rounds
BLOCK = 4096  # rows that are looked at at a time


def nearest(queries: np.ndarray, blocks: Iterator[np.ndarray], count: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of least Euclidean distance to each query; of those that tie, the first.

    Args:
      queries: float32 [queries, units].
      blocks: float32 [rows, units] each, of rows that follow one another.

    Returns:
      float64 [queries, count], distances in rising order, and int64 [queries, count], rows; fewer columns where there
      are fewer rows.
    """
    distances, rows = np.zeros((len(queries), 0)), np.zeros((len(queries), 0), np.int64)
    first = 0
    for block in blocks:
        search = NearestNeighbors(n_neighbors=min(count + SPARE, len(block)), algorithm="brute").fit(block)
        close = search.kneighbors(queries, return_distance=False)
        # Measured anew by the differences: the search's squares less products leave a picture some way from itself.
        exact = np.stack(
            [
                np.linalg.norm(block[at].astype(np.float64) - query, axis=1)
                for at, query in zip(close, queries, strict=True)
            ]
        )
        distances, rows = np.hstack([distances, exact]), np.hstack([rows, close + first])
        order = np.lexsort((rows, distances), axis=1)[:, :count]
        distances, rows = np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)
        first += len(block)
    return distances, rows


def features_of_split(net: Net, source: Any, split: str, layer: str) -> Iterator[np.ndarray]:
    """float32 [rows, units] of all pictures of a prepared split, a block of rows at a time, as they are computed.

    Args:
      source: see `PreparedSet`.
    """
    size = net.batch_size(source.examples(split), [layer])
    say(f"computing {layer} of {source.examples(split)} pictures of {source.name}, {split}")
    held: list[np.ndarray] = []
    for _, made in net.features_of(stored_batches(net.config, source, split, size), [layer]):
        held.append(made[layer].reshape(len(made[layer]), -1))
        if sum(map(len, held)) >= BLOCK:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def features_of_rows(net: Net, gallery: StoredSplit, rows: Sequence[int], layer: str) -> Iterator[np.ndarray]:
    """float32 [rows, units] of some pictures of a prepared split, a block at a time."""
    data, size = net.config.data, net.batch_size(len(rows), [layer])

    def batches() -> Iterator[Some]:
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            images = np.zeros((size, data.crop, data.crop, 3), np.uint8)
            images[: len(some)] = gallery.cut(some, data.crop)
            yield Some(without_draws(images, centre_offset(data.resize, data.crop)), [""] * len(some))

    for _, made in net.features_of(batches(), [layer]):
        yield made[layer].reshape(len(made[layer]), -1)
