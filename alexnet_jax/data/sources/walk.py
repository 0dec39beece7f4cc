"""Finds the pictures below the folders of classes, each once, whatever links there are."""

import os
import stat
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from alexnet_jax.data.sources.source import Tally
from alexnet_jax.data.sources.splits import SUFFIXES, entries, is_litter, is_picture, leave_by_name

Identity = tuple[int, int]  # a file or folder: its device, and its inode there
ABOVE = "links to a folder above, or around the folders of classes"
OTHER = "links into the folder of another class or split"
AGAIN = "links to files or folders that are read anyway"
NOWHERE = "links that lead nowhere"
SPECIAL = "no files: FIFOs, sockets or devices"


@dataclass(frozen=True)
class Place:
    """A class in a split."""

    split: str
    name: str


@dataclass(frozen=True)
class File:
    """A file that may hold a picture."""

    path: str
    size: int  # in bytes
    identity: tuple[int, ...] = ()  # inode and times: differs for another or a changed file with the same name and size


class Walk:
    """Finds the pictures of classes. Folders are compared by identity, so no folder is read twice.

    Real files and folders come first, then links in their order: a link never takes a file from the folder it lies in.
    """

    def __init__(self, around: Iterable[Path], tally: Tally) -> None:
        """Reads nothing yet.

        Args:
          around: the folders around those of the classes; links to them, or to folders above them, are left out.
        """
        self._tally = tally
        self._above = {identity(above) for one in around for path in (one, one.resolve()) for above in _up(path)}
        self._read: dict[Identity, Place] = {}  # folders, and files that links led to
        self._links: deque[tuple[Place, str]] = deque()  # to be followed at the end
        self._linked_often: dict[Identity, list[str]] = {}  # the paths of each file with several hard links
        self._files: dict[Place, list[File]] = {}

    def files(self, folders: dict[Place, str]) -> dict[Place, list[File]]:
        """The pictures of each class, sorted by path; a class may have none.

        Raises:
          UserError: a folder or a file cannot be read.
        """
        real = {place: path for place, path in folders.items() if not os.path.islink(path)}
        for place, path in real.items():
            self._read[identity(path)] = place
        for place, path in real.items():
            self._walk(place, path)
        linked = {place: path for place, path in folders.items() if place not in real and self._is_new(place, path)}
        for place, path in linked.items():
            self._walk(place, path)
        to_files: list[tuple[Place, str]] = []
        while self._links:
            place, path = self._links.popleft()
            if not os.path.isdir(path):
                to_files.append((place, path))
            elif self._is_new(place, path):
                self._walk(place, path)
        for place, path in to_files:
            self._follow_to_file(place, path)
        for files in self._files.values():
            files.sort(key=lambda file: file.path)
        return {place: self._files.get(place, []) for place in folders if place in real or place in linked}

    def files_of_several_names(self) -> list[list[str]]:
        """For each picture with several hard links among the classes, its paths."""
        return [names for names in self._linked_often.values() if len(names) > 1]

    def _is_new(self, place: Place, path: str) -> bool:
        """Whether the target of a link belongs to no place yet; it belongs to `place` from now on."""
        there = identity(path)
        if there in self._above:
            self._tally.leave(ABOVE, path)
        elif there in self._read:
            self._tally.leave(AGAIN if self._read[there] == place else OTHER, path)
        else:
            self._read[there] = place
            return True
        return False

    def _walk(self, place: Place, top: str) -> None:
        """Takes the pictures in a folder and below it, and notes the links."""
        folders = [top]
        while folders:
            for entry in entries(folders.pop()):
                if is_litter(entry.name):
                    leave_by_name(self._tally, entry.name, entry.path)
                elif entry.is_symlink():
                    self._links.append((place, entry.path))
                elif entry.is_dir(follow_symlinks=False):
                    there = identity(entry.path)
                    if self._read.setdefault(there, place) is place and there not in self._above:
                        folders.append(entry.path)
                    else:  # a link to a folder below it was followed, or it is mounted twice
                        self._tally.leave(AGAIN if self._read[there] == place else OTHER, entry.path)
                else:
                    self._take(place, entry.path, entry.stat(follow_symlinks=False))

    def _take(self, place: Place, path: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            self._tally.leave(SPECIAL, path)
        elif not leave_by_name(self._tally, os.path.basename(path), path):
            self._tally.take()
            self._files.setdefault(place, []).append(file_of(path, status))
            if status.st_nlink > 1:
                self._linked_often.setdefault((status.st_dev, status.st_ino), []).append(path)

    def _follow_to_file(self, place: Place, path: str) -> None:
        """Takes the file that a link leads to, unless it lies in a folder that is read, or another link led there."""
        try:
            status = os.stat(path)
            around = identity(os.path.dirname(os.path.realpath(path)))
        except OSError:
            if path.lower().endswith(SUFFIXES):  # preparing will reject it as unreadable
                self._tally.take()
                self._files.setdefault(place, []).append(File(path, 0))
            else:
                self._tally.leave(NOWHERE, path)
            return
        there = (status.st_dev, status.st_ino)
        name = os.path.basename(os.path.realpath(path))
        taken = is_picture(name) and not is_litter(name)  # with the folder it lies in, if that folder is read
        owner = self._read.get(there) or (self._read.get(around) if taken else None)
        if owner and stat.S_ISREG(status.st_mode):
            self._tally.leave(AGAIN if owner == place else OTHER, path)
            return
        self._read[there] = place
        self._take(place, path, status)


def file_of(path: str, status: os.stat_result) -> File:
    """The file at `path`, which has this status."""
    return File(path, status.st_size, (status.st_ino, status.st_mtime_ns, status.st_ctime_ns))


def identity(path: str | Path) -> Identity:
    """The identity of a file or folder, after links. Raises OSError."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _up(path: Path) -> Iterable[Path]:
    return (path, *path.parents)
