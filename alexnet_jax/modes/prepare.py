"""`--mode=prepare`: a dataset made ready for training."""

from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.data import prepare
from alexnet_jax.data.prepared_set import REJECTED
from alexnet_jax.data.sheet import draw_sheet
from alexnet_jax.messages import say
from alexnet_jax.modes import Invocation


def run(config: ConfigDict, invocation: Invocation) -> dict[str, Any]:
    """`--mode=prepare`: the dataset and its statistics, ready for training."""
    prepared = prepare.open_or_prepare(config)
    statistics = prepare.training_statistics(prepared, config)
    say(f"{prepared.name} is ready in {prepared.folder}")
    sheet = draw_sheet(prepared, config.data)
    text = (prepared.folder / REJECTED).read_text()
    return {
        "name": prepared.name,
        "data_dir": str(prepared.folder),
        "examples": prepared.examples(config.data.train_split),
        "splits": {name: int(info.num_examples) for name, info in prepared.builder.info.splits.items()},
        "classes": len(prepared.classes),
        "rejected": len(text.splitlines()),
        "sheet": str(sheet) if sheet else None,
        "bytes": sum(path.stat().st_size for path in prepared.folder.iterdir()),
        "mean_rgb": [float(x) for x in statistics.mean_image.mean(axis=(0, 1))],
        "rgb_covariance": statistics.rgb_covariance.tolist(),
    }
