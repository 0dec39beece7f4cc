"""The same run on every mesh, and half of everything on each of two devices."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.devices import towers
from alexnet_jax.messages import UserError
from alexnet_jax.network.architecture import ALEXNET
from alexnet_jax.training.optimizer import Schedule
from alexnet_jax.training.step import Recipe, abstract_state, compiled_steps, create_state, train_step
from tests.conftest import NARROW, random_batch

MESHES = [(1, 1), (1, 2), (2, 1), (2, 2)]
DROP = Schedule("steps", 0.01, boundaries=(5,))


@functools.cache
def first_state(recipe: Recipe) -> Any:
    """The state at step 0, on the host; another test compares it between meshes."""
    return jax.tree.map(np.asarray, create_state(recipe, towers.make_mesh(1, 1)))


def ten_steps(recipe: Recipe, mesh_shape: tuple[int, int], batch_size: int, resize: int) -> Any:
    mesh = towers.make_mesh(*mesh_shape)
    update, _ = compiled_steps(recipe, mesh)
    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(recipe, mesh))
    state, losses = jax.device_put(first_state(recipe), shardings), []
    net, mean = recipe.architecture, np.full((resize, resize, 3), 120, recipe.dtype)
    for i in range(10):
        batch = random_batch(batch_size, net.classes, net.input_size, resize, seed=i % 3)
        state, metrics = update(state, towers.put_batch(batch, mesh), towers.replicate(mean, mesh))
        losses.append(float(metrics["loss"]))
    return losses, jax.tree.map(np.asarray, state.params), np.asarray(state.opt_state[-1].trace["fc7"]["kernel"])


def norm_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def test_a_narrow_network_in_float64_is_the_same_on_every_mesh() -> None:
    recipe = Recipe(NARROW, dtype="float64", schedule=DROP)
    with jax.enable_x64(True):
        losses, params, velocity = ten_steps(recipe, (1, 1), 8, 72)
        assert len(set(losses)) == 10
        for mesh in MESHES[1:]:
            other_losses, other_params, other_velocity = ten_steps(recipe, mesh, 8, 72)
            np.testing.assert_allclose(other_losses, losses, rtol=1e-9)
            np.testing.assert_allclose(other_velocity, velocity, rtol=1e-9, atol=1e-15)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), other_params, params)


def test_a_short_batch_that_is_filled_up_is_the_short_batch(quick_compile: None) -> None:
    """Its loss, errors and update are the means over its own five examples (layer.cu:337)."""
    recipe, mean = Recipe(NARROW, dtype="float64", schedule=DROP), np.full((72, 72, 3), 120, "float64")
    whole = random_batch(8, 7, 64, 72)
    short = jax.tree.map(lambda x: x[:5], whole)
    masked = dataclasses.replace(whole, mask=np.arange(8) < 5)
    with jax.enable_x64(True):
        alone, _ = compiled_steps(recipe, towers.make_mesh(1, 1))
        expected, of_short = alone(create_state(recipe, towers.make_mesh(1, 1)), short, jnp.asarray(mean))
        for mesh_shape in ((1, 1), (2, 2)):
            mesh = towers.make_mesh(*mesh_shape)
            update, _ = compiled_steps(recipe, mesh)
            state, mean_image = create_state(recipe, mesh), towers.replicate(mean, mesh)
            after, found = update(state, towers.put_batch(masked, mesh), mean_image)
            assert int(found["examples"]) == 5
            for name, value in of_short.items():
                assert float(found[name]) == pytest.approx(float(value), rel=1e-7), name
            assert float(found["loss"]) == pytest.approx(float(of_short["loss"]), rel=1e-12)
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), after.params, expected.params
            )


@pytest.mark.slow
def test_the_full_network_is_the_same_on_every_mesh() -> None:
    recipe = Recipe(schedule=DROP)
    losses, params, _ = ten_steps(recipe, (1, 1), 16, 256)
    assert losses[-1] != pytest.approx(losses[0], rel=1e-2)
    for mesh in MESHES[1:]:
        other_losses, other_params, _ = ten_steps(recipe, mesh, 16, 256)
        np.testing.assert_allclose(other_losses, losses, rtol=1e-4)
        for name in params:
            assert norm_difference(other_params[name]["kernel"], params[name]["kernel"]) < 1e-3
            assert norm_difference(other_params[name]["bias"], params[name]["bias"]) < 5e-2


def held(tree: Any) -> dict[jax.Device, int]:
    sizes: dict[jax.Device, int] = {}
    for array in jax.tree.leaves(tree):
        for shard in array.addressable_shards:
            sizes[shard.device] = sizes.get(shard.device, 0) + shard.data.nbytes
    return sizes


@pytest.mark.parametrize("part", ["params", "opt_state"])
def test_each_device_holds_half(part: str) -> None:
    recipe = Recipe(dataclasses.replace(ALEXNET, input_size=64))  # full widths, but a small fc6
    one, two = (held(getattr(create_state(recipe, towers.make_mesh(1, n)), part)) for n in (1, 2))
    (whole,) = one.values()
    assert whole == 4 * sum(x.size for x in jax.tree.leaves(abstract_state(recipe, towers.make_mesh(1, 1)).params))
    assert [2 * half for half in two.values()] == [whole, whole]


def test_states_of_every_mesh_start_alike() -> None:
    one, four = (create_state(Recipe(NARROW), towers.make_mesh(*mesh)).params for mesh in [(1, 1), (2, 2)])
    jax.tree.map(np.testing.assert_array_equal, four, one)


def test_the_mesh_is_chosen_or_refused() -> None:
    assert dict(towers.make_mesh(0, 0, towers=2).shape) == {"data": 2, "model": 2}
    assert dict(towers.make_mesh(0, 1, towers=2).shape) == {"data": 4, "model": 1}
    assert dict(towers.make_mesh(0, 0, towers=1).shape) == {"data": 4, "model": 1}
    with pytest.raises(UserError, match=r"16 devices .* has 4"):
        towers.make_mesh(8, 2)


def test_labels_and_pictures_reach_the_slice_they_belong_to() -> None:
    mesh = towers.make_mesh(2, 2)
    placed = towers.put_batch({"label": np.arange(8)}, mesh)["label"]
    for shard in placed.addressable_shards:
        row = np.argwhere(mesh.devices == shard.device)[0][0]
        np.testing.assert_array_equal(shard.data, np.arange(8)[row * 4 : row * 4 + 4])


def test_gradients_are_finite_differences_of_the_loss() -> None:
    recipe = Recipe(NARROW, dtype="float64", momentum=0.0, weight_decay=0.0, schedule=Schedule("constant", 1.0))
    mesh = towers.make_mesh(2, 2)
    batch, mean = random_batch(8, 7, 64, 72), np.full((72, 72, 3), 120.0)
    with jax.enable_x64(True):
        update = jax.jit(lambda state: train_step(recipe, mesh, state, batch, jnp.asarray(mean)))
        state = create_state(recipe, mesh)
        after, _ = update(state)
        for name in ("conv1", "conv3", "fc6", "fc8"):
            for what in ("kernel", "bias"):
                array = state.params[name][what]
                gradient = np.asarray(array - after.params[name][what])
                direction = np.random.default_rng(0).normal(size=array.shape)

                def loss_at(scale: float, name: str = name, what: str = what, d: np.ndarray = direction) -> float:
                    moved = {**state.params, name: {**state.params[name], what: state.params[name][what] + scale * d}}
                    return float(update(dataclasses.replace(state, params=moved))[1]["loss"])

                slope = (loss_at(1e-6) - loss_at(-1e-6)) / 2e-6
                assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-5, abs=1e-8)


def test_one_item_is_computed_ahead_in_order_and_an_error_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []

    def compute(item: int) -> jax.Array:
        happened.append(f"starts {item}")
        return jnp.asarray(item * item)

    def on_host(result: jax.Array) -> int:
        happened.append(f"waits for {int(result)}")
        return int(result)

    monkeypatch.setattr(towers, "on_host", on_host)
    assert list(towers.one_ahead(compute, range(2, 5))) == [(2, 4), (3, 9), (4, 16)]
    # The devices have the next item before the host waits, and never more than that one.
    assert happened == ["starts 2", "starts 3", "waits for 4", "starts 4", "waits for 9", "waits for 16"]
    assert list(towers.one_ahead(compute, [])) == []

    def items() -> Iterator[int]:
        yield from (1, 2)
        raise OSError("the disk is gone")

    found = towers.one_ahead(compute, items())
    assert next(found) == (1, 1)
    with pytest.raises(OSError, match="the disk is gone"):
        next(found)

    def fails(item: int) -> jax.Array:
        raise ValueError(f"no result for {item}")

    with pytest.raises(ValueError, match="no result for 7"):
        list(towers.one_ahead(fails, [7]))
