"""A folder with a folder of pictures for each class."""

import os
from collections.abc import Iterator
from pathlib import Path

from alexnet_jax.data.pictures import Picture
from alexnet_jax.data.sources.source import Source, Split
from alexnet_jax.data.sources.splits import SUFFIXES, held_out, split_folder
from alexnet_jax.messages import UserError, say


def open_folder(folder: Path, fraction: float) -> Source:
    """The pictures in `folder`, or in its folders train, validation (or val) and test.

    Args:
      fraction: of each class, held out for validation where there is no folder for it.

    Raises:
      UserError: there are not two classes, or a split has a class that training lacks.
    """
    train = split_folder(folder, "train")
    listed = {"train": _class_folders(train or folder)}
    for split in ("validation", "test"):
        found = split_folder(folder, split)
        if train and found:
            listed[split] = _class_folders(found)
    classes = tuple(sorted(listed["train"]))
    where = train or folder
    if len(classes) < 2:
        there = f"one class, '{classes[0]}'" if classes else "no class"
        raise UserError(
            f"'{where}' has {there}; put the pictures ({', '.join(SUFFIXES)}) of each class into a folder of its own "
            "there, of two classes at least"
        )
    for split, by_class in listed.items():
        strange = sorted(set(by_class) - set(classes))
        if strange:
            raise UserError(
                f"the {split} pictures in '{folder}' have the class '{strange[0]}', which '{where}' lacks; add it "
                "there, or remove it"
            )
    if "validation" not in listed:
        halves = {name: held_out(files, fraction) for name, files in listed["train"].items()}
        listed["validation"] = {name: files[1] for name, files in halves.items()}
        listed["train"] = {name: files[0] for name, files in halves.items()}
        say(f"'{folder}' has no folder for validation: config.data.validation_fraction, {fraction:.0%}, is taken")

    def pictures(by_class: dict[str, list[str]]) -> Iterator[Picture]:
        for label, name in enumerate(classes):
            for path in by_class.get(name, ()):
                yield Picture(os.path.relpath(path, folder), label, path)

    def split_of(by_class: dict[str, list[str]]) -> Split:
        return Split(sum(map(len, by_class.values())), lambda: pictures(by_class))

    return Source("folder", classes, {split: split_of(by_class) for split, by_class in listed.items()})


def _class_folders(folder: Path) -> dict[str, list[str]]:
    """The picture files below each folder in `folder`, sorted; folders without any are left out."""
    found = {}
    others = 0
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir() or entry.name.startswith("."):
            continue
        paths = []
        for inside, _, names in os.walk(entry, followlinks=True):
            visible = [name for name in names if not name.startswith(".")]
            chosen = [name for name in visible if name.lower().endswith(SUFFIXES)]
            others += len(visible) - len(chosen)
            paths += [os.path.join(inside, name) for name in chosen]
        if paths:
            found[entry.name] = sorted(paths)
    if others:
        say(f"{others} files in '{folder}' are no pictures by their names ({', '.join(SUFFIXES)}) and are left out")
    return found
