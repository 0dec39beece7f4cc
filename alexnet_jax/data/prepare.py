"""A config's dataset and its statistics, opened, or prepared where they are not yet."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from ml_collections import ConfigDict

from alexnet_jax.data import pipeline, sources
from alexnet_jax.data.listing import Listing, difference, list_whole, load_summary, say_summary
from alexnet_jax.data.preparation import LOCK, Preparation
from alexnet_jax.data.prepared_set import STATISTICS, VERSION, PreparedSet, folders, is_whole, open_set
from alexnet_jax.data.statistics import Statistics, load_statistics, statistics_of
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
        if is_whole(folder):
            made = open_set(folder, data)
            listing = _changed(folder, data)
            if listing is None:
                return made
            changed = f"'{data.manual_dir}' is not what '{folder}' was prepared from ({difference(folder, listing)})"
            if not anew:
                raise UserError(
                    f"{changed}; give the same command with --mode=prepare to prepare anew, or with "
                    "--config.data.manual_dir= to go on with what was prepared"
                )
            say(f"{changed}: preparing anew")
            break
    stamp = sources.stamp(data)
    listing = listing or list_source(config)
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
        with _alone(work):
            if not is_whole(folder) or _digest_of(folder) != listing.digest:
                Preparation(listing, stamp, data, work, folder).run()
        return open_set(folder, data)
    raise UserError(
        f"the data folder '{refused.filename}' cannot be written ({refused.strerror}); set --config.data.data_dir to a "
        "folder that can"
    )


def list_source(config: ConfigDict) -> Listing:
    """All that there is to prepare, checked as a whole; no picture is decoded. Raises UserError."""
    return list_whole(sources.open_source(config.data))


def _changed(folder: Path, data: ConfigDict) -> Listing | None:
    """The listing of what there is to prepare, if the set in the folder was made from another one."""
    known = load_summary(folder)
    if known is None:
        say(f"'{folder}' was prepared by an earlier version: it is not known from which pictures")
    if known is None or not sources.is_there(data):
        return None
    if known["stamp"] and known["stamp"] == sources.stamp(data):
        return None
    listing = list_whole(sources.open_source(data))
    return None if listing.digest == known["digest"] else listing


def _digest_of(folder: Path) -> str | None:
    known = load_summary(folder)
    return known["digest"] if known else None


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    with open(work / LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"'{work}' is being prepared by another process; wait until it has ended") from error
        yield


def training_statistics(source: PreparedSet, config: ConfigDict) -> Statistics:
    """Those that a run keeps: as measured, with the mean that the config gives, if it does."""
    found = measured_statistics(source, config)
    return found.with_mean(config.data.mean_rgb) if config.data.mean_rgb else found


def measured_statistics(source: PreparedSet, config: ConfigDict) -> Statistics:
    """The statistics of the config's training split; those of a slice are computed when first asked for."""
    data = config.data
    if "[" not in data.train_split and "+" not in data.train_split:
        return _load(source.folder / STATISTICS)
    name = f"preprocessing-{quote(data.train_split, safe='')}.npz"
    cache = [*folders(data)][-1]
    for folder in (source.folder, cache):
        if (folder / name).is_file():
            return _load(folder / name)
    say(f"computing the mean image and the RGB covariance of {source.examples(data.train_split)} pictures")
    result = statistics_of(pipeline.squares(source, data.train_split))
    for folder in (source.folder, cache):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            result.save(folder / name)
            break
        except OSError:
            continue  # data that cannot be written to has its statistics in the user's cache
    return result


def _load(path: Path) -> Statistics:
    try:
        return load_statistics(path)
    except ValueError as error:
        raise UserError(f"{error}; remove '{path.parent}' to prepare anew") from error
