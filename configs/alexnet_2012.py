"""The same network as in its authors' released code and logs of 2012, called the source.

    python launch.py --config=configs/alexnet_2012.py --config.data.manual_dir=DIR

Run 145 of the logs: 40.66 % top-1 and 18.21 % top-5 error with ten views on ILSVRC-2012 after 91
epochs. docs/paper_and_source.md lists every difference from configs/alexnet.py. Nobody has trained
this configuration to its end here yet.

    python launch.py --config=configs/alexnet_2012.py:VARIANT

trains another run of the logs, with its own widths, paddings and schedule. They are RUNS below.
"""

from dataclasses import dataclass, field
from typing import Any

from ml_collections import ConfigDict

from configs import alexnet, variants

SOURCE = {  # what all runs share, and its place in the released code
    "model.middle_stddev": 0.03,  # layers-145.cfg:143,172,200
    "model.lrn_alpha_over_n": True,  # layer.py:1183
    "model.within_map_norm": True,  # layers-145.cfg:107-117
    "model.pool_before_activation": True,  # layers-145.cfg:9-63
    "model.pool_ties": "all",  # cuda-convnet passes the gradient to every position that equals the maximum
    "data.order": "fixed",  # convdata_jpeg.py:108
    "data.short_batch": "keep",  # layer.cu:337
    "augment.offsets_inclusive": True,  # convdata_jpeg.py:239
    "augment.pictures_per_draw": 32,  # convdata_jpeg.py:77,238-246
    "augment.mean": "centre",  # convdata_jpeg.py:95
    "augment.lighting": "root",  # convdata_jpeg.py:65,155-179
    "optimizer.decay_biases": False,  # src/layer.cu:565
    "schedule.kind": "listed",
    "train.init_checkpoint": "newest",  # initw.py
    "evaluate.checkpoint": "newest",  # the logs' errors are those of the last state
}
BATCH = 1024  # pictures in a batch as the logs count, which is a file; a training step takes 128 of them
# Batches in a pass. No log gives them for the two releases: they are the releases' pictures over BATCH.
FALL_2009, FALL_2011, ILSVRC_2012 = 8_800, 13_870, 1_281_167 / BATCH

When = int | str  # a time in a log: 25, or "2.1600"
Rates = tuple[tuple[When, str, float], ...]


def passes(when: When, batches: float = 0.0) -> float:
    """The passes over the training set that are complete at a line of a log.

    The source's program prints the epoch, counted from 1, a dot, and the batch (convnet.py:120). That is no decimal
    number: "2.1600" is batch 1,600 of the second pass. A whole number means after so many passes, as in --epochs.

    Args:
      when: a whole number of passes, or "EPOCH.BATCH".
      batches: in a pass; needed for EPOCH.BATCH.
    """
    if isinstance(when, int):
        return float(when)
    epoch, batch = when.split(".")
    return int(epoch) - 1 + int(batch) / batches


@dataclass(frozen=True)
class Run:
    """A run of the logs: its name there, its length, its learning rates, and its other differences from SOURCE."""

    log: str
    end: When
    rates: Rates  # (when, parameters, rate); for each parameter the last line reached that names it holds
    batches: float = ILSVRC_2012  # in a pass
    lighting_until: int = 0  # passes; 0: to the end
    changes: dict[str, Any] = field(default_factory=dict)


# The biases' rate starts at 0.02 and does not drop with the weights'. Where the last file of a run has 0.002, the rate
# dropped with one of theirs: not before epoch 51, as a copy of run 147's file for epochs 23 to 51 shows. conv6 had
# 0.002 from its first file on. A rate of 0 means no update at all.
RUNS = {
    "": Run(
        log="145",
        end=91,
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
        end=93,
        lighting_until=68,
        rates=(
            *((0, "*/kernel", 1e-2), (0, "*/bias", 0.02)),
            *((23, "*/kernel", 1e-3), (51, "*/kernel", 1e-4), (51, "*/bias", 0.002)),
            *((68, "conv1/kernel", 1e-5), (72, "conv1/*", 0.0)),
            *((78, "*/kernel", 1e-5), (78, "conv1/*", 0.0)),
        ),
    ),
    "one_gpu": Run(
        log="145-half",
        end=96,
        lighting_until=66,
        rates=(
            *((0, "*/kernel", 1e-2), (0, "*/bias", 0.02), (0, "conv[12]/bias", 0.002)),
            *((20, "*/kernel", 1e-3), (48, "*/kernel", 1e-4)),
            *((66, "conv1/kernel", 1e-5), (72, "conv1/*", 0.0)),
        ),
    ),
    "no_lrn": Run(
        log="148",
        end=97,
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
        end=90,
        rates=(
            *((0, "*/kernel", 1e-2), (0, "*/bias", 0.02)),
            *((23, "*/kernel", 1e-3), (51, "*/kernel", 1e-4), (51, "*/bias", 0.002)),
            *((79, "*/kernel", 1e-5), (79, "conv1/*", 0.0)),
        ),
        changes={"model.padding": (1, 1, 1, 0), "model.pool_rounding": "up"},  # layers-147.cfg
    ),
    "fall2009": Run(
        log="146-2009",
        end="6.6491",
        batches=FALL_2009,
        rates=(
            *((0, "*/kernel", 1e-2), (0, "conv[1-5]/kernel", 1e-3)),
            *((0, "*/bias", 0.02), (0, "conv6/bias", 0.002)),
            ("2.1600", "*/kernel", 1e-3),
        ),
        changes={
            "data.validation_fraction": 0.01,  # it read batches beyond half of the release
            "train.init_after": "configs/alexnet_2012.py",
            "train.init_except": "conv6, fc6, fc7, fc8",  # layers-146-2009.cfg:284-325 has no initWFunc for them
        },
    ),
    "fall2011": Run(
        log="146-2011",
        end="8.11295",
        batches=FALL_2011,
        rates=(
            *((0, "*/kernel", 1e-2), (0, "conv*/kernel", 1e-3)),
            *((0, "*/bias", 0.02), (0, "conv6/bias", 0.002)),
            (6, "*/kernel", 1e-3),
        ),
        changes={
            "model.classes": 21_843,  # as 10,921 + 10,922
            "model.bottleneck": 2048,  # layers-146-2011.cfg:344-374
            "data.validation_fraction": 0.01,
            "train.init_after": "configs/alexnet_2012.py:fall2009",
            "train.init_except": "fc6, fc7, bottleneck, fc8",  # the same in layers-146-2011.cfg:288-374
        },
    ),
    "star": Run(
        log="146-2012-2011",
        end=54,
        lighting_until=38,
        rates=(
            *((0, "*/kernel", 1e-3), (0, "conv1/kernel", 1e-4)),
            *((0, "*/bias", 0.02), (0, "conv6/bias", 0.002)),
            ("1.300", "fc8/kernel", 1e-2),  # "300 batches", 2,400 steps
            *((5, "conv1/kernel", 1e-5), (7, "conv1/*", 0.0), (9, "fc8/kernel", 1e-3)),
            *((22, "*/kernel", 1e-4), (22, "conv1/*", 0.0)),
            *((42, "*/kernel", 1e-5), (42, "conv1/*", 0.0)),
        ),
        changes={"train.init_after": "configs/alexnet_2012.py:fall2011"},  # all layers but fc8, as in variants.py
    ),
    "no_cross": Run(
        log="150",
        end=92,
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
    config.schedule.rates = tuple((passes(when, run.batches), what, rate) for when, what, rate in run.rates)
    config.augment.lighting_until = float(run.lighting_until)
    config.train.epochs = passes(run.end, run.batches)
    config.update_from_flattened_dict(run.changes)
    return config
