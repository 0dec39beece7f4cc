"""Batches computed ahead: their order, errors, and the end of their threads."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from alexnet_jax.data.batches.batch import Batch
from alexnet_jax.data.batches.prefetch import ALIGNMENT, Prefetcher, aligned
from alexnet_jax.messages import UserError
from tests.conftest import ROOT

FIELDS = ("image",)


def with_image(image: np.ndarray) -> Batch:
    """A batch with one field, the only one that the Prefetcher uses."""
    return Batch(image=image, label=None, lighting=None, offset=None, reflected=None, scale=None)


def numbered(number: int) -> Batch:
    """A batch; later batches take less time."""
    time.sleep(0.01 * (number % 3 == 0))
    return with_image(np.full((2, 1), number, np.uint8))


def values(batches: Prefetcher) -> list[int]:
    return [int(batch.image[0, 0]) for batch in batches]


def test_they_come_in_order_and_once() -> None:
    assert values(Prefetcher(numbered, 3, 20, FIELDS)) == list(range(3, 20))
    assert values(Prefetcher(numbered, 3, 3, FIELDS)) == []


def test_a_mistake_is_raised_in_its_place_and_ends_them() -> None:
    def sixth_is_damaged(number: int) -> Batch:
        if number == 6:
            raise UserError("record 6 is damaged")
        return numbered(number)

    batches, seen = Prefetcher(sixth_is_damaged, 0, 100, FIELDS), []
    with pytest.raises(UserError, match="record 6 is damaged"):
        for batch in batches:
            seen.append(int(batch.image[0, 0]))
    assert seen == [0, 1, 2, 3, 4, 5]
    assert values(batches) == []


def test_nothing_is_computed_before_it_is_asked_for_nor_after_it_is_closed() -> None:
    begun, ended, lock = [0], [0], threading.Lock()

    def counted(number: int) -> Batch:
        with lock:
            begun[0] += 1
        time.sleep(0.05)
        with lock:
            ended[0] += 1
        return numbered(number)

    with Prefetcher(counted, 0, 10**6, FIELDS) as batches:
        assert begun == [0]
        next(batches)
    assert begun == ended and begun[0] >= 1  # closing has waited for those that were under way
    after = begun[0]
    time.sleep(0.3)
    assert begun == [after]
    assert values(batches) == []
    batches.close()


LEFT = """
import time
import numpy as np
from alexnet_jax.data.batches.prefetch import Prefetcher
from tests.data.batches.test_prefetch import FIELDS, with_image

def busy(number):
    until = time.perf_counter() + 0.2
    while time.perf_counter() < until:
        sum(range(100))
    return with_image(np.zeros((1, 1), np.uint8))

kept = Prefetcher(busy, 0, 10**6, FIELDS)
next(kept)
print("read", flush=True)
raise SystemExit(3)
"""


def test_a_program_may_end_while_they_are_computed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEFT],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,  # seconds: a program that waits for its threads forever is a failure, and a slow machine is none
    )
    assert (done.returncode, done.stdout.strip()) == (3, "read")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("shape", [(3, 5, 7, 3), (1,), (128, 64)])
def test_room_is_aligned(shape: tuple[int, ...]) -> None:
    for _ in range(5):
        room = aligned(shape)
        assert room.shape == shape and room.dtype == np.uint8 and room.flags.c_contiguous
        assert room.ctypes.data % ALIGNMENT == 0
