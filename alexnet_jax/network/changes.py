"""Functions from one network to another: with a layer more or less, or with another rule for all layers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from alexnet_jax.network.architecture import LRN, Architecture, Conv, Dense, Dropout, MaxPool, ReLU, Tanh, WithinMapNorm


def with_sixth_convolution(net: Architecture, kernels: int) -> Architecture:
    """CNN*: a sixth convolution over the last pooling layer (section 6).

    Its size, its padding, and that it reads both towers are from the source (layers-146-2012-2011.cfg:258-286).
    """
    convs = [layer for layer in net.layers if isinstance(layer, Conv)]
    last, dense = convs[-1], net.layers[len(convs) :]
    activation = tuple(operation for operation in last.then if isinstance(operation, ReLU | Tanh))
    sixth = Conv("conv6", kernels, 3, 1, (1, 1), "both", last.bias, last.stddev, activation)
    return replace(net, layers=(*convs, sixth, *dense))


def with_bottleneck(net: Architecture, units: int) -> Architecture:
    """A linear layer between the last hidden layer and the classes (layers-146-2011.cfg:344-374)."""
    classes = net.layers[-1]
    bottleneck = Dense("bottleneck", units, "both", 0.0, classes.stddev, ())
    return replace(net, layers=(*net.layers[:-1], bottleneck, classes))


def without_layer(net: Architecture, name: str) -> Architecture:
    """The network without one of its middle layers (section 7).

    The removed layer's normalisation and pooling move to the layer before it. If it read both towers, so does the
    layer after it.
    """
    place = [layer.name for layer in net.layers].index(name)
    before, removed, after = net.layers[place - 1 : place + 2]
    if isinstance(removed, Conv):
        assert isinstance(before, Conv)
        kept = tuple(operation for operation in removed.then if isinstance(operation, LRN | WithinMapNorm | MaxPool))
        before = replace(before, then=before.then + kept)
    if removed.reads == "both":
        after = replace(after, reads="both")
    return replace(net, layers=(*net.layers[: place - 1], before, after, *net.layers[place + 2 :]))


def without_cross_connections(net: Architecture) -> Architecture:
    """Towers that read nothing of each other before the classes (run 150 in the source's logs, layers-150.cfg)."""
    apart = tuple(replace(layer, reads="own") if layer.reads == "both" else layer for layer in net.layers[:-1])
    return replace(net, layers=(*apart, net.layers[-1]))


def with_dropout_of_inputs(net: Architecture) -> Architecture:
    """Dropout of the inputs of fc6 and fc7, in place of their outputs, as in torchvision."""
    layers = list(net.layers)
    for place, layer in enumerate(net.layers):
        for dropout in layer.then:
            if isinstance(dropout, Dropout):
                rest = [operation for operation in layers[place].then if operation is not dropout]
                layers[place] = _followed_by(layers[place], rest)
                layers[place - 1] = _followed_by(layers[place - 1], [*layers[place - 1].then, dropout])
    return replace(net, layers=tuple(layers))


def _followed_by(layer: Conv | Dense, then: Sequence[Any]) -> Conv | Dense:
    return replace(layer, then=tuple(then))


def starting_by_fan_in(net: Architecture) -> Architecture:
    """Initial weights and biases as PyTorch draws them, in place of the paper's Gaussians and constants."""
    return replace(net, layers=tuple(replace(layer, by_fan_in=True) for layer in net.layers))
