"""A network described by frozen dataclasses, and arithmetic on them. No JAX.

The paper's network is `alexnet()`. Its `AlexNetOptions`, and functions from one network to the next
(`changes`), make the networks of the paper's experiments and of its authors' code of 2012.

Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural
Networks", NIPS 2012, sections 3 to 5. Widths count the whole layer: with two towers, each tower has
half of the kernels, the units and the classes.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

Reads = Literal["image", "own", "both"]
Rounding = Literal["down", "up"]
Ties = Literal["first", "all"]


@dataclass(frozen=True)
class ReLU:
    """max(0, x). Section 3.1."""


@dataclass(frozen=True)
class Tanh:
    """The hyperbolic tangent, with which the paper compares the ReLU. Section 3.1."""


@dataclass(frozen=True)
class LRN:
    """Local response normalisation across neighbouring maps. Section 3.3."""

    n: int = 5  # maps in the window
    k: float = 2.0
    alpha: float = 1e-4  # multiplies the sum of squares, not their mean
    beta: float = 0.75
    across_towers: bool = False  # True: the window reaches into the other tower's maps, as in Caffe


@dataclass(frozen=True)
class WithinMapNorm:
    """Response normalisation over size x size positions of one map. 2012 source, layers-145.cfg:107-117."""

    size: int = 5  # positions in height and in width, clipped at the edges
    k: float = 1.0
    alpha: float = 0.001 / 25  # multiplies the sum of squares: the source's 0.001 over the positions
    beta: float = 0.75


@dataclass(frozen=True)
class MaxPool:
    """Overlapping maximum over window x window positions, without padding. Section 3.4."""

    window: int = 3
    stride: int = 2
    rounding: Rounding = "down"  # up: a last window may hang over the edge
    ties: Ties = "first"  # the first of equal maxima gets the gradient; all: each gets all of it, as in the 2012 source


@dataclass(frozen=True)
class Dropout:
    """Zeroes outputs with probability `rate` in training, and multiplies them by 1 - rate at test. Section 4.2."""

    rate: float = 0.5
    rescales: bool = False  # True: survivors are divided by 1 - rate in training, and nothing is scaled at test


Operation = ReLU | Tanh | LRN | WithinMapNorm | MaxPool | Dropout  # what may follow a layer's sums


@dataclass(frozen=True)
class Conv:
    """A convolution with its bias, and the operations that follow, in order."""

    name: str
    kernels: int
    size: int  # height and width of the kernel, positions
    stride: int
    padding: tuple[int, int]  # before and after, in height and in width alike
    reads: Reads
    bias: float  # initial value of every bias
    stddev: float  # of the initial weights, Gaussian around 0
    then: tuple[Operation, ...]
    by_fan_in: bool = False  # True: weights and biases start uniform within 1 / sqrt(a unit's inputs) instead


@dataclass(frozen=True)
class Local(Conv):
    """A locally connected layer: a convolution with its own weights and biases at each position."""


@dataclass(frozen=True)
class Dense:
    """A fully connected layer with its bias, and the operations that follow, in order."""

    name: str
    units: int
    reads: Reads
    bias: float
    stddev: float
    then: tuple[ReLU | Tanh | Dropout, ...]
    by_fan_in: bool = False


@dataclass(frozen=True)
class Architecture:
    """A network. Raises ValueError if a layer cannot be divided between the towers."""

    input_size: int  # height and width of the picture, pixels
    towers: int  # 1 or 2
    layers: tuple[Conv | Dense, ...]  # convolutions, then dense layers; the last layer's sums are the logits

    def __post_init__(self) -> None:
        for layer in self.layers[:-1]:  # the last layer's classes are padded instead
            width = layer.kernels if isinstance(layer, Conv) else layer.units
            if width % self.towers:
                raise ValueError(f"{layer.name} has {width} outputs: {self.towers} towers cannot share them equally")

    @property
    def classes(self) -> int:
        """The number of classes."""
        last = self.layers[-1]
        assert isinstance(last, Dense)
        return last.units

    @property
    def padded_classes(self) -> int:
        """The classes rounded up to an even number, which two devices can share; the same on every mesh."""
        return self.classes + self.classes % 2


@dataclass(frozen=True)
class AlexNetOptions:
    """The settings in which the networks of the paper, the 2012 source, Caffe and torchvision differ.

    The defaults are the paper's. Standard deviations are those of the initial weights (section 5).
    """

    kernels: tuple[int, ...] = (96, 256, 384, 384, 256)  # in conv1 to conv5, both towers together
    units: tuple[int, ...] = (4096, 4096)  # in fc6 and fc7, both towers together
    classes: int = 1000
    input_size: int = 224  # height and width of the picture, pixels
    towers: int = 2
    # Zeros before and after the picture, pixels; 3 after it, as the source rounds sizes up (layer.py:1004).
    first_padding: tuple[int, int] = (0, 3)
    padding: tuple[int, ...] = (2, 1, 1, 1)  # zeros on every side of the input of conv2 to conv5, pixels
    weight_stddev: float = 0.01
    first_stddev: float = 0.0  # in conv1; 0: weight_stddev
    middle_stddev: float = 0.01  # in conv3, conv4 and conv5; the source has 0.03 (layers-145.cfg:143,172,200)
    dense_stddev: float = 0.0  # in fc6 and fc7; 0: weight_stddev; Caffe has 0.005
    hidden_bias: float = 1.0  # initial biases of conv2, conv4, conv5, fc6 and fc7 (section 5); 0 elsewhere
    activation: ReLU | Tanh = ReLU()
    norm: tuple[LRN, ...] = (LRN(),)  # in layers 1 and 2; (): none
    within_map: tuple[WithinMapNorm, ...] = ()  # a second normalisation, in layer 2
    pool: MaxPool = MaxPool()
    pool_before_activation: bool = False  # True: the source's order of layer 1 (layers-145.cfg:9-63)
    pool_before_norm: bool = False  # True: layers 1 and 2 pool, then normalise, as Caffe's reference network does
    dropout: Dropout = Dropout()


def alexnet(options: AlexNetOptions = AlexNetOptions()) -> Architecture:
    """The paper's table of layers; with other widths, the same network made smaller."""
    k1, k2, k3, k4, k5 = options.kernels
    p2, p3, p4, p5 = options.padding
    u6, u7 = options.units
    one, std, mid = options.hidden_bias, options.weight_stddev, options.middle_stddev
    first, wide = options.first_stddev or std, options.dense_stddev or std
    act, pool, norm, dropout = options.activation, options.pool, options.norm, options.dropout
    norm_and_pool: tuple[Operation, ...] = (pool, *norm) if options.pool_before_norm else (*norm, pool)
    then1 = (*norm_and_pool, act) if options.pool_before_activation else (act, *norm_and_pool)
    norms: tuple[Operation, ...] = (*norm, *options.within_map)
    then2 = (act, pool, *norms) if options.pool_before_norm else (act, *norms, pool)
    return Architecture(
        options.input_size,
        options.towers,
        (
            #     name   kernels size stride padding reads bias weights then
            Conv("conv1", k1, 11, 4, options.first_padding, "image", 0.0, first, then1),
            Conv("conv2", k2, 5, 1, (p2, p2), "own", one, std, then2),
            Conv("conv3", k3, 3, 1, (p3, p3), "both", 0.0, mid, (act,)),
            Conv("conv4", k4, 3, 1, (p4, p4), "own", one, mid, (act,)),
            Conv("conv5", k5, 3, 1, (p5, p5), "own", one, mid, (act, pool)),
            Dense("fc6", u6, "both", one, wide, (act, dropout)),
            Dense("fc7", u7, "both", one, wide, (act, dropout)),
            Dense("fc8", options.classes, "both", 0.0, std, ()),
        ),
    )


ALEXNET = alexnet()


@dataclass(frozen=True)
class Row:
    """A line of the table of layers: a layer with parameters, or a pooling."""

    name: str
    layer: Conv | Dense | MaxPool
    input_shape: tuple[int, ...]  # what a tower reads, gathered: (height, width, maps) or (units,)
    output_shape: tuple[int, ...]  # all towers together, for one picture
    parameters: int
    neurons: int
    flops: int  # in the forward pass of one picture; a multiply-add counts 2
    then: tuple[Operation, ...] = ()  # operations between this line and the next


def table(architecture: Architecture) -> tuple[Row, ...]:
    """The network layer by layer, computed by arithmetic alone.

    Raises:
      ValueError: a layer's input is smaller than its kernel or window.
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
            if isinstance(layer, Local):
                weights, biases = weights * side**2, biases * side**2
        else:
            shape = (layer.units,)
            weights = math.prod(seen) * layer.units
            flops = 2 * weights
            biases = layer.units
        rows.append(Row(layer.name, layer, seen, shape, weights + biases, math.prod(shape), flops))
        for operation in layer.then:
            if isinstance(operation, MaxPool):
                name = layer.name.replace("conv", "pool")
                if rows[-1].name == name:  # a removed convolution leaves its pooling behind
                    name += "b"
                side = _positions(name, shape[0], operation.window, operation.stride, operation.rounding)
                rows.append(Row(name, operation, shape, (side, side, shape[-1]), 0, 0, 0))
                shape = rows[-1].output_shape
            else:
                rows[-1] = replace(rows[-1], then=(*rows[-1].then, operation))
    return tuple(rows)


def training_bytes(architecture: Architecture, batch: int, data: int = 1, model: int = 1, activation: int = 4) -> int:
    """An estimate of the bytes that a training step needs on each of data x model devices.

    It counts weights, velocities and gradients in float32. For each picture it counts the pixels, what the towers read
    from each other, every layer's outputs, response normalisation's roots, and pooling's maxima with a byte for the
    place of each.

    Args:
      batch: pictures on all devices together.
      activation: bytes in an activation: 4 in float32, 2 in bfloat16.
    """
    rows = table(architecture)
    pixels = architecture.input_size**2 * 3
    read, kept, places = pixels, 0, 0
    for row in rows:
        outputs = math.prod(row.output_shape)
        norms = [operation for operation in row.then if isinstance(operation, LRN)]
        if isinstance(row.layer, MaxPool):
            kept += outputs * (1 + 2 * len(norms))  # a normalisation after it keeps its outputs and its roots
            places += outputs
        else:
            together = sum(norm.across_towers for norm in norms) if architecture.towers == 2 else 0
            kept += outputs * (1 + len(norms) + together)  # the towers' maps once more, side by side
            read += math.prod(row.input_shape) if row.layer.reads == "both" else 0
    parameters = sum(row.parameters for row in rows)
    a_picture = pixels + activation * (read + kept / model) + places / model
    return round(3 * 4 * parameters / model + batch / data * a_picture)


def largest_batch(architecture: Architecture, memory: int, data: int = 1, model: int = 1, activation: int = 4) -> int:
    """An estimate of the largest batch, all devices together, for which `memory` bytes a device are enough."""
    fixed = training_bytes(architecture, 0, data, model, activation)
    each = training_bytes(architecture, data, data, model, activation) - fixed  # for a picture in each slice
    return max(0, (memory - fixed) // each * data)


def _positions(name: str, extent: int, window: int, stride: int, rounding: Rounding = "down") -> int:
    if extent < window:
        raise ValueError(f"{name} gets {extent} pixels a side with its padding, fewer than its window of {window}")
    over = stride - 1 if rounding == "up" else 0
    return (extent - window + over) // stride + 1
