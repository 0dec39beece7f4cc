"""`--mode=train`: where a run stands, and from there on."""

import json
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax.config.config import OF_THE_START, OF_TRAINING, check_batches, network_of, recipe_of, run_exists
from alexnet_jax.config.memory import check_memory
from alexnet_jax.data.batches import pipeline
from alexnet_jax.data.batches.training_statistics import training_statistics
from alexnet_jax.data.prepared.prepared_set import PreparedSet, labels_of_split
from alexnet_jax.data.sources import kind_of
from alexnet_jax.devices import cluster, towers
from alexnet_jax.loop import finetune
from alexnet_jax.loop.baselines import OneAnswer, entropy
from alexnet_jax.loop.loop import Training, programs_of
from alexnet_jax.loop.meter import Meter
from alexnet_jax.loop.saving import Saver
from alexnet_jax.loop.tensorboard_images import Showing
from alexnet_jax.messages import UserError, say
from alexnet_jax.modes import PAGE, Invocation
from alexnet_jax.runs.checkpoint import Checkpoints, Progress
from alexnet_jax.runs.folder import (
    Run,
    create_run,
    file_sizes,
    first_other_file,
    keep_config,
    only_writer,
    open_run,
    require_same_classes,
    require_same_config,
    require_same_pictures,
    require_writable,
    set_run_aside,
)
from alexnet_jax.runs.same_inputs import open_same_data
from alexnet_jax.signals import stop_signals
from alexnet_jax.training.step import Recipe, TrainState, abstract_state, create_state

if TYPE_CHECKING:
    from alexnet_jax.inference.net import Net

SEEN_SECONDS = 20.0  # until a file that process 0 has written is seen by the others


def run(config: ConfigDict, invocation: Invocation, page: bool = True) -> dict[str, Any]:
    """`--mode=train`: a new run, or a run gone on with from its newest checkpoint.

    Args:
      page: whether the run gets its page at the end.
    """
    workdir = invocation.workdir
    _require_apart_from_pictures(workdir, config)
    require_writable(workdir)
    mesh = towers.make_mesh(config.mesh.data, config.mesh.model, config.model.towers)
    check_batches(config, mesh.shape[towers.DATA])
    if towers.on_cpu(mesh):
        check_memory(config, config.model.classes or 2, training=True, share=cluster.share_of_this_host())
    with ExitStack() as held:
        if cluster.index() == 0:
            held.enter_context(only_writer(workdir))
        cluster.barrier("takes the run's folder")
        this_run = _run_to_go_on_with(config, invocation)
        starts = this_run is None or not Checkpoints(workdir).steps()
        # Asked before the pictures are prepared, for hours perhaps; the number of classes changes no layer's name.
        donor = finetune.donor(config, network_of(config, config.model.classes or 2)) if starts else None
        if donor and donor.workdir.resolve() == workdir.resolve():
            raise UserError(
                f"--config.train.init_from is the run in --workdir={workdir} itself; name another --workdir"
            )

        source = open_same_data(config, [config.data.train_split, config.evaluate.split])
        if this_run:
            require_same_classes(this_run, source.classes, source.name)
            require_same_pictures(this_run, source.listing, source.folder)
        classes = _number_of_classes(config, source)
        steps_per_epoch = pipeline.steps_per_epoch(source, config)
        recipe = recipe_of(config, classes, steps_per_epoch)

        if cluster.index() == 0:
            if invocation.restart and run_exists(workdir):
                set_run_aside(workdir)
                held.enter_context(only_writer(workdir))
            if this_run is None:
                statistics = training_statistics(source, config)
                this_run = create_run(workdir, config, statistics, source.classes, source.listing)
        this_run = _seen_by_all(this_run, workdir)
        training = _trained(config, this_run, source, recipe, mesh, donor, steps_per_epoch)
        result = training.result()
        if page:
            with stop_signals():  # all is saved: what comes now ends well
                net = _net_of_the_page(training.this_run, mesh)
                if cluster.index() == 0:
                    _leave_page(training.this_run, source, net)
        return result


def _seen_by_all(this_run: Run | None, workdir: Path) -> Run:
    """The run that process 0 has made or opened, as this process reads it.

    Raises:
      UserError: another process does not see it, or not the same; says which file.
    """
    told = cluster.from_process(0, "makes the run's folder", json.dumps(file_sizes(workdir)))
    if cluster.index():
        end = time.monotonic() + SEEN_SECONDS  # disks that are shared may show a file late
        while (missing := first_other_file(workdir, json.loads(told))) and time.monotonic() < end:
            time.sleep(1)
        if missing:
            raise UserError(
                f"'{workdir / missing}' is not there, or is another one, on this host, and process 0 has written it: "
                "--workdir must lie on a disk that all hosts share"
            )
        this_run = open_run(workdir)
    cluster.barrier("opens the run")
    assert this_run is not None
    return this_run


def _net_of_the_page(this_run: Run, mesh: Mesh) -> "Net | None":
    """The network that many processes have trained, for the one that makes the page; None where there is one."""
    if cluster.count() == 1:
        return None
    from alexnet_jax.inference.net import on_own_device

    return on_own_device(this_run, mesh)


def _leave_page(this_run: Run, source: PreparedSet, net: "Net | None") -> None:
    """The run on one page, if it has none since it was last trained. Whatever goes wrong with it is said, and no more.

    What it needs is imported here, when training has ended.
    """
    metrics, there = this_run.workdir / "metrics.jsonl", this_run.workdir / PAGE
    try:
        if there.exists() and metrics.exists() and there.stat().st_mtime >= metrics.stat().st_mtime:
            return
        from alexnet_jax.figures import page
        from alexnet_jax.figures.drawing import Place
        from alexnet_jax.inference.net import net_of_run

        page.make(net or net_of_run(this_run, None, "drawn"), source, "", Place(there))
    except Exception as error:
        sentence = str(error).partition("\n")[0] or type(error).__name__
        say(f"the run has no page ({sentence}); --mode=figures --figure=page --workdir={this_run.workdir} makes one")


def _trained(
    config: ConfigDict,
    this_run: Run,
    source: PreparedSet,
    recipe: Recipe,
    mesh: Mesh,
    donor: Run | None,
    steps_per_epoch: int,
) -> Training:
    """Trains from where the run stands to its end."""
    workdir = this_run.workdir
    checkpoints = Checkpoints(workdir, writes=True)
    found = checkpoints.restore(abstract_state(recipe, mesh)) if checkpoints.steps() else None
    step, state = (found.step, found.state) if found else (0, _new_state(config, recipe, mesh, donor))
    progress = found.progress if found else Progress()
    mean_image = towers.replicate(this_run.statistics.mean_image, mesh)
    training = Training(
        config=config,
        source=source,
        recipe=recipe,
        mesh=mesh,
        programs=programs_of(recipe, mesh, config.evaluate.views),
        this_run=this_run,
        mean_image=mean_image,
        steps_per_epoch=steps_per_epoch,
        checkpoints=checkpoints,
        saver=Saver(checkpoints, config, state, step),
        showing=Showing(config, source, recipe, mesh, mean_image),
        meter=Meter(config.train.batch_size, progress.seen),
        step=step,
        state=state,
        guess=entropy(np.bincount(labels_of_split(source, config.data.train_split))),
        one_answer=OneAnswer(np.bincount(labels_of_split(source, config.evaluate.split)), source.classes),
        skipped=progress.skipped,
        rewinds=progress.rewinds,
    )
    if found:
        training.take_validation(found)
    if found and training.has_ended():  # a new run's weights may still be being drawn: nothing waits for them here
        say(f"the run in {workdir} is finished at step {step}; --restart begins anew")
    else:
        if cluster.index() == 0:
            training.this_run = keep_config(this_run, config)
        say(f"{'going on with the' if step else 'a new'} run in {workdir} from step {step}")
        say("compiling the training step, unless it was kept")
        training.train()
    return training


def _require_apart_from_pictures(workdir: Path, config: ConfigDict) -> None:
    """Raises UserError if the run would lie among the pictures, and its own would be taken for a class."""
    pictures = config.data.manual_dir if kind_of(config.data.name).is_kept_apart else ""
    if pictures and workdir.resolve().is_relative_to(Path(pictures).expanduser().resolve()):
        raise UserError(
            f"'{workdir}' lies in the folder of the pictures, '{pictures}'; set --workdir to one outside of it"
        )


def _run_to_go_on_with(config: ConfigDict, invocation: Invocation) -> Run | None:
    """The run that is in the folder; None where a new one begins. Raises UserError if its config differs."""
    if invocation.restart or not run_exists(invocation.workdir):
        return None
    there = open_run(invocation.workdir)
    bounded = config.train.least_steps or config.train.most_steps  # the drops are where the epochs put them
    start = () if Checkpoints(invocation.workdir).steps() else OF_THE_START
    fields = (*OF_TRAINING, *(("train.epochs",) if bounded else ()), *start)
    require_same_config(config, there, fields, "gone on with")
    return there


def _number_of_classes(config: ConfigDict, source: PreparedSet) -> int:
    """The config's, or the dataset's. Raises UserError if it is too small."""
    classes = config.model.classes or len(source.classes)
    if len(source.classes) < 2:
        raise UserError(f"{source.name} has one class, and two at least can be told apart; set --config.data.name")
    if classes < len(source.classes):
        raise UserError(
            f"config.model.classes is {classes} and {source.name} has {len(source.classes)} classes; "
            "set --config.model.classes to at least that, or to 0"
        )
    return classes


def _new_state(config: ConfigDict, recipe: Recipe, mesh: Mesh, donor: Run | None) -> TrainState:
    """The state at step 0, with the layers of the run that it starts from, if it does."""
    state = create_state(recipe, mesh)
    if donor is None:
        return state
    params = finetune.params_from(donor, state.params, config, mesh)
    return replace(state, params=params)
