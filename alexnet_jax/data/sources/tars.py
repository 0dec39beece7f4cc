"""Lists tars in place: the name, offset and size of each member, and whether the tar is whole."""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from alexnet_jax.data.sources.source import Tally
from alexnet_jax.messages import UserError

BLOCK = 512  # bytes; a tar is made of such blocks
PIECE = 1 << 20  # bytes that are checked together


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar."""

    name: str  # with its folders in the tar
    offset: int  # of its first byte, in the outermost tar
    size: int

    @property
    def base(self) -> str:
        """The name without folders."""
        return os.path.basename(self.name)


def files_in(path: Path, tally: Tally, inner: Member | None = None) -> Iterator[Member]:
    """The files in the tar at `path`, in the tar's order; only headers are read.

    Links and other special members are left out; the caller counts the files.

    Args:
      inner: a member of the tar that is itself a tar; its files are listed instead.

    Raises:
      UserError: it is no tar, has a name twice, or is cut short.
    """
    where = f"{path}, {inner.name}" if inner else str(path)
    try:
        with open(path, "rb") as file:
            end = inner.offset + inner.size if inner else os.fstat(file.fileno()).st_size
            if end > os.fstat(file.fileno()).st_size:
                raise tarfile.ReadError("the tar that holds it ends before it")
            file.seek(inner.offset if inner else 0)
            with tarfile.open(None, "r:", fileobj=file) as tar:
                yield from _members(tar, end, tally, where)
                _require_end(file, tar.offset, end)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise UserError(f"{where} is not a complete tar ({error}); get it again, and repeat the command") from error


def _members(tar: tarfile.TarFile, end: int, tally: Tally, where: str) -> Iterator[Member]:
    names = set[str]()
    while (found := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined] # which would keep all members in memory
        if found.isfile() and found.offset_data + found.size > end:
            raise tarfile.ReadError(f"it ends within {found.name}")
        if found.isdir():
            continue
        if found.name in names:
            raise UserError(f"{where} holds '{found.name}' twice; get it again, or pack it with each name once")
        names.add(found.name)
        if found.isfile() and not found.issparse():
            yield Member(found.name, found.offset_data, found.size)
        else:
            tally.leave(
                "links, sparse files and other entries of tars that are not plain files", f"{where}, {found.name}"
            )


def _require_end(file: BinaryIO, offset: int, end: int) -> None:
    """Raises ReadError unless two blocks of zeros begin at `offset`, and only zeros follow before `end`.

    Python's tarfile takes a header that is cut short, or bytes that are no header, for the end.
    """
    file.seek(offset)
    if offset + 2 * BLOCK > end or file.read(2 * BLOCK) != bytes(2 * BLOCK):
        raise tarfile.ReadError("it is cut short, or damaged: its end is not two blocks of zeros")
    while piece := file.read(min(end - file.tell(), PIECE)):
        if any(piece):  # tarfile would ignore it
            raise tarfile.ReadError("more data follows its end, such as another tar that was appended")
