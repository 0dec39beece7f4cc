"""The error of a trained network on a whole set."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax import checkpoint, runs, step, towers
from alexnet_jax import config as configs
from alexnet_jax.config import Invocation
from alexnet_jax.data import pipeline, prepare
from alexnet_jax.messages import UserError, say


def whole_set(
    eval_step: Callable[..., dict[str, jax.Array]],
    params: Any,
    batches: Iterator[dict[str, Any]],
    mean_image: jax.Array,
    mesh: Mesh,
) -> dict[str, float]:
    """`examples`, mean `loss`, `top1_error` and `top5_error` (fractions) over all the batches.

    Sums of what was seen, divided once: a short last batch counts for what it holds.
    """
    sums = [eval_step(params, towers.put_batch(batch, mesh), mean_image) for batch in batches]
    total = jax.tree.map(lambda *parts: sum(part.item() for part in parts), *sums)
    seen = total.pop("examples")
    return {"examples": seen, **{name: value / seen for name, value in total.items()}}


def run(config: ConfigDict, invocation: Invocation) -> dict[str, Any]:
    """`--mode=evaluate`: the best or the newest checkpoint of a run on the whole of a split."""
    found = runs.open_run(invocation.workdir)
    runs.require_same(config, found, configs.OF_THE_NETWORK, "evaluated")
    mesh = towers.make_mesh(config.mesh.data, config.mesh.model, config.model.towers)
    configs.check_batches(config, mesh.shape[towers.DATA])
    source = prepare.open_or_prepare(config)
    if source.classes != found.classes:
        raise UserError(
            f"'{source.name}' has other classes than {found.workdir / 'classes.txt'}; evaluate on the dataset that the "
            "run was trained on"
        )
    source.examples(config.evaluate.split)
    recipe = configs.recipe(config, config.model.classes or len(found.classes), steps_per_epoch=1)
    checkpoints = checkpoint.Checkpoints(found.workdir)
    steps = checkpoints.steps()[::-1]
    best = checkpoints.best_step()
    if config.evaluate.checkpoint == "best" and best is not None:
        steps = [best, *(s for s in steps if s != best)]
    at_step, state = checkpoints.restore(step.abstract_state(recipe, mesh), steps)
    checkpoints.close()
    say(f"evaluating the checkpoint of step {at_step} on {source.name}, {config.evaluate.split}")
    _, eval_step = step.compiled(recipe, mesh)
    mean_image = towers.replicate(found.preprocessing.mean_image, mesh)
    batches = pipeline.evaluation_batches(source, config, config.evaluate.split)
    result = whole_set(eval_step, state.params, batches, mean_image, mesh)
    return {**result, "views": config.evaluate.views, "step": at_step, "workdir": str(found.workdir)}
