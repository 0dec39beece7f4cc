"""The rows of the paper: a line that describes each, and what it changes in `configs/alexnet.py`."""

import difflib
from dataclasses import dataclass, field
from typing import Any

from ml_collections import ConfigDict


@dataclass(frozen=True)
class Variant:
    """A row: a line for a person, and the fields that differ from the base, by dotted name."""

    what: str
    changes: dict[str, Any] = field(default_factory=dict)


_SYNSET_TARS = {"data.name": "synset_tars"}
_ILSVRC_2010 = {**_SYNSET_TARS, "model.classes": 1000}
_STAR = {"model.sixth_convolution": 256}
_EPOCH = 5004  # whole batches of 256 in the 1,281,167 pictures of ILSVRC-2012

# What Caffe's two networks share, from models/bvlc_alexnet/train_val.prototxt and solver.prototxt. Their biases learn
# at twice the weights' rate and do not decay. Caffe counts steps, which become epochs here.
_CAFFE = {
    "model.first_padding": (0, 0),
    "model.dense_stddev": 0.005,
    "model.dropout_scaling": "training",
    "model.lrn_k": 1.0,
    "model.lrn_alpha_over_n": True,
    "model.lrn_across_towers": True,
    "data.square": "squeeze",
    "data.crop": 227,
    "augment.offsets_inclusive": True,  # a crop of 227 pixels has 30 positions each way in 256
    "augment.lighting_stddev": 0.0,
    "optimizer.decay_biases": False,
    "schedule.kind": "listed",
    "schedule.rates": tuple(
        (100_000 * drops / _EPOCH, f"*/{what}", rate / 10**drops)
        for drops in range(4)
        for what, rate in (("kernel", 0.01), ("bias", 0.02))
    ),
    "train.batch_size": 256,
}
# torchvision's network and its reference recipe. The recipe has crops of random size and shape, which this program
# lacks, and multiplies the velocity by the rate, so that a drop of the rate takes effect at once.
_TORCHVISION = {
    "model.towers": 1,
    "model.kernels": (64, 192, 384, 256, 256),
    "model.first_padding": (2, 2),
    "model.start": "fan_in",
    "model.dropout_place": "inputs",
    "model.dropout_scaling": "training",
    "model.lrn": False,
    "data.square": "crop_down",
    "data.mean_rgb": (123.675, 116.28, 103.53),  # .485, .456 and .406 of 255
    "data.stddev_rgb": (58.395, 57.12, 57.375),  # .229, .224 and .225 of 255
    "augment.lighting_stddev": 0.0,
    "optimizer.weight_decay": 0.0001,
    "schedule.kind": "steps",
    "schedule.boundaries": (30.0, 60.0),
    "train.batch_size": 256,  # 32 on each of eight GPUs
}


def _without(layer: str) -> Variant:
    return Variant(f"{layer} left out, as one middle layer in section 7", {"model.removed": layer})


VARIANTS = {
    "ilsvrc2010": Variant(
        "Table 1: the same network on ILSVRC-2010; --config.evaluate.split=test for the errors of the table",
        _ILSVRC_2010,
    ),
    "one_gpu": Variant(
        "section 3.2: one tower on ILSVRC-2010, half the kernels of conv1 to conv4, the same conv5 and dense layers",
        {**_ILSVRC_2010, "model.towers": 1, "model.kernels": (48, 128, 192, 192, 256)},
    ),
    "no_lrn": Variant("section 3.3: no response normalisation", {"model.lrn": False}),
    "nonoverlapping_pooling": Variant(
        "section 3.4: pooling of 2 by 2 instead of 3 by 2", {"model.pool_window": 2, "model.pool_stride": 2}
    ),
    "no_lighting": Variant("section 4.1: no PCA lighting", {"augment.lighting_stddev": 0.0}),
    "no_crops_or_reflections": Variant(
        "section 4.1: only the central crop, never reflected", {"augment.crops": False, "augment.reflections": False}
    ),
    "no_dropout": Variant("section 4.2: no dropout in fc6 and fc7", {"model.dropout": 0.0}),
    "tanh": Variant("section 3.1: tanh units instead of ReLUs", {"model.activation": "tanh"}),
    "no_conv2": _without("conv2"),
    "no_conv3": _without("conv3"),
    "no_conv4": _without("conv4"),
    "no_conv5": _without("conv5"),
    "no_fc6": _without("fc6"),
    "no_fc7": _without("fc7"),
    "fall2009": Variant(
        "section 6: Fall 2009, 10,184 classes, half train, half test, with a sixth convolution",
        {**_SYNSET_TARS, **_STAR, "model.classes": 10_184, "data.validation_fraction": 0.5},
    ),
    "fall2011": Variant(
        "section 6: Fall 2011, all 21,841 classes of the release, with a sixth convolution; star starts from it",
        {**_SYNSET_TARS, **_STAR, "model.classes": 21_841},
    ),
    "star": Variant(
        "Table 2, CNN*: a sixth convolution, pretrained on Fall 2011 and fine-tuned on ILSVRC-2012",
        # The paper does not give the rate of fine-tuning; the source has 0.001 in all layers but conv1.
        {
            **_STAR,
            "train.init_after": "configs/alexnet.py:fall2011",
            "train.init_except": "fc8",
            "optimizer.learning_rate": 0.001,
        },
    ),
    "no_cross": Variant("not in the paper: towers that talk only at the classes", {"model.cross_connections": False}),
    "caffe": Variant(
        "Caffe's bvlc_alexnet, 360,000 steps of 256: 42.9 % top-1 and 19.8 % top-5 error, centre view",
        {**_CAFFE, "model.hidden_bias": 0.1, "train.epochs": 360_000 / _EPOCH},
    ),
    "caffenet": Variant(
        "Caffe's bvlc_reference_caffenet, which pools before it normalises, 310,000 steps: 42.6 / 19.6, centre view",
        {**_CAFFE, "model.pool_before_norm": True, "train.epochs": 310_000 / _EPOCH},
    ),
    "torchvision": Variant(
        "torchvision's alexnet, one tower, no normalisation; crops of one size, not its own: 43.5 / 20.9, centre view",
        _TORCHVISION,
    ),
}


def name(base: str, variant: str) -> str:
    """A run's name in its config."""
    return f"{base}:{variant}" if variant else base


def apply(config: ConfigDict, base: str, variant: str) -> None:
    """Makes the variant's changes. Raises ValueError, with the list of variants, if there is no such variant."""
    if not variant:
        return
    require(base, variant, {one: VARIANTS[one].what for one in VARIANTS})
    config.update_from_flattened_dict(VARIANTS[variant].changes)


def require(base: str, variant: str, there: dict[str, str]) -> None:
    """Raises ValueError if there is no such variant: a sentence with the nearest, then a line for each variant."""
    if variant and variant not in there:
        nearest = difflib.get_close_matches(variant, there, 1, 0)[0]
        lines = "".join(f"\n  {one:<24}{what}" for one, what in there.items())
        raise ValueError(
            f"configs/{base}.py has no variant '{variant}'; the nearest is '--config=configs/{base}.py:{nearest}'"
            f"{lines}"
        )
