"""What a mode leaves where --output says: there as a whole, or not at all."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alexnet_jax.messages import UserError


def require_free(output: str, overwrite: bool) -> Path:
    """The place of an output, absolute. Raises UserError if something is there that is not to be replaced."""
    path = Path(output).expanduser().absolute()
    if os.path.lexists(path) and not overwrite:
        raise UserError(f"--output={output} is there already; name another, or replace it with --overwrite")
    return path


def why_not_writable(folder: Path) -> str | None:
    """Why the folder cannot be made or written, if it cannot."""
    nearest = next(one for one in (folder, *folder.parents) if one.exists())
    if not nearest.is_dir():
        return f"'{nearest}' is a file"
    return None if os.access(nearest, os.W_OK | os.X_OK) else f"no permission to write in '{nearest}'"


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file that is at `path` in the end, as a whole or not at all. Raises OSError."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.touch()
        yield unfinished
        os.replace(unfinished, path)
    finally:
        if unfinished.parent.is_dir():
            unfinished.unlink(missing_ok=True)


@contextmanager
def new_file(output: str, overwrite: bool) -> Iterator[Path]:
    """Where to write a file that is at --output in the end; at an error nothing is left.

    Raises:
      UserError: there is something, or it cannot be written.
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
    """Where to write files that are in the folder --output in the end; at an error nothing is left.

    Args:
      is_ours: whether a file of that name is of the kind that is written there; a folder with any other is not
        replaced, whatever the flags say.

    Raises:
      UserError: there is something, or it cannot be written.
    """
    path = require_free(output, overwrite)
    try:
        others = [name for name in os.listdir(path) if not is_ours(name)] if os.path.lexists(path) else []
        if others:
            raise UserError(f"--output={output} holds '{others[0]}', which is not of this mode; name another folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
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
    """For an output that cannot be written."""
    return UserError(
        f"--output={output} cannot be written ({error.strerror or error}); name a place that can, with room enough"
    )
