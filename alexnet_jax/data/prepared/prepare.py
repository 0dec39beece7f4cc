"""Opens a config's dataset, and prepares it first if that is needed."""

import os
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.data import sources
from alexnet_jax.data.prepared.listing import Listing, difference, list_whole, load_summary, say_summary
from alexnet_jax.data.prepared.preparation import Preparation, finish_interrupted
from alexnet_jax.data.prepared.prepared_set import (
    VERSION,
    PreparedSet,
    folders,
    is_whole,
    open_set,
    require_same_place,
)
from alexnet_jax.locks import alone_in
from alexnet_jax.messages import UserError, say

NO_STAMP = ""  # in the summary of the digits, which are written while they are listed
ANEW = "preparing anew"


@dataclass(frozen=True)
class Absent:
    """There is no prepared set."""


@dataclass(frozen=True)
class Current:
    """The prepared set holds the pictures that its source has now, or its source is gone."""

    prepared: PreparedSet


@dataclass(frozen=True)
class Changed:
    """The source has other pictures now: names, sizes, classes or splits differ."""

    prepared: PreparedSet
    listing: Listing


@dataclass(frozen=True)
class Touched:
    """The source has the same names and sizes, but a file was written since."""

    prepared: PreparedSet
    listing: Listing


State = Absent | Current | Changed | Touched


def open_or_prepare(config: ConfigDict, anew: bool = False) -> PreparedSet:
    """The config's dataset, prepared first if it is not yet.

    Args:
      anew: whether to prepare it again if its source has changed.

    Raises:
      UserError: its files are missing or damaged, the disk is full, it was prepared with other settings, or, unless
        `anew`, from other pictures.
    """
    data = config.data
    listing: Listing | None = None
    match _state(data):
        case Current(prepared):
            return prepared
        case Touched(prepared, listed):
            listing = listed
            if not anew:
                say(
                    f"a file in '{data.manual_dir}' was changed after '{prepared.folder}' was prepared, though all "
                    "names and sizes are the same; if the picture in it is a different one now, give the same command "
                    "with --mode=prepare to prepare anew"
                )
                return prepared
            say(
                f"{_changed(data, prepared, 'a file was changed since, though all names and sizes are the same')}: "
                f"{ANEW}"
            )
        case Changed(prepared, listed):
            listing = listed
            require_same_place(prepared.folder, data)
            changed = _changed(data, prepared, difference(prepared.folder, listed))
            if not anew:
                raise UserError(
                    f"{changed}; give the same command with --mode=prepare to prepare anew, after which no run that "
                    "was trained on the old pictures can be resumed, or add --workdir=RUN, the run's folder, and "
                    f"--config.data.manual_dir= --config.data.prepared_dir={prepared.folder} to resume that run with "
                    "the pictures as they were prepared"
                )
            say(f"{changed}: {ANEW}")
    _require_place(data)
    return _prepare(data, listing or list_source(config))


def _changed(data: ConfigDict, prepared: PreparedSet, how: str) -> str:
    return f"'{data.manual_dir or data.name}' is not what '{prepared.folder}' was prepared from ({how})"


def _state(data: ConfigDict) -> State:
    """The first prepared set that is found, compared with the source. Raises UserError."""
    prepared = None
    for folder in folders(data):
        finish_interrupted(folder)
        if is_whole(folder):
            prepared = open_set(folder, data)
            break
    if prepared is None:
        return Absent()
    stamp = sources.stamp(data)
    is_stamped_alike = stamp and load_summary(prepared.folder)["stamp"] in (stamp, NO_STAMP)
    if is_stamped_alike or not sources.is_there(data):
        return Current(prepared)
    listing = _list(data)
    if prepared.listing != listing.digest:
        return Changed(prepared, listing)
    return Current(prepared) if _is_of(prepared.folder, listing) else Touched(prepared, listing)


def _prepare(data: ConfigDict, listing: Listing) -> PreparedSet:
    """Prepares the set in the first folder that can be written. Raises UserError."""
    for folder in folders(data):
        work = folder.parent / (f"{folder.name}.incomplete" if folder.name != VERSION else "incomplete")
        try:
            work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            refused = error
            continue
        if not is_whole(folder):
            say(f"{data.name} is not prepared yet: preparing it in {folder}")
        say_summary(listing)
        with alone_in(work, "prepared"):
            if not is_whole(folder) or not _is_of(folder, listing):  # another process may have prepared it by now
                Preparation(listing, data, work, folder).run()
        return open_set(folder, data)
    raise UserError(
        f"the data folder '{refused.filename}' cannot be written ({refused.strerror}); set --config.data.data_dir to a "
        "writable folder"
    )


def _require_place(data: ConfigDict) -> None:
    """Raises UserError, before anything is listed, if the configured folder for the prepared set cannot be made."""
    if not data.prepared_dir:
        return
    named = Path(data.prepared_dir).expanduser().absolute()
    nearest = next(folder for folder in (named, *named.parents) if folder.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return
    reason = "cannot be written" if nearest.is_dir() else "is not a folder"
    raise UserError(
        f"config.data.prepared_dir is '{data.prepared_dir}', and '{nearest}' {reason}; set --config.data.prepared_dir "
        "to a folder that can be created"
    )


def list_source(config: ConfigDict) -> Listing:
    """Lists and checks all that there is to prepare; decodes no picture. Raises UserError."""
    return _list(config.data)


def _list(data: ConfigDict) -> Listing:
    stamp = sources.stamp(data)  # taken before the listing, so that a change during it shows later
    source = sources.open_source(data)
    return list_whole(source, stamp or source.stamp)


def _is_of(folder: Path, listing: Listing) -> bool:
    """Whether the set in the folder was made from this listing, and no file was written since."""
    known = load_summary(folder)
    return known["digest"] == listing.digest and known["stamp"] in (listing.stamp, NO_STAMP)
