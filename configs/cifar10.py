"""CIFAR-10: how fast four layers learn with ReLUs and with tanh (Figure 1), and the network of section 3.3.

    python launch.py --config=configs/cifar10.py --mode=figures --figure=1

trains both at every learning rate of a small grid, takes the fastest of each, draws the training
error by epoch, and prints the ratio of their epochs to 25 % error. The paper's ratio is six.
--config=configs/cifar10.py:relu or :tanh trains one network alone. If you do not have CIFAR-10,
--config.data.name=digits --config.evaluate.split=validation makes the same comparison on real
handwritten digits; docs/paper.md says how far ReLUs are ahead on them. Nobody has made the paper's
comparison on CIFAR-10 here yet.

The paper says (section 3.1 and the figure) that the network has four layers and no regularisation,
and that each learning rate was chosen on its own. It says no more. The layers here have the form of
the authors' small networks for the same pictures: three 5x5 convolutions with 32, 32 and 64
kernels, each with pooling over 3x3 positions at a stride of 2, then the ten classes. Initial weights
and biases and the batch are those of the large network: N(0, 0.01), ones in the hidden layers after
the first ("providing the ReLUs with positive inputs", section 5), and 128. The result depends on the
ones: they put tanh where it has less than half its slope. Without them
(--config.model.hidden_bias=0.0) tanh is ahead on the digits.

    python launch.py --config=configs/cifar10.py:no_lrn
    python launch.py --config=configs/cifar10.py:lrn

train the network of section 3.3 without and with response normalisation; the paper has 13 % and
11 % error. It names its authors' files, layers-conv-local-13pct.cfg and -11pct.cfg. The layers,
initial weights, rates, decay, crops and reflections here are theirs. Their program tests on the nine
crops of a grid; the nearest here is --config.evaluate.views=10. They lowered the rates by hand; the
epochs here are those that the second file reports. Nobody has trained this configuration to its end
here yet.
"""

from ml_collections import ConfigDict

from configs import alexnet, variants

ACTIVATIONS = {"relu": "the solid line of Figure 1", "tanh": "the dashed line of Figure 1"}
NORMS = {"lrn": "section 3.3: 11 % with response normalisation", "no_lrn": "section 3.3: 13 % without it"}


def get_config(variant: str = "") -> ConfigDict:
    """The paper's fields, changed for Figure 1 or for section 3.3. Raises ValueError if there is no such variant."""
    variants.require("cifar10", variant, {**ACTIVATIONS, **NORMS})
    config = alexnet.get_config()
    config.name = variants.name("cifar10", variant)
    config.model.towers = 1
    config.data.name = "cifar10"
    config.data.resize = 32
    config.data.crop = 32
    config.data.encoding = "raw"  # the set is small, and the pictures stay as they are
    config.augment.lighting_stddev = 0.0
    config.train.checkpoint_every = 0
    config.evaluate.split = "test"
    if variant in NORMS:
        _section_3_3(config, lrn=variant == "lrn")
        return config
    config.model.network = "four_layers"
    config.model.activation = variant or "relu"
    config.model.kernels = (32, 32, 64)
    config.model.lrn = False

    # No regularisation of any kind.
    config.augment.crops = False
    config.augment.reflections = False
    config.optimizer.weight_decay = 0.0

    config.optimizer.learning_rate = 0.001
    config.schedule.kind = "constant"
    config.train.epochs = 40.0
    config.train.log_every = 39  # a tenth of an epoch of CIFAR-10; each report is a point of the curve
    config.train.stall_steps = 0
    return config


def _section_3_3(config: ConfigDict, lrn: bool) -> None:
    """Sets what layers-conv-local-13pct.cfg, -11pct.cfg and the files of parameters beside them have."""
    config.model.network = "conv_local"
    config.model.kernels = (64, 64, 32, 32)
    config.model.hidden_bias = 0.0
    config.model.first_stddev = 0.0001
    config.model.weight_stddev = 0.01
    config.model.middle_stddev = 0.04
    config.model.lrn = lrn
    config.model.lrn_k = 1.0
    config.model.lrn_alpha = 0.001
    config.model.lrn_alpha_over_n = True
    config.model.pool_ties = "all"

    config.data.crop = 24  # so a crop has 9 positions, 0 to 8
    config.data.order = "fixed"
    config.data.short_batch = "keep"
    config.augment.offsets_inclusive = True
    config.augment.mean = "centre"

    config.optimizer.weight_decay = 0.004
    config.optimizer.decayed = "local*, fc*"
    config.optimizer.decay_biases = False
    config.schedule.kind = "listed"
    config.schedule.rates = (
        *((0, "*/kernel", 0.001), (0, "*/bias", 0.002)),
        *((390, "*/kernel", 0.0001), (400, "*/kernel", 0.00001)),
    )
    config.train.epochs = 410.0  # 300 on four fifths of the pictures, 150 on all, and 10 at each lower rate
