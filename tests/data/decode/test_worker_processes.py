"""The processes that make squares: none hangs, the picture in the way is named, and large ones take turns."""

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from alexnet_jax.data.decode import squares, worker_processes
from alexnet_jax.data.decode.squares import Picture
from alexnet_jax.messages import UserError
from tests.photographs import encoded, photograph


def die(name: str, number: int) -> None:
    """As a process does that the system kills for want of memory, over one picture; others are in hand meanwhile."""
    worker_processes.note(name)
    if "deadly" in name:
        time.sleep(0.5)
        os.kill(os.getpid(), number)
    time.sleep(20)


def put_away(data: bytes) -> None:
    """Nothing is done with it."""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
@pytest.mark.parametrize("queued", [1, 200])
def test_a_process_that_dies_ends_the_pool_and_names_its_picture(
    number: int, queued: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_processes, "cores", lambda: 2)
    began = time.monotonic()
    with (
        pytest.raises(UserError, match=r"died over 'the deadly one\.jpg', .* which begins anew"),
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
    """Whether nobody else is in here."""
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
        squares.make_squares([Picture("one", 0, data=data)], 32, 0, 10**6, summed=False)
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
    made = squares.make_squares(given, 32, 0, 10**6, summed=True)
    assert [reason.partition(" (")[0] for reason in made.reasons] == [
        "cannot be read",
        "cannot be read",
        "cannot be read",
        "1000000000 bytes, more than config.data.max_pixels can fill",
        "cannot be read",
        "",
    ]
    assert "No such file" in made.reasons[0] and "no regular file" in made.reasons[2]
    assert made.stored[-1] and made.total.any()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(5, "Input/output error"), "cannot be read (Input/output error)"),
        (PermissionError(13, "Permission denied"), "cannot be read (Permission denied)"),
        (MemoryError(), "takes more memory than there is"),
    ],
)
def test_a_disk_that_fails_is_a_reason(error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(picture: Picture) -> bytes:
        raise error

    monkeypatch.setattr(Picture, "read", fails)
    made = squares.make_squares([Picture("a", 0, data=b"x"), Picture("b", 1, data=b"y")], 32, 0, 10**6, summed=False)
    assert made.reasons == [reason] * 2
