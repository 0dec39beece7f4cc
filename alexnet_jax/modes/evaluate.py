"""The error of a trained network on a whole set, and of several whose softmax is averaged."""

import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax.config.config import (
    OF_PICTURES,
    OF_THE_NETWORK,
    OF_WHAT_IS_LEARNT,
    check_batches,
    config_of,
    differences,
    recipe_of,
)
from alexnet_jax.config.memory import check_memory
from alexnet_jax.data.prepared.prepared_set import PreparedSet
from alexnet_jax.devices import cluster, towers
from alexnet_jax.inference.net import say_of_mirrors
from alexnet_jax.loop import validation
from alexnet_jax.messages import UserError, say
from alexnet_jax.modes import Invocation
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.folder import (
    Run,
    are_other_pictures,
    open_run,
    own_recipe,
    require_same_classes,
    require_same_config,
    restore_params,
    say_of_other_pictures,
)
from alexnet_jax.runs.results import record_evaluation
from alexnet_jax.runs.same_inputs import open_same_data
from alexnet_jax.training.step import TOP_K, class_probabilities, compiled_steps

WORST = 30  # classes that are said


def run(config: ConfigDict | None, invocation: Invocation) -> dict[str, Any]:
    """`--mode=evaluate`: a run's best or newest checkpoint on the whole of a split, or an ensemble."""
    if invocation.ensemble:
        return ensemble(config, invocation)
    assert config is not None
    trained = open_run(invocation.workdir)
    require_same_config(config, trained, OF_THE_NETWORK, "evaluated")
    mesh = towers.make_mesh(config.mesh.data, config.mesh.model, config.model.towers)
    check_batches(config, mesh.shape[towers.DATA])
    if towers.on_cpu(mesh):
        check_memory(config, len(trained.classes), training=False, share=cluster.share_of_this_host())
    source = _source_of(config, trained)
    recipe = recipe_of(config, config.model.classes or len(trained.classes), steps_per_epoch=1)
    at, params = restore_params(trained, recipe, mesh, config.evaluate.checkpoint)
    say(f"evaluating the checkpoint of step {at} on {source.name}, {config.evaluate.split}")
    say_of_mirrors(config, config_of(trained.config))
    _, eval_step = compiled_steps(recipe, mesh, config.evaluate.views)
    mean_image = towers.replicate(trained.statistics.mean_image, mesh)
    with validation.batches_of(config, source, mesh) as batches:
        examples = source.examples(config.evaluate.split)
        shown = validation.counted(batches, examples, config.evaluate.batch_size, "evaluation")
        errors, by_class = validation.with_classes(eval_step, params, shown, mean_image, mesh)
    worst = _worst_classes(source.classes, by_class)
    _say_worst(worst, len(source.classes))
    result = {**errors, "views": config.evaluate.views, "step": at, "workdir": str(trained.workdir)}
    if cluster.index() == 0:
        others = are_other_pictures(trained, source.listing)
        record_evaluation(trained.workdir, {**result, **_what(config, [trained], others)})
    return {**result, "worst_classes": worst}


def _worst_classes(classes: tuple[str, ...], by_class: np.ndarray) -> list[dict[str, Any]]:
    """The classes of highest top-1 error, at most WORST of those that there are pictures of, the worst first."""
    there = [label for label in range(len(classes)) if by_class[0, label]]
    worst = sorted(there, key=lambda label: (-by_class[1, label] / by_class[0, label], label))[:WORST]
    return [
        {"class": classes[label], "examples": int(by_class[0, label]), "errors": int(by_class[1, label])}
        for label in worst
    ]


def _say_worst(worst: list[dict[str, Any]], classes: int) -> None:
    """A line a class, with its share of errors."""
    say(f"errors a class, the worst first{f', {len(worst)} of {classes}' if len(worst) < classes else ''}:")
    for one in worst:
        share = one["errors"] / one["examples"]
        say(f"  {share:7.2%}  {one['errors']:>6} of {one['examples']:<6}  {one['class']}")


def _source_of(config: ConfigDict, trained: Run) -> PreparedSet:
    source = open_same_data(config, [config.evaluate.split])
    require_same_classes(trained, source.classes, source.name)
    say_of_other_pictures(trained, source.listing, source.folder)
    return source


def _what(config: ConfigDict, runs: list[Run], other_pictures: bool) -> dict[str, Any]:
    """What --mode=table has to know of an evaluation beside its numbers."""
    return {
        "members": [one.config["name"] for one in runs],
        "seeds": [one.config["train"]["seed"] for one in runs],
        "data": config.data.name,
        "split": config.evaluate.split,
        "checkpoint": config.evaluate.checkpoint,
        "classes": len(runs[0].classes) or runs[0].config["model"]["classes"],
        "other_pictures": other_pictures,
    }


def ensemble(config: ConfigDict | None, invocation: Invocation) -> dict[str, Any]:
    """Several runs' softmax outputs averaged (Table 2): each run's errors, and those of the mean.

    One network is on the devices at a time, and the data is read once for each. The sum of the
    probabilities lies in a file, so that memory does not grow with the number of pictures.

    Args:
      config: where the data lies and what of it is evaluated, how and on which mesh; None: as the
        first run's own config has it. The network and what is subtracted from a picture are each run's own.

    Raises:
      UserError: the runs' classes differ, or two of them are one and the same.
    """
    runs = [open_run(Path(folder).expanduser().absolute()) for folder in invocation.ensemble]
    for other in runs[1:]:
        if other.classes != runs[0].classes:
            raise UserError(
                f"--ensemble names {runs[0].workdir} and {other.workdir}, whose class lists (classes.txt) differ; "
                "only networks of the same classes can be averaged"
            )
    for one, other in combinations(runs, 2):
        _require_different(one, other)
    ours = config or ConfigDict(runs[0].config)
    total: np.ndarray | None = None
    labels: list[np.ndarray] = []
    nets, others = [], False
    with tempfile.TemporaryFile() as file:
        for one in runs:
            theirs = _with_evaluation_of(ConfigDict(one.config), ours)
            mesh = towers.make_mesh(theirs.mesh.data, theirs.mesh.model, theirs.model.towers)
            check_batches(theirs, mesh.shape[towers.DATA])
            source = _source_of(theirs, one)
            others |= are_other_pictures(one, source.listing)
            if total is None:
                shape = source.examples(theirs.evaluate.split), len(one.classes)
                total = np.memmap(file, np.float32, "w+", shape=shape)
            at, batches = outputs(one, theirs, mesh, source)
            sums, seen, labels = np.zeros(3), 0, []
            for probabilities, of_batch in batches:
                sums += error_sums(probabilities, of_batch)
                total[seen : seen + len(of_batch)] += probabilities
                seen += len(of_batch)
                labels.append(of_batch)
            nets.append({**_errors(sums, seen), "step": at, "workdir": str(one.workdir)})
        assert total is not None
        sums, first = np.zeros(3), 0
        for part in labels:
            sums += error_sums(total[first : first + len(part)] / len(runs), part)
            first += len(part)
    result = {**_errors(sums, first), "views": ours.evaluate.views, "nets": nets}
    record_evaluation(invocation.workdir, {**result, **_what(ours, runs, others)})
    return result


def _require_different(one: Run, other: Run) -> None:
    """Raises UserError if two runs are one: of equal config, seed and pictures, so that their mean is each of them."""
    are_one = one.workdir.resolve() == other.workdir.resolve()
    # What was imported was trained elsewhere, by a config that is not there.
    imported = all(Checkpoints(run.workdir).steps() == [0] for run in (one, other))
    if not are_one and not imported and one.listing == other.listing:
        are_one = not differences(config_of(one.config), other.config, OF_WHAT_IS_LEARNT, ("there", "there"))
    if are_one:
        raise UserError(
            f"--ensemble names {one.workdir} and {other.workdir}, runs of equal configuration and seed "
            f"({one.config['train']['seed']}), whose mean is no more than one of them; train one with another "
            "--config.train.seed"
        )


def outputs(
    trained: Run, config: ConfigDict, mesh: Mesh, source: PreparedSet
) -> tuple[int, Iterator[tuple[np.ndarray, np.ndarray]]]:
    """The step of a run's checkpoint, and its softmax float32 [b, classes] and the labels int32 [b] of each batch.

    Args:
      config: the run's own, with what is to be evaluated.
    """
    recipe = own_recipe(trained)
    at, params = restore_params(trained, recipe, mesh, config.evaluate.checkpoint)
    say(f"evaluating the checkpoint of step {at} of {trained.workdir}")
    mean_image = towers.replicate(trained.statistics.mean_image, mesh)
    probabilities = jax.jit(
        partial(class_probabilities, recipe, mesh, config.evaluate.views),
        compiler_options=towers.compiler_options(mesh, recipe.dtype),
    )

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        size, examples = config.evaluate.batch_size, source.examples(config.evaluate.split)
        with validation.batches_of(config, source, mesh) as of_split:
            for batch in validation.counted(of_split, examples, size, "evaluation"):
                real = int(batch.mask.sum())
                whole = jax.device_get(probabilities(params, towers.put_batch(batch, mesh), mean_image))
                yield whole[:real, : len(trained.classes)], batch.label[:real]

    return at, batches()


def _with_evaluation_of(theirs: ConfigDict, ours: ConfigDict) -> ConfigDict:
    """A run's config with the data, the evaluation and the mesh that were asked for.

    A network of one tower has one device where the others have two.
    """
    for field in ours.data:
        if field not in OF_PICTURES:  # the network's own
            theirs.data[field] = ours.data[field]
    theirs.evaluate, theirs.mesh.data = ours.evaluate, ours.mesh.data
    theirs.mesh.model = min(ours.mesh.model, theirs.model.towers)
    return theirs


def error_sums(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Sums over the rows of [b, classes]: loss in nats, top-1 errors, top-5 errors; float64 [3].

    Of classes that tie with the label, those of lower index come before it. A NaN in a row is an error.
    """
    p = probabilities.astype(np.float64)
    of_label = p[np.arange(len(labels)), labels][:, None]
    before = (p > of_label) | ((p == of_label) & (np.arange(p.shape[1]) < labels[:, None]))
    rank = np.where(np.isnan(p).any(axis=1), p.shape[1] + TOP_K, before.sum(axis=1))
    with np.errstate(divide="ignore"):  # a probability that is 0 in float32 is a loss without bound
        losses = -np.log(of_label)
    return np.array([losses.sum(), (rank >= 1).sum(), (rank >= TOP_K).sum()])


def _errors(sums: np.ndarray, examples: int) -> dict[str, Any]:
    loss, top1, top5 = (float(value) / examples for value in sums)
    return {"examples": examples, "loss": loss, "top1_error": top1, "top5_error": top5}
