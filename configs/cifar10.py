"""CIFAR-10: how fast four layers learn with ReLUs and with tanh (Figure 1), and section 3.3's network.

    python launch.py --config=configs/cifar10.py --mode=figures --figure=1

trains both at every learning rate of a small grid, takes the fastest of each, draws their training
error by epoch and prints the ratio of the epochs to 25 %. The paper's answer is six. One run alone
is --config=configs/cifar10.py:relu or :tanh. Where CIFAR-10 is not at hand,
--config.data.name=digits --config.evaluate.split=validation makes the same comparison on real
handwritten digits; docs/paper.md says by how much ReLUs are ahead there. The paper's comparison on CIFAR-10
has not been run here yet.

Known of the paper's network (section 3.1 and the figure): four layers, no regularisation of any
kind, the learning rate of each chosen by itself. Unknown: everything else. The layers here have
the form of the authors' small networks for the same pictures: three 5x5 convolutions of 32, 32 and
64 kernels, each with pooling of 3 by 2, then the ten classes. Initial weights and biases and the
batch are those of the large network: N(0, 0.01), ones in the hidden layers after the first
("providing the ReLUs with positive inputs", section 5), and 128. The result hangs on the ones:
tanh has less than half its slope there, and without them (--config.model.hidden_bias=0.0) tanh is
ahead on the digits.

    python launch.py --config=configs/cifar10.py:no_lrn
    python launch.py --config=configs/cifar10.py:lrn

are the network without and with response normalisation: 13 % and 11 % in section 3.3, which names
its authors' files for it, layers-conv-local-13pct.cfg and -11pct.cfg. Its layers, initial weights,
rates, decay, crops and reflections are here; their program tests on the nine crops of a grid, which
is --config.evaluate.views=10 here at best. Its rates end by hand, and the epochs are those that the
second file tells of. Nobody has run this configuration to its end here yet.
"""

from ml_collections import ConfigDict

from configs import alexnet, variants

ACTIVATIONS = {"relu": "the solid line of Figure 1", "tanh": "the dashed line of Figure 1"}
NORMS = {"lrn": "section 3.3: 11 % with response normalisation", "no_lrn": "section 3.3: 13 % without it"}


def get_config(variant: str = "") -> ConfigDict:
    """The paper's fields with those of Figure 1, or of section 3.3. Raises ValueError if there is no such variant."""
    variants.require("cifar10", variant, {**ACTIVATIONS, **NORMS})
    config = alexnet.get_config()
    config.name = variants.name("cifar10", variant)
    config.model.towers = 1
    config.data.name = "cifar10"
    config.data.resize = 32
    config.data.crop = 32
    config.data.encoding = "raw"  # small enough, and the pictures stay as they are
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
    config.train.log_every = 39  # a tenth of an epoch of CIFAR-10: a point of the curve
    config.train.stall_steps = 0
    return config


def _section_3_3(config: ConfigDict, lrn: bool) -> None:
    """What layers-conv-local-13pct.cfg and -11pct.cfg say, and the parameters beside them."""
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

    config.data.crop = 24  # positions 0 to 8
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
