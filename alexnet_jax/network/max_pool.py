"""Overlapping max pooling (section 3.4), with gradients that are faster than XLA's own.

XLA's gradient scatters: each window adds its gradient to the position of its maximum. Here each position gathers, from
the few windows that it lies in.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int8

from alexnet_jax.network.architecture import Rounding, Ties

Maps = Float[Array, "batch height width maps"]
Pooled = Float[Array, "batch rows columns maps"]
Places = Int8[Array, "batch rows columns maps"]  # window * row + column of a maximum, counted in its window


class _Window(NamedTuple):
    """The shape of a pooling, known when it is compiled."""

    height: int  # of the maps that are pooled
    width: int
    window: int
    stride: int
    hangs_over: bool  # whether a last window may reach beyond the edge, and takes what is there


def max_pool(x: Maps, window: int, stride: int, rounding: Rounding = "down", ties: Ties = "first") -> Pooled:
    """Maximum of every window x window positions, `stride` apart, without padding (section 3.4).

    Args:
      rounding: up: a last window may hang over the edge, and takes the maximum of the positions that exist.
      ties: among equal maxima of a window, whether the first gets the gradient or each gets all of it.
    """
    pooling = _Window(x.shape[1], x.shape[2], window, stride, rounding == "up")
    return _max_pool_to_all(x, pooling) if ties == "all" else _max_pool_to_first(x, pooling)


def _maxima(x: Maps, pooling: _Window) -> Pooled:
    height, width, window, stride, hangs_over = pooling
    over = [-(size - window) % stride if hangs_over else 0 for size in (height, width)]
    padding = [(0, 0), (0, over[0]), (0, over[1]), (0, 0)]
    maxima: Pooled = lax.reduce_window(x, -jnp.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1), padding)
    return maxima


_max_pool_to_first = jax.custom_vjp(_maxima, nondiff_argnums=(1,))
_max_pool_to_all = jax.custom_vjp(_maxima, nondiff_argnums=(1,))


def _padded_to_windows(x: Maps, maxima: Pooled, pooling: _Window) -> Float[Array, "batch reached across maps"]:
    """The maps with -inf beyond the edges, as far as the last windows reach."""
    rows, columns = ((size - 1) * pooling.stride + pooling.window for size in maxima.shape[1:3])
    over = max(0, rows - pooling.height), max(0, columns - pooling.width)
    return lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), [(0, 0, 0), (0, over[0], 0), (0, over[1], 0), (0, 0, 0)])


def _at(padded: Maps, i: int, j: int, maxima: Pooled, stride: int) -> Pooled:
    """The value in row i and column j of every window."""
    last = [start + (size - 1) * stride + 1 for start, size in zip((i, j), maxima.shape[1:3], strict=True)]
    return padded[:, i : last[0] : stride, j : last[1] : stride]


def _forward_to_first(x: Maps, pooling: _Window) -> tuple[Pooled, Places]:
    """The maxima, and for the gradient the place of the first maximum in each window."""
    window = pooling.window
    maxima = _max_pool_to_first(x, pooling)
    padded = _padded_to_windows(x, maxima, pooling)
    place = jnp.full(maxima.shape, -1, jnp.int8)
    for i in reversed(range(window)):
        for j in reversed(range(window)):
            here = _at(padded, i, j, maxima, pooling.stride) == maxima
            place = jnp.where(here, jnp.int8(window * i + j), place)
    return maxima, place


def _gradient_to_first(pooling: _Window, place: Places, gradient: Pooled) -> tuple[Maps]:
    """The gradient of the maps: the sum, at each position, over the windows whose first maximum lies there.

    The maps are cut into blocks of stride x stride positions. Position (r, c) of a block lies at
    (r + i * stride, c + j * stride) of the window that begins i blocks above and j blocks to the left, if that is still
    within the window.
    """
    height, width, window, stride, _ = pooling
    earlier = (window - 1) // stride  # how many blocks before a position's own a window that has it may begin
    blocks = -(-height // stride), -(-width // stride)
    edges = [
        (0, 0, 0),
        *((earlier, max(0, n - m), 0) for n, m in zip(blocks, place.shape[1:3], strict=True)),
        (0, 0, 0),
    ]
    place, gradient = lax.pad(place, jnp.int8(-1), edges), lax.pad(gradient, jnp.zeros((), gradient.dtype), edges)
    row = jnp.arange(stride, dtype=jnp.int8).reshape(1, 1, stride, 1, 1, 1)  # within a block
    column = jnp.arange(stride, dtype=jnp.int8).reshape(1, 1, 1, 1, stride, 1)
    sums = jnp.zeros((), gradient.dtype)
    for i in range(earlier + 1):
        for j in range(earlier + 1):
            top, left = earlier - i, earlier - j
            their_place = place[:, top : top + blocks[0], None, left : left + blocks[1], None]
            their_gradient = gradient[:, top : top + blocks[0], None, left : left + blocks[1], None]
            within_row, within_column = row + i * stride, column + j * stride
            here = (their_place == window * within_row + within_column) & (within_column < window)
            sums = sums + jnp.where(here, their_gradient, 0)
    whole = sums.reshape(place.shape[0], blocks[0] * stride, blocks[1] * stride, place.shape[3])
    return (whole[:, :height, :width],)


_max_pool_to_first.defvjp(_forward_to_first, _gradient_to_first)


def _forward_to_all(x: Maps, pooling: _Window) -> tuple[Pooled, tuple[Maps, Pooled]]:
    maxima = _max_pool_to_all(x, pooling)
    return maxima, (x, maxima)


def _gradient_to_all(pooling: _Window, kept: tuple[Maps, Pooled], gradient: Pooled) -> tuple[Maps]:
    """The gradient of the maps: the sum, at each position, over the windows whose maximum it equals."""
    x, maxima = kept
    height, width, window, stride, _ = pooling
    padded = _padded_to_windows(x, maxima, pooling)
    sums = jnp.zeros(padded.shape, gradient.dtype)
    for i in range(window):
        for j in range(window):
            share = jnp.where(_at(padded, i, j, maxima, stride) == maxima, gradient, 0)
            between = [
                (start, size - start - (count - 1) * stride - 1, stride - 1)
                for start, size, count in zip((i, j), padded.shape[1:3], maxima.shape[1:3], strict=True)
            ]
            sums = sums + lax.pad(share, jnp.zeros((), gradient.dtype), [(0, 0, 0), *between, (0, 0, 0)])
    return (sums[:, :height, :width],)


_max_pool_to_all.defvjp(_forward_to_all, _gradient_to_all)
