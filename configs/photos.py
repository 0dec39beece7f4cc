"""Your own pictures, in a folder for each class: from a dozen to a hundred thousand pictures.

    python launch.py --config=configs/photos.py --config.data.manual_dir=photos

trains a network like that of configs/digits.py from random weights, on 112x112 pixels. It makes 60 passes over the
pictures, but at least 6,000 steps and at most 200,000; the drops of the learning rate stretch or shrink with them. Up
to 800 pictures take two to three minutes on two free CPU cores, 3,000 pictures seven minutes, and 100,000 an hour.
Validation comes about every 200 steps. The whole picture is squeezed into a square, since its edges may matter.

    python launch.py --config=configs/photos.py --config.data.manual_dir=photos --config.train.init_from=runs/alexnet

fine-tunes the network of another run, which was trained here or imported, with that run's preprocessing. It takes all
layers but the last, whose outputs are other classes. The learning rates are those of the authors' fine-tuning in 2012
(layer-params-146-2012-2011.cfg): small in the lower layers, large in fc8, and a tenth of that towards the end. It makes
30 passes, at least 200 steps and at most 20,000. On 718 digits, from a small network that had learnt the others, one
epoch gave less error than a network from random weights reached. `:caffe`, `:caffenet` and `:torchvision` name
those networks if you do not have the run yet.

The run's folder is in runs/ and has the name of the pictures' folder. Expected errors: docs/pictures.md.
"""

from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.config.config import config_of, load_saved
from alexnet_jax.config.fields import PICTURE_FIELDS, flatten
from alexnet_jax.messages import UserError
from configs import alexnet

VARIANTS = ("caffe", "caffenet", "torchvision")
_DROP = 20.0  # epochs, after which the rates of fine-tuning are a tenth


def get_config(variant: str = "", init_from: str = "") -> ConfigDict:
    """The paper's fields, changed for few pictures.

    Args:
      variant: a variant of configs/alexnet.py, the network to fine-tune.
      init_from: the folder of the run to fine-tune; '' without a variant: train a small network.

    Raises:
      ValueError: there is no such variant.
    """
    if variant not in ("", *VARIANTS):
        raise ValueError(f"configs/photos.py has no variant '{variant}'; there are {', '.join(VARIANTS)}")
    config = alexnet.get_config(variant)
    config.name = "photos"
    config.data.name = "folder"
    config.data.max_rejected = 0.1  # among few pictures, a few broken files are a large share
    config.train.checkpoint_every = 0  # train.checkpoint_minutes alone decides
    config.evaluate.batch_size = 32
    if variant or init_from:
        _fine_tune(config, variant, init_from)
    else:
        _from_nothing(config)
    if init_from and not variant:
        _take_network(config, init_from)
    config.model.classes = 0  # as many as there are folders
    return config


def _from_nothing(config: ConfigDict) -> None:
    config.data.square = "squeeze"
    config.data.resize = 128
    config.data.crop = 112
    config.model.kernels = (24, 64, 96, 96, 64)
    config.model.units = (256, 256)
    # The paper's 0.01 and 1 suit units with thousands of inputs; these have hundreds, as in configs/digits.py.
    config.model.weight_stddev = 0.05
    config.model.hidden_bias = 0.1
    config.optimizer.learning_rate = 0.002
    config.schedule.kind = "steps"
    config.schedule.boundaries = (40.0, 52.5)
    config.train.epochs = 60.0
    config.train.least_steps = 6000
    config.train.most_steps = 200_000
    config.train.batch_size = 8  # fits a dozen pictures without those for validation
    config.train.log_every = 200
    config.train.stall_steps = 2500  # with ten classes the loss may not fall for 1,500
    config.evaluate.least_steps = 200


def _fine_tune(config: ConfigDict, variant: str, init_from: str) -> None:
    config.optimizer.learning_rate = 0.01  # replaced by schedule.rates
    config.schedule.kind = "listed"
    config.schedule.rates = tuple(
        (epoch, what, factor * rate)
        for epoch, factor in ((0.0, 1.0), (_DROP, 0.1))
        for what, rate in (("*", 0.001), ("conv1/*", 0.0001), ("fc8/*", 0.01))
    )
    if not init_from:  # a named run may have any config: the layers that fit are taken
        config.train.init_after = f"configs/alexnet.py{':' if variant else ''}{variant}"
    config.train.init_except = "fc8"
    config.train.epochs = 30.0
    config.train.least_steps = 200
    config.train.most_steps = 20_000
    config.train.batch_size = 8
    config.train.log_every = 10
    config.train.stall_steps = 500
    config.evaluate.least_steps = 20


def _take_network(config: ConfigDict, init_from: str) -> None:
    """Takes the run's own network and preprocessing; if there is no run, training reports that."""
    try:
        theirs = config_of(load_saved(Path(init_from).expanduser().absolute()))
    except UserError:
        return
    config.model = theirs.model.copy_and_resolve_references()
    values = flatten(theirs)
    config.update_from_flattened_dict({field: values[field] for field in PICTURE_FIELDS})
