"""Loss and errors on a whole split."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax.data.batches import pipeline
from alexnet_jax.data.batches.batch import Batch
from alexnet_jax.data.prepared.prepared_set import PreparedSet
from alexnet_jax.devices import towers
from alexnet_jax.messages import Advance
from alexnet_jax.network import views
from alexnet_jax.network.model import Params


def whole_set(
    eval_step: Callable[..., dict[str, jax.Array]],
    params: Params,
    batches: Iterable[Batch],
    mean_image: jax.Array,
    mesh: Mesh,
) -> tuple[dict[str, float], np.ndarray]:
    """Evaluates all batches; each picture counts the same, so that a short last batch counts for what it holds.

    Returns:
      `examples`, mean `loss` in nats, `top1_error` and `top5_error` as fractions; and int64 [2, classes]: the number of
      pictures in each class, and the top-1 errors among them.
    """

    def evaluate(batch: Batch) -> dict[str, jax.Array]:
        return eval_step(params, towers.put_batch(batch, mesh), mean_image)

    sums = [found for _, found in towers.one_ahead(evaluate, batches)]
    by_class: np.ndarray = np.stack([found.pop("by_class") for found in sums]).sum(axis=0, dtype=np.int64)
    total = jax.tree.map(lambda *parts: sum(part.item() for part in parts), *sums)
    seen = total.pop("examples")
    return {"examples": seen, **{name: value / seen for name, value in total.items()}}, by_class


@contextmanager
def batches_of(config: ConfigDict, source: PreparedSet, mesh: Mesh, what: str) -> Iterator[Iterator[Batch]]:
    """The batches of `evaluate.split`: centre crops, or whole squares for ten views.

    Each batch has only the examples on this process's devices. A progress message counts all examples.

    Args:
      what: validation or evaluation, for the message.
    """
    evaluation, is_whole = config.evaluate, config.evaluate.views == views.VIEWS
    rows = towers.rows(mesh, evaluation.batch_size)
    with pipeline.evaluation_batches(source, config, evaluation.split, is_whole, rows) as batches:
        yield _counted(batches, source.examples(evaluation.split), evaluation.batch_size, what)


def _counted(batches: Iterable[Batch], examples: int, batch_size: int, what: str) -> Iterator[Batch]:
    with Advance(what, examples, "pictures") as advance:
        for batch in batches:
            yield batch
            advance.add(min(batch_size, examples - advance.done))
