"""One process at a time in a folder, also where several hosts share it."""

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
    """Within it no other process that asks is in the folder. A lock goes with the process that has it.

    Where the file system has no locks, only a process on the same host is found; that is said.

    Args:
      what: is being done there, as in "is being trained by".

    Raises:
      UserError: another process is there; names its host and number.
      OSError: the file cannot be made.
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
            say(f"'{folder}' lies where files cannot be locked: see to it that no other host works there")
        file.truncate(0)
        file.write(json.dumps(_described(os.getpid())))
        file.flush()
        try:
            yield
        finally:
            with suppress(OSError):
                file.truncate(0)


def _described(process: int) -> dict[str, str | int]:
    """What tells a process of this host from others, and from a later one of the same number."""
    started = ""
    with suppress(OSError, IndexError):
        started = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]  # since the host's start
    return {"host": socket.gethostname(), "process": process, "started": started}


def _owner(file: IO[str]) -> dict[str, int]:
    """Who wrote itself into the file; nothing where nobody can be read there."""
    with suppress(OSError, ValueError):
        file.seek(0)
        written = json.loads(file.read())
        if isinstance(written, dict):
            return written
    return {}


def _taken(folder: Path, what: str, owner: dict[str, int]) -> UserError:
    by = f"process {owner['process']} on {owner.get('host')}" if "process" in owner else "another process"
    return UserError(f"'{folder}' is being {what} by {by}; wait until it has ended, or end it")
