"""The statistics that a run keeps: of the split that it trains on."""

from pathlib import Path
from urllib.parse import quote

from ml_collections import ConfigDict

from alexnet_jax.data.batches import pipeline
from alexnet_jax.data.prepared.listing import load_summary
from alexnet_jax.data.prepared.prepared_set import STATISTICS, PreparedSet, folders
from alexnet_jax.data.prepared.statistics import Statistics, load_statistics, statistics_of
from alexnet_jax.messages import UserError, say


def training_statistics(source: PreparedSet, config: ConfigDict) -> Statistics:
    """Those that a run keeps: as measured, with the mean that the config gives, if it does."""
    found = measured_statistics(source, config)
    return found.with_mean(config.data.mean_rgb) if config.data.mean_rgb else found


def measured_statistics(source: PreparedSet, config: ConfigDict) -> Statistics:
    """The statistics of the config's training split; any but those that preparing took are computed when asked for."""
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
            continue  # data that cannot be written to has its statistics in the user's cache
    return result


def _load(path: Path, side: int) -> Statistics:
    try:
        return load_statistics(path, side)
    except ValueError as error:
        raise UserError(f"{error}; remove '{path.parent}' to prepare anew") from error
