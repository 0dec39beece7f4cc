"""The processes that make squares: none hangs, a deadly picture is named, large pictures take turns; bounded_map."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from alexnet_jax.data.decode import squares, worker_processes
from alexnet_jax.data.decode.decoder import Rules
from alexnet_jax.data.decode.squares import Picture
from alexnet_jax.data.decode.worker_processes import bounded_map, lists
from alexnet_jax.messages import UserError
from tests.photographs import encoded, photograph


def die(name: str, number: int) -> None:
    """Dies as a process that the system kills for lack of memory, over one picture, while others work on theirs."""
    worker_processes.note(name)
    if "deadly" in name:
        time.sleep(0.5)
        os.kill(os.getpid(), number)
    time.sleep(20)


def put_away(data: bytes) -> None:
    """Does nothing."""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
@pytest.mark.parametrize("queued", [1, 200])
def test_a_process_that_dies_ends_the_pool_and_names_its_picture(
    number: int, queued: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_processes, "cores", lambda: 2)
    began = time.monotonic()
    with (
        pytest.raises(UserError, match=r"died over 'the deadly one\.jpg', .* preparing begins anew"),
        worker_processes.processes() as pool,
    ):
        futures = [pool.submit(die, "an innocent one.jpg", 0), pool.submit(die, "the deadly one.jpg", number)]
        # What is waiting is more than the pipe to the processes holds.
        futures += [pool.submit(put_away, bytes(1 << 20)) for _ in range(queued)]
        for future in reversed(futures):
            future.result()
    assert time.monotonic() - began < 15
    assert not [child for child in multiprocessing.active_children() if "Spawn" in child.name]


def in_turn(folder: str) -> bool:
    """Whether no other process is in here."""
    with worker_processes.alone():
        path = Path(folder) / "inside"
        path.touch(exist_ok=False)
        time.sleep(0.2)
        path.unlink()
    return True


def test_one_at_a_time_is_over_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_processes, "cores", lambda: 2)
    with worker_processes.processes() as pool:
        assert all(pool.map(in_turn, [str(tmp_path)] * 6))


def test_the_pictures_that_take_turns_are_the_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    alone: list[str] = []

    class Lock:
        def __enter__(self) -> None:
            alone.append("taken")

        def __exit__(self, *_: Any) -> None:
            pass

    def count(data: bytes) -> int:
        alone.clear()
        squares.make_squares([Picture("one", 0, data=data)], 32, 0, Rules(10**6), summed=False)
        return len(alone)

    monkeypatch.setattr(worker_processes, "alone", Lock)
    monkeypatch.setattr("alexnet_jax.data.decode.decoder.LARGE", 100 * 80)
    monkeypatch.setattr("alexnet_jax.data.decode.decoder.LARGE_TO_CONVERT", 60 * 48)
    ordinary, larger, largest = photograph(1, 60, 48), photograph(1, 70, 48), photograph(1, 101, 80)
    assert [count(encoded(image)) for image in (ordinary, larger, largest)] == [0, 0, 1]
    assert [count(encoded(image, "PNG")) for image in (ordinary, larger, largest)] == [0, 1, 1]
    assert [count(encoded(image.convert("CMYK"))) for image in (ordinary, larger)] == [0, 1]
    monkeypatch.setattr(squares, "LARGE_FILE", 100)
    assert count(encoded(ordinary)) == 1


def test_what_cannot_be_read_is_a_reason_and_not_the_end(tmp_path: Path) -> None:
    (tmp_path / "good.jpg").write_bytes(encoded(photograph(1)))
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "large.jpg").write_bytes(b"")
    os.truncate(tmp_path / "large.jpg", 10**9)  # of no size on disk
    (tmp_path / "turn.jpg").symlink_to("turn.jpg")
    names = ("gone.jpg", "folder.jpg", "pipe.jpg", "large.jpg", "turn.jpg", "good.jpg")
    given = [Picture(name, 0, str(tmp_path / name)) for name in names]
    made = squares.make_squares(given, 32, 0, Rules(10**6), summed=True)
    assert [reason.partition(" (")[0] for reason in made.reasons] == [
        "cannot be read",
        "cannot be read",
        "cannot be read",
        "1000000000 bytes, more than a picture of config.data.max_pixels can have",
        "cannot be read",
        "",
    ]
    assert "No such file" in made.reasons[0] and "not a regular file" in made.reasons[2]
    assert made.stored[-1] and made.total.any()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(5, "Input/output error"), "cannot be read (Input/output error)"),
        (PermissionError(13, "Permission denied"), "cannot be read (Permission denied)"),
        (MemoryError(), "needs more memory than is available"),
    ],
)
def test_a_disk_that_fails_is_a_reason(error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(picture: Picture) -> bytes:
        raise error

    monkeypatch.setattr(Picture, "read", fails)
    made = squares.make_squares(
        [Picture("a", 0, data=b"x"), Picture("b", 1, data=b"y")], 32, 0, Rules(10**6), summed=False
    )
    assert made.reasons == [reason] * 2


def slow_square(number: int) -> int:
    time.sleep(0.02 if number % 3 == 0 else 0.0)
    return number * number


def test_a_bounded_map_keeps_the_order_and_takes_no_more_items_than_may_wait() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(4) as pool:
        for done, pair in enumerate(bounded_map(pool, slow_square, items(), at_most=5)):
            assert pair == (done, done * done)
            assert len(taken) == min(20, done + 5)
        assert list(bounded_map(pool, slow_square, [], at_most=5)) == []


def test_an_error_in_a_bounded_map_comes_in_its_items_place() -> None:
    def refuse_three(number: int) -> int:
        if number == 3:
            raise UserError("three")
        return number

    done = []
    with ThreadPoolExecutor(4) as pool, pytest.raises(UserError, match="three"):
        for pair in bounded_map(pool, refuse_three, range(9), at_most=9):
            done.append(pair)
    assert done == [(0, 0), (1, 1), (2, 2)]


def test_a_bounded_map_that_is_closed_cancels_what_is_not_begun() -> None:
    begun, may_end = [], Event()

    def wait(number: int) -> int:
        begun.append(number)
        if number:
            may_end.wait(10)
        return number

    with ThreadPoolExecutor(1) as pool:
        results = bounded_map(pool, wait, range(8), at_most=8)
        assert next(results) == (0, 0)
        while len(begun) < 2:
            time.sleep(0.001)
        results.close()
        may_end.set()
    assert begun == [0, 1]


def test_lists_are_of_one_size_but_for_the_last() -> None:
    assert [*lists(range(7), 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [*lists(range(6), 3)] == [[0, 1, 2], [3, 4, 5]] and [*lists([], 3)] == []
