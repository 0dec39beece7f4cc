"""Makes a run from parameters that were trained elsewhere."""

import os
import shutil
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.config.config import number_of_classes, recipe_of
from alexnet_jax.data.prepared.class_words import write_words
from alexnet_jax.data.prepared.statistics import Statistics
from alexnet_jax.messages import UserError
from alexnet_jax.network.model import Params
from alexnet_jax.runs.checkpoint import Checkpoints, Progress
from alexnet_jax.runs.folder import create_run, require_writable, run_exists
from alexnet_jax.training.step import state_of


def require_empty(workdir: Path) -> None:
    """Raises UserError unless the folder is empty or can be made."""
    if run_exists(workdir):
        raise UserError(f"--workdir={workdir} holds a run already; name a new folder")
    require_writable(workdir)
    if workdir.is_dir() and any(workdir.iterdir()):
        raise UserError(f"--workdir={workdir} holds files of something else; name a new folder")


def write_run(
    workdir: Path,
    config: ConfigDict,
    statistics: Statistics,
    classes: tuple[str, ...],
    words: tuple[str, ...],
    params: Params,
) -> None:
    """Makes the run with one checkpoint, of step 0, beside its folder, and then moves it there.

    Args:
      words: what people call each class, for words.txt; () if unknown.

    Raises:
      UserError: the run cannot be written; nothing is left then.
    """
    beside = workdir.with_name(f".{workdir.name}.{os.getpid()}")
    try:
        create_run(beside, config, statistics, classes)
        if words:
            write_words(beside, classes, words)
        recipe = recipe_of(config, number_of_classes(config, len(classes)), steps_per_epoch=1)
        checkpoints = Checkpoints(beside).open_for_writing()
        checkpoints.save(0, state_of(recipe, params), Progress())
        checkpoints.close()
        os.replace(beside, workdir)
    except OSError as error:
        raise UserError(
            f"--workdir={workdir} cannot be written ({error.strerror or error}); make room, or name another folder"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
