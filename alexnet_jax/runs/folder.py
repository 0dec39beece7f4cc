"""A run's folder: what it holds beside checkpoints and metrics, and whether it may be gone on with."""

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
    OF_THE_START,
    config_to_json,
    differences,
    load_saved,
    not_whole,
    recipe_of,
    run_exists,
)
from alexnet_jax.data.prepared.statistics import Statistics, load_statistics
from alexnet_jax.files import whole, why_not_writable
from alexnet_jax.locks import LOCK, alone_in
from alexnet_jax.messages import UserError, say
from alexnet_jax.network.model import Params
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.checkpoint_integrity import RUN, changed_files, let_change, name_run
from alexnet_jax.training.step import Recipe, abstract_state

LISTING = "pictures.txt"  # the digest of their listing


@dataclass(frozen=True)
class Run:
    """What a folder holds: all that evaluation needs beside pictures and a checkpoint."""

    workdir: Path
    config: dict[str, Any]
    statistics: Statistics
    classes: tuple[str, ...]  # names, by label; none of a run whose classes have none
    listing: str = ""  # the digest of what its pictures were prepared from; '' where that is not known


def open_run(workdir: Path) -> Run:
    """Raises UserError if there is no run, or a file of it is missing or not whole."""
    saved = load_saved(workdir)
    try:
        classes = _class_names(workdir)
        if not classes and not saved.get("model", {}).get("classes"):
            raise ValueError("classes.txt names no classes, and config.json has no number of them")
        listing = (workdir / LISTING).read_text(errors="replace").strip() if (workdir / LISTING).exists() else ""
        statistics = load_statistics(workdir / "preprocessing.npz", side=saved["data"]["resize"])
    except (OSError, ValueError) as error:
        why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        raise not_whole(workdir, why) from error
    for name in changed_files(workdir):
        say(f"'{workdir / name}' is not what it was when the run began: edited, or damaged; it is taken as it stands")
    return Run(workdir, saved, statistics, classes, listing)


def _class_names(workdir: Path) -> tuple[str, ...]:
    """By label; none where there is no such file. Raises OSError or ValueError."""
    try:
        return tuple((workdir / "classes.txt").read_text(encoding="utf-8").split("\n")[:-1])
    except FileNotFoundError:
        return ()
    except UnicodeDecodeError as error:
        raise ValueError(f"classes.txt: {error}") from error


def own_recipe(run: Run) -> Recipe:
    """The run's own network, as its config and its classes give it."""
    saved = ConfigDict(run.config)
    return recipe_of(saved, saved.model.classes or len(run.classes), steps_per_epoch=1)


def restore_params(run: Run, own: Recipe, mesh: Mesh, which: str) -> tuple[int, Params]:
    """The step and the parameters of the run's best or newest checkpoint that can be read.

    Args:
      own: the run's recipe.
      which: best (of lowest validation error) or newest; best is newest where nothing was validated.

    Raises:
      UserError: there is none.
    """
    wanted = abstract_state(own, mesh)
    found = Checkpoints(run.workdir).restore({"step": wanted.step, "params": wanted.params}, which)
    return found.step, found.state["params"]


def require_same_config(config: ConfigDict, run: Run, groups: Sequence[str], done: str) -> None:
    """Raises UserError with the list of differences, if there are any within the groups."""
    differing = differences(config, run.config, groups, ("here", "there"))
    if differing:
        raise UserError(
            f"with this config the run in {run.workdir} cannot be {done}: {'; '.join(differing)}; give it the run's "
            "own values, or another --workdir"
        )


def require_same_classes(run: Run, classes: tuple[str, ...], of: str) -> None:
    """Raises UserError with the first difference, if the run's classes are not those of the data `of`."""
    if classes == run.classes:
        return
    pairs = enumerate(zip_longest(run.classes, classes))
    label, (theirs, ours) = next(pair for pair in pairs if pair[1][0] != pair[1][1])
    raise UserError(
        f"'{of}' has other classes than {run.workdir / 'classes.txt'}: number {label} is {ours!r} here and "
        f"{theirs!r} there; name the dataset that the run was trained on, or another --workdir"
    )


def require_same_pictures(run: Run, listing: str, folder: Path) -> None:
    """Raises UserError if the set in the folder is not of the pictures that the run was trained on, as far as is known.

    Where they were divided anew, the run would be validated on what it was trained on.
    """
    if are_other_pictures(run, listing):
        raise UserError(
            f"the run in {run.workdir} was trained on other pictures than '{folder}' was prepared from; go on with the "
            "set that it had, or begin anew with --restart, or with another --workdir from its layers "
            f"(--config.train.init_from={run.workdir})"
        )


def say_of_other_pictures(run: Run, listing: str, folder: Path) -> None:
    """Says so where the set in the folder is of other pictures: what is measured on them may be of the training's."""
    if are_other_pictures(run, listing):
        say(
            f"'{folder}' was prepared from other pictures than the run in {run.workdir} was trained on: "
            "it may have been trained on some of these, and then errors are too low"
        )


def are_other_pictures(run: Run, listing: str) -> bool:
    """Whether both digests of pictures are known, the run's and this one, and are not the same."""
    return bool(run.listing and listing) and run.listing != listing


def create_run(
    workdir: Path, config: ConfigDict, statistics: Statistics, classes: tuple[str, ...], listing: str = ""
) -> Run:
    """Makes the folder. config.json comes last: with it there is a run. Raises UserError if it cannot."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        statistics.save(workdir / "preprocessing.npz")
        (workdir / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
        (workdir / LISTING).write_text(f"{listing}\n")
        (workdir / ".config.json").write_text(config_to_json(config))
        files = {name: workdir / name for name in ("classes.txt", LISTING)}
        name_run(workdir, {"config.json": workdir / ".config.json", **files})
        os.replace(workdir / ".config.json", workdir / "config.json")
    except OSError as error:
        raise _unwritable(workdir, error.strerror) from error
    return open_run(workdir)


def keep_config(run: Run, config: ConfigDict) -> Run:
    """Updates config.json to the config that the run goes on with, and reports the changes.

    What the run started from (`train.init_from` and its like) stays, though the command need not name it again.

    Returns:
      The run with its new config.

    Raises:
      UserError: the file cannot be written.
    """
    config = config.copy_and_resolve_references()
    for field in OF_THE_START:
        group, name = field.split(".")
        config[group][name] = run.config[group][name]
    text = config_to_json(config)
    if json.loads(text) == run.config:
        return run
    if differing := differences(config, run.config, tuple(config), ("from here on", "until now")):
        say("; ".join(differing))
    try:
        with whole(run.workdir / "config.json") as unfinished:
            unfinished.write_text(text)
            let_change(run.workdir, "config.json", unfinished)
    except OSError as error:
        raise _unwritable(run.workdir, error.strerror) from error
    return replace(run, config=json.loads(text))


def file_sizes(workdir: Path) -> dict[str, int]:
    """Bytes of the files that make a run, by name; of those that are there."""
    names = ("config.json", "preprocessing.npz", "classes.txt", LISTING, RUN)
    return {name: (workdir / name).stat().st_size for name in names if (workdir / name).is_file()}


def unlike_files(workdir: Path, sizes: dict[str, int]) -> str:
    """The first file that is not here as it is where the sizes were taken; '' where all are."""
    here = file_sizes(workdir)
    return next((name for name, size in sizes.items() if here.get(name) != size), "")


@contextmanager
def only_writer(workdir: Path) -> Iterator[None]:
    """Within it no other process trains in the folder, which is made, and removed if nothing comes into it.

    Raises:
      UserError: another one does, or the folder cannot be written.
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
            if workdir.is_dir() and os.listdir(workdir) == [LOCK]:  # it may have been moved away
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
    """Moves a run to the first free name of the form `workdir.N`; of a link, what it leads to, and the link stays."""
    if run_exists(workdir):
        workdir, number = workdir.resolve(), 1
        while (target := workdir.with_name(f"{workdir.name}.{number}")).exists():
            number += 1
        workdir.rename(target)
        workdir.mkdir()
        say(f"the run in {workdir} was set aside as {target}")
