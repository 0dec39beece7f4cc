"""Figure 1: how fast four layers learn CIFAR-10 with ReLUs and with tanh units.

    python launch.py --config=configs/cifar10.py --mode=figures --figure=1

trains both at every learning rate of a small grid, takes the fastest of each, draws their training
error by epoch and prints the ratio of the epochs to 25 %. The paper's answer is six. One run alone
is --config=configs/cifar10.py:relu or :tanh. Where CIFAR-10 is not at hand,
--config.data.name=digits --config.evaluate.split=validation makes the same comparison on real
handwritten digits; README says by how much ReLUs are ahead there. The paper's comparison on CIFAR-10
has not been run here yet.

Known of the paper's network (section 3.1 and the figure): four layers, no regularisation of any
kind, the learning rate of each chosen by itself. Unknown: everything else. The layers here have
the form of the authors' small networks for the same pictures: three 5x5 convolutions of 32, 32 and
64 kernels, each with pooling of 3 by 2, then the ten classes. Initial weights and biases and the
batch are those of the large network: N(0, 0.01), ones in the hidden layers after the first
("providing the ReLUs with positive inputs", section 5), and 128. The result hangs on the ones:
tanh has less than half its slope there, and without them (--config.model.hidden_bias=0.0) tanh is
ahead on the digits.
"""

from ml_collections import ConfigDict

from configs import alexnet, variants

ACTIVATIONS = {"relu": "the solid line of Figure 1", "tanh": "the dashed line of Figure 1"}


def get_config(variant: str = "") -> ConfigDict:
    """The paper's fields with those of Figure 1. Raises ValueError if the variant is not relu or tanh."""
    variants.require("cifar10", variant, ACTIVATIONS)
    config = alexnet.get_config()
    config.name = variants.name("cifar10", variant)
    config.model.network = "four_layers"
    config.model.activation = variant or "relu"
    config.model.towers = 1
    config.model.kernels = (32, 32, 64)
    config.model.lrn = False
    config.data.name = "cifar10"
    config.data.resize = 32
    config.data.crop = 32
    config.data.encoding = "raw"  # small enough, and the pictures stay as they are

    # No regularisation of any kind.
    config.augment.crops = False
    config.augment.reflections = False
    config.augment.lighting_stddev = 0.0
    config.optimizer.weight_decay = 0.0

    config.optimizer.learning_rate = 0.001
    config.schedule.kind = "constant"
    config.train.epochs = 40.0
    config.train.log_every = 39  # a tenth of an epoch of CIFAR-10: a point of the curve
    config.train.checkpoint_every = 0
    config.train.stall_steps = 0
    config.evaluate.split = "test"
    return config
