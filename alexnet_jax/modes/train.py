"""`--mode=train`: starts a run, or goes on with one."""

import json
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax.config.config import (
    check_batches,
    network_of,
    number_of_classes,
    recipe_of,
    run_exists,
)
from alexnet_jax.config.fields import FIELDS_FIXED_WHILE_TRAINING, START_FIELDS
from alexnet_jax.config.memory import check_memory
from alexnet_jax.data.batches import pipeline
from alexnet_jax.data.batches.training_statistics import training_statistics
from alexnet_jax.data.prepared.prepared_set import PreparedSet
from alexnet_jax.data.sources import kind_of
from alexnet_jax.devices import cluster, towers
from alexnet_jax.loop import finetune
from alexnet_jax.loop.loop import Setup, Training
from alexnet_jax.messages import UserError, say
from alexnet_jax.modes import PAGE, TrainInvocation
from alexnet_jax.runs.checkpoint import Checkpoint, Checkpoints, Progress
from alexnet_jax.runs.folder import (
    Run,
    create_run,
    file_sizes,
    first_other_file,
    only_writer,
    open_run,
    require_same_classes,
    require_same_config,
    require_same_pictures,
    require_writable,
    set_run_aside,
    update_config,
)
from alexnet_jax.runs.same_inputs import open_same_data
from alexnet_jax.signals import stop_signals
from alexnet_jax.training.step import Recipe, TrainState, abstract_state, create_state

VISIBLE_SECONDS = 20.0  # in which every host sees a file that process 0 has written


@dataclass(frozen=True)
class OpenRun:
    """A run in its folder, open for training."""

    run: Run
    checkpoints: Checkpoints
    has_checkpoint: bool


def run(config: ConfigDict, invocation: TrainInvocation, page: bool = True) -> dict[str, Any]:
    """`--mode=train`: a new run, or a run resumed from its newest checkpoint.

    Args:
      page: whether the run gets its page at the end.
    """
    workdir = invocation.workdir
    _require_apart_from_pictures(workdir, config)
    require_writable(workdir)
    mesh = _mesh_with_room(config)
    with ExitStack() as held:
        _claim_folder(workdir, held)
        resumed = _run_to_resume(config, invocation)
        # Before the pictures are prepared, which may take hours.
        donor = None if resumed and resumed.has_checkpoint else _donor(config, workdir)
        source = _open_data(config, resumed)
        steps_per_epoch = pipeline.steps_per_epoch(source, config)
        recipe = recipe_of(config, _classes_told_apart(config, source), steps_per_epoch)
        opened = resumed or _create_run(config, invocation, source, held)
        setup = Setup(config, opened.run, source, recipe, mesh, steps_per_epoch)
        result, trained = _train(setup, opened, donor)
        if page:
            _leave_page(trained, source, mesh)
        return result


def _require_apart_from_pictures(workdir: Path, config: ConfigDict) -> None:
    """Raises UserError if the run would lie among the pictures, where its folder would be taken for a class."""
    pictures = config.data.manual_dir if kind_of(config.data.name).is_kept_apart else ""
    if pictures and workdir.resolve().is_relative_to(Path(pictures).expanduser().resolve()):
        raise UserError(
            f"'{workdir}' lies in the folder of the pictures, '{pictures}'; set --workdir to a folder outside it"
        )


def _mesh_with_room(config: ConfigDict) -> Mesh:
    """The config's mesh. Raises UserError if the batches cannot be divided over it, or memory is too small."""
    mesh = towers.make_mesh(config.mesh.data, config.mesh.model, config.model.towers)
    check_batches(config, mesh.shape[towers.DATA])
    if towers.on_cpu(mesh):
        check_memory(config, number_of_classes(config), training=True, share=cluster.share_of_this_host())
    return mesh


def _claim_folder(workdir: Path, held: ExitStack) -> None:
    """Keeps other trainings out of the run's folder while `held` is open. Raises UserError if another one is there."""
    if cluster.index() == 0:
        held.enter_context(only_writer(workdir))
    cluster.barrier("locks the run's folder")


def _run_to_resume(config: ConfigDict, invocation: TrainInvocation) -> OpenRun | None:
    """The run in the folder, or None for a new run. Raises UserError if the run's config differs."""
    workdir = invocation.workdir
    exists = cluster.index() == 0 and run_exists(workdir) and not invocation.restart
    found = _same_run_everywhere(open_run(workdir) if exists else None, workdir)
    if found is None:
        return None
    checkpoints = Checkpoints(workdir)
    has_checkpoint = bool(checkpoints.steps())
    is_bounded = config.train.least_steps or config.train.most_steps  # then the epochs decide where the rate drops
    fields = (
        *FIELDS_FIXED_WHILE_TRAINING,
        *(("train.epochs",) if is_bounded else ()),
        *(() if has_checkpoint else START_FIELDS),
    )
    require_same_config(config, found, fields, "resumed")
    return OpenRun(found, checkpoints, has_checkpoint)


def _same_run_everywhere(found: Run | None, workdir: Path) -> Run | None:
    """The run that process 0 has opened, or None, as this process reads it.

    Args:
      found: process 0's; the other processes give None.

    Raises:
      UserError: another process does not see the same files; names the file.
    """
    told = cluster.from_process(0, "opens the run", json.dumps(file_sizes(workdir)) if found else "")
    if told and cluster.index():
        end = time.monotonic() + VISIBLE_SECONDS  # shared disks may show a file late
        while (missing := first_other_file(workdir, json.loads(told))) and time.monotonic() < end:
            time.sleep(1)
        if missing:
            raise UserError(
                f"'{workdir / missing}' is missing or different on this host, though process 0 has written it: "
                "--workdir must lie on a disk that all hosts share"
            )
        found = open_run(workdir)
    cluster.barrier("reads the run")
    return found


def _donor(config: ConfigDict, workdir: Path) -> Run | None:
    """The run whose layers a new run starts from, or None. Raises UserError if it cannot be used."""
    # The number of classes, which may not be known yet, changes no layer's name.
    donor = finetune.donor(config, network_of(config, number_of_classes(config)))
    if donor and donor.workdir.resolve() == workdir.resolve():
        raise UserError(f"--config.train.init_from is the run in --workdir={workdir} itself; name another --workdir")
    return donor


def _open_data(config: ConfigDict, resumed: OpenRun | None) -> PreparedSet:
    """The pictures, prepared if need be. Raises UserError if a resumed run was trained on others."""
    source = open_same_data(config, [config.data.train_split, config.evaluate.split])
    if resumed:
        require_same_classes(resumed.run, source.classes, source.name)
        require_same_pictures(resumed.run, source.listing, source.folder)
    return source


def _classes_told_apart(config: ConfigDict, source: PreparedSet) -> int:
    """The config's, or the dataset's. Raises UserError if it is too small."""
    classes = number_of_classes(config, len(source.classes))
    if len(source.classes) < 2:
        raise UserError(
            f"{source.name} has only one class, but training needs at least two; set --config.data.name to another "
            "dataset"
        )
    if classes < len(source.classes):
        raise UserError(
            f"config.model.classes is {classes}, but {source.name} has {len(source.classes)} classes; set "
            "--config.model.classes to at least that, or to 0"
        )
    return classes


def _create_run(config: ConfigDict, invocation: TrainInvocation, source: PreparedSet, held: ExitStack) -> OpenRun:
    """Makes the run's folder; with --restart, sets the run in it aside first."""
    workdir, created = invocation.workdir, None
    if cluster.index() == 0:
        if invocation.restart and run_exists(workdir):
            set_run_aside(workdir)
            held.enter_context(only_writer(workdir))
        created = create_run(workdir, config, training_statistics(source, config), source.classes, source.listing)
    created = _same_run_everywhere(created, workdir)
    assert created is not None
    return OpenRun(created, Checkpoints(workdir), has_checkpoint=False)


def _train(setup: Setup, opened: OpenRun, donor: Run | None) -> tuple[dict[str, Any], Run]:
    """Trains from where the run stands to its end; returns the mode's JSON, and the run with its new config."""
    config, recipe, mesh, workdir = setup.config, setup.recipe, setup.mesh, setup.run.workdir
    with closing(opened.checkpoints.open_for_writing()) as checkpoints:
        if opened.has_checkpoint:
            start = checkpoints.restore(abstract_state(recipe, mesh))
        else:
            start = Checkpoint(0, _new_state(config, recipe, mesh, donor), Progress(), None)
        training = Training(setup, checkpoints, start)
        if start.step and training.has_ended():  # not asked for new weights, which the devices may still be drawing
            say(f"the run in {workdir} is finished at step {start.step}; --restart begins anew")
            return training.result(), setup.run
        trained = setup.run if cluster.index() else update_config(setup.run, config)
        say(f"{'going on with the' if start.step else 'a new'} run in {workdir} from step {start.step}")
        say("compiling the training step, unless the cache has it")
        training.train()
        return training.result(), trained


def _new_state(config: ConfigDict, recipe: Recipe, mesh: Mesh, donor: Run | None) -> TrainState:
    """The state at step 0, with the donor's layers if there is a donor."""
    state = create_state(recipe, mesh)
    if donor is None:
        return state
    return replace(state, params=finetune.params_from(donor, state.params, config, mesh))


def _leave_page(trained: Run, source: PreparedSet, mesh: Mesh) -> None:
    """Writes the run's page, unless it is newer than the run's numbers. If that fails, a message says so.

    Imports what it needs here, so that training does not wait for it.
    """
    with stop_signals():  # everything is saved: a signal now ends the program well
        net = None
        if cluster.count() > 1:
            from alexnet_jax.inference.net import on_own_device

            net = on_own_device(trained, mesh)
        if cluster.index():
            return
        metrics, path = trained.workdir / "metrics.jsonl", trained.workdir / PAGE
        try:
            if path.exists() and metrics.exists() and path.stat().st_mtime >= metrics.stat().st_mtime:
                return
            from alexnet_jax.figures import page
            from alexnet_jax.figures.drawing import Place
            from alexnet_jax.inference.net import net_of_run

            page.make(net or net_of_run(trained, None, "drawn"), source, "", Place(path))
        except Exception as error:
            sentence = str(error).partition("\n")[0] or type(error).__name__
            say(f"the run has no page ({sentence}); --mode=figures --figure=page --workdir={trained.workdir} makes one")
