"""The first three steps of the full network, number by number, and its gradients computed by other means."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from alexnet_jax.data.batches.batch import Batch
from alexnet_jax.devices import towers
from alexnet_jax.network.model import Params
from alexnet_jax.training.step import Recipe, TrainState, compiled_steps, create_state, loss_and_gradients
from tests.conftest import random_batch

GOLDEN = Path(__file__).with_name("golden.json")
MOVED = (
    "the first steps of the full network compute other numbers than those committed in tests/training/golden.json; "
    "if that was meant, say in the commit what moved them and why, and write the new ones there with "
    "`python -m tests.training.test_golden`; if it was not, the change has a fault"
)


def norms(gradients: Params) -> dict[str, float]:
    """The norm of each parameter's gradient, by LAYER/kernel or LAYER/bias."""
    return {
        f"{layer}/{kind}": float(np.linalg.norm(np.asarray(x, np.float64).ravel()))
        for layer, arrays in gradients.items()
        for kind, x in arrays.items()
    }


def three_steps() -> list[dict[str, object]]:
    """Loss and gradients' norms of the paper's recipe, seed 0, on one made-up batch of eight, two devices."""
    recipe, mesh = Recipe(), towers.make_mesh(1, 2)
    batch = towers.put_batch(random_batch(8, 1000, 224, 256), mesh)
    mean_image = towers.replicate(np.full((256, 256, 3), 120, np.float32), mesh)
    gradients = gradients_of(recipe, mesh, towers.compiler_options(mesh, recipe.dtype))
    train_step, _ = compiled_steps(recipe, mesh)
    state, found = create_state(recipe, mesh), []
    for _ in range(3):
        before = norms(gradients(state, batch, mean_image))
        state, metrics = train_step(state, batch, mean_image)
        found.append({"loss": float(metrics["loss"]), "gradient_norms": before})
    return found


def gradients_of(recipe: Recipe, mesh: Mesh, options: dict[str, str | bool]) -> jax.stages.Wrapped:
    """The gradients of a step, compiled with the options."""

    def gradients(state: TrainState, batch: Batch, mean_image: jax.Array) -> Params:
        return loss_and_gradients(recipe, mesh, state, batch, mean_image)[2]

    return jax.jit(gradients, compiler_options=options)


def test_the_first_three_steps_are_the_golden_ones() -> None:
    for step, (found, golden) in enumerate(zip(three_steps(), json.loads(GOLDEN.read_text()), strict=True), start=1):
        # Versions of XLA round differently, and later steps start from rounded numbers.
        assert found["loss"] == pytest.approx(golden["loss"], rel=1e-4), f"step {step}: {MOVED}"
        assert found["gradient_norms"] == pytest.approx(golden["gradient_norms"], rel=2e-3), f"step {step}: {MOVED}"


@pytest.mark.slow
def test_the_gradients_are_those_of_xla_without_its_libraries() -> None:
    """The whole network at the paper's batch, with XLA's own loops in place of YNNPACK and none of our options."""
    recipe, mesh = Recipe(), towers.make_mesh(1, 1)
    batch = towers.put_batch(random_batch(128, 1000, 224, 256), mesh)
    mean_image = towers.replicate(np.full((256, 256, 3), 120, np.float32), mesh)
    state = create_state(recipe, mesh)
    ours = gradients_of(recipe, mesh, towers.compiler_options(mesh, recipe.dtype))(state, batch, mean_image)
    plain = gradients_of(recipe, mesh, {"xla_cpu_experimental_ynn_fusion_type": ""})(state, batch, mean_image)
    for layer, arrays in ours.items():
        for kind, mine in arrays.items():
            theirs = np.asarray(plain[layer][kind], np.float64)
            difference = np.linalg.norm(np.asarray(mine, np.float64) - theirs) / np.linalg.norm(theirs)
            assert difference < 1e-5, f"{layer}/{kind}: {difference:.1e}"


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(three_steps(), indent=1) + "\n")
