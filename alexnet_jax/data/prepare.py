"""A config's dataset and its statistics, opened, or prepared where they are not yet."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from ml_collections import ConfigDict

from alexnet_jax.data import pipeline
from alexnet_jax.data.preparation import LOCK, Preparation
from alexnet_jax.data.prepared_set import STATISTICS, VERSION, PreparedSet, folders, is_whole, open_set
from alexnet_jax.data.sources import open_source
from alexnet_jax.data.statistics import Statistics, load_statistics, statistics_of
from alexnet_jax.messages import UserError, say


def open_or_prepare(config: ConfigDict) -> PreparedSet:
    """The config's dataset, prepared first if it is not yet.

    Raises:
      UserError: its files are missing or bad, the disk is full, or it was prepared with other settings.
    """
    data = config.data
    for folder in folders(data):
        if is_whole(folder):
            return open_set(folder, data)
    source = open_source(data)
    for folder in folders(data):
        work = folder.parent / f"{folder.name}.incomplete" if folder.name != VERSION else folder.parent / "incomplete"
        try:
            work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            refused = error
            continue
        say(f"{data.name} is not prepared yet: preparing it in {folder}")
        with _alone(work):
            if not is_whole(folder):
                Preparation(source, data, work, folder).run()
        return open_set(folder, data)
    raise UserError(
        f"the data folder '{refused.filename}' cannot be written ({refused.strerror}); set --config.data.data_dir to a "
        "folder that can"
    )


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    with open(work / LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"'{work}' is being prepared by another process; wait until it has ended") from error
        yield


def training_statistics(source: PreparedSet, config: ConfigDict) -> Statistics:
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
