"""Configs that earlier versions of the program saved: what they lack, and how it was then."""

from typing import Any

# Fields that came later, and what the runs before them did.
ADDED: dict[str, Any] = {
    "model.network": "alexnet",
    "model.sixth_convolution": 0,
    "model.padding": [2, 1, 1, 1],
    "model.bottleneck": 0,
    "model.removed": "",
    "model.cross_connections": True,
    "model.activation": "relu",
    "model.middle_stddev": 0.0,
    "model.first_stddev": 0.0,
    "model.lrn": True,
    "model.lrn_alpha_over_n": False,
    "model.within_map_norm": False,
    "model.pool_before_activation": False,
    "model.pool_window": 3,
    "model.pool_stride": 2,
    "model.pool_rounding": "down",
    "data.prepared_dir": "",
    "data.shared": True,
    "data.validation_fraction": 0.1,
    "data.encoding": "jpeg",
    "data.jpeg_quality": 95,
    "data.max_pixels": 100_000_000,
    "data.max_rejected": 0.01,
    "data.accept_damaged": False,
    "data.colour_profiles": "ignore",
    "data.max_missing": 0.0,
    "data.order": "shuffled",
    "data.short_batch": "drop",
    "model.pool_ties": "first",
    "augment.offsets_inclusive": False,
    "augment.pictures_per_draw": 1,
    "augment.mean": "cropped",
    "augment.lighting": "eigenvalue",
    "augment.lighting_until": 0.0,
    "optimizer.decay_biases": True,
    "optimizer.decayed": "*",
    "schedule.rates": [],
    "train.init_from": "",
    "train.init_except": "",
    "train.init_checkpoint": "best",
    "train.init_after": "",
    "train.checkpoint_minutes": 0.0,
    "train.on_nan": "stop",
    "train.rewinds": 0,
    **dict.fromkeys(("train.least_steps", "train.most_steps", "evaluate.least_steps"), 0),
    "data.square": "crop",
    "data.mean_rgb": [],  # as JSON has it
    "data.stddev_rgb": [],
    "model.first_padding": [0, 3],
    "model.dense_stddev": 0.0,
    "model.start": "constants",
    "model.dropout_place": "outputs",
    "model.dropout_scaling": "test",
    "model.lrn_across_towers": False,
    "model.pool_before_norm": False,
}


def with_added_fields(saved: dict[str, Any]) -> dict[str, Any]:
    """A saved config; one of an earlier version with the fields that came later."""
    complete = {name: dict(group) if isinstance(group, dict) else group for name, group in saved.items()}
    for field, value in ADDED.items():
        group, name = field.split(".")
        complete.setdefault(group, {}).setdefault(name, value)
    model = complete["model"]
    if type(n := model["lrn_n"]) is int and n > 0 and n % 2 == 0:  # which computed what one map more does
        if model["lrn_alpha_over_n"]:
            model["lrn_alpha"], model["lrn_alpha_over_n"] = model["lrn_alpha"] / n, False
        model["lrn_n"] = n + 1
    return complete
