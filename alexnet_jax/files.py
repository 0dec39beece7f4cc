"""Files and folders that are there whole or not at all, and the place that --output names.

Whatever is written goes into a hidden file beside its place first, and gets its name by one renaming. So a reader
finds the old file or the new one, never half a file, also after a kill or on a full disk.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alexnet_jax.messages import UserError


@contextmanager
def whole(path: Path, *, fsync: bool = False, one_writer: bool = False) -> Iterator[Path]:
    """Yields the hidden file to write, which gets the name `path` at the end; after an error it is removed.

        with whole(folder / "state.json") as unfinished:
            unfinished.write_bytes(content)

    Args:
      path: the file's place; its folder is made if it is missing.
      fsync: force the bytes to the disk before the renaming, or a power cut may leave an empty file at `path`.
      one_writer: no two processes write this file at once. The hidden file is then `.NAME`, so that the next write
        replaces what a killed process left. Otherwise it is `.NAME.PROCESS`.

    Raises:
      OSError: the file cannot be written.
    """
    unfinished = path.with_name(f".{path.name}" if one_writer else f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished.touch()
    try:
        yield unfinished
        if fsync:
            with open(unfinished, "rb") as file:
                os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes, *, fsync: bool = False, one_writer: bool = False) -> None:
    """Writes text, in UTF-8, or bytes as `whole` does. Raises OSError."""
    with whole(path, fsync=fsync, one_writer=one_writer) as unfinished:
        unfinished.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def why_not_writable(folder: Path) -> str | None:
    """The reason why the folder cannot be made or written, or None if it can."""
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not nearest.is_dir():
        return f"'{nearest}' is a file"
    return None if os.access(nearest, os.W_OK | os.X_OK) else f"no permission to write in '{nearest}'"


def require_free(output: str, overwrite: bool) -> Path:
    """The absolute path of --output. Raises UserError if something is there and --overwrite is not given."""
    path = Path(output).expanduser().absolute()
    if os.path.lexists(path) and not overwrite:
        raise UserError(f"--output={output} exists already; name another file, or replace it with --overwrite")
    return path


@contextmanager
def new_file(output: str, overwrite: bool) -> Iterator[Path]:
    """Yields the file to write, which is at --output in the end; after an error nothing is left.

    Raises:
      UserError: --output exists already, or cannot be written.
    """
    path = require_free(output, overwrite)
    if path.is_dir() or output.endswith("/"):
        raise UserError(f"--output={output} is a folder; name a file in it")
    try:
        with whole(path) as unfinished:
            yield unfinished
    except OSError as error:
        raise unwritable(output, error) from error


@contextmanager
def new_folder(output: str, overwrite: bool, is_ours: Callable[[str], bool]) -> Iterator[Path]:
    """Yields the folder to fill, which is at --output in the end; after an error nothing is left.

    Args:
      is_ours: whether this mode writes a file with this name. A folder that holds any other file is never replaced,
        not even with --overwrite.

    Raises:
      UserError: --output exists already, or cannot be written.
    """
    path = require_free(output, overwrite)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        others = [name for name in os.listdir(path) if not is_ours(name)] if os.path.lexists(path) else []
        if others:
            raise UserError(
                f"--output={output} holds '{others[0]}', which this mode does not write; name another folder"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.mkdir()
    except OSError as error:
        raise unwritable(output, error) from error
    try:
        yield unfinished
        replaced = path.with_name(f".{path.name}.{os.getpid()}.replaced")
        if path.exists():
            os.replace(path, replaced)
        os.replace(unfinished, path)
        shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        raise unwritable(output, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def unwritable(output: str, error: OSError) -> UserError:
    """The sentence for an --output that cannot be written."""
    return UserError(
        f"--output={output} cannot be written ({error.strerror or error}); name a writable place with enough room"
    )
