"""Where pictures come from: sets of TFDS, the official tars, tars of synsets, folders, idx files, the digits.

Each source lists all its pictures in a fixed order, with label, file name and size, and says what it leaves out.
Nothing is decoded here.
"""

import hashlib
import os
from importlib import import_module
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.data.sources.source import Kind, LeftOut, Source, Split, manual_dir, root
from alexnet_jax.messages import UserError

__all__ = [
    "KINDS",
    "Kind",
    "LeftOut",
    "Source",
    "Split",
    "class_names",
    "is_there",
    "kind_of",
    "open_source",
    "root",
    "stamp",
]

# The file with the record `KIND` for each `config.data.name`. It is imported when it is needed, as TensorFlow's import
# takes seconds.
KINDS = {
    "folder": "folder",
    "synset_tars": "synset_tars",
    "idx": "idx",
    "imagenet2012": "imagenet",
    "digits": "digits",
}
OTHER_NAMES = "tfds_set"
KNOWN_CLASSES = {"digits": 10, "cifar10": 10, "imagenet2012": 1000}  # numbers of classes that need no import


def kind_of(name: str) -> Kind:
    """The kind of source that `config.data.name` selects; any name that is not in the table is a set of TFDS."""
    return import_module(f"{__name__}.{KINDS.get(name, OTHER_NAMES)}").KIND


def open_source(data: ConfigDict) -> Source:
    """Lists the config's source. Raises UserError if its files are missing or damaged."""
    kind = kind_of(data.name)
    try:
        if kind.is_kept_apart:
            _require_apart(data)
        return kind.open(data)
    except OSError as error:
        raise UserError(
            f"'{error.filename or data.manual_dir}' cannot be read ({error.strerror or error}); make it readable, and "
            "change no file while the folder is listed"
        ) from error


def _require_apart(data: ConfigDict) -> None:
    """Raises UserError if the prepared set would lie among the pictures, where it would become a class."""
    pictures = Path(os.path.realpath(manual_dir(data)))
    field = "prepared_dir" if data.prepared_dir else "data_dir"
    prepared = os.path.realpath(Path(data.prepared_dir).expanduser() if data.prepared_dir else root(data))
    if Path(prepared).is_relative_to(pictures):
        raise UserError(
            f"config.data.{field}, '{prepared}', lies in the folder of the pictures, '{pictures}'; set "
            f"--config.data.{field} to a folder outside of it"
        )


def class_names(data: ConfigDict) -> tuple[str, ...]:
    """The set's classes, which are known before it is prepared. Raises UserError as `open_source`."""
    return kind_of(data.name).class_names(data)


def number_of_classes(data: ConfigDict) -> int:
    """The set's number of classes. Raises UserError as `open_source`."""
    return KNOWN_CLASSES.get(data.name) or len(class_names(data))


def is_there(data: ConfigDict) -> bool:
    """Whether the files that the config's set is prepared from are there. Raises UserError as `open_source`."""
    return kind_of(data.name).files(data) is not None


def stamp(data: ConfigDict) -> str:
    """A digest of the names, sizes and times of a set's files: with an equal stamp, nothing has changed.

    It is much quicker than listing. Empty if the files are missing, or if the listing has a stamp of its own.
    """
    kind = kind_of(data.name)
    files = None if kind.has_listing_stamp else kind.files(data)
    if files is None:
        return ""
    digest = hashlib.blake2b(digest_size=16)
    for inside, folders, names in os.walk(files.folder):
        if files.names:
            folders.clear()
            names = list(files.names)
        folders.sort()
        for name in sorted(names):
            path = os.path.join(inside, name)
            status = os.lstat(path) if os.path.islink(path) and not os.path.exists(path) else os.stat(path)
            line = f"{os.path.relpath(path, files.folder)!a} {status.st_size} {status.st_mtime_ns}\n"
            digest.update(line.encode())
    return digest.hexdigest()
