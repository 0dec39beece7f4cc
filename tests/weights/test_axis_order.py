"""The order of axes: parameters converted from maps first compute the same as the originals, in NumPy."""

from dataclasses import replace

import numpy as np
import pytest

from alexnet_jax.messages import UserError
from alexnet_jax.network.architecture import AlexNetOptions, Architecture, alexnet
from alexnet_jax.weights import axis_order
from alexnet_jax.weights.axis_order import MapsFirstLayer
from tests import reference
from tests.weights.maps_first import maps_first

NET = alexnet(
    AlexNetOptions(kernels=(8, 12, 16, 16, 12), units=(24, 20), classes=7, input_size=99)
)  # 2x2 positions before fc6


def random_foreign(net: Architecture) -> list[MapsFirstLayer]:
    rng = np.random.default_rng(0)
    shapes = {row.name: axis_order.maps_first_shape(row) for row in axis_order.layer_rows(net)}
    draw = {name: 2 * rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])) for name, shape in shapes.items()}
    return [
        MapsFirstLayer(name, kernel.astype(np.float32), rng.normal(0, 0.2, len(kernel)).astype(np.float32))
        for name, kernel in draw.items()
    ]


@pytest.mark.parametrize("net", [NET, replace(NET, towers=1)], ids=["two towers", "one"])
def test_both_orders_compute_the_same(net: Architecture) -> None:
    layers = random_foreign(net)
    x = np.random.default_rng(1).uniform(-120, 120, (2, 99, 99, 3))
    arrays = axis_order.from_maps_first(net, layers, "file", "net")
    ours = reference.logits(net, arrays, x)
    theirs = maps_first(net, layers, x.transpose(0, 3, 1, 2))
    assert np.abs(theirs).max() > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9 * np.abs(theirs).max())


def test_in_and_out_again_is_the_same_to_the_bit() -> None:
    layers = random_foreign(NET)
    arrays = axis_order.from_maps_first(NET, layers, "file", "net")
    assert arrays["fc8"]["kernel"].shape == (20, 8)  # seven classes, padded to even
    for before, after in zip(layers, axis_order.to_maps_first(NET, arrays), strict=True):
        assert np.array_equal(before.kernel, after.kernel) and np.array_equal(before.bias, after.bias)


def test_the_first_layer_that_differs_is_named_with_both_shapes() -> None:
    layers = random_foreign(NET)
    wrong = layers.copy()
    wrong[2] = MapsFirstLayer("third", np.zeros((16, 8, 3, 3), np.float32), layers[2].bias)
    wrong[5] = MapsFirstLayer("sixth", np.zeros((1, 1), np.float32), layers[5].bias)
    with pytest.raises(
        UserError, match=r"'third' has a kernel of shape \(16, 8, 3, 3\) where conv3 of net has \(16, 12, 3, 3\)"
    ):
        axis_order.from_maps_first(NET, wrong, "file", "net")
    with pytest.raises(UserError, match="it has no more layers where fc8 of net has"):
        axis_order.from_maps_first(NET, layers[:-1], "file", "net")
    with pytest.raises(UserError, match=r"'fc8' has a kernel of shape \(7, 20\) where net has no more layers"):
        axis_order.from_maps_first(NET, [*layers, layers[-1]], "file", "net")
    wrong = [replace(layers[0], bias=np.zeros(9, np.float32)), *layers[1:]]
    with pytest.raises(UserError, match=r"'conv1' has a bias of shape \(9,\) where conv1 of net has \(8,\)"):
        axis_order.from_maps_first(NET, wrong, "file", "net")
