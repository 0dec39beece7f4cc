"""`--mode=evaluate`: the errors of a trained network on a whole split, or of several whose softmax is averaged."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax.config.config import (
    check_batches,
    config_of,
    differences,
    number_of_classes,
    recipe_of,
)
from alexnet_jax.config.fields import NETWORK_FIELDS, PICTURE_FIELDS, TRAJECTORY_FIELDS
from alexnet_jax.config.memory import check_memory
from alexnet_jax.data.prepared.prepared_set import PreparedSet
from alexnet_jax.devices import cluster, towers
from alexnet_jax.inference.net import warn_of_mirrored_views
from alexnet_jax.loop import validation
from alexnet_jax.messages import UserError, say
from alexnet_jax.modes import EvaluateInvocation
from alexnet_jax.network.model import Params
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.folder import (
    Run,
    are_other_pictures,
    open_run,
    require_same_classes,
    require_same_config,
    restore_params,
    warn_of_other_pictures,
)
from alexnet_jax.runs.results import record_evaluation
from alexnet_jax.runs.same_inputs import open_same_data
from alexnet_jax.training.step import TOP_K, Recipe, class_probabilities, compiled_steps

WORST = 30  # classes that are listed
Outputs = Iterable[tuple[np.ndarray, np.ndarray]]  # softmax, float32 [b, classes], and labels, int32 [b], of batches


@dataclass(frozen=True)
class Network:
    """A run's network and the pictures that it is evaluated on."""

    run: Run
    config: ConfigDict  # the run's, with the data, evaluation and mesh that were asked for
    source: PreparedSet
    recipe: Recipe
    mesh: Mesh
    step: int  # of the checkpoint
    params: Params
    mean_image: jax.Array

    @property
    def on_other_pictures(self) -> bool:
        """Whether the run was trained on other pictures than these, as far as is known."""
        return are_other_pictures(self.run, self.source.listing)


def run(config: ConfigDict | None, invocation: EvaluateInvocation) -> dict[str, Any]:
    """`--mode=evaluate`: a run's best or newest checkpoint on a whole split, or an ensemble."""
    if invocation.ensemble:
        return _ensemble(config, invocation)
    assert config is not None
    trained = open_run(invocation.workdir)
    require_same_config(config, trained, NETWORK_FIELDS, "evaluated")
    network = open_network(trained, config)
    _, eval_step = compiled_steps(network.recipe, network.mesh, config.evaluate.views)
    with validation.batches_of(config, network.source, network.mesh, "evaluation") as batches:
        errors, by_class = validation.whole_set(eval_step, network.params, batches, network.mean_image, network.mesh)
    classes = network.source.classes
    worst = _worst_classes(classes, by_class)
    _say_worst(worst, len(classes))
    result = {**errors, "views": config.evaluate.views, "step": network.step, "workdir": str(trained.workdir)}
    if cluster.index() == 0:
        facts = _facts_for_the_table(config, [trained], network.on_other_pictures)
        record_evaluation(trained.workdir, {**result, **facts})
    return {**result, "worst_classes": worst}


def open_network(trained: Run, config: ConfigDict) -> Network:
    """Opens the pictures and restores the checkpoint.

    Raises:
      UserError: the pictures cannot be prepared or have other classes, memory is too small, or no checkpoint can be
        read.
    """
    mesh = towers.make_mesh(config.mesh.data, config.mesh.model, config.model.towers)
    check_batches(config, mesh.shape[towers.DATA])
    classes = number_of_classes(config, len(trained.classes))
    if towers.on_cpu(mesh):
        check_memory(config, classes, training=False, share=cluster.share_of_this_host())
    source = open_same_data(config, [config.evaluate.split])
    require_same_classes(trained, source.classes, source.name)
    warn_of_other_pictures(trained, source.listing, source.folder)
    recipe = recipe_of(config, classes, steps_per_epoch=1)
    step, params = restore_params(trained, mesh, config.evaluate.checkpoint)
    say(f"evaluating the checkpoint of step {step} of {trained.workdir} on {source.name}, {config.evaluate.split}")
    warn_of_mirrored_views(trained, config.evaluate.views)
    mean_image = towers.replicate(trained.statistics.mean_image, mesh)
    return Network(trained, config, source, recipe, mesh, step, params, mean_image)


def _worst_classes(classes: tuple[str, ...], by_class: np.ndarray) -> list[dict[str, Any]]:
    """At most WORST of the classes that have pictures, the highest top-1 error first."""
    seen = [label for label in range(len(classes)) if by_class[0, label]]
    worst = sorted(seen, key=lambda label: (-by_class[1, label] / by_class[0, label], label))[:WORST]
    return [
        {"class": classes[label], "examples": int(by_class[0, label]), "errors": int(by_class[1, label])}
        for label in worst
    ]


def _say_worst(worst: list[dict[str, Any]], classes: int) -> None:
    """A line for each class, with its share of errors."""
    say(f"errors in each class, the worst first{f', {len(worst)} of {classes}' if len(worst) < classes else ''}:")
    for row in worst:
        share = row["errors"] / row["examples"]
        say(f"  {share:7.2%}  {row['errors']:>6} of {row['examples']:<6}  {row['class']}")


def _facts_for_the_table(config: ConfigDict, runs: list[Run], on_other_pictures: bool) -> dict[str, Any]:
    """What --mode=table needs to know about an evaluation, apart from its numbers."""
    return {
        "members": [one.config["name"] for one in runs],
        "seeds": [one.config["train"]["seed"] for one in runs],
        "data": config.data.name,
        "split": config.evaluate.split,
        "checkpoint": config.evaluate.checkpoint,
        "classes": runs[0].classes_in_data,
        "other_pictures": on_other_pictures,
    }


def _ensemble(config: ConfigDict | None, invocation: EvaluateInvocation) -> dict[str, Any]:
    """The errors of each run, and of the mean of their softmax outputs (Table 2 of the paper).

    One network is on the devices at a time, and the data is read once for each. The sum of the probabilities lies in a
    file, so that memory does not grow with the number of pictures.

    Args:
      config: where the data lies, what to evaluate, and on which mesh; None: as in the first run's config. The
        network and its preprocessing are each run's own.

    Raises:
      UserError: the runs' classes differ, or two runs are the same.
    """
    runs = [open_run(Path(folder).expanduser().absolute()) for folder in invocation.ensemble]
    _require_comparable(runs)
    ours = config or config_of(runs[0].config)
    total: np.ndarray | None = None
    nets, on_other_pictures = [], False
    with tempfile.TemporaryFile() as file:
        for one in runs:
            network = open_network(one, _with_evaluation_of(config_of(one.config), ours))
            on_other_pictures |= network.on_other_pictures
            if total is None:
                shape = network.source.examples(ours.evaluate.split), len(one.classes)
                total = np.memmap(file, np.float32, "w+", shape=shape)
            labels: list[np.ndarray] = []
            errors = _errors(_added_to(total, labels, outputs(network)))
            nets.append({**errors, "step": network.step, "workdir": str(one.workdir)})
        assert total is not None
        errors = _errors(_means(total, labels, len(runs)))
    result = {**errors, "views": ours.evaluate.views, "nets": nets}
    record_evaluation(invocation.workdir, {**result, **_facts_for_the_table(ours, runs, on_other_pictures)})
    return result


def _require_comparable(runs: list[Run]) -> None:
    """Raises UserError if the runs' classes differ, or two runs are the same."""
    for other in runs[1:]:
        if other.classes != runs[0].classes:
            raise UserError(
                f"--ensemble names {runs[0].workdir} and {other.workdir}, whose class lists (classes.txt) differ; "
                "only networks with the same classes can be averaged"
            )
    for one, other in combinations(runs, 2):
        if _are_the_same(one, other):
            raise UserError(
                f"--ensemble names {one.workdir} and {other.workdir}, runs of equal configuration and seed "
                f"({one.config['train']['seed']}), so that their mean is no better than either; train one with another "
                "--config.train.seed"
            )


def _are_the_same(one: Run, other: Run) -> bool:
    """Whether two runs have one folder, or equal config, seed and pictures."""
    if one.workdir.resolve() == other.workdir.resolve():
        return True
    if one.listing != other.listing or differences(
        config_of(one.config), other.config, TRAJECTORY_FIELDS, ("there", "there")
    ):
        return False
    # Imported weights were trained elsewhere, by a config that is not known.
    return not all(Checkpoints(run.workdir).steps() == [0] for run in (one, other))


def _with_evaluation_of(theirs: ConfigDict, ours: ConfigDict) -> ConfigDict:
    """A run's config with the data, the evaluation and the mesh that were asked for.

    A network of one tower takes one device where the others take two.
    """
    for field in ours.data:
        if f"data.{field}" not in PICTURE_FIELDS:  # those are the network's own
            theirs.data[field] = ours.data[field]
    theirs.evaluate, theirs.mesh.data = ours.evaluate, ours.mesh.data
    theirs.mesh.model = min(ours.mesh.model, theirs.model.towers)
    return theirs


def outputs(network: Network) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The network's softmax, float32 [b, classes], and the labels, int32 [b], of each batch."""
    probabilities = jax.jit(
        partial(class_probabilities, network.recipe, network.mesh, network.config.evaluate.views),
        compiler_options=towers.compiler_options(network.mesh, network.recipe.dtype),
    )
    with validation.batches_of(network.config, network.source, network.mesh, "evaluation") as batches:
        computed = towers.one_ahead(
            lambda batch: probabilities(network.params, towers.put_batch(batch, network.mesh), network.mean_image),
            batches,
        )
        for batch, rows in computed:
            real = int(batch.mask.sum())
            yield rows[:real, : len(network.run.classes)], batch.label[:real]


def _added_to(total: np.ndarray, labels: list[np.ndarray], batches: Outputs) -> Outputs:
    """The batches, while their probabilities are added to the total's rows and their labels to the list."""
    first = 0
    for rows, of_batch in batches:
        total[first : first + len(rows)] += rows
        first += len(rows)
        labels.append(of_batch)
        yield rows, of_batch


def _means(total: np.ndarray, labels: list[np.ndarray], networks: int) -> Outputs:
    """The mean of the probabilities over the networks, in batches."""
    first = 0
    for of_batch in labels:
        yield total[first : first + len(of_batch)] / networks, of_batch
        first += len(of_batch)


def _errors(batches: Outputs) -> dict[str, Any]:
    """`examples`, mean `loss` in nats, `top1_error` and `top5_error` as fractions."""
    sums, examples = np.zeros(3), 0
    for rows, labels in batches:
        sums += error_sums(rows, labels)
        examples += len(labels)
    loss, top1, top5 = (float(value) / examples for value in sums)
    return {"examples": examples, "loss": loss, "top1_error": top1, "top5_error": top5}


def error_sums(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Sums over the rows of [b, classes]: loss in nats, top-1 errors, top-5 errors; float64 [3].

    Among classes that tie with the label, those of lower index rank higher. A row with a NaN is an error.
    """
    p = probabilities.astype(np.float64)
    of_label = p[np.arange(len(labels)), labels][:, None]
    before = (p > of_label) | ((p == of_label) & (np.arange(p.shape[1]) < labels[:, None]))
    rank = np.where(np.isnan(p).any(axis=1), p.shape[1] + TOP_K, before.sum(axis=1))
    with np.errstate(divide="ignore"):  # a probability that is 0 in float32 is an infinite loss
        losses = -np.log(of_label)
    return np.array([losses.sum(), (rank >= 1).sum(), (rank >= TOP_K).sum()])
