"""A run's folder: the files beside checkpoints and metrics, and whether a command may use the run with its config."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax.config.config import (
    config_of,
    config_to_json,
    differences,
    load_saved,
    not_whole,
    number_of_classes,
    recipe_of,
    run_exists,
)
from alexnet_jax.config.fields import FIELDS_REPORTED_ON_RESUMING, START_FIELDS
from alexnet_jax.data.prepared.statistics import Statistics, load_statistics
from alexnet_jax.files import whole, why_not_writable
from alexnet_jax.locks import LOCK, alone_in
from alexnet_jax.messages import UserError, say
from alexnet_jax.network.model import Params
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.checkpoint_integrity import RUN_FILE, changed_files, let_change, name_run
from alexnet_jax.training.step import Recipe, abstract_state

PICTURES_FILE = "pictures.txt"  # the digest of the listing of the pictures that the run was trained on


@dataclass(frozen=True)
class Run:
    """What the folder holds: all that evaluation needs beside pictures and a checkpoint."""

    workdir: Path
    config: dict[str, Any]
    statistics: Statistics
    classes: tuple[str, ...]  # names by label; () if the classes have no names
    listing: str = ""  # the digest of what the run's pictures were prepared from; '' if unknown

    @property
    def classes_in_data(self) -> int:
        """How many classes the data has; the network may tell more apart (`model.classes`)."""
        return len(self.classes) or number_of_classes(config_of(self.config))


def open_run(workdir: Path) -> Run:
    """Reads a run, and reports files that were changed since the program wrote them.

    Raises:
      UserError: there is no run, or one of its files is missing or damaged.
    """
    saved = load_saved(workdir)
    try:
        path = workdir / "classes.txt"
        classes = tuple(path.read_text(encoding="utf-8").split("\n")[:-1]) if path.exists() else ()
        if not number_of_classes(config_of(saved), len(classes)):
            raise ValueError("classes.txt names no classes, and config.json gives no number of classes")
        path = workdir / PICTURES_FILE
        listing = path.read_text(errors="replace").strip() if path.exists() else ""
        statistics = load_statistics(workdir / "preprocessing.npz", side=saved["data"]["resize"])
    except UnicodeDecodeError as error:
        raise not_whole(workdir, f"classes.txt: {error}") from error
    except (OSError, ValueError) as error:
        why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        raise not_whole(workdir, why) from error
    for name in changed_files(workdir):
        say(f"'{workdir / name}' has changed since the run began; the edited or damaged version is used")
    return Run(workdir, saved, statistics, classes, listing)


def own_recipe(run: Run) -> Recipe:
    """The run's own network, by its config and its classes."""
    saved = config_of(run.config)
    return recipe_of(saved, number_of_classes(saved, len(run.classes)), steps_per_epoch=1)


def restore_params(run: Run, mesh: Mesh, which: str) -> tuple[int, Params]:
    """The step and the parameters of the run's best or newest checkpoint that can be read.

    Args:
      mesh: the devices that the parameters are put on.
      which: best (of lowest validation error) or newest; best is the newest if nothing was validated.

    Raises:
      UserError: no checkpoint can be read.
    """
    state = abstract_state(own_recipe(run), mesh)
    found = Checkpoints(run.workdir).restore({"step": state.step, "params": state.params}, which)
    return found.step, found.state["params"]


def require_same_config(config: ConfigDict, run: Run, fields: Sequence[str], done: str) -> None:
    """Raises UserError with the list of differences, if config and run differ in the fields.

    Args:
      fields: the fields that are compared, such as NETWORK_FIELDS.
      done: what is to be done with the run, for the sentence "the run cannot be evaluated".
    """
    differing = differences(config, run.config, fields, ("here", "there"))
    if differing:
        raise UserError(
            f"the run in {run.workdir} cannot be {done} with this config: {'; '.join(differing)}; give it the run's "
            "own values, or another --workdir"
        )


def require_same_classes(run: Run, classes: tuple[str, ...], data: str) -> None:
    """Raises UserError with the first difference, if the run has other classes than the data.

    Args:
      data: the data's name, for the message.
    """
    if classes == run.classes:
        return
    pairs = enumerate(zip_longest(run.classes, classes))
    label, (theirs, ours) = next(pair for pair in pairs if pair[1][0] != pair[1][1])
    raise UserError(
        f"'{data}' has other classes than {run.workdir / 'classes.txt'}: number {label} is {ours!r} here and "
        f"{theirs!r} there; name the dataset that the run was trained on, or another --workdir"
    )


def require_same_pictures(run: Run, listing: str, folder: Path) -> None:
    """Raises UserError if the run is known to have been trained on other pictures, or on another split of them.

    With another split, the run would be validated on pictures that it was trained on.

    Args:
      listing, folder: of the prepared set.
    """
    if are_other_pictures(run, listing):
        raise UserError(
            f"the run in {run.workdir} was trained on other pictures than '{folder}' was prepared from; resume it with "
            "the prepared set that it was trained on, or begin anew with --restart, or with another --workdir from "
            f"its layers (--config.train.init_from={run.workdir})"
        )


def warn_of_other_pictures(run: Run, listing: str, folder: Path) -> None:
    """Warns if the run was trained on other pictures than the prepared set in the folder holds."""
    if are_other_pictures(run, listing):
        say(
            f"'{folder}' was prepared from other pictures than the run in {run.workdir} was trained on: "
            "it may have been trained on some of these, and then errors are too low"
        )


def are_other_pictures(run: Run, listing: str) -> bool:
    """Whether the run's digest of pictures and this one differ, both being known."""
    return bool(run.listing and listing) and run.listing != listing


def create_run(
    workdir: Path, config: ConfigDict, statistics: Statistics, classes: tuple[str, ...], listing: str = ""
) -> Run:
    """Makes the folder and its files; config.json is the last, and makes it a run. Raises UserError if it cannot."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        statistics.save(workdir / "preprocessing.npz")
        (workdir / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
        (workdir / PICTURES_FILE).write_text(f"{listing}\n")
        with whole(workdir / "config.json", one_writer=True) as unfinished:
            unfinished.write_text(config_to_json(config))
            others = {name: workdir / name for name in ("classes.txt", PICTURES_FILE)}
            name_run(workdir, {"config.json": unfinished, **others})
    except OSError as error:
        raise _unwritable(workdir, error.strerror) from error
    return open_run(workdir)


def update_config(run: Run, config: ConfigDict) -> Run:
    """Updates config.json to the config that the run goes on with, and reports the changes.

    What the run started from (`train.init_from` and its like) stays, though the command need not name it again.

    Returns:
      The run with its new config.

    Raises:
      UserError: the file cannot be written.
    """
    config = config.copy_and_resolve_references()
    for field in START_FIELDS:
        group, name = field.split(".")
        config[group][name] = run.config[group][name]
    text = config_to_json(config)
    if json.loads(text) == run.config:
        return run
    if differing := differences(config, run.config, FIELDS_REPORTED_ON_RESUMING, ("from here on", "until now")):
        say("; ".join(differing))
    try:
        with whole(run.workdir / "config.json", one_writer=True) as unfinished:
            unfinished.write_text(text)
            let_change(run.workdir, "config.json", unfinished)
    except OSError as error:
        raise _unwritable(run.workdir, error.strerror) from error
    return replace(run, config=json.loads(text))


def file_sizes(workdir: Path) -> dict[str, int]:
    """The size in bytes of each of the run's files that exist, by name."""
    names = ("config.json", "preprocessing.npz", "classes.txt", PICTURES_FILE, RUN_FILE)
    return {name: (workdir / name).stat().st_size for name in names if (workdir / name).is_file()}


def first_other_file(workdir: Path, sizes: dict[str, int]) -> str:
    """The first of the files that is missing here or has another size; '' if there is none.

    Args:
      sizes: of the run's files, as another process sees them.
    """
    here = file_sizes(workdir)
    return next((name for name, size in sizes.items() if here.get(name) != size), "")


@contextmanager
def only_writer(workdir: Path) -> Iterator[None]:
    """Keeps other processes from training in the folder meanwhile. Makes the folder, and removes it if it stays empty.

    Raises:
      UserError: another process trains there, or the folder cannot be written.
    """
    made = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
    with ExitStack() as held:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            held.enter_context(alone_in(workdir, "trained"))
        except OSError as error:
            raise _unwritable(workdir, error.strerror) from error
        try:
            yield
        finally:
            if workdir.is_dir() and os.listdir(workdir) == [LOCK]:  # not moved away by the user
                (workdir / LOCK).unlink()
                for folder in made:
                    folder.rmdir()


def require_writable(workdir: Path) -> None:
    """Raises UserError, before anything is computed, if the folder cannot be made or written."""
    if reason := why_not_writable(workdir):
        raise _unwritable(workdir, reason)


def _unwritable(workdir: Path, reason: str | None) -> UserError:
    return UserError(f"--workdir={workdir} cannot be written ({reason}); name a folder that can")


def set_run_aside(workdir: Path) -> None:
    """Moves a run to the first free name of the form `workdir.N`. A link stays, and its target is moved."""
    if run_exists(workdir):
        workdir, number = workdir.resolve(), 1
        while (target := workdir.with_name(f"{workdir.name}.{number}")).exists():
            number += 1
        workdir.rename(target)
        workdir.mkdir()
        say(f"the run in {workdir} was set aside as {target}")
