"""The rows of the paper: counts by hand, the exchanges of each, and a short training of each."""

import os
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from alexnet_jax.config.config import check_config, flatten, network_of, recipe_of
from alexnet_jax.devices import towers
from alexnet_jax.loop.report import read_metrics
from alexnet_jax.modes import EvaluateInvocation, TrainInvocation, communication, evaluate, train
from alexnet_jax.network import architecture
from alexnet_jax.network.architecture import MaxPool
from alexnet_jax.runs.results import evaluations
from alexnet_jax.training.xla_text import collectives_in
from configs import alexnet, alexnet_2012, variants
from tests.conftest import launch, narrowed, refusal

BASE = 60_965_224
CONV3, CONV4, CONV5, FC6, FC7 = 885_120, 663_936, 442_624, 37_752_832, 16_781_312
DENSE_OF_1000 = FC6 + FC7 + 4097 * 1000
CONV6 = 3 * 3 * 256 * 256 + 256
PARAMETERS = {  # in each row of the paper's config, by hand
    **dict.fromkeys(("ilsvrc2010", "no_lrn", "nonoverlapping_pooling", "no_lighting", "no_dropout", "tanh"), BASE),
    "no_crops_or_reflections": BASE,
    "one_gpu": (11 * 11 * 3 + 1) * 48
    + (5 * 5 * 48 + 1) * 128
    + (3 * 3 * 128 + 1) * 192
    + (3 * 3 * 192 + 1) * 192
    + (3 * 3 * 192 + 1) * 256
    + DENSE_OF_1000,
    "no_conv2": BASE - 307_456 - CONV3 + (3 * 3 * 96 + 1) * 384,
    "no_conv3": BASE - CONV3 - CONV4 + (3 * 3 * 256 + 1) * 384,
    "no_conv4": BASE - CONV4,
    "no_conv5": BASE - CONV5 - FC6 + (6 * 6 * 384 + 1) * 4096,
    "no_fc6": BASE - FC6 - FC7 + (6 * 6 * 256 + 1) * 4096,
    "no_fc7": BASE - FC7,
    "fall2009": BASE + CONV6 - 4097 * 1000 + 4097 * 10_184,
    "fall2011": BASE + CONV6 - 4097 * 1000 + 4097 * 21_841,
    "star": BASE + CONV6,
    "caffe": BASE,
    "caffenet": BASE,
    "torchvision": 61_100_840,
    "no_cross": BASE - (CONV3 - (3 * 3 * 128 + 1) * 384) - (FC6 - (6 * 6 * 128 + 1) * 4096) - (FC7 - (2048 + 1) * 4096),
}
PARAMETERS_2012 = {
    "ilsvrc2010": BASE,
    "one_gpu": 59_798_312,
    "no_lrn": BASE,
    "nonoverlapping_pooling": BASE,
    "fall2009": PARAMETERS["fall2009"],
    "fall2011": BASE + CONV6 - 4097 * 1000 + 4097 * 2048 + 2049 * 21_843,
    "star": 61_555_304,
    "no_cross": 34_944
    + (5 * 5 * 48 + 1) * 320
    + (3 * 3 * 160 + 1) * 384
    + CONV4
    + CONV5
    + (6 * 6 * 128 + 1) * 8192
    + (4096 + 1) * 4096
    + 4097 * 1000,
}
EVERY = [("alexnet", name) for name in ("", *PARAMETERS)] + [("alexnet_2012", name) for name in ("", *PARAMETERS_2012)]
ALL_FOUR = ["conv3", "fc6", "fc7", "fc8"]
CROSSINGS = {  # the layers that read both towers
    ("alexnet", "no_conv3"): ["conv4", "fc6", "fc7", "fc8"],
    ("alexnet", "no_fc6"): ["conv3", "fc7", "fc8"],
    ("alexnet", "no_fc7"): ["conv3", "fc6", "fc8"],
    ("alexnet", "no_cross"): ["fc8"],
    ("alexnet_2012", "no_cross"): ["fc8"],
    **{(base, name): ["conv3", "conv6", "fc6", "fc7", "fc8"] for base, name in EVERY if name in ("star", "fall2009")},
    ("alexnet", "fall2011"): ["conv3", "conv6", "fc6", "fc7", "fc8"],
    ("alexnet_2012", "fall2011"): ["conv3", "conv6", "fc6", "fc7", "bottleneck", "fc8"],
}
# The variants with a network of their own; the others differ in data, augmentation or schedule alone.
DISTINCT = [
    *(("alexnet", name) for name in ("no_conv2", "no_conv3", "no_conv4", "no_conv5", "no_fc6", "no_fc7")),
    *(("alexnet", name) for name in ("one_gpu", "tanh", "star", "no_cross", "nonoverlapping_pooling")),
    *(("alexnet", name) for name in ("caffe", "caffenet", "torchvision")),
    *(("alexnet_2012", name) for name in ("", "no_lrn", "fall2011", "no_cross", "nonoverlapping_pooling")),
]


def config_of(base: str, variant: str) -> ConfigDict:
    return {"alexnet": alexnet, "alexnet_2012": alexnet_2012}[base].get_config(variant)


def table_of(base: str, variant: str) -> tuple[architecture.Row, ...]:
    config = config_of(base, variant)
    check_config(config)
    return architecture.table(network_of(config, config.model.classes or 1000))


def test_every_row_is_counted_here() -> None:
    assert set(variants.VARIANTS) == set(PARAMETERS)
    assert set(alexnet_2012.RUNS) - {""} == set(PARAMETERS_2012)


def test_counts_that_are_known() -> None:
    assert PARAMETERS["one_gpu"] == 59_798_312
    assert PARAMETERS["star"] == 61_555_304
    assert PARAMETERS_2012["no_cross"] == 60_714_408


@pytest.mark.parametrize(("base", "variant"), EVERY)
def test_parameters_by_hand(base: str, variant: str) -> None:
    expected = {"alexnet": PARAMETERS, "alexnet_2012": PARAMETERS_2012}[base].get(variant, BASE)
    assert sum(row.parameters for row in table_of(base, variant)) == expected


def sides(base: str, variant: str) -> list[int]:
    return [row.output_shape[0] for row in table_of(base, variant) if len(row.output_shape) == 3]


def test_shapes_of_pooling_without_overlap() -> None:
    assert sides("alexnet", "nonoverlapping_pooling") == [55, 27, 27, 13, 13, 13, 13, 6]
    assert sides("alexnet_2012", "nonoverlapping_pooling") == [55, 28, 26, 13, 13, 13, 11, 6]


@pytest.mark.parametrize("variant", ["caffe", "caffenet", "torchvision"])
def test_other_geometries_come_to_the_papers_sizes(variant: str) -> None:
    assert sides("alexnet", variant) == [55, 27, 27, 13, 13, 13, 13, 6]


def test_the_sixth_convolution_keeps_the_pooled_size() -> None:
    assert sides("alexnet", "star") == [55, 27, 27, 13, 13, 13, 13, 6, 6]


def test_what_follows_a_removed_layer_stays() -> None:
    conv1 = table_of("alexnet", "no_conv2")[0].layer
    assert isinstance(conv1, architecture.Conv)
    assert [type(step).__name__ for step in conv1.then] == ["ReLU", "LRN", "MaxPool", "LRN", "MaxPool"]
    conv4 = next(row.layer for row in table_of("alexnet", "no_conv5") if row.name == "conv4")
    assert isinstance(conv4, architecture.Conv)
    assert conv4.then == (architecture.ReLU(), MaxPool())


def test_only_the_named_fields_differ_from_the_base() -> None:
    base = flatten(alexnet.get_config())
    for name, variant in variants.VARIANTS.items():
        fields = flatten(alexnet.get_config(name))
        differ = {field for field in fields if fields[field] != base[field]}
        assert differ == {"name", *variant.changes} - {"model.pool_stride"}, name


def test_an_unknown_variant_is_answered_with_the_nearest_and_the_list() -> None:
    done = launch("--config=configs/alexnet.py:one_gpus", "--mode=describe")
    assert "nearest is '--config=configs/alexnet.py:one_gpu'" in refusal(done)
    for name, variant in variants.VARIANTS.items():
        assert f"{name:<24}{variant.what}" in done.stderr
    assert "nearest is '--config=configs/alexnet_2012.py:no_lrn'" in refusal(
        launch("--config=configs/alexnet_2012.py:no_lrm", "--mode=describe")
    )


def test_two_devices_of_a_net_with_one_tower_are_refused() -> None:
    done = launch("--config=configs/alexnet.py:one_gpu", "--mode=communication", "--config.mesh.model=2")
    assert "config.mesh.model is 2 and must be at most 1" in refusal(done)


def crossings(config: ConfigDict, devices: int) -> list[tuple[str, str]]:
    """The compiled step's gathers and scatters, and all other collectives of the layers."""
    recipe = recipe_of(config, config.model.classes or 1000, steps_per_epoch=1)
    mesh = towers.make_mesh(1, devices, config.model.towers)
    lowered = communication.lowered_step(recipe, mesh, config.train.batch_size, config.data.resize)
    listed = collectives_in(lowered.compile().as_text())
    return [(one.op, one.layer) for one in listed if one.layer not in ("softmax", "rank")]


def expected_crossings(base: str, variant: str) -> list[tuple[str, str]]:
    layers = CROSSINGS.get((base, variant), ALL_FOUR)
    edges = ["conv1", "conv2"] if variant in ("caffe", "caffenet") else []  # exchanges of maps, forward and backward
    gathers = [(op, layer) for op in ("all-gather", "reduce-scatter") for layer in layers]
    return sorted(gathers + [("collective-permute", layer) for layer in edges for _ in range(2)])


@pytest.mark.parametrize(("base", "variant"), DISTINCT)
def test_what_crosses_in_the_compiled_step(base: str, variant: str, quick_compile: None) -> None:
    config = narrowed(config_of(base, variant))
    expected = expected_crossings(base, variant) if config.model.towers == 2 else []
    assert sorted(crossings(config, config.model.towers)) == expected


def goes_through(config: ConfigDict, workdir: Path) -> None:
    """Two steps, an evaluation, and two more steps after a restart."""
    to_train = TrainInvocation(workdir)
    check_config(config)
    config.train.steps, config.train.log_every = 2, 1
    first = train.run(config, to_train, page=False)
    assert first["step"] == 2
    seen = evaluate.run(config, EvaluateInvocation(workdir))
    assert seen["examples"] == 360
    assert seen["loss"] == pytest.approx(evaluations(workdir)[-1]["loss"])
    assert seen["top1_error"] == pytest.approx(first["top1_error"])
    config.train.steps = 4
    second = train.run(config, to_train, page=False)
    assert second["step"] == 4
    steps = [line["step"] for line in read_metrics(workdir) if "train/loss" in line]
    assert steps == [1, 2, 3, 4]


THROUGH = [("alexnet_2012", "fall2011")]


@pytest.mark.parametrize(("base", "variant"), THROUGH)
def test_trains_evaluates_and_goes_on(
    base: str, variant: str, data_dir: Path, tmp_path: Path, quick_compile: None
) -> None:
    goes_through(narrowed(config_of(base, variant), data_dir), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("base", "variant"), [one for one in EVERY if one not in THROUGH])
def test_every_variant_trains_evaluates_and_goes_on(
    base: str, variant: str, data_dir: Path, tmp_path: Path, quick_compile: None
) -> None:
    goes_through(narrowed(config_of(base, variant), data_dir), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("base", "variant"), EVERY)
def test_every_variant_compiles_full_size(base: str, variant: str, quick_compile: None) -> None:
    config = config_of(base, variant)
    config.train.batch_size = 4
    assert crossings(config, 1) == []
    if config.model.towers == 2:
        assert sorted(crossings(config, 2)) == expected_crossings(base, variant)


@pytest.mark.slow
@pytest.mark.parametrize(("base", "variant"), EVERY)
def test_every_variant_trains_full_size(base: str, variant: str, data_dir: Path, tmp_path: Path) -> None:
    config = config_of(base, variant)
    config.data.name, config.data.data_dir = "digits", str(data_dir)
    config.evaluate.split, config.evaluate.batch_size = "validation[:8]", 8
    config.train.batch_size, config.train.steps, config.train.init_after = 4, 2, ""
    config.train.log_every = 1
    config.mesh.data, config.mesh.model = 1, config.model.towers
    to_train = TrainInvocation(tmp_path)
    assert train.run(config, to_train, page=False)["step"] == 2
    assert evaluate.run(config, EvaluateInvocation(tmp_path))["examples"] == 8
    config.train.steps = 3
    assert train.run(config, to_train, page=False)["step"] == 3
    for path in sorted(tmp_path.rglob("*"), reverse=True):  # a gigabyte each
        os.remove(path) if path.is_file() else path.rmdir()
