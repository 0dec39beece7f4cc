"""The pictures whose features are nearest to those of others, by Euclidean distance (section 6.1)."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from alexnet_jax.data import centre_offset
from alexnet_jax.inference.decode_pool import Some
from alexnet_jax.inference.neighbour_sources import StoredSplit, padded, stored_batches
from alexnet_jax.inference.net import Net
from alexnet_jax.messages import say

NEAREST = 6  # neighbours of a picture, as in the paper's Figure 4
SPARE = 4  # more candidates than that: the quick search rounds, and their distances are computed again
BLOCK = 4096  # rows that are searched at a time


def nearest(queries: np.ndarray, blocks: Iterator[np.ndarray], count: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of least Euclidean distance to each query; among equals the first rows.

    Args:
      queries: float32 [queries, units].
      blocks: of consecutive rows, float32 [rows, units] each.
      count: how many rows for each query.

    Returns:
      Distances in rising order, float64 [queries, count], and their rows, int64 [queries, count]; fewer columns if
      there are fewer rows.
    """
    distances, rows = np.zeros((len(queries), 0)), np.zeros((len(queries), 0), np.int64)
    first = 0
    for block in blocks:
        search = NearestNeighbors(n_neighbors=min(count + SPARE, len(block)), algorithm="brute").fit(block)
        candidates = search.kneighbors(queries, return_distance=False)
        # The search subtracts products from squares, by which a picture would be some way from itself.
        exact = np.stack(
            [
                np.linalg.norm(block[at].astype(np.float64) - query, axis=1)
                for at, query in zip(candidates, queries, strict=True)
            ]
        )
        distances, rows = np.hstack([distances, exact]), np.hstack([rows, candidates + first])
        order = np.lexsort((rows, distances), axis=1)[:, :count]
        distances, rows = np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)
        first += len(block)
    return distances, rows


def features_of_split(net: Net, source: Any, split: str, layer: str) -> Iterator[np.ndarray]:
    """A layer's features of all pictures of a split: blocks of float32 [rows, units], computed as they are taken.

    Args:
      source: a `PreparedSet`.
    """
    size = net.batch_size(source.examples(split), [layer])
    say(f"computing {layer} of {source.examples(split)} pictures of {source.name}, {split}")
    block: list[np.ndarray] = []
    for features in _features(net, stored_batches(net.config, source, split, size), layer):
        block.append(features)
        if sum(map(len, block)) >= BLOCK:
            yield np.concatenate(block)
            block = []
    if block:
        yield np.concatenate(block)


def features_of_rows(net: Net, gallery: StoredSplit, rows: Sequence[int], layer: str) -> Iterator[np.ndarray]:
    """A layer's features of some rows of a split: blocks of float32 [rows, units], computed as they are taken."""
    data, size = net.config.data, net.batch_size(len(rows), [layer])
    parts = (rows[start : start + size] for start in range(0, len(rows), size))
    offset = centre_offset(data.resize, data.crop)
    batches = (padded(gallery.cut(part, data.crop), [""] * len(part), size, offset) for part in parts)
    return _features(net, batches, layer)


def _features(net: Net, batches: Iterator[Some], layer: str) -> Iterator[np.ndarray]:
    for _, features in net.features_of(batches, [layer]):
        yield features[layer].reshape(len(features[layer]), -1)
