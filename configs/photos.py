"""Pictures of your own, in a folder for each class: from a dozen of them to a hundred thousand.

    python launch.py --config=configs/photos.py --config.data.manual_dir=photos

learns them from nothing, with a network like that of configs/digits.py on 112x112 pixels. How long does not hang on
their number alone: 60 passes over them, but never fewer than 6,000 steps nor more than 200,000, and the drops of the
rate stretch or shrink with it. So up to 800 pictures take two to three minutes on two free CPU cores, 3,000 seven, and
100,000 an hour; the pictures that are kept for validation are looked at every 200 steps or so. A picture becomes a
square as a whole, squeezed, as what matters may lie at its edge.

    python launch.py --config=configs/photos.py --config.data.manual_dir=photos --config.train.init_from=runs/alexnet

fine-tunes the network of another run, one that was trained here or imported, with its preprocessing: its layers are
taken but for the last, whose outputs are other classes. The rates are those with which the authors fine-tuned in 2012
(layer-params-146-2012-2011.cfg): small below, large in fc8, all of them a tenth towards the end; for 30 passes,
between 200 steps and 20,000. On 718 digits, from a small network that had learnt the others, one epoch came to less
error than a network starting anew reached. `:caffe`, `:caffenet` and `:torchvision` name those networks where
the run is not at hand yet.

The run lies in runs/ under the pictures' folder's name. Expected errors: docs/pictures.md.
"""

from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.config.config import config_of, load_saved
from alexnet_jax.config.fields import PICTURE_FIELDS, flatten
from alexnet_jax.messages import UserError
from configs import alexnet

VARIANTS = ("caffe", "caffenet", "torchvision")
_DROP = 20.0  # epochs, before the rates of fine-tuning are a tenth


def get_config(variant: str = "", init_from: str = "") -> ConfigDict:
    """What few pictures need.

    Args:
      variant: of configs/alexnet.py, the network that is fine-tuned.
      init_from: the folder of the run whose network is fine-tuned; '' with no variant: none, a small one is trained.

    Raises:
      ValueError: there is no such variant.
    """
    if variant not in ("", *VARIANTS):
        raise ValueError(f"configs/photos.py has no variant '{variant}'; there are {', '.join(VARIANTS)}")
    config = alexnet.get_config(variant)
    config.name = "photos"
    config.data.name = "folder"
    config.data.max_rejected = 0.1  # a few broken files, of few pictures
    config.train.checkpoint_every = 0  # by the minutes alone
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
    config.model.weight_stddev = 0.05  # the paper's 0.01 and 1 suit units that sum thousands of inputs; these sum
    config.model.hidden_bias = 0.1  # hundreds, as those of configs/digits.py
    config.optimizer.learning_rate = 0.002
    config.schedule.kind = "steps"
    config.schedule.boundaries = (40.0, 52.5)
    config.train.epochs = 60.0
    config.train.least_steps = 6000
    config.train.most_steps = 200_000
    config.train.batch_size = 8  # a dozen pictures less those for validation
    config.train.log_every = 200
    config.train.stall_steps = 2500  # ten classes may wait for 1,500
    config.evaluate.least_steps = 200


def _fine_tune(config: ConfigDict, variant: str, init_from: str) -> None:
    config.optimizer.learning_rate = 0.01  # said by schedule.rates below
    config.schedule.kind = "listed"
    config.schedule.rates = tuple(
        (epoch, what, factor * rate)
        for epoch, factor in ((0.0, 1.0), (_DROP, 0.1))
        for what, rate in (("*", 0.001), ("conv1/*", 0.0001), ("fc8/*", 0.01))
    )
    if not init_from:  # of a run that is named, whatever it is of, the layers that fit are taken
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
    """The run's own network and preprocessing, if there is a run; training says so where there is none."""
    try:
        theirs = config_of(load_saved(Path(init_from).expanduser().absolute()))
    except UserError:
        return
    config.model = theirs.model.copy_and_resolve_references()
    values = flatten(theirs)
    config.update_from_flattened_dict({field: values[field] for field in PICTURE_FIELDS})
