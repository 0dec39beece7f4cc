"""The small networks for CIFAR-10, those of Figure 1 and of section 3.3. They have one tower and no dropout."""

from dataclasses import dataclass

from alexnet_jax.network.architecture import LRN, Architecture, Conv, Dense, Local, MaxPool, Operation, ReLU, Tanh, Ties


@dataclass(frozen=True)
class CifarOptions:
    """The settings of the two networks. Standard deviations are those of the initial weights."""

    kernels: tuple[int, ...]  # in each layer but the last
    input_size: int  # height and width of the picture, pixels
    classes: int = 10
    weight_stddev: float = 0.01
    first_stddev: float = 0.0  # in conv1; 0: weight_stddev
    local_stddev: float = 0.04  # in the locally connected layers
    hidden_bias: float = 0.0  # initial biases of the layers between the first and the last; 0 in those two
    activation: ReLU | Tanh = ReLU()
    norm: tuple[LRN, ...] = ()  # between the activation and the pooling
    ties: Ties = "first"  # see `MaxPool`

    @property
    def pooled(self) -> tuple[Operation, ...]:
        """The operations that follow a layer that pools."""
        return (self.activation, *self.norm, MaxPool(rounding="up", ties=self.ties))


def four_layers(options: CifarOptions) -> Architecture:
    """The network of Figure 1: three convolutions and the classes.

    The paper says no more than that it has four layers. Kernels of 5x5, pooling over 3x3 positions at a stride of 2,
    and sizes rounded up are those of its authors' networks for the same 32x32 pictures.
    """
    k1, k2, k3 = options.kernels
    one, std, pooled = options.hidden_bias, options.weight_stddev, options.pooled
    return Architecture(
        options.input_size,
        1,
        (
            Conv("conv1", k1, 5, 1, (2, 2), "image", 0.0, options.first_stddev or std, pooled),
            Conv("conv2", k2, 5, 1, (2, 2), "own", one, std, pooled),
            Conv("conv3", k3, 5, 1, (2, 2), "own", one, std, pooled),
            Dense("fc4", options.classes, "both", 0.0, std, ()),
        ),
    )


def conv_local(options: CifarOptions) -> Architecture:
    """The network of section 3.3: two convolutions, two locally connected layers, and the classes.

    The paper names its authors' files for it: layers-conv-local-13pct.cfg without response normalisation, and
    layers-conv-local-11pct.cfg with it.
    """
    k1, k2, k3, k4 = options.kernels
    one, std, pooled, activation = options.hidden_bias, options.weight_stddev, options.pooled, (options.activation,)
    return Architecture(
        options.input_size,
        1,
        (
            Conv("conv1", k1, 5, 1, (2, 2), "image", 0.0, options.first_stddev or std, pooled),
            Conv("conv2", k2, 5, 1, (2, 2), "own", one, std, pooled),
            Local("local3", k3, 3, 1, (1, 1), "own", one, options.local_stddev, activation),
            Local("local4", k4, 3, 1, (1, 1), "own", one, options.local_stddev, activation),
            Dense("fc5", options.classes, "both", 0.0, std, ()),
        ),
    )
