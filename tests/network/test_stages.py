"""Stages and layers are found by their names."""

import re

import pytest

from alexnet_jax.messages import UserError
from alexnet_jax.network import architecture, changes, cifar_networks
from alexnet_jax.network.stages import place_of, stages


def name_of(net: architecture.Architecture, name: str) -> str:
    return stages(net)[place_of(net, name)].name


def test_a_layer_alone_is_its_last_stage_but_dropout() -> None:
    net = architecture.ALEXNET
    handed_on = [name_of(net, layer.name) for layer in net.layers]
    pooled, plain = ["conv1/pool", "conv2/pool"], ["conv3/relu", "conv4/relu"]
    assert handed_on == [*pooled, *plain, "conv5/pool", "fc6/relu", "fc7/relu", "fc8/sums"]
    for stage in stages(net):
        assert name_of(net, stage.name) == stage.name


def test_other_networks_have_their_own() -> None:
    source = architecture.alexnet(
        architecture.AlexNetOptions(
            activation=architecture.Tanh(), within_map=(architecture.WithinMapNorm(),), pool_before_activation=True
        )
    )
    assert name_of(source, "conv1") == "conv1/tanh"
    assert name_of(source, "conv2/within_map_norm") == "conv2/within_map_norm"
    without = changes.without_layer(architecture.ALEXNET, "conv2")
    assert name_of(without, "conv1") == "conv1/pool2"
    assert (
        name_of(cifar_networks.four_layers(cifar_networks.CifarOptions((32, 32, 64), input_size=32)), "fc4")
        == "fc4/sums"
    )


@pytest.mark.parametrize("name", ["fc9", "conv2", "conv1/pool3", "fc8/relu", "", "conv1/"])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str) -> None:
    without = changes.without_layer(architecture.ALEXNET, "conv2")
    with pytest.raises(UserError, match=f"^'{re.escape(name)}' is not a stage.*conv1, conv3.*conv1/sums.*conv1/pool2"):
        place_of(without, name)
