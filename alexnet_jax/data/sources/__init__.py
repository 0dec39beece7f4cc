"""Where pictures come from: TFDS sets, the official tars, tars of synsets, folders, idx files, the digits.

Every source lists its pictures as a whole, in an order of its own that never changes, with label, file
name and size, and what it leaves out. Nothing is decoded here.
"""

import hashlib
import os
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.data.sources import idx
from alexnet_jax.data.sources.folder import open_folder
from alexnet_jax.data.sources.source import LeftOut, Source, Split, has_own_splits, manual_dir, root
from alexnet_jax.data.sources.synset_tars import open_synset_tars
from alexnet_jax.messages import UserError

__all__ = ["LeftOut", "Source", "Split", "class_names", "has_own_splits", "is_there", "open_source", "root", "stamp"]


def open_source(data: ConfigDict) -> Source:
    """The source of the config. Raises UserError if its files are not there or not as they should be."""
    from alexnet_jax.data.sources import imagenet, tfds_set

    try:
        if data.name == "folder":
            _require_apart(data)
            return open_folder(manual_dir(data), data.validation_fraction, data.max_missing)
        if data.name == "synset_tars":
            return open_synset_tars(manual_dir(data), data.validation_fraction)
        if data.name == "idx":
            return idx.open_idx(manual_dir(data))
        builder = tfds_set.builder_of(data)
        if data.name == "imagenet2012" and not builder.is_prepared():
            return imagenet.open_imagenet(data, builder)
        return tfds_set.open_tfds_set(data, builder)
    except OSError as error:
        raise UserError(
            f"'{error.filename or data.manual_dir}' cannot be read ({error.strerror or error}); see to it that it can, "
            "and that nothing changes while it is listed"
        ) from error


def _require_apart(data: ConfigDict) -> None:
    """Raises UserError if what is prepared would lie among the pictures, and become a class of them."""
    pictures = Path(os.path.realpath(manual_dir(data)))
    field = "prepared_dir" if data.prepared_dir else "data_dir"
    prepared = os.path.realpath(Path(data.prepared_dir).expanduser() if data.prepared_dir else root(data))
    if Path(prepared).is_relative_to(pictures):
        raise UserError(
            f"config.data.{field}, '{prepared}', lies in the folder of the pictures, '{pictures}'; set "
            f"--config.data.{field} to a folder outside of it"
        )


def class_names(data: ConfigDict) -> tuple[str, ...]:
    """The dataset's classes, which are known before it is prepared. Raises UserError as `open_source`."""
    from alexnet_jax.data.sources import tfds_set

    if data.name in ("folder", "synset_tars"):
        return open_source(data).classes
    if data.name == "idx":
        return idx.class_names(manual_dir(data))
    return tfds_set.keys_and_classes(data.name, tfds_set.builder_of(data))[2]


def is_there(data: ConfigDict) -> bool:
    """Whether what the config's set is prepared from, tars, a folder or a set of TFDS, is named and still there."""
    from alexnet_jax.data.sources.imagenet import TRAIN_TAR, VALIDATION_TAR
    from alexnet_jax.data.sources.tfds_set import builder_of

    folder = Path(data.manual_dir).expanduser()
    if is_of_tfds(data.name) and builder_of(data).is_prepared():
        return True
    if data.name == "imagenet2012":
        return bool(data.manual_dir) and all((folder / tar).is_file() for tar in (TRAIN_TAR, VALIDATION_TAR))
    if data.name == "idx":
        return bool(data.manual_dir) and all((folder / name).is_file() for name in idx.NAMES)
    return bool(data.manual_dir) and data.name in ("folder", "synset_tars") and folder.is_dir()


def is_of_tfds(name: str) -> bool:
    """Whether TFDS knows of such a set; what may be one of our own, by its name, it may know too."""
    return name not in ("folder", "synset_tars", "idx")


def stamp(data: ConfigDict) -> str:
    """A digest of the names, sizes and times of a set's files, or those in a folder of tars.

    With the same, nothing has changed; to list these takes minutes. Empty for a folder of pictures, where the
    listing costs as little and has a stamp of its own.
    """
    if data.name == "folder" or not is_there(data):
        return ""
    from alexnet_jax.data.sources.imagenet import TRAIN_TAR, VALIDATION_TAR
    from alexnet_jax.data.sources.tfds_set import builder_of

    digest = hashlib.blake2b(digest_size=16)
    folder, named = Path(data.manual_dir).expanduser(), {"imagenet2012": [TRAIN_TAR, VALIDATION_TAR]}
    named["idx"] = list(idx.NAMES)
    alone = named.get(data.name)  # of the files in the folder, those that are the set
    if is_of_tfds(data.name) and (builder := builder_of(data)).is_prepared():
        folder, alone = Path(builder.data_dir), None
    for inside, folders, names in os.walk(folder):
        if alone:
            folders.clear()
            names = alone
        folders.sort()
        for name in sorted(names):
            path = os.path.join(inside, name)
            status = os.lstat(path) if os.path.islink(path) and not os.path.exists(path) else os.stat(path)
            line = f"{os.path.relpath(path, folder)!a} {status.st_size} {status.st_mtime_ns}\n"
            digest.update(line.encode())
    return digest.hexdigest()
