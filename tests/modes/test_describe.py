"""What describe prints is the network's own architecture, for every config and variant."""

import re
from importlib import import_module

import pytest

from alexnet_jax.config.config import network_of
from alexnet_jax.data import sources
from alexnet_jax.modes import describe
from alexnet_jax.network import architecture
from alexnet_jax.network.architecture import Architecture, MaxPool
from configs import alexnet, alexnet_2012, cifar10, photos, variants
from tests.conftest import launch, result
from tests.test_launch import imported_by

EVERY = [
    *(("alexnet", variant) for variant in ("", *variants.VARIANTS)),
    *(("alexnet_2012", variant) for variant in alexnet_2012.RUNS),
    *(("cifar10", variant) for variant in ("", *cifar10.ACTIVATIONS, *cifar10.NORMS)),
    *(("photos", variant) for variant in ("", *photos.VARIANTS)),
    ("digits", ""),
]


def network(config: str, variant: str) -> Architecture:
    found = import_module(f"configs.{config}").get_config(variant)
    return network_of(found, found.model.classes or 10)


def names_in_order(net: Architecture) -> list[str]:
    """What a picture goes through, by the architecture alone: sums, and what follows them."""
    found = []
    for layer in net.layers:
        found.append(layer.name)
        for operation in layer.then:
            if isinstance(operation, MaxPool):
                found.append("pool")
            else:
                over_all = getattr(operation, "across_towers", False)
                found.append(type(operation).__name__ + (" over all maps" if over_all else ""))
    return found


@pytest.mark.parametrize(("config", "variant"), EVERY)
def test_the_order_is_the_architectures_and_columns_stand_below_one_another(config: str, variant: str) -> None:
    net = network(config, variant)
    _, head, *lines, total = describe.text(net, architecture.table(net))
    read: list[str] = []
    for line in lines:
        read.append("pool" if line.startswith("pool") else line.split()[0])
        read += [name for name in line[head.index("then") :].split(", ") if name]
        assert line[head.index("reads") - 2 : head.index("reads")] == "  "
        assert re.fullmatch(r"[\d,]+", line[: head.index("parameters") + 10].split()[-1])
    assert read == names_in_order(net)
    sums = [int(line[: head.index("parameters") + 10].split()[-1].replace(",", "")) for line in lines]
    assert sum(sums) == int(total.split()[1].replace(",", ""))
    assert max(map(len, (head, *lines))) <= 140


def test_the_two_orders_of_layer_1() -> None:
    assert names_in_order(network("alexnet", ""))[:4] == ["conv1", "ReLU", "LRN", "pool"]
    assert names_in_order(network("alexnet_2012", ""))[:4] == ["conv1", "LRN", "pool", "ReLU"]


def test_the_memory_is_that_of_the_configs_numbers() -> None:
    net = network("alexnet", "")
    full, half = (architecture.training_bytes(net, 128, activation=each) for each in (4, 2))
    fixed = architecture.training_bytes(net, 0)
    pixels_and_places = 128 * (224**2 * 3 + 27**2 * 96 + 13**2 * 256 + 6**2 * 256)  # bytes, whatever the rest is
    assert half - fixed - pixels_and_places == pytest.approx((full - fixed - pixels_and_places) / 2)
    (heading, *_) = describe.memory(net, 128, "bfloat16", {(1, 1): half})
    assert "in bfloat16" in heading


def test_each_line_is_a_line_and_tensorflow_stays_away() -> None:
    done = launch("--config=configs/alexnet_2012.py", "--mode=describe")
    assert result(done)["parameters"] == 60_965_224
    assert sum(line.startswith(("conv", "fc", "pool")) for line in done.stderr.splitlines()) == 11
    assert "\\n" not in done.stderr
    code = "from configs import alexnet, digits\nfrom alexnet_jax.modes import describe\n"
    code += "for one in (alexnet, digits):\n    describe.run(one.get_config(), None)"
    assert not {"tensorflow", "tensorflow_datasets", "jax"} & imported_by(code, "tensorflow")


def test_the_numbers_of_classes_that_are_known_are_tfdss() -> None:
    kinds = [sources.kind_of(name) for name in (*sources.KINDS, "any other")]
    assert [kind.name for kind in kinds] == [*sources.KINDS, ""]
    for name, count in sources.KNOWN_CLASSES.items():
        config = alexnet.get_config()
        config.data.name = name
        assert len(sources.class_names(config.data)) == count
