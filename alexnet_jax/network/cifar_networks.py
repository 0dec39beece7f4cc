"""The small networks for CIFAR-10: that of Figure 1, and that of section 3.3. One tower, no dropout."""

from alexnet_jax.network.architecture import LRN, Architecture, Conv, Dense, Local, MaxPool, ReLU, Tanh, Ties


def four_layers(
    *,
    kernels: tuple[int, ...] = (32, 32, 64),
    classes: int = 10,
    input_size: int = 32,
    weight_stddev: float = 0.01,
    first_stddev: float | None = None,
    hidden_bias: float = 1.0,
    activation: ReLU | Tanh = ReLU(),
    norm: tuple[LRN, ...] = (),
    ties: Ties = "first",
) -> Architecture:
    """The small network of Figure 1: three convolutions and the classes, in one tower.

    The paper says that it has four layers and no more; 5x5 kernels and pooling of 3 by 2, sizes
    rounded up, are those of its authors' networks for the same 32x32 pictures.

    Args:
      weight_stddev: of the initial weights, as in the large network (section 5).
      first_stddev: of those of conv1, as weight_stddev if None.
      hidden_bias: initial biases of the hidden layers after the first, as there; 0 elsewhere.
      ties: see `MaxPool`.
    """
    std, then = weight_stddev, (activation, *norm, MaxPool(rounding="up", ties=ties))
    first, *later = kernels
    return Architecture(
        input_size,
        1,
        (
            Conv("conv1", first, 5, 1, (2, 2), "image", 0.0, first_stddev or std, then),
            *(Conv(f"conv{i}", width, 5, 1, (2, 2), "own", hidden_bias, std, then) for i, width in enumerate(later, 2)),
            Dense("fc4", classes, "both", 0.0, std, ()),
        ),
    )


def conv_local(
    *,
    kernels: tuple[int, ...] = (64, 64, 32, 32),
    classes: int = 10,
    input_size: int = 24,
    weight_stddev: float = 0.01,
    first_stddev: float | None = None,
    local_stddev: float = 0.04,
    hidden_bias: float = 0.0,
    activation: ReLU | Tanh = ReLU(),
    norm: tuple[LRN, ...] = (),
    ties: Ties = "first",
) -> Architecture:
    """Section 3.3's network: two convolutions, two locally connected layers, and the classes.

    The paper names its authors' files for it, layers-conv-local-13pct.cfg without response normalisation and
    layers-conv-local-11pct.cfg with it, between ReLU and pooling.

    Args:
      weight_stddev: of the initial weights of conv2 and fc5.
      first_stddev: of those of conv1, as weight_stddev if None.
      local_stddev: of those of local3 and local4.
      hidden_bias: initial biases of conv2, local3 and local4; 0 elsewhere.
      norm: after the ReLUs of conv1 and conv2, or none.
      ties: see `MaxPool`.
    """
    std, pooled = weight_stddev, (activation, *norm, MaxPool(rounding="up", ties=ties))
    first, second, third, fourth = kernels
    return Architecture(
        input_size,
        1,
        (
            Conv("conv1", first, 5, 1, (2, 2), "image", 0.0, first_stddev or std, pooled),
            Conv("conv2", second, 5, 1, (2, 2), "own", hidden_bias, std, pooled),
            Local("local3", third, 3, 1, (1, 1), "own", hidden_bias, local_stddev, (activation,)),
            Local("local4", fourth, 3, 1, (1, 1), "own", hidden_bias, local_stddev, (activation,)),
            Dense("fc5", classes, "both", 0.0, std, ()),
        ),
    )
