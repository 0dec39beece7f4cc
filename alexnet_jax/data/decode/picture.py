"""A picture before it is decoded. This imports nothing heavy, so that sources are known at once."""

import errno
import os
import stat
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded picture: its bytes, or where they lie."""

    name: str  # of its file, in the dataset
    label: int
    path: str = ""  # the file that holds it
    offset: int = 0  # of its first byte there
    size: int = -1  # in bytes; -1: to the file's end
    data: bytes | None = None

    def read(self) -> bytes:
        """The bytes. Raises OSError."""
        if self.data is not None:
            return self.data
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offset)
            return file.read(self.size)

    def length(self) -> int:
        """The number of bytes. Raises OSError, also for anything but a regular file: a pipe may have no end."""
        if self.data is not None or self.size >= 0:
            return self.size if self.data is None else len(self.data)
        status = os.stat(self.path)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", self.path)
        return status.st_size - self.offset
