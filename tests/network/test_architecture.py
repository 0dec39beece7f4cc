"""The counts of the paper's network against arithmetic by hand."""

import dataclasses

import jax
import numpy as np
import pytest

from alexnet_jax.config.config import network_of
from alexnet_jax.devices import towers
from alexnet_jax.network import architecture
from alexnet_jax.network.architecture import ALEXNET, LRN, Conv, Dense, Dropout, MaxPool
from alexnet_jax.training.step import Recipe, abstract_batch, abstract_state, compiled_steps
from configs import alexnet

PARAMETERS = {
    "conv1": 34_944,
    "conv2": 307_456,
    "conv3": 885_120,
    "conv4": 663_936,
    "conv5": 442_624,
    "fc6": 37_752_832,
    "fc7": 16_781_312,
    "fc8": 4_097_000,
}


def test_parameters_are_the_papers() -> None:
    rows = {row.name: row.parameters for row in architecture.table(ALEXNET) if row.parameters}
    assert rows == PARAMETERS
    assert sum(rows.values()) == 60_965_224


def test_shapes_are_the_papers() -> None:
    sides = [row.output_shape[0] for row in architecture.table(ALEXNET) if len(row.output_shape) == 3]
    assert sides == [55, 27, 27, 13, 13, 13, 13, 6]


def test_geometry_crossings_and_biases_are_the_papers() -> None:
    convolutions = [
        (layer.name, layer.size, layer.stride, layer.padding, layer.reads, layer.bias, layer.stddev)
        for layer in ALEXNET.layers
        if isinstance(layer, Conv)
    ]
    assert convolutions == [
        ("conv1", 11, 4, (0, 3), "image", 0.0, 0.01),
        ("conv2", 5, 1, (2, 2), "own", 1.0, 0.01),
        ("conv3", 3, 1, (1, 1), "both", 0.0, 0.01),
        ("conv4", 3, 1, (1, 1), "own", 1.0, 0.01),
        ("conv5", 3, 1, (1, 1), "own", 1.0, 0.01),
    ]
    dense = [
        (layer.name, layer.reads, layer.bias, layer.stddev) for layer in ALEXNET.layers if isinstance(layer, Dense)
    ]
    assert dense == [("fc6", "both", 1.0, 0.01), ("fc7", "both", 1.0, 0.01), ("fc8", "both", 0.0, 0.01)]
    followed = {layer.name: [type(step).__name__ for step in layer.then] for layer in ALEXNET.layers}
    assert followed == {
        **{name: ["ReLU", "LRN", "MaxPool"] for name in ("conv1", "conv2")},
        **{name: ["ReLU"] for name in ("conv3", "conv4")},
        "conv5": ["ReLU", "MaxPool"],
        **{name: ["ReLU", "Dropout"] for name in ("fc6", "fc7")},
        "fc8": [],
    }
    assert (LRN(), MaxPool(), Dropout()) == (LRN(5, 2.0, 1e-4, 0.75), MaxPool(3, 2), Dropout(0.5))


def test_neurons_layer_by_layer() -> None:
    neurons = [row.neurons for row in architecture.table(ALEXNET) if row.parameters]
    assert neurons == [290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]
    assert sum(neurons) == 659_272


def test_flops_by_hand() -> None:
    by_hand = 2 * (
        55 * 55 * 96 * 11 * 11 * 3
        + 27 * 27 * 256 * 5 * 5 * 48
        + 13 * 13 * (384 * 9 * 256 + 384 * 9 * 192 + 256 * 9 * 192)
        + 9216 * 4096
        + 4096 * 4096
        + 4096 * 1000
    )
    assert sum(row.flops for row in architecture.table(ALEXNET)) == by_hand


def test_without_cross_connections_only_the_readers_shrink() -> None:
    layers = tuple(
        dataclasses.replace(layer, reads="own") if layer.name == "conv3" else layer for layer in ALEXNET.layers
    )
    rows = architecture.table(dataclasses.replace(ALEXNET, layers=layers))
    changed = {row.name: row.parameters for row in rows if row.parameters != PARAMETERS.get(row.name, 0)}
    assert changed == {"conv3": 3 * 3 * 128 * 384 + 384}


def test_the_config_is_the_table() -> None:
    assert network_of(alexnet.get_config(), classes=1000) == ALEXNET


def test_odd_classes_are_padded_but_not_counted() -> None:
    net = architecture.alexnet(architecture.AlexNetOptions(classes=21_841))
    assert net.padded_classes == 21_842
    assert architecture.table(net)[-1].parameters == 4097 * 21_841


@pytest.mark.parametrize(("size", "layer"), [(7, "conv1"), (15, "pool1"), (30, "pool2")])
def test_a_picture_too_small_is_refused(size: int, layer: str) -> None:
    with pytest.raises(ValueError, match=f"{layer} gets"):
        architecture.table(architecture.alexnet(architecture.AlexNetOptions(input_size=size)))


def test_towers_must_share_every_layer() -> None:
    with pytest.raises(ValueError, match="conv2 has 255 outputs"):
        architecture.alexnet(architecture.AlexNetOptions(kernels=(96, 255, 384, 384, 256)))


@pytest.mark.parametrize(
    ("net", "mesh", "batch"),
    [
        (ALEXNET, (1, 1), 128),
        pytest.param(ALEXNET, (1, 2), 256, marks=pytest.mark.slow),
        pytest.param(ALEXNET, (2, 1), 128, marks=pytest.mark.slow),
        pytest.param(architecture.alexnet(architecture.AlexNetOptions(norm=())), (1, 1), 256, marks=pytest.mark.slow),
        pytest.param(network_of(alexnet.get_config("caffe"), 1000), (1, 1), 128, marks=pytest.mark.slow),
        pytest.param(network_of(alexnet.get_config("caffe"), 1000), (1, 2), 256, marks=pytest.mark.slow),
        pytest.param(network_of(alexnet.get_config("caffenet"), 1000), (1, 2), 256, marks=pytest.mark.slow),
        pytest.param(network_of(alexnet.get_config("torchvision"), 1000), (1, 1), 256, marks=pytest.mark.slow),
        pytest.param(
            architecture.alexnet(architecture.AlexNetOptions(kernels=(48, 128, 192, 192, 256), towers=1)),
            (1, 1),
            512,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_memory_of_a_step_is_about_what_the_compiler_plans(
    net: architecture.Architecture, mesh: tuple[int, int], batch: int
) -> None:
    recipe, devices = Recipe(net), towers.make_mesh(*mesh)
    side = 256
    train_step, _ = compiled_steps(recipe, devices)
    arguments = (
        abstract_state(recipe, devices),
        abstract_batch(recipe, batch),
        jax.ShapeDtypeStruct((side, side, 3), np.float32),
    )
    planned = train_step.lower(*arguments).compile().memory_analysis()
    assert planned is not None
    needed = planned.argument_size_in_bytes + planned.temp_size_in_bytes
    assert architecture.training_bytes(net, batch, *mesh) == pytest.approx(needed, rel=0.15)


def test_the_largest_batch_fits_and_one_more_does_not() -> None:
    for data, model in ((1, 1), (1, 2), (4, 2)):
        most = architecture.largest_batch(ALEXNET, 2**33, data, model)
        assert most % data == 0
        needs = [architecture.training_bytes(ALEXNET, n, data, model) for n in (most, most + data)]
        assert needs[0] <= 2**33 < needs[1] + 8  # rounded to whole bytes
    assert architecture.largest_batch(ALEXNET, 2**28) == 0
