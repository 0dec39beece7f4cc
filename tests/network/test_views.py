"""Ten views of a picture, against ten single evaluations averaged by hand."""

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from alexnet_jax.devices import towers
from alexnet_jax.modes import evaluate
from alexnet_jax.network import views
from alexnet_jax.training.step import Recipe, class_probabilities, create_state, eval_step
from tests.conftest import NARROW, random_batch

CROP, SIZE = NARROW.input_size, 4


def spread_params(recipe: Recipe, mesh: Mesh) -> Any:
    """Initial weights, enlarged and without biases, so that pictures and views score differently."""
    params = create_state(recipe, mesh).params
    return jax.tree.map(lambda x: 0 * x if x.ndim == 1 else 6 * x, params)


@lru_cache
def compiled(recipe: Recipe, mesh: Mesh, views: int) -> Any:
    options = towers.compiler_options(mesh, recipe.dtype)
    return jax.jit(partial(class_probabilities, recipe, mesh, views), compiler_options=options)


def evaluated(recipe: Recipe, mesh: Mesh, views: int, params: Any, batch: Any, mean: np.ndarray) -> Any:
    placed = towers.put_batch(batch, mesh), towers.replicate(mean, mesh)
    outputs = np.asarray(compiled(recipe, mesh, views)(params, *placed), np.float64)
    np.testing.assert_array_equal(outputs[:, NARROW.classes :], 0)  # the padded class
    return outputs[:, : NARROW.classes]


# Views 8 pixels apart lie whole strides of the first layer apart and share its maps; views 6 apart do not.
@pytest.mark.parametrize(("room", "centre_mean"), [(8, False), (6, False), (8, True)])
def test_ten_views_are_ten_evaluations_averaged(room: int, centre_mean: bool, quick_compile: None) -> None:
    resize, centre = CROP + room, room // 2
    recipe = Recipe(NARROW, centre_mean=centre_mean)
    mesh = towers.make_mesh(1, 1)
    params = spread_params(recipe, mesh)
    mean = np.random.default_rng(1).normal(120, 30, (resize, resize, 3)).astype(np.float32)
    square = random_batch(SIZE, NARROW.classes, resize, resize)
    square = replace(square, mask=np.array([True, True, True, False]))
    single = partial(evaluated, recipe, mesh, 1, params)
    by_hand = np.zeros((SIZE, NARROW.classes))
    for row, column in [(0, 0), (0, room), (room, 0), (room, room), (centre, centre)]:
        crop = square.image[:, row : row + CROP, column : column + CROP]
        for mirrored in (False, True):
            view = replace(
                square,
                image=crop[:, :, ::-1] if mirrored else crop,
                offset=np.full((SIZE, 2), centre if centre_mean else (row, column), np.int32),
                reflected=np.full(SIZE, mirrored and not centre_mean),
                lighting=np.zeros((SIZE, 3), np.float32),
            )
            by_hand += single(view, mean) / 10
    np.testing.assert_allclose(by_hand.sum(axis=1), 1, rtol=1e-5)
    assert (by_hand.max(axis=0) > 1.02 * by_hand.min(axis=0)).any()
    np.testing.assert_allclose(evaluated(recipe, mesh, 10, params, square, mean), by_hand, rtol=2e-5, atol=1e-7)

    sums = jax.jit(partial(eval_step, recipe, mesh, 10))(
        params, towers.put_batch(square, mesh), towers.replicate(mean, mesh)
    )
    labels = square.label[:3]
    assert sums["examples"] == 3
    assert float(sums["loss"]) == pytest.approx(-np.log(by_hand[np.arange(3), labels]).sum(), rel=1e-5)
    ranks = [(by_hand[i] > by_hand[i, label]).sum() for i, label in enumerate(labels)]
    assert sums["top1_error"] == sum(rank >= 1 for rank in ranks)
    assert sums["top5_error"] == sum(rank >= 5 for rank in ranks)


@pytest.mark.parametrize("room", [pytest.param(8, marks=pytest.mark.slow), 6])
def test_ten_views_are_the_same_on_any_mesh(room: int, quick_compile: None) -> None:
    recipe = Recipe(NARROW)
    square = random_batch(SIZE, NARROW.classes, CROP + room, CROP + room)
    mean = np.full((CROP + room, CROP + room, 3), 120, np.float32)
    meshes = [towers.make_mesh(data, model) for data, model in [(1, 1), (1, 2), (2, 1), (2, 2)]]
    alone, *divided = [evaluated(recipe, mesh, 10, spread_params(recipe, mesh), square, mean) for mesh in meshes]
    for found in divided:
        np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("room", [32, 5])
def test_places_of_the_views(room: int) -> None:
    side = 224 + room
    square = np.arange(side * side).reshape(side, side)
    cut = [
        [picture[row : row + 224, column : column + 224] for picture, (row, column) in zip(pair, start, strict=True)]
        for start in views.starts(side, 224)
        for pair in [(square, square[:, ::-1])]
    ]
    corners = [square[row : row + 224, column : column + 224] for row in (0, room) for column in (0, room)]
    middle = square[room // 2 : room // 2 + 224, room // 2 : room // 2 + 224]
    np.testing.assert_array_equal(cut, [(view, view[:, ::-1]) for view in [*corners, middle]])


def test_errors_of_probabilities_by_hand() -> None:
    p = np.array(
        [
            [0.1, 0.2, 0.3, 0.1, 0.1, 0.1, 0.1],  # label 2: first
            [0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1],  # label 1: ties with a lower index
            [0.3, 0.2, 0.1, 0.1, 0.1, 0.2, 0.0],  # label 6: six before it
            [np.nan, 0.9, 0.0, 0.0, 0.0, 0.0, 0.1],  # never right
        ]
    )
    sums = evaluate.error_sums(p[:2], np.array([2, 1]))
    np.testing.assert_allclose(sums, [-np.log(0.3) - np.log(0.2), 1, 0])
    assert evaluate.error_sums(p[2:], np.array([6, 1]))[1:].tolist() == [2, 2]
