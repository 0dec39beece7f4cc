"""The processes that make squares of pictures: how they start, what they share, how they end; and `bounded_map`."""

import ctypes
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import Any, TypeVar

from alexnet_jax import signals
from alexnet_jax.messages import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT_BYTES = 32 << 20  # the largest value that malloc accepts for the second
NAME_BYTES = 512  # of a picture's name that are noted

T = TypeVar("T")
R = TypeVar("R")


class Died(UserError):
    """A process that makes squares was killed."""


class Shared:
    """What the processes of a pool share: a lock, and a place for each one's current picture."""

    def __init__(self, processes: int) -> None:
        """To be passed to each of `processes` processes as it starts."""
        context = multiprocessing.get_context("spawn")
        self.one_at_a_time = context.RLock()  # re-entrant: a large file may hold a large picture
        self.started = context.Value("i", 0)
        self.names = context.RawArray("c", processes * NAME_BYTES)

    def in_hand(self) -> list[str]:
        """The names of the pictures that processes work on."""
        places = [self.names[at : at + NAME_BYTES] for at in range(0, len(self.names), NAME_BYTES)]
        names = [place.partition(b"\0")[0].decode(errors="replace") for place in places]
        return [name for name in names if name]


class _Worker:
    """What this process knows of its pool; in a process without a pool, a lock for its threads."""

    shared: Shared | None = None
    one_at_a_time = threading.RLock()  # for this process's threads
    start: int = 0  # of its place among the names


def note(name: str) -> None:
    """Writes down the picture that this process works on; '' for none."""
    if _Worker.shared:
        short = name.encode(errors="surrogateescape")[: NAME_BYTES - 1] + b"\0"
        _Worker.shared.names[_Worker.start : _Worker.start + len(short)] = short


def alone() -> AbstractContextManager[Any]:
    """A lock that one process of the pool holds at a time; without a pool, one thread."""
    return _Worker.shared.one_at_a_time if _Worker.shared else _Worker.one_at_a_time


def start_worker(shared: Shared | None = None) -> None:
    """Sets up a process that makes squares: it ignores signals, ends with its parent, and keeps its memory.

    Otherwise the processes would outlive a parent that was killed, and glibc would return each picture's memory to the
    system and ask for it again, which takes a sixth of the time.
    """
    for number in signals.NUMBERS:  # a terminal or a scheduler sends them to all processes; the parent handles them
        signal.signal(number, signal.SIG_IGN)
    if shared:
        with shared.started.get_lock():
            number = shared.started.value
            shared.started.value += 1
        _Worker.shared, _Worker.start = shared, number * NAME_BYTES
        signal.signal(signal.SIGTERM, _put_down)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for what in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            libc.mallopt(what, KEPT_BYTES)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _put_down(*_: Any) -> None:
    """Handles SIGTERM, by which a broken pool ends its other processes: their pictures are not to blame."""
    note("")
    os._exit(1)


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def processes() -> Iterator[ProcessPoolExecutor]:
    """A pool with a process for each core. They import no TensorFlow, and are not forked, as its locks would be, too.

    Raises:
      Died: a process was killed, most likely for lack of memory; names the picture that it worked on.
    """
    shared = Shared(cores())
    pool = ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn"), start_worker, (shared,))
    try:
        yield pool
    except BrokenProcessPool as error:
        pool.shutdown()
        names = " or ".join(f"'{name}'" for name in shared.in_hand())
        raise Died(
            f"a worker process that decodes pictures died{' over ' + names if names else ''}, most likely for lack of "
            "memory; remove that picture, or lower --config.data.max_pixels below its size, after which preparing "
            "begins anew"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def bounded_map(
    pool: Executor, function: Callable[[T], R], items: Iterable[T], at_most: int
) -> Generator[tuple[T, R], None, None]:
    """Computes `function(item)` for each item in the pool, some items ahead of their use.

    Closing the iterator, or an error, cancels what the pool has not begun.

    Args:
      at_most: items that wait, are computed, or are computed and not yet yielded, at any time.

    Yields:
      Each item and its result, in the order of the items. An error of `function` is raised in its item's place.
    """
    waiting: deque[tuple[T, Future[R]]] = deque()
    rest = iter(items)
    try:
        while True:
            for item in islice(rest, at_most - len(waiting)):
                waiting.append((item, pool.submit(function, item)))
            if not waiting:
                return
            item, future = waiting.popleft()
            yield item, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def lists(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`; the last list may be shorter."""
    rest = iter(items)
    return iter(lambda: list(islice(rest, size)), [])
