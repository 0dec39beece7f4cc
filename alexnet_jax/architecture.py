"""What the network is: frozen dataclasses and arithmetic on them, with no JAX.

Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural
Networks", NIPS 2012, sections 3 to 5. Widths are of the whole layer; with two towers each tower
has half of the kernels, the units and the classes.
"""

import math
from dataclasses import dataclass
from typing import Literal

Reads = Literal["image", "own", "both"]


@dataclass(frozen=True)
class ReLU:
    """max(0, x). Section 3.1."""


@dataclass(frozen=True)
class LRN:
    """Local response normalisation across the maps of one tower. Section 3.3."""

    n: int = 5  # maps in the window
    k: float = 2.0
    alpha: float = 1e-4  # multiplies the sum of squares, not their mean
    beta: float = 0.75


@dataclass(frozen=True)
class MaxPool:
    """Overlapping maximum over window x window positions, without padding. Section 3.4."""

    window: int = 3
    stride: int = 2


@dataclass(frozen=True)
class Dropout:
    """Outputs zeroed with probability `rate` in training, times 1 - rate at test. Section 4.2."""

    rate: float = 0.5


@dataclass(frozen=True)
class Conv:
    """A convolution, its bias, and what follows it in this order."""

    name: str
    kernels: int
    size: int  # of the square kernel, pixels
    stride: int
    padding: tuple[int, int]  # before and after, in height and in width alike
    reads: Reads
    bias: float  # initial value of every bias
    stddev: float  # of the zero-mean Gaussian that the weights start from
    then: tuple[ReLU | LRN | MaxPool, ...]


@dataclass(frozen=True)
class Dense:
    """A fully connected layer, its bias, and what follows it in this order."""

    name: str
    units: int
    reads: Reads
    bias: float
    stddev: float
    then: tuple[ReLU | Dropout, ...]


@dataclass(frozen=True)
class Architecture:
    """A network. Raises ValueError if a layer cannot be divided between the towers."""

    input_size: int  # height and width of the picture, pixels
    towers: int  # 1 or 2
    layers: tuple[Conv | Dense, ...]  # convolutions, then dense layers; the last gives the logits

    def __post_init__(self) -> None:
        for layer in self.layers[:-1]:  # the classes are padded instead
            width = layer.kernels if isinstance(layer, Conv) else layer.units
            if width % self.towers:
                raise ValueError(f"{layer.name} has {width} outputs: {self.towers} towers cannot share them")

    @property
    def classes(self) -> int:
        """How many classes the last layer tells apart."""
        last = self.layers[-1]
        assert isinstance(last, Dense)
        return last.units

    @property
    def padded_classes(self) -> int:
        """Classes rounded up to even, so that two devices can share them; the same on every mesh."""
        return self.classes + self.classes % 2


def alexnet(
    *,
    kernels: tuple[int, ...] = (96, 256, 384, 384, 256),
    units: tuple[int, ...] = (4096, 4096),
    classes: int = 1000,
    input_size: int = 224,
    towers: int = 2,
    weight_stddev: float = 0.01,
    hidden_bias: float = 1.0,
    lrn: LRN = LRN(),
    dropout: Dropout = Dropout(),
) -> Architecture:
    """The paper's table of layers; with other widths, the same network made smaller.

    Args:
      kernels: of conv1 to conv5, both towers together.
      units: of fc6 and fc7, both towers together.
      weight_stddev: of the initial weights of every layer (section 5).
      hidden_bias: initial biases of conv2, conv4, conv5, fc6 and fc7 (section 5); 0 elsewhere.
    """
    one, std = hidden_bias, weight_stddev
    k1, k2, k3, k4, k5 = kernels
    u6, u7 = units
    pool = MaxPool()
    # 224 pixels give 55 outputs with 3 of padding after the last, (224 + 3 - 11) / 4 + 1: the source rounds up.
    return Architecture(
        input_size,
        towers,
        (
            #     name   kernels size stride padding reads bias weights then
            Conv("conv1", k1, 11, 4, (0, 3), "image", 0.0, std, (ReLU(), lrn, pool)),
            Conv("conv2", k2, 5, 1, (2, 2), "own", one, std, (ReLU(), lrn, pool)),
            Conv("conv3", k3, 3, 1, (1, 1), "both", 0.0, std, (ReLU(),)),
            Conv("conv4", k4, 3, 1, (1, 1), "own", one, std, (ReLU(),)),
            Conv("conv5", k5, 3, 1, (1, 1), "own", one, std, (ReLU(), pool)),
            Dense("fc6", u6, "both", one, std, (ReLU(), dropout)),
            Dense("fc7", u7, "both", one, std, (ReLU(), dropout)),
            Dense("fc8", classes, "both", 0.0, std, ()),
        ),
    )


ALEXNET = alexnet()


@dataclass(frozen=True)
class Row:
    """One line of the table of layers: a layer with parameters, or a pooling."""

    name: str
    layer: Conv | Dense | MaxPool
    input_shape: tuple[int, ...]  # of what one tower reads, gathered: (height, width, maps) or (units,)
    output_shape: tuple[int, ...]  # of all towers, for one picture
    parameters: int
    neurons: int
    flops: int  # of one forward pass of one picture; a multiply-add is 2


def table(architecture: Architecture) -> tuple[Row, ...]:
    """The network layer by layer, by arithmetic alone.

    Raises:
      ValueError: a layer gets a picture smaller than its kernel or window.
    """
    rows: list[Row] = []
    shape: tuple[int, ...] = (architecture.input_size, architecture.input_size, 3)
    for layer in architecture.layers:
        seen = shape
        if layer.reads == "own":
            seen = (*shape[:-1], shape[-1] // architecture.towers)
        if isinstance(layer, Conv):
            side = _positions(layer.name, shape[0] + sum(layer.padding), layer.size, layer.stride)
            shape = (side, side, layer.kernels)
            weights = layer.size**2 * seen[-1] * layer.kernels
            flops = 2 * weights * side**2
            biases = layer.kernels
        else:
            shape = (layer.units,)
            weights = math.prod(seen) * layer.units
            flops = 2 * weights
            biases = layer.units
        rows.append(Row(layer.name, layer, seen, shape, weights + biases, math.prod(shape), flops))
        for step in layer.then:
            if isinstance(step, MaxPool):
                name = layer.name.replace("conv", "pool")
                side = _positions(name, shape[0], step.window, step.stride)
                rows.append(Row(name, step, shape, (side, side, shape[-1]), 0, 0, 0))
                shape = rows[-1].output_shape
    return tuple(rows)


def _positions(name: str, extent: int, window: int, stride: int) -> int:
    if extent < window:
        raise ValueError(f"{name} gets {extent} pixels with its padding, less than its {window}")
    return (extent - window) // stride + 1
