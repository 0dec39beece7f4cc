"""Loss and errors on a whole split."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax.data.batches import pipeline
from alexnet_jax.data.batches.batch import Batch
from alexnet_jax.data.batches.prefetch import Prefetcher
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
) -> dict[str, float]:
    """`examples`, mean `loss`, `top1_error` and `top5_error` (fractions) over all the batches."""
    return with_classes(eval_step, params, batches, mean_image, mesh)[0]


def with_classes(
    eval_step: Callable[..., dict[str, jax.Array]],
    params: Params,
    batches: Iterable[Batch],
    mean_image: jax.Array,
    mesh: Mesh,
) -> tuple[dict[str, float], np.ndarray]:
    """What `whole_set` gives, and int64 [2, classes]: of each class the examples, and the top-1 errors.

    Sums of what was seen, divided once: a short last batch counts for what it holds.
    """
    waiting: deque[dict[str, jax.Array]] = deque()
    sums = []
    for batch in batches:  # the next one is on its way while a batch's sums are waited for
        waiting.append(eval_step(params, towers.put_batch(batch, mesh), mean_image))
        if len(waiting) > 1:
            sums.append(towers.on_host(waiting.popleft()))
    sums += towers.on_host(list(waiting))
    by_class: np.ndarray = np.stack([one.pop("by_class") for one in sums]).sum(axis=0, dtype=np.int64)
    total = jax.tree.map(lambda *parts: sum(part.item() for part in parts), *sums)
    seen = total.pop("examples")
    return {"examples": seen, **{name: value / seen for name, value in total.items()}}, by_class


def counted(batches: Iterable[Batch], examples: int, batch_size: int, what: str) -> Iterator[Batch]:
    """The batches, while it is shown how many of the examples have been evaluated."""
    with Advance(what, examples, "pictures") as advance:
        for batch in batches:
            yield batch
            advance.add(min(batch_size, examples - advance.done))


def batches_of(config: ConfigDict, source: PreparedSet, mesh: Mesh) -> Prefetcher:
    """The split to evaluate on: centre crops, or whole squares for ten views. To be closed by the caller.

    Of each batch those examples that this process's devices hold.
    """
    whole = config.evaluate.views == views.VIEWS
    rows = towers.rows(mesh, config.evaluate.batch_size)
    return pipeline.evaluation_batches(source, config, config.evaluate.split, whole, rows)
