"""Real handwritten digits, which come with scikit-learn: the same network and code, made small.

    python launch.py --config=configs/digits.py

trains the whole network, two towers on two devices, with fewer kernels and smaller pictures. Expect
0.5 to 3 % top-1 error (0.8 and 1.1 % were measured) in half a minute to a minute on two CPU cores.
"""

from ml_collections import ConfigDict

from configs import alexnet


def get_config(variant: str = "") -> ConfigDict:
    """The paper's fields, changed for a small network. Raises ValueError for any variant."""
    if variant:
        raise ValueError(f"configs/digits.py has no variant '{variant}'; leave ':{variant}' out")
    config = alexnet.get_config()
    config.name = "digits"
    config.data.name = "digits"
    config.data.resize = 72
    config.data.crop = 64
    config.data.encoding = "raw"  # the set is small
    config.augment.reflections = False  # a mirrored digit is no digit

    config.model.kernels = (24, 64, 96, 96, 64)
    config.model.units = (256, 256)
    # The paper's 0.01 and 1 suit units with thousands of inputs; these have hundreds.
    config.model.weight_stddev = 0.05
    config.model.hidden_bias = 0.1

    config.schedule.kind = "steps"
    config.schedule.boundaries = (20.0, 26.0)
    config.train.epochs = 30.0
    config.train.batch_size = 64
    config.train.log_every = 22
    config.train.checkpoint_every = 0
    config.train.stall_steps = 440
    config.evaluate.batch_size = 120
    return config
