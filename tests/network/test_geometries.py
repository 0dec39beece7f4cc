"""Caffe's two networks and torchvision's, made narrow, against float64 NumPy, on one device and on two."""

import dataclasses
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from alexnet_jax.config.config import network_of, recipe_of
from alexnet_jax.data.batches.batch import Batch
from alexnet_jax.devices import towers
from alexnet_jax.network import architecture, ops
from alexnet_jax.network.architecture import LRN, Architecture
from alexnet_jax.network.model import AlexNet
from alexnet_jax.network.stages import stages
from alexnet_jax.training.step import Recipe, class_probabilities, compiled_steps, create_state
from configs import alexnet
from tests import reference
from tests.conftest import NARROW, NARROW_CLASSES, NARROW_KERNELS, NARROW_UNITS, random_batch

SIDE = 67  # with 11x11 kernels, stride 4 and no padding: 15, 7 and 3 positions
STRONG = 0.5  # an alpha with which the normalisation matters


def narrow(variant: str, **changes: Any) -> Recipe:
    """The variant's recipe with few kernels and small pictures, in float64."""
    config = alexnet.get_config(variant)
    config.model.kernels, config.model.units, config.model.classes = NARROW_KERNELS, NARROW_UNITS, NARROW_CLASSES
    config.model.weight_stddev, config.model.lrn_alpha = 0.05, STRONG
    config.data.crop = SIDE
    config.update_from_flattened_dict(changes)
    return dataclasses.replace(recipe_of(config, 7, steps_per_epoch=10), dtype="float64")


@lru_cache
def random_params(net: Architecture) -> Any:
    """Random parameters, biases too, so large that the numbers of every stage are of order one."""
    rng, params = np.random.default_rng(0), {}
    for row in architecture.table(net):
        if row.parameters:
            outputs = net.padded_classes if row.layer is net.layers[-1] else row.output_shape[-1]
            window = (row.layer.size,) * 2 if isinstance(row.layer, architecture.Conv) else ()
            inputs = (*window, row.input_shape[-1]) if window else (int(np.prod(row.input_shape)),)
            kernel = rng.normal(0, 1.5 / np.sqrt(np.prod(inputs)), (*inputs, outputs))
            params[row.name] = {"kernel": kernel, "bias": rng.normal(0, 0.3, outputs)}
    return params


def every_stage(net: Architecture, devices: int, params: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """Each stage's output at test, the towers side by side."""
    mesh = towers.make_mesh(1, devices, net.towers)
    axis = towers.model_axis(mesh)
    module = AlexNet(net, devices, axis, "float64")

    def run(params: Any, x: jax.Array) -> dict[str, jax.Array]:
        parts, made = [x], {}
        for stage in stages(net):
            out = module.apply({"params": params}, [stage], parts, method=AlexNet.through)
            assert isinstance(out, list)
            parts = out
            made[stage.name] = jnp.concatenate(parts, axis=-1)
        return made

    dense = {layer.name for layer in net.layers if isinstance(layer, architecture.Dense)}
    specs = {
        stage.name: P(None, axis) if stage.name.split("/")[0] in dense else P(None, None, None, axis)
        for stage in stages(net)
    }
    on_each = towers.on_each_device(run, mesh, (towers.parameter_specs(params, mesh), P()), specs)
    made: dict[str, np.ndarray] = jax.tree.map(np.asarray, jax.jit(on_each)(params, jnp.asarray(x)))
    return made


@pytest.mark.parametrize(
    ("variant", "devices"), [("caffe", 1), ("caffe", 2), ("caffenet", 1), ("caffenet", 2), ("torchvision", 1)]
)
def test_every_stage_is_the_formulas(variant: str, devices: int, quick_compile: None) -> None:
    net = narrow(variant).architecture
    x = np.random.default_rng(1).normal(0, 3, (2, SIDE, SIDE, 3))
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, random_params(net))
        ours = every_stage(net, devices, params, x)
    expected = reference.stages(net, params, x)
    assert ours.keys() == {name for name in expected if "/" in name}
    for name, mine in ours.items():
        assert np.abs(expected[name]).max() > 0.01
        np.testing.assert_allclose(mine, expected[name], rtol=1e-9, atol=1e-11, err_msg=name)


def test_order_places_and_scope_are_those_of_each_network() -> None:
    def then(variant: str, *names: str) -> list[list[str]]:
        net = network_of(alexnet.get_config(variant), 1000)
        return [[type(one).__name__ for one in layer.then] for layer in net.layers if layer.name in names]

    assert then("caffe", "conv1", "conv2") == [["ReLU", "LRN", "MaxPool"]] * 2
    assert then("caffenet", "conv1", "conv2") == [["ReLU", "MaxPool", "LRN"]] * 2
    assert then("torchvision", "conv1", "conv2", "conv5") == [["ReLU", "MaxPool"]] * 2 + [
        ["ReLU", "MaxPool", "Dropout"]
    ]
    assert then("torchvision", "fc6", "fc7") == [["ReLU", "Dropout"], ["ReLU"]]
    caffe = network_of(alexnet.get_config("caffe"), 1000)
    assert LRN(5, 1.0, 2e-5, 0.75, across_towers=True) in caffe.layers[0].then
    assert caffe.input_size == 227
    assert [(layer.bias, layer.stddev) for layer in caffe.layers] == [
        *((0.0, 0.01), (0.1, 0.01), (0.0, 0.01), (0.1, 0.01), (0.1, 0.01)),
        *((0.1, 0.005), (0.1, 0.005), (0.0, 0.01)),
    ]


def plain_lrn(a: jax.Array, lrn: LRN) -> jax.Array:
    """The formula on all maps in one array; JAX makes its gradient."""
    place = np.arange(a.shape[-1])
    band = np.abs(place[:, None] - place) <= lrn.n // 2
    return a / (lrn.k + lrn.alpha * (jnp.square(a) @ jnp.asarray(band, a.dtype))) ** lrn.beta


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize(("n", "maps"), [(5, 12), (3, 4), (1, 6), (9, 6), (4, 8)])  # 9: wider than a tower
def test_normalisation_over_all_maps_and_its_gradient(devices: int, n: int, maps: int) -> None:
    lrn = LRN(n, 1.5, STRONG, 0.75, across_towers=True)
    conv = architecture.Conv("conv1", maps, 1, 1, (0, 0), "image", 0.0, 1.0, (lrn,))
    net = Architecture(3, 2, (conv, architecture.Dense("fc2", 2, "both", 0.0, 1.0, ())))
    mesh = towers.make_mesh(1, devices)
    module = AlexNet(net, devices, towers.model_axis(mesh), "float64")
    norm = [stages(net)[1]]
    a, weights = np.random.default_rng(n).normal(0, 2, (2, 2, 3, 3, maps))
    by_map = P(None, None, None, module.axis)

    def normalised(x: jax.Array) -> jax.Array:
        parts = jnp.split(x, 2 // devices, axis=-1)
        made = module.apply({}, norm, parts, method=AlexNet.through)
        assert isinstance(made, list)
        return jnp.concatenate(made, axis=-1)

    with jax.enable_x64(True):
        run = jax.jit(towers.on_each_device(normalised, mesh, (by_map,), by_map))
        np.testing.assert_allclose(run(jnp.asarray(a)), reference.local_response_norm(a, lrn), rtol=1e-12)
        ours = jax.jit(jax.grad(lambda x: (run(x) * weights).sum()))(jnp.asarray(a))
        plain = jax.grad(lambda x: (plain_lrn(x, lrn) * weights).sum())(jnp.asarray(a))
    np.testing.assert_allclose(ours, plain, rtol=1e-10, atol=1e-12)


INPUTS, FAN_IN, CHANNELS = (
    {"model.dropout_place": "inputs"},
    {"model.start": "fan_in"},
    {"data.stddev_rgb": (58.4, 57.1, 57.4)},
)
RECIPES = {
    "all at once": partial(narrow, "caffe", **INPUTS, **FAN_IN, **CHANNELS),
    "caffe": partial(narrow, "caffe"),
    "caffenet": partial(narrow, "caffenet"),
    "dropout of inputs": partial(narrow, "", **INPUTS),
    "survivors rescaled": partial(narrow, "", **{"model.dropout_scaling": "training"}),
    "start by fan-in": partial(narrow, "", **FAN_IN),
    "channels scaled": partial(narrow, "", **CHANNELS),
}


def two_steps(recipe: Recipe, shape: tuple[int, int]) -> tuple[list[float], Any]:
    mesh = towers.make_mesh(*shape)
    update, _ = compiled_steps(recipe, mesh)
    state, losses = create_state(recipe, mesh), []
    for seed in range(2):
        batch = towers.put_batch(random_batch(4, 7, SIDE, SIDE + 5, seed), mesh)
        mean = towers.replicate(np.full((SIDE + 5, SIDE + 5, 3), 120.0), mesh)
        state, metrics = update(state, batch, mean)
        losses.append(float(metrics["loss"]))
    return losses, jax.tree.map(np.asarray, state.params)


@pytest.mark.parametrize("name", [pytest.param(x, marks=pytest.mark.slow if i else ()) for i, x in enumerate(RECIPES)])
def test_two_devices_step_as_one_does(name: str, quick_compile: None) -> None:
    recipe = RECIPES[name]()
    with jax.enable_x64(True):
        losses, params = two_steps(recipe, (1, 1))
        assert losses[0] != losses[1]
        other_losses, other_params = two_steps(recipe, (2, 2) if name == "caffe" else (1, 2))
    np.testing.assert_allclose(other_losses, losses, rtol=1e-10)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12), other_params, params)


@pytest.mark.parametrize("shape", [(64, 2000), (64, 6, 6, 40)])
def test_dropout_that_rescales_has_the_same_masks_and_keeps_the_mean(shape: tuple[int, ...]) -> None:
    keys = jax.random.split(jax.random.key(0), len(x := jnp.full(shape, 3.0)))
    plain, scaled = (np.asarray(ops.dropout(x, 0.25, keys, rescales)) for rescales in (False, True))
    np.testing.assert_array_equal(scaled == 0, plain == 0)
    assert set(np.unique(scaled)) == {0.0, 4.0}
    # Each number is 0 or 4 with a standard deviation of 1.73.
    assert scaled.mean() == pytest.approx(3, abs=5 * 1.74 / np.sqrt(scaled.size))
    np.testing.assert_array_equal(ops.dropout(x, 0.25, None, rescales=True), x)


def test_dropout_of_inputs_zeroes_what_fc6_and_fc7_read() -> None:
    net = narrow("torchvision").architecture
    module = AlexNet(net)
    params = jax.tree.map(jnp.asarray, random_params(net))
    x = jnp.asarray(np.random.default_rng(2).normal(0, 3, (8, SIDE, SIDE, 3)))
    read: dict[str, np.ndarray] = {}
    parts: Any = [x]
    for stage in stages(net):
        args = (jnp.arange(8, dtype=jnp.int32), jax.random.key(3))
        before, parts = parts, module.apply({"params": params}, [stage], parts, *args, method=AlexNet.through)
        if stage.name.endswith("/dropout"):
            read[stage.name] = np.stack([np.asarray(before[0]), np.asarray(parts[0])])
    assert list(read) == ["conv5/dropout", "fc6/dropout"]
    for before, after in read.values():
        alive = before > 0
        assert 0.3 < (after[alive] == 0).mean() < 0.7
        kept = alive & (after > 0)
        np.testing.assert_allclose(after[kept], 2 * before[kept], rtol=1e-6)


@pytest.mark.parametrize(("variant", "devices"), [("caffe", 1), ("caffenet", 2), ("torchvision", 1)])
def test_ten_views_are_ten_evaluations_averaged(variant: str, devices: int, quick_compile: None) -> None:
    recipe = dataclasses.replace(narrow(variant), dtype="float32", channel_scale=(0.05, 0.07, 0.06))
    mesh, room, count = towers.make_mesh(1, devices, recipe.architecture.towers), 8, 3
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), random_params(recipe.architecture))
    mean = np.random.default_rng(1).normal(120, 30, (SIDE + room, SIDE + room, 3)).astype(np.float32)
    square = random_batch(count, 7, SIDE + room, SIDE + room)

    def evaluated(views: int, batch: Batch) -> np.ndarray:
        program = jax.jit(partial(class_probabilities, recipe, mesh, views))
        return np.asarray(program(params, towers.put_batch(batch, mesh), towers.replicate(mean, mesh)), np.float64)

    by_hand = np.zeros((count, 8))
    for row, column in [(0, 0), (0, room), (room, 0), (room, room), (room // 2, room // 2)]:
        crop = square.image[:, row : row + SIDE, column : column + SIDE]
        for mirrored in (False, True):
            view = dataclasses.replace(
                square,
                image=crop[:, :, ::-1] if mirrored else crop,
                offset=np.full((count, 2), (row, column), np.int32),
                reflected=np.full(count, mirrored),
                lighting=np.zeros((count, 3), np.float32),
            )
            by_hand += evaluated(1, view) / 10
    assert (by_hand[:, :7].max(axis=0) > 1.02 * by_hand[:, :7].min(axis=0)).any()
    np.testing.assert_allclose(evaluated(10, square), by_hand, rtol=5e-5, atol=1e-7)


def test_channels_are_scaled_after_the_mean() -> None:
    batch, mean = random_batch(4, 7, crop=6, resize=9), np.random.default_rng(0).uniform(0, 255, (9, 9, 3))
    offset, reflected, lighting, scale = map(jnp.asarray, (batch.offset, batch.reflected, batch.lighting, batch.scale))
    with jax.enable_x64(True):
        drawn = (offset, reflected, lighting, scale)
        ours = ops.centre(jnp.asarray(batch.image), jnp.asarray(mean), *drawn, (0.5, 2.0, 3.0))
    np.testing.assert_allclose(ours, reference.centre(batch, mean) * [0.5, 2.0, 3.0], rtol=1e-6)


def test_a_start_by_fan_in_is_uniform_within_its_bound() -> None:
    net = network_of(alexnet.get_config("torchvision"), 1000)
    layers = tuple(
        dataclasses.replace(one, units=400) if isinstance(one, architecture.Dense) else one for one in net.layers
    )
    net = dataclasses.replace(net, input_size=64, layers=layers)  # the convolutions' full widths
    params: Any = jax.jit(AlexNet(net).init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]
    inputs = {"conv1": 11 * 11 * 3, "conv2": 5 * 5 * 64, "conv4": 3 * 3 * 384, "fc7": 400}
    for name, count in inputs.items():
        bound = 1 / np.sqrt(count)
        kernel = np.asarray(params[name]["kernel"], np.float64)
        assert bound * 0.99 < np.abs(kernel).max() <= bound
        assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
        bias = np.asarray(params[name]["bias"])
        assert bound * 0.8 < np.abs(bias).max() <= bound


def test_the_papers_network_is_as_it_was() -> None:
    for layer in NARROW.layers:
        assert not layer.by_fan_in
        for operation in layer.then:
            assert not getattr(operation, "across_towers", False) and not getattr(operation, "rescales", False)
