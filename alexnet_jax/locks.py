"""A lock that lets one process at a time work in a folder, also if several hosts share the folder."""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from alexnet_jax.messages import UserError, say

LOCK = ".lock"  # the file in the folder
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def alone_in(folder: Path, what: str) -> Iterator[None]:
    """Holds the folder's lock while the block runs; the lock also ends with the process.

    On a file system without locks, only a process on the same host is noticed; a message says so.

    Args:
      what: the work in the folder, as in "is being trained by".

    Raises:
      UserError: another process has the lock; the message names its host and number.
      OSError: the lock file cannot be made.
    """
    with open(folder / LOCK, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _taken(folder, what, _owner(file)) from error
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            owner = _owner(file)
            if owner and owner == _described(owner.get("process", 0)) and owner["process"] != os.getpid():
                raise _taken(folder, what, owner) from error
            say(f"'{folder}' cannot be locked; make sure that no other host works there")
        file.truncate(0)
        file.write(json.dumps(_described(os.getpid())))
        file.flush()
        try:
            yield
        finally:
            with suppress(OSError):
                file.truncate(0)


def _described(process: int) -> dict[str, str | int]:
    """What identifies a process on this host, even if its number is used again later."""
    started = ""
    with suppress(OSError, IndexError):
        started = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]  # ticks since boot
    return {"host": socket.gethostname(), "process": process, "started": started}


def _owner(file: IO[str]) -> dict[str, int]:
    """The process that the lock file names, or {} if it names none."""
    with suppress(OSError, ValueError):
        file.seek(0)
        written = json.loads(file.read())
        if isinstance(written, dict):
            return written
    return {}


def _taken(folder: Path, what: str, owner: dict[str, int]) -> UserError:
    by = f"process {owner['process']} on {owner.get('host')}" if "process" in owner else "another process"
    return UserError(f"'{folder}' is being {what} by {by}; wait until that process has ended, or end it")
