"""The collectives in the compiled step of configs/alexnet.py: those of the paper, and no others."""

import re
import resource
import time
from collections import Counter
from pathlib import Path

import jax
import pytest

from alexnet_jax.config.config import recipe_of
from alexnet_jax.devices import towers
from alexnet_jax.modes import communication
from alexnet_jax.network import architecture
from alexnet_jax.network.architecture import ALEXNET
from alexnet_jax.training.collectives import Collective, predict
from alexnet_jax.training.step import Recipe, abstract_state
from alexnet_jax.training.xla_text import collectives_in
from configs import alexnet
from tests.conftest import NARROW, SMALL, launch, launch_anew, refusal, result

CROSS = ("conv3", "fc6", "fc7", "fc8")
BATCH = 128


def listed(mesh_shape: tuple[int, int]) -> list[Collective]:
    text = communication.lowered_step(Recipe(), towers.make_mesh(*mesh_shape), BATCH, 256).compile().as_text()
    return collectives_in(text)


def sizes(collectives: list[Collective]) -> dict[tuple[str, str, str], int]:
    found: Counter[tuple[str, str, str]] = Counter()
    for one in collectives:
        found[one.op, one.layer, one.direction] += one.bytes
    return dict(found)


@pytest.mark.parametrize("mesh_shape", [(1, 2), (2, 2)])
def test_the_towers_talk_only_where_the_paper_says(mesh_shape: tuple[int, int]) -> None:
    found = listed(mesh_shape)
    talks = Counter((one.op, one.layer, one.direction) for one in found if one.op != "all-reduce")
    assert talks == {
        **{("all-gather", layer, "forward"): 1 for layer in CROSS},
        **{("reduce-scatter", layer, "backward"): 1 for layer in CROSS},
    }
    reduced = {one.layer for one in found if one.op == "all-reduce"}
    assert reduced == {"softmax", "rank"} | ({"gradients"} if mesh_shape[0] > 1 else set())


@pytest.mark.parametrize("mesh_shape", [(1, 2), (2, 2)])
def test_a_batch_that_may_be_short_is_counted_once(mesh_shape: tuple[int, int]) -> None:
    recipe, mesh = Recipe(NARROW, keeps_short_batch=True), towers.make_mesh(*mesh_shape)
    found = collectives_in(communication.lowered_step(recipe, mesh, 8, 72).compile().as_text())
    assert sizes(found) == sizes(predict(NARROW, mesh, 8, recipe.dtype, masked=True))
    count = 4 if mesh_shape[0] > 1 else 0  # one number, if the batch is divided
    usual = predict(NARROW, mesh, 8, recipe.dtype)
    assert sum(one.bytes for one in found) == sum(one.bytes for one in usual) + count


def test_bytes_by_hand() -> None:
    found = listed((1, 2))
    maps = {"conv3": 13 * 13 * 256, "fc6": 6 * 6 * 256, "fc7": 4096, "fc8": 4096}
    for op in ("all-gather", "reduce-scatter"):
        assert {one.layer: one.bytes for one in found if one.op == op} == {
            layer: BATCH * count * 4 for layer, count in maps.items()
        }
    # For each picture: the largest logit, the sum of exponentials, the label's score; and a count.
    assert sum(one.bytes for one in found if one.layer == "softmax") == BATCH * 3 * 4
    assert sum(one.bytes for one in found if one.layer == "rank") == BATCH * 4


@pytest.mark.parametrize("mesh_shape", [pytest.param((1, 1), marks=pytest.mark.slow), (1, 2), (2, 1), (2, 2)])
def test_bytes_equal_the_prediction(mesh_shape: tuple[int, int]) -> None:
    predicted = predict(ALEXNET, towers.make_mesh(*mesh_shape), BATCH, "float32")

    assert sizes(listed(mesh_shape)) == sizes(predicted)
    if mesh_shape == (2, 1):
        gradients = [one.bytes for one in predicted if one.layer == "gradients"]
        assert gradients == [60_965_224 * 4]


@pytest.mark.parametrize("mesh_shape", [(1, 2), (2, 2)])
@pytest.mark.parametrize(("variant", "sides"), [("caffe", (55, 27)), ("caffenet", (27, 13))])
def test_normalisation_over_all_maps_sends_the_edges_alone(
    variant: str, sides: tuple[int, int], mesh_shape: tuple[int, int], quick_compile: None
) -> None:
    recipe = recipe_of(alexnet.get_config(variant), 1000, steps_per_epoch=1)
    mesh = towers.make_mesh(*mesh_shape)
    found = collectives_in(communication.lowered_step(recipe, mesh, 8, 256).compile().as_text())
    assert sizes(found) == sizes(predict(recipe.architecture, mesh, 8, "float32"))
    edges = {(one.layer, one.direction): one.bytes for one in found if one.op == "collective-permute"}
    # Two maps of each tower, at every position where the layer normalises.
    assert edges == {
        (layer, way): 8 // mesh_shape[0] * side * side * 2 * 2 * 4
        for layer, side in zip(("conv1", "conv2"), sides, strict=True)
        for way in ("forward", "backward")
    }
    talks = Counter((one.op, one.layer) for one in found if one.op in ("all-gather", "reduce-scatter"))
    assert talks == {(op, layer): 1 for op in ("all-gather", "reduce-scatter") for layer in CROSS}


def test_gradients_are_summed_in_float32_whatever_the_activations_are() -> None:
    # Before XLA compiles: on a CPU it replaces bfloat16 anyway.
    mesh, recipe = towers.make_mesh(2, 1), Recipe(dtype="bfloat16")
    text = communication.lowered_step(recipe, mesh, BATCH, 256).as_text()
    reduced = re.findall(r"stablehlo\.all_reduce.*?\}\) : \(tensor<([^>]*)>\)", text, re.DOTALL)
    parameters = jax.tree.leaves(abstract_state(recipe, mesh).params)
    assert sorted(reduced) == sorted("x".join(map(str, (*x.shape, "f32"))) for x in parameters)


def test_bytes_of_a_device_and_of_a_link_by_hand() -> None:
    pairs = Collective("all-gather", "conv3", "forward", 1000, ((0, 1), (2, 3)))
    assert pairs.sent_by_a_device == 500  # each sends its half
    assert pairs.on_a_link(2) == (500, False)
    assert pairs.on_a_link(1) == (500, True)  # each host has a tower
    # Four hosts with two devices: both rings go from each host to the next, over the same link.
    rings = Collective("all-reduce", "gradients", "backward", 1000, ((0, 2, 4, 6), (1, 3, 5, 7)))
    assert rings.sent_by_a_device == 2 * 1000 * 3 / 4
    assert rings.on_a_link(2) == (2 * 1500, True)
    assert rings.on_a_link(8) == (1500, False)


def test_a_mesh_that_is_not_there_says_what_crosses_between_hosts(tmp_path: Path) -> None:
    mesh = ("--config.mesh.data=64", "--config.mesh.model=2", "--config.train.batch_size=128")
    flags = ("--mode=communication", *mesh, "--config.evaluate.batch_size=128", "--devices_per_host=8")
    found = result(launch(*SMALL, *flags))
    assert found["mesh"] == {"data": 64, "model": 2}
    assert found["bytes_per_step"] == found["predicted_bytes_per_step"]
    by_layer = {one["layer"]: one for one in found["collectives"]}
    assert (by_layer["conv3"]["devices"], by_layer["conv3"]["crosses_hosts"]) == (2, False)
    gradients = by_layer["gradients"]
    assert (gradients["devices"], gradients["crosses_hosts"]) == (64, True)
    assert gradients["bytes_per_device"] == gradients["bytes"] * 2 * 63 / 64
    assert gradients["bytes_per_link"] == 2 * gradients["bytes_per_device"]  # both towers' rings share the link
    said = refusal(launch(*SMALL, *flags, "--devices_per_host=7"))
    assert "but the mesh has 128 devices; give a divisor" in said


@pytest.mark.slow
def test_a_thousand_virtual_devices_take_minutes_and_little_memory() -> None:
    mesh = ("--config.mesh.data=512", "--config.mesh.model=2", "--config.train.batch_size=65536")
    flags = ("--mode=communication", *mesh, "--config.evaluate.batch_size=65536", "--devices_per_host=8")
    started = time.monotonic()
    found = result(launch_anew("--config=configs/alexnet.py", *flags))
    assert time.monotonic() - started < 300
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 8 << 20  # kB
    assert found["bytes_per_step"] == found["predicted_bytes_per_step"]


@pytest.mark.parametrize(
    "mesh_shape", [*(pytest.param(one, marks=pytest.mark.slow) for one in ((1, 2), (2, 1))), (2, 2)]
)
def test_an_odd_number_of_classes_is_padded_on_every_mesh(mesh_shape: tuple[int, int]) -> None:
    mesh, size = towers.make_mesh(*mesh_shape), 8
    assert NARROW.classes == 7
    found = collectives_in(communication.lowered_step(Recipe(NARROW), mesh, size, 72).compile().as_text())
    predicted = predict(NARROW, mesh, size, "float32")
    assert sum(one.bytes for one in found) == sum(one.bytes for one in predicted)
    if mesh_shape == (2, 1):
        counted = sum(row.parameters for row in architecture.table(NARROW))
        padding = 20 + 1  # an eighth class: weights from fc7's 20 units, and a bias
        assert [one.bytes for one in predicted if one.layer == "gradients"] == [4 * (counted + padding)]


def test_the_mode_needs_no_data_and_lists_what_crosses(tmp_path: Path) -> None:
    flags = ("--config=configs/digits.py", "--mode=communication", f"--workdir={tmp_path / 'run'}")
    found = result(launch(*flags, "--config.mesh.data=2", "--config.mesh.model=2"))
    assert found["mesh"] == {"data": 2, "model": 2}
    assert found["bytes_per_step"] == found["predicted_bytes_per_step"] > 0
    assert sum(one["bytes"] for one in found["collectives"]) == found["bytes_per_step"]
    assert {one["pass"] for one in found["collectives"]} == {"forward", "backward"}
    rough = result(launch(*flags, "--config.model.dtype=bfloat16"))
    assert "bfloat16" in rough["note"]
    assert not (tmp_path / "run").exists()
