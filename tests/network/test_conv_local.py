"""Section 3.3's network for CIFAR-10: its locally connected layers against NumPy, its counts by hand, a short run."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.config.config import check_config, network_of
from alexnet_jax.messages import UserError
from alexnet_jax.modes import EvaluateInvocation, TrainInvocation, evaluate, figures, train
from alexnet_jax.network import cifar_networks
from alexnet_jax.network.architecture import LRN, MaxPool, table
from alexnet_jax.network.model import AlexNet
from alexnet_jax.network.stages import stages
from alexnet_jax.training import optimizer
from alexnet_jax.weights.axis_order import to_maps_first
from configs import cifar10

NARROW = cifar_networks.conv_local(
    cifar_networks.CifarOptions(kernels=(4, 4, 3, 2), classes=5, input_size=12, first_stddev=0.1, weight_stddev=0.1)
)


def locally_connected(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A layer of 3x3, padded by 1, on [b, h, w, maps]: each position has its own matrix [maps * 9, outputs]."""
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    sums = np.empty((*x.shape[:3], kernel.shape[-1]))
    for row, column in np.ndindex(*x.shape[1:3]):
        seen = padded[:, row : row + 3, column : column + 3].transpose(0, 3, 1, 2).reshape(len(x), -1)
        sums[:, row, column] = seen @ kernel[row, column] + bias[row, column]
    return sums


def test_a_locally_connected_layer_is_a_product_at_each_position() -> None:
    rng, net = np.random.default_rng(0), AlexNet(NARROW)
    x = rng.normal(size=(2, 3, 3, 4))
    kernel, bias = rng.normal(size=(3, 3, 36, 3)), rng.normal(size=(3, 3, 3))
    (local3,) = [stage for stage in stages(NARROW) if stage.name == "local3/sums"]
    params = {"local3": {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}}
    found = net.apply({"params": params}, [local3], [jnp.asarray(x, jnp.float32)], method="through")[0]
    np.testing.assert_allclose(found, locally_connected(x, kernel, bias), rtol=1e-4, atol=1e-4)


def test_counts_by_hand_are_those_of_the_arrays() -> None:
    net = network_of(cifar10.get_config("no_lrn"), 10)
    counts = {row.name: row.parameters for row in table(net) if row.parameters}
    assert counts == {
        "conv1": 5 * 5 * 3 * 64 + 64,
        "conv2": 5 * 5 * 64 * 64 + 64,
        "local3": 6 * 6 * (3 * 3 * 64 * 32 + 32),  # 24 pixels, 12 and 6 after the poolings, sizes rounded up
        "local4": 6 * 6 * (3 * 3 * 32 * 32 + 32),
        "fc5": 6 * 6 * 32 * 10 + 10,
    }
    params = jax.eval_shape(AlexNet(net).init, jax.random.key(0), jnp.zeros((1, 24, 24, 3)))["params"]
    assert {name: sum(x.size for x in layer.values()) for name, layer in params.items()} == counts


def test_the_two_networks_differ_in_the_normalisation_alone() -> None:
    """layers-conv-local-13pct.cfg and -11pct.cfg: ReLU, normalisation and pooling; no bias but 0."""
    with_lrn, without = (network_of(cifar10.get_config(name), 10) for name in ("lrn", "no_lrn"))
    lrn, pool = LRN(5, 1.0, 0.001 / 5, 0.75), MaxPool(3, 2, "up", "all")
    for ours, plain in zip(with_lrn.layers, without.layers, strict=True):
        assert (ours.name, ours.bias, ours.stddev) == (plain.name, 0.0, plain.stddev)
        assert tuple(step for step in ours.then if not isinstance(step, LRN)) == plain.then
    assert with_lrn.layers[0].then[1:] == with_lrn.layers[1].then[1:] == (lrn, pool)
    assert [layer.stddev for layer in without.layers] == [0.0001, 0.01, 0.04, 0.04, 0.01]


def test_the_locally_connected_and_the_dense_weights_decay_alone() -> None:
    config = cifar10.get_config("lrn")
    sgd = optimizer.paper_sgd(
        0.9, config.optimizer.weight_decay, config.optimizer.decay_biases, config.optimizer.decayed
    )
    layers = ("conv1", "conv2", "local3", "local4", "fc5")
    params = {layer: {"kernel": jnp.ones(2), "bias": jnp.ones(2)} for layer in layers}
    still, rates = jax.tree.map(jnp.zeros_like, params), jax.tree.map(lambda x: jnp.float32(0.5), params)
    moves, _ = sgd.update(still, sgd.init(params), params, learning_rate=rates)
    expected = {"local3": -0.002, "local4": -0.002, "fc5": -0.002}  # 0.004 times the rate and the weight
    for layer, arrays in moves.items():
        np.testing.assert_allclose(arrays["kernel"], expected.get(layer, 0.0), rtol=1e-6)
        assert not arrays["bias"].any()


def test_it_trains_goes_on_and_is_evaluated(data_dir: Path, tmp_path: Path, quick_compile: None) -> None:
    config = cifar10.get_config("lrn")
    config.data.name, config.data.data_dir = "digits", str(data_dir)
    config.data.resize, config.data.crop = 72, 12
    config.evaluate.split, config.evaluate.batch_size = "validation", 120
    config.model.kernels, config.model.first_stddev = (4, 4, 3, 2), 0.1
    config.train.batch_size, config.train.log_every, config.mesh.data = 500, 1, 1
    config.train.steps = 3  # two whole batches of the 1,437 pictures, and a short one
    check_config(config)
    run = TrainInvocation(tmp_path)
    assert train.run(config, run, page=False)["epoch"] == 1.0
    config.train.steps = 4
    assert train.run(config, run, page=False)["step"] == 4
    config.evaluate.views = 10
    assert evaluate.run(config, EvaluateInvocation(tmp_path))["examples"] == 360


def test_what_it_cannot_do_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"local3 is locally connected, .*--format=safetensors"):
        to_maps_first(NARROW, {})
    with pytest.raises(UserError, match=r"--figure=1 needs the network of four layers, .* is 'conv_local'"):
        figures.search(cifar10.get_config("lrn"), tmp_path)
    assert not list(tmp_path.iterdir())
