"""The rows of the paper, one line each: what it is, and what it changes in `configs/alexnet.py`."""

import difflib
from dataclasses import dataclass, field
from typing import Any

from ml_collections import ConfigDict


@dataclass(frozen=True)
class Variant:
    """A row: one line for a person, and the fields that differ from the base, by dotted name."""

    what: str
    changes: dict[str, Any] = field(default_factory=dict)


_SYNSET_TARS = {"data.name": "synset_tars"}
_STAR = {"model.sixth_convolution": 256}


def _without(layer: str) -> Variant:
    return Variant(f"{layer} left out, as one middle layer in section 7", {"model.removed": layer})


VARIANTS = {
    "ilsvrc2010": Variant(
        "Table 1: the same network on ILSVRC-2010; --config.evaluate.split=test for the errors of the table",
        {**_SYNSET_TARS, "model.classes": 1000},
    ),
    "one_gpu": Variant(
        "section 3.2: one tower, half the kernels of conv1 to conv4, the same conv5 and dense layers",
        {"model.towers": 1, "model.kernels": (48, 128, 192, 192, 256)},
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
        # The rate of fine-tuning is unsaid in the paper; the source's is 0.001 too, but on conv1.
        {**_STAR, "train.init_after": "configs/alexnet.py:fall2011", "optimizer.learning_rate": 0.001},
    ),
    "no_cross": Variant(
        "not in the paper: towers that talk only at the classes, widths as ever", {"model.cross_connections": False}
    ),
}


def name(base: str, variant: str) -> str:
    """How a run of the variant is called in its config."""
    return f"{base}:{variant}" if variant else base


def apply(config: ConfigDict, base: str, variant: str) -> None:
    """Makes the variant's changes. Raises ValueError, with the list, if there is no such variant."""
    if not variant:
        return
    require(base, variant, {one: VARIANTS[one].what for one in VARIANTS})
    config.update_from_flattened_dict(VARIANTS[variant].changes)


def require(base: str, variant: str, there: dict[str, str]) -> None:
    """Raises ValueError if there is no such variant: a sentence with the nearest, then a line for each."""
    if variant and variant not in there:
        nearest = difflib.get_close_matches(variant, there, 1, 0)[0]
        lines = "".join(f"\n  {one:<24}{what}" for one, what in there.items())
        raise ValueError(
            f"configs/{base}.py has no variant '{variant}'; the nearest is '--config=configs/{base}.py:{nearest}'"
            f"{lines}"
        )
