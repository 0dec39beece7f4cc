"""`--mode=prepare`: makes a dataset ready for training."""

import tempfile
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.data.batches.training_statistics import measured_statistics
from alexnet_jax.data.prepared import prepare
from alexnet_jax.data.prepared.contact_sheet import draw_sheet
from alexnet_jax.data.prepared.listing import left_out, load_summary, say_summary
from alexnet_jax.data.prepared.prepared_set import REJECTED, PreparedSet
from alexnet_jax.data.prepared.statistics import Statistics
from alexnet_jax.data.sources import kind_of
from alexnet_jax.devices import cluster
from alexnet_jax.messages import say
from alexnet_jax.modes import PrepareInvocation


def run(config: ConfigDict, invocation: PrepareInvocation) -> dict[str, Any]:
    """Prepares the dataset and its statistics. Returns what they hold, or the listing alone for --dry_run."""
    if invocation.dry_run:
        return _listed(config)

    def work() -> tuple[PreparedSet, Statistics]:
        made = prepare.open_or_prepare(config, anew=True)
        return made, measured_statistics(made, config)

    prepared, statistics = cluster.one_first(config.data.shared, "prepares the pictures", work)
    if cluster.index():
        return {}
    say(f"{prepared.name} is ready in {prepared.folder}")
    sheet = draw_sheet(prepared, config.data)
    summary = load_summary(prepared.folder)
    text = (prepared.folder / REJECTED).read_text()
    return {
        "name": prepared.name,
        "data_dir": str(prepared.folder),
        "examples": prepared.examples(config.data.train_split),
        "splits": {name: int(info.num_examples) for name, info in prepared.builder.info.splits.items()},
        "classes": len(prepared.classes),
        "rejected": len(text.splitlines()),
        "sheet": str(sheet) if sheet else None,
        "left_out": {one["reason"]: one["count"] for one in summary["left_out"]},
        "bytes": sum(path.stat().st_size for path in prepared.folder.iterdir()),
        "mean_rgb": [float(x) for x in statistics.mean_image.mean(axis=(0, 1))],
        "rgb_covariance": statistics.rgb_covariance.tolist(),
    }


def _listed(config: ConfigDict) -> dict[str, Any]:
    """Lists what would be prepared."""
    with tempfile.TemporaryDirectory() as folder:
        if kind_of(config.data.name).is_written_when_listed:
            with config.unlocked():
                config.data.data_dir = folder
        listing = prepare.list_source(config)
    say_summary(listing)
    splits = {name: split.count for name, split in listing.source.splits.items()}
    return {
        "name": config.data.name,
        "examples": sum(splits.values()),
        "splits": splits,
        "classes": len(listing.source.classes),
        "left_out": left_out(listing.source),
    }
