"""A prepared set on disk: where it lies, how to open it, and whether it was made with the config's settings."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import cache
from alexnet_jax.data.sources import kind_of, root
from alexnet_jax.data.tensorflow import tfds
from alexnet_jax.messages import UserError, say

VERSION = "1.0.0"
INDEX = np.dtype([("offset", "<i8"), ("label", "<i8")])  # for each record: where its picture begins, and its label
ACCEPTANCE = ("max_pixels", "accept_damaged", "colour_profiles")  # fields that decide which pictures are accepted
STATISTICS, SETTINGS, REJECTED = "preprocessing.npz", "settings.json", "rejected.jsonl"
REMEDY = "remove the folder of the prepared set, and it is prepared anew"
DIGESTS = "digests.json"  # for the files that have no checksum in them
WITHOUT_CHECKSUM = ("dataset_info.json", "features.json", "classes.json", "settings.json", "listing.json")
SUMMARY = "listing.json"  # of the listing, see `listing.save_summary`
CLASSES = "classes.json"  # the exact names; TFDS's own list loses spaces at their ends


@dataclass(frozen=True)
class PreparedSet:
    """A dataset whose pictures are squares of one size."""

    name: str
    builder: tfds.core.DatasetBuilder
    classes: tuple[str, ...]  # names, by label
    resize: int  # the squares' side in pixels
    encoding: str  # jpeg or raw
    digests: dict[str, str]  # by file, for the files that have no checksums in them
    listing: str  # the digest of the listing that it was prepared from

    def examples(self, split: str) -> int:
        """The number of pictures in the split. Raises UserError if there is no such split, or it is empty."""
        try:
            examples = int(self.builder.info.splits[split].num_examples)
        except (KeyError, ValueError) as error:
            there = ", ".join(self.builder.info.splits)
            raise UserError(
                f"'{self.name}' has no split '{split}'; it has {there}: name one of these as "
                "--config.evaluate.split, or --config.data.train_split"
            ) from error
        if not examples:
            raise UserError(f"the split '{split}' of '{self.name}' holds no picture; name a larger split")
        return examples

    @property
    def folder(self) -> Path:
        """The folder with its files."""
        return Path(self.builder.data_dir)


def labels_of_split(prepared: PreparedSet, split: str) -> np.ndarray:
    """int64 [pictures], the labels of a split, or of a slice of a split, from the indices of its files."""
    labels = [np.zeros(0, np.int64)]
    for file in prepared.builder.info.splits[split].file_instructions:
        stop = None if file.take == -1 else file.skip + file.take
        labels.append(index_of(prepared, Path(file.filename).name)["label"][file.skip : stop])
    return np.concatenate(labels)


def index_of(prepared: PreparedSet, file: str) -> np.ndarray:
    """The index of a record file, INDEX [records]. Raises UserError if it is damaged."""
    path = prepared.folder / index_name(file)
    _require_as_written(path, prepared.digests)
    return np.fromfile(path, INDEX)


def _require_as_written(path: Path, digests: dict[str, str]) -> None:
    """Raises UserError unless the file is there and has its digest."""
    try:
        digest = digest_of(path)
    except OSError as error:
        raise UserError(f"'{path}' cannot be read ({error.strerror}); {REMEDY}") from error
    if digests.get(path.name) != digest:
        raise UserError(f"'{path}' has changed since it was written; {REMEDY}")


def digest_of(path: Path) -> str:
    """The digest of a file's bytes. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=16)).hexdigest()


def index_name(file: str) -> str:
    """The name of the index of a record file: it has an INDEX for each record."""
    return f"index-of-{file.replace('.tfrecord', '')}"


def labels_of(folder: Path, file: str) -> np.ndarray:
    """int64 [records], the labels in a record file, from its index."""
    return np.fromfile(folder / index_name(file), INDEX)["label"]


def file_names(source: PreparedSet, split: str) -> Iterator[str]:
    """The names of the split's pictures, in the order in which they are stored."""
    dataset = source.builder.as_dataset(
        split=split,
        decoders=tfds.decode.PartialDecoding({"file_name": True}),
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    for example in dataset.as_numpy_iterator():
        yield example["file_name"].decode(errors="surrogateescape")


def features(resize: int, encoding: str, classes: tuple[str, ...]) -> tfds.features.FeaturesDict:
    """TFDS's description of a record."""
    shape = (resize, resize, 3)
    image = (
        tfds.features.Image(shape=shape, encoding_format="jpeg")
        if encoding == "jpeg"
        else tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding="bytes")
    )
    label = tfds.features.ClassLabel(names=_for_tfds(classes))
    return tfds.features.FeaturesDict({"image": image, "label": label, "file_name": tfds.features.Text()})


def _for_tfds(classes: tuple[str, ...]) -> list[str]:
    """The names in a form that TFDS can read again: names with spaces at their ends are put in quotes."""
    names = [name if name == name.strip() else json.dumps(name) for name in classes]
    return names if len(set(names)) == len(names) else [json.dumps([i, name]) for i, name in enumerate(classes)]


def folders(data: ConfigDict) -> list[Path]:
    """Where the prepared set may lie: the first folder that holds it is used, or else the first that can be written."""
    if data.prepared_dir:
        return [_configured(data)]
    beside = _named_by_pictures(data) or _only_one_named_by_pictures(data) or _named_by_set(data)
    return [*_under_its_own_name(data), beside, _in_cache(beside)]


def _configured(data: ConfigDict) -> Path:
    """Rule: the folder that the config names, or the version in it."""
    named = Path(data.prepared_dir).expanduser().absolute()
    return named / VERSION if is_whole(named / VERSION) else named


def _under_its_own_name(data: ConfigDict) -> list[Path]:
    """Rule: the folder with the set's own name, if what lies there was prepared here."""
    own = root(data) / data.name / VERSION
    return [own] if is_whole(own) and (own / SETTINGS).is_file() else []


def _named_by_pictures(data: ConfigDict) -> Path | None:
    """Rule: for pictures without a name of their own, their folder's name and a digest of its path."""
    if not kind_of(data.name).is_named_by_folder or not data.manual_dir:
        return None
    pictures = os.path.realpath(Path(data.manual_dir).expanduser())
    digest = hashlib.blake2b(os.fsencode(pictures), digest_size=4).hexdigest()
    return root(data) / f"{plain_name(Path(pictures).name)}-{digest}{_form(data)}" / VERSION


def _only_one_named_by_pictures(data: ConfigDict) -> Path | None:
    """Rule: if the config names no pictures, the only set that was prepared by the rule above."""
    if not kind_of(data.name).is_named_by_folder or data.manual_dir:
        return None
    there = [*filter(is_whole, root(data).glob(f"*-{'[0-9a-f]' * 8}{_form(data)}/{VERSION}"))]
    return there[0] if len(there) == 1 else None


def _named_by_set(data: ConfigDict) -> Path:
    """Rule: the set's name."""
    return root(data) / f"{plain_name(data.name)}{_form(data)}" / VERSION


def _in_cache(beside: Path) -> Path:
    """Rule: in the user's cache, for data that cannot be written to."""
    return cache.folder() / beside.relative_to(beside.anchor)


def _form(data: ConfigDict) -> str:
    return f"_{data.resize}" + ("" if data.square == "crop" else f"_{data.square}")


def plain_name(name: str) -> str:
    """The name for a file: anything but letters and digits becomes an underscore."""
    return "".join(c if c.isalnum() else "_" for c in name)


def settings(data: ConfigDict) -> dict[str, str | int | float]:
    """The config's fields that decide the bytes of a prepared set, by name."""
    wanted = {name: data[name] for name in ("name", "resize", "square", "encoding", *ACCEPTANCE)}
    if data.encoding == "jpeg":
        wanted["jpeg_quality"] = data.jpeg_quality
    if not kind_of(data.name).has_own_splits:
        wanted["validation_fraction"] = data.validation_fraction
    if data.manual_dir:
        wanted["manual_dir"] = str(Path(data.manual_dir).expanduser().absolute())
    return wanted


def _found(folder: Path) -> dict[str, str | int | float]:
    """The settings with which the set in the folder was made. Raises UserError if they cannot be read."""
    try:
        found = json.loads((folder / SETTINGS).read_text())
        if not isinstance(found, dict):
            raise ValueError("it does not hold settings")
        return found
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / SETTINGS} cannot be read ({error}); remove '{folder}' to prepare anew") from error


def begins_anew(folder: Path, data: ConfigDict) -> bool:
    """Whether the unfinished set in the folder accepted pictures by other rules; says so."""
    found = _found(folder)
    differ = [f"{k} was {found.get(k)!r} and is {data[k]!r}" for k in ACCEPTANCE if found.get(k) != data[k]]
    if differ:
        say(f"beginning anew in '{folder}', as config.data.{', '.join(differ)}")
    return bool(differ)


def require_same(folder: Path, data: ConfigDict) -> None:
    """Raises UserError if the set in the folder, finished or not, was made with other settings."""
    found = _found(folder)
    # Pictures may have moved: the listing shows whether they are the same.
    apart = {"manual_dir", "name"} if folder.parent.name == data.name else {"manual_dir"}
    differ = [
        f"{k} {found[k]!r} there and {v!r} here"
        for k, v in settings(data).items()
        if k not in apart and found.get(k, v) != v
    ]
    if differ:
        raise _other_settings(folder, ", ".join(differ))


def require_same_place(folder: Path, data: ConfigDict) -> None:
    """Raises UserError if the set in the folder, finished or not, was made from pictures that lie elsewhere."""
    theirs = str(_found(folder).get("manual_dir", ""))
    if data.manual_dir and theirs and os.path.realpath(theirs) != os.path.realpath(Path(data.manual_dir).expanduser()):
        raise _other_settings(folder, f"manual_dir {theirs!r} there and {data.manual_dir!r} here")


def _other_settings(folder: Path, differ: str) -> UserError:
    final = folder.parent if folder.name in (VERSION, "incomplete") else folder
    return UserError(
        f"'{folder}' was prepared with other settings: {differ}; use these settings, or "
        f"--config.data.prepared_dir={final}_2 to prepare anew beside it"
    )


def open_set(folder: Path, data: ConfigDict) -> PreparedSet:
    """The set in the folder. Raises UserError if it is not the config's, or cannot be read."""
    require_same(folder, data)
    try:
        digests = json.loads((folder / DIGESTS).read_text())
        for name in WITHOUT_CHECKSUM:
            _require_as_written(folder / name, digests)
        listing = json.loads((folder / SUMMARY).read_text())["digest"]
        builder = tfds.builder_from_directory(folder)
        classes = tuple(json.loads((folder / CLASSES).read_text()))
    except UserError:
        raise
    except Exception as error:  # TFDS raises many kinds for damaged files
        raise UserError(f"'{folder}' cannot be read ({error}); remove it to prepare anew") from error
    return PreparedSet(data.name, builder, classes, data.resize, data.encoding, digests, listing)


def is_whole(folder: Path) -> bool:
    """Whether there is a finished set in the folder."""
    return (folder / "dataset_info.json").is_file()
