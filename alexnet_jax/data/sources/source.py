"""What every kind of source is, and where it lies."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.data.pictures import Picture
from alexnet_jax.messages import UserError


@dataclass(frozen=True)
class Split:
    """Some of a source's pictures."""

    about: int  # how many, as far as can be said without reading them all
    pictures: Callable[[], Iterator[Picture]]  # from the first one, in the fixed order


@dataclass(frozen=True)
class Source:
    """A set of labelled pictures that has not been prepared yet."""

    name: str
    classes: tuple[str, ...]  # names, by label
    splits: dict[str, Split]
    words: tuple[str, ...] = ()  # what a person calls the classes, where that is known


def has_own_splits(name: str) -> bool:
    """Whether the source says by itself which pictures are for validation, and no fraction does."""
    return name not in ("folder", "synset_tars")


def root(data: ConfigDict) -> Path:
    """Where datasets lie: the config's folder, or TFDS's own."""
    chosen = data.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(chosen).expanduser().absolute()


def manual_dir(data: ConfigDict) -> Path:
    """The folder that the config names for what it reads. Raises UserError if it names none or there is none."""
    if not data.manual_dir:
        raise UserError(
            f"config.data.name is '{data.name}' and no folder is named; give it as --config.data.manual_dir=DIR"
        )
    folder = Path(data.manual_dir).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(f"--config.data.manual_dir={data.manual_dir} is no folder; name the one that holds the data")
    return folder
