"""Pictures of your own, learnt from the layers of a network that was trained on many: fine-tuning.

    python launch.py --config=configs/photos.py --config.data.manual_dir=photos --config.train.init_from=runs/alexnet

`photos` has a folder for each class. The run of --config.train.init_from is one that was trained here, or
imported; `:caffe`, `:caffenet` and `:torchvision` are for runs of those networks. Its layers are taken but for
fc8, whose outputs are other classes. The rates are those with which the authors fine-tuned in 2012
(layer-params-146-2012-2011.cfg): small below, large in fc8, all of them a tenth towards the end. The run lies
in runs/ under the pictures' folder's name. Minutes on two CPU cores for a few hundred pictures; on 718 digits, from
a small network that had learnt the others, one epoch came to less error than a network starting anew reached.
"""

from ml_collections import ConfigDict

from configs import alexnet

VARIANTS = ("caffe", "caffenet", "torchvision")
_DROP = 20.0  # epochs, before the rates are a tenth


def get_config(variant: str = "") -> ConfigDict:
    """The network of a base config, with what few pictures need. Raises ValueError for an unknown variant."""
    if variant not in ("", *VARIANTS):
        raise ValueError(f"configs/photos.py has no variant '{variant}'; there are {', '.join(VARIANTS)}")
    config = alexnet.get_config(variant)
    config.name = "photos"
    config.data.name = "folder"
    config.model.classes = 0  # as many as there are folders

    config.optimizer.learning_rate = 0.01  # said by schedule.rates below
    config.schedule.kind = "listed"
    config.schedule.rates = tuple(
        (epoch, what, factor * rate)
        for epoch, factor in ((0.0, 1.0), (_DROP, 0.1))
        for what, rate in (("*", 0.001), ("conv1/*", 0.0001), ("fc8/*", 0.01))
    )
    config.train.init_after = f"configs/alexnet.py{':' if variant else ''}{variant}"
    config.train.init_except = "fc8"
    config.train.epochs = 30.0
    config.train.batch_size = 16  # a dozen pictures a class make some steps an epoch
    config.train.log_every = 10
    config.train.checkpoint_every = 0
    config.train.stall_steps = 500
    config.evaluate.batch_size = 32
    return config
