"""A config's dataset and its statistics, opened, or prepared where they are not yet."""

import os
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.data import sources
from alexnet_jax.data.prepared.finished import tidy
from alexnet_jax.data.prepared.listing import Listing, difference, list_whole, load_summary, say_summary
from alexnet_jax.data.prepared.preparation import Preparation
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


def open_or_prepare(config: ConfigDict, anew: bool = False) -> PreparedSet:
    """The config's dataset, prepared first if it is not yet.

    Args:
      anew: prepare again what was prepared from other pictures than there are now.

    Raises:
      UserError: its files are missing or bad, the disk is full, it was prepared with other settings, or, unless
        `anew`, from other pictures.
    """
    data = config.data
    listing = None
    for folder in folders(data):
        tidy(folder)
        if is_whole(folder):
            made = open_set(folder, data)
            listing = _changed(folder, data)
            if listing is None:
                return made
            if _digest_of(folder) != listing.digest:
                require_same_place(folder, data)
                how = difference(folder, listing)
            elif anew:
                how = "a file was changed since, names and sizes being the same"
            else:
                say(
                    f"a file in '{data.manual_dir}' was changed after '{folder}' was prepared, names and sizes being "
                    "the same; if it is another picture now, the same command with --mode=prepare prepares anew"
                )
                return made
            changed = f"'{data.manual_dir}' is not what '{folder}' was prepared from ({how})"
            if not anew:
                raise UserError(f"{changed}; {_what_to_do(folder)}")
            say(f"{changed}: preparing anew")
            break
    _require_place(data)
    stamp = sources.stamp(data)
    listing = listing or list_source(config)
    stamp = stamp or listing.source.stamp
    for folder in folders(data):
        work = folder.parent / f"{folder.name}.incomplete" if folder.name != VERSION else folder.parent / "incomplete"
        try:
            work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            refused = error
            continue
        if not is_whole(folder):
            say(f"{data.name} is not prepared yet: preparing it in {folder}")
        say_summary(listing)
        with alone_in(work, "prepared"):
            if not is_whole(folder) or not _is_of(folder, listing, stamp):
                Preparation(listing, stamp, data, work, folder).run()
        return open_set(folder, data)
    raise UserError(
        f"the data folder '{refused.filename}' cannot be written ({refused.strerror}); set --config.data.data_dir to a "
        "folder that can"
    )


def _what_to_do(folder: Path) -> str:
    """Where pictures are not those that the folder was prepared from."""
    return (
        "give the same command with --mode=prepare to prepare anew, after which no run that was trained on its "
        "pictures can be gone on with, or with --workdir=RUN, the run's folder, and "
        f"--config.data.manual_dir= --config.data.prepared_dir={folder} to go on with what was prepared"
    )


def _require_place(data: ConfigDict) -> None:
    """Raises UserError, before anything is listed, if the named folder for the prepared set cannot be made."""
    if not data.prepared_dir:
        return
    named = Path(data.prepared_dir).expanduser().absolute()
    nearest = next(folder for folder in (named, *named.parents) if folder.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return
    reason = "cannot be written" if nearest.is_dir() else "is no folder"
    raise UserError(
        f"config.data.prepared_dir is '{data.prepared_dir}', and '{nearest}' {reason}; set --config.data.prepared_dir "
        "to a folder that can be made"
    )


def list_source(config: ConfigDict) -> Listing:
    """All that there is to prepare, checked as a whole; no picture is decoded. Raises UserError."""
    return list_whole(sources.open_source(config.data))


def _changed(folder: Path, data: ConfigDict) -> Listing | None:
    """The listing of what there is to prepare, if the set in the folder is not of it."""
    known = load_summary(folder)
    if known is None:
        say(f"'{folder}' was prepared by an earlier version: it is not known from which pictures")
        require_same_place(folder, data)
    if known is None or not sources.is_there(data):
        return None
    stamp = sources.stamp(data)
    if stamp and known["stamp"] == stamp:
        return None
    if stamp and not known["stamp"]:  # of a set of TFDS, which earlier versions listed in another way
        return None
    listing = list_whole(sources.open_source(data))
    return None if _is_of(folder, listing, stamp or listing.source.stamp) else listing


def _is_of(folder: Path, listing: Listing, stamp: str) -> bool:
    """Whether the set in the folder was made from this listing, and nothing was changed since."""
    known = load_summary(folder)
    if known is None or known["digest"] != listing.digest:
        return False
    return known["stamp"] in ("", stamp)  # '': sets of folders that earlier versions made


def _digest_of(folder: Path) -> str | None:
    known = load_summary(folder)
    return known["digest"] if known else None
