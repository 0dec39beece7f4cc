"""The 2012 source: the same network as its authors' released code and run logs have it.

    python launch.py --config=configs/alexnet_2012.py --config.data.manual_dir=DIR

Run 145 of the logs: 40.66 % top-1 and 18.21 % top-5 error with ten views on ILSVRC-2012 after 91
epochs. docs/paper_and_source.md goes through every difference from configs/alexnet.py. Nobody has
run this configuration to its end here yet.

    python launch.py --config=configs/alexnet_2012.py:VARIANT

is another run of the logs, with its own widths, paddings and schedule: RUNS below.
"""

from dataclasses import dataclass, field
from typing import Any

from ml_collections import ConfigDict

from configs import alexnet, variants

SOURCE = {  # what all runs share, and where in the released code it is
    "model.middle_stddev": 0.03,  # layers-145.cfg:143,172,200
    "model.lrn_alpha_over_n": True,  # layer.py:1183
    "model.within_map_norm": True,  # layers-145.cfg:107-117
    "model.pool_before_activation": True,  # layers-145.cfg:9-63
    "data.order": "fixed",
    "augment.offsets_inclusive": True,  # convdata_jpeg.py:239
    "augment.pictures_per_draw": 32,  # convdata_jpeg.py:77,238-246
    "augment.mean": "centre",  # convdata_jpeg.py:95
    "augment.lighting": "root",  # convdata_jpeg.py:65,155-179
    "optimizer.decay_biases": False,  # src/layer.cu:565
    "schedule.kind": "listed",
}
Rates = tuple[tuple[float, str, float], ...]


@dataclass(frozen=True)
class Run:
    """A run of the logs: its name there, its length, its learning rates, and what else is its own."""

    log: str
    epochs: float
    rates: Rates  # (epoch, parameters, rate); of lines that name a parameter the last one reached holds
    lighting_until: float = 0.0  # epochs; 0: to the end
    changes: dict[str, Any] = field(default_factory=dict)


# The rate of the biases is not divided with the weights'. A rate of 0 is no update at all.
RUNS = {
    "": Run(
        log="145",
        epochs=91,
        lighting_until=67,
        rates=(
            *((0, "*/kernel", 1e-2), (0, "*/bias", 0.02)),
            *((25, "*/kernel", 1e-3), (51, "*/kernel", 1e-4)),
            *((67, "conv1/kernel", 1e-5), (72, "conv1/*", 0.0)),
            *((79, "*/kernel", 1e-5), (79, "conv1/*", 0.0)),
        ),
    ),
    "ilsvrc2010": Run(
        log="145-2010",
        epochs=93,
        lighting_until=68,
        rates=(
            *((0, "*/kernel", 1e-2), (0, "*/bias", 0.002)),
            *((23, "*/kernel", 1e-3), (51, "*/kernel", 1e-4)),
            *((68, "conv1/kernel", 1e-5), (72, "conv1/*", 0.0)),
            *((78, "*/kernel", 1e-5), (78, "conv1/*", 0.0)),
        ),
    ),
    "one_gpu": Run(
        log="145-half",
        epochs=96,
        lighting_until=66,
        rates=(
            *((0, "*/kernel", 1e-2), (0, "*/bias", 0.02), (0, "conv[12]/bias", 0.002)),
            *((20, "*/kernel", 1e-3), (48, "*/kernel", 1e-4)),
            *((66, "conv1/kernel", 1e-5), (72, "conv1/*", 0.0)),
        ),
        changes={**variants.VARIANTS["ilsvrc2010"].changes},  # the log's errors are those of 2010
    ),
    "no_lrn": Run(
        log="148",
        epochs=97,
        lighting_until=69,
        rates=(
            *((0, "*/kernel", 1e-2), (0, "*/bias", 0.02)),
            *((22, "*/kernel", 1e-3), (44, "*/kernel", 1e-4)),
            *((69, "conv1/kernel", 1e-5), (73, "conv1/*", 0.0)),
            *((86, "*/kernel", 1e-5), (86, "conv1/*", 0.0)),
        ),
        changes={"model.within_map_norm": False},  # layers-148.cfg has neither normalisation
    ),
    "nonoverlapping_pooling": Run(
        log="147",
        epochs=90,
        rates=(
            *((0, "*/kernel", 1e-2), (0, "*/bias", 0.002)),
            *((23, "*/kernel", 1e-3), (51, "*/kernel", 1e-4)),
            *((79, "*/kernel", 1e-5), (79, "conv1/*", 0.0)),
        ),
        changes={"model.padding": (1, 1, 1, 0), "model.pool_rounding": "up"},  # layers-147.cfg
    ),
    "fall2009": Run(
        log="146-2009",
        epochs=6.65,
        # The logs say until when the rates differ; that 0.001 holds after it is read from what 2011's do.
        rates=(
            *((0, "*/kernel", 1e-2), (0, "conv[1-5]/kernel", 1e-3), (0, "*/bias", 0.02)),
            (2.16, "*/kernel", 1e-3),
        ),
        changes={"train.init_after": "configs/alexnet_2012.py"},
    ),
    "fall2011": Run(
        log="146-2011",
        epochs=8.11,
        rates=(
            *((0, "*/kernel", 1e-2), (0, "conv*/kernel", 1e-3), (0, "*/bias", 0.02)),
            (6, "*/kernel", 1e-3),
        ),
        changes={
            "model.classes": 21_843,  # as 10,921 + 10,922
            "model.bottleneck": 2048,  # layers-146-2011.cfg:344-374
            "train.init_after": "configs/alexnet_2012.py:fall2009",
        },
    ),
    "star": Run(
        log="146-2012-2011",
        epochs=54,
        lighting_until=38,
        rates=(
            *((0, "*/kernel", 1e-3), (0, "conv1/kernel", 1e-4), (0, "*/bias", 0.02)),
            (300 / 10_009, "fc8/kernel", 1e-2),  # after 300 batches of the 10,009 of an epoch
            *((5, "conv1/kernel", 1e-5), (7, "conv1/*", 0.0), (9, "fc8/kernel", 1e-3)),
            *((22, "*/kernel", 1e-4), (22, "conv1/*", 0.0)),
            *((42, "*/kernel", 1e-5), (42, "conv1/*", 0.0)),
        ),
        changes={"train.init_after": "configs/alexnet_2012.py:fall2011"},
    ),
    "no_cross": Run(
        log="150",
        epochs=92,
        lighting_until=66,
        rates=(
            *((0, "*/kernel", 1e-2), (0, "*/bias", 0.02)),
            *((25, "*/kernel", 1e-3), (49, "*/kernel", 1e-4)),
            *((66, "conv1/kernel", 1e-5), (72, "conv1/*", 0.0)),
            *((79, "*/kernel", 1e-5), (79, "conv1/*", 0.0)),
        ),
        changes={"model.kernels": (96, 320, 384, 384, 256), "model.units": (8192, 4096)},  # layers-150.cfg
    ),
}


def get_config(variant: str = "") -> ConfigDict:
    """The paper's fields with the source's values. Raises ValueError if the logs have no such run."""
    there = {one: f"run {run.log}: {variants.VARIANTS[one].what}" for one, run in RUNS.items() if one}
    variants.require("alexnet_2012", variant, there)
    run = RUNS[variant]
    config = alexnet.get_config(variant)
    config.name = variants.name("alexnet_2012", variant)
    config.update_from_flattened_dict(SOURCE)
    config.schedule.rates = run.rates
    config.augment.lighting_until = float(run.lighting_until)
    config.train.epochs = float(run.epochs)
    config.update_from_flattened_dict(run.changes)
    return config
