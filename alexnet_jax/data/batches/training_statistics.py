"""The statistics of the split that a run trains on."""

from pathlib import Path
from urllib.parse import quote

from ml_collections import ConfigDict

from alexnet_jax.data.batches import pipeline
from alexnet_jax.data.prepared.listing import load_summary
from alexnet_jax.data.prepared.prepared_set import STATISTICS, PreparedSet, folders
from alexnet_jax.data.prepared.statistics import Statistics, load_statistics, statistics_of
from alexnet_jax.messages import UserError, say


def training_statistics(source: PreparedSet, config: ConfigDict) -> Statistics:
    """The statistics for a run: as measured, but with the config's mean, if it gives one."""
    found = measured_statistics(source, config)
    return found.with_mean(config.data.mean_rgb) if config.data.mean_rgb else found


def measured_statistics(source: PreparedSet, config: ConfigDict) -> Statistics:
    """The statistics of the config's training split, computed now and saved if preparing computed others."""
    data = config.data
    if load_summary(source.folder)["statistics"] == data.train_split:
        return _load(source.folder / STATISTICS, source.resize)
    name = f"preprocessing-{quote(data.train_split, safe='')}.npz"
    cache = folders(data)[-1]
    for folder in (source.folder, cache):
        if (folder / name).is_file():
            return _load(folder / name, source.resize)
    say(f"computing the mean image and the RGB covariance of {source.examples(data.train_split)} pictures")
    result = statistics_of(pipeline.squares(source, data.train_split))
    for folder in (source.folder, cache):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            result.save(folder / name)
            break
        except OSError:
            continue  # if the data cannot be written to, the user's cache is used
    return result


def _load(path: Path, side: int) -> Statistics:
    try:
        return load_statistics(path, side)
    except ValueError as error:
        raise UserError(f"{error}; remove '{path.parent}' to prepare anew") from error
