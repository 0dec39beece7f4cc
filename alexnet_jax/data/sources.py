"""Where pictures come from: TFDS sets, the official tars, tars of synsets, folders, the digits.

Every source yields its encoded pictures in an order of its own that never changes, with label and
file name. Nothing is decoded here.
"""

import contextlib
import hashlib
import os
import re
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from tensorflow_datasets.datasets.imagenet2012 import imagenet_common

from alexnet_jax.data.pictures import Picture
from alexnet_jax.data.tensorflow import tfds
from alexnet_jax.messages import UserError, say

TRAIN_TAR, VALIDATION_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")  # of pictures in folders, in any case
UNLABELLED = ("imagenet2012", "test")  # a split whose labels were never published
FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}  # a split's names


class Digits(tfds.core.GeneratorBasedBuilder):
    """scikit-learn's 1,797 handwritten digits, 8x8 pixels, in a fixed stratified split."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits from the UCI repository, as scikit-learn ships them.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        rows = np.arange(len(digits.target))
        train, validation = train_test_split(rows, test_size=360, stratify=digits.target, random_state=0)
        return {
            "train": self._generate_examples(digits, train),
            "validation": self._generate_examples(digits, validation),
        }

    def _generate_examples(self, digits: Any, rows: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        for row in rows:
            pixels = np.round(digits.images[row] * (255 / 16)).astype(np.uint8)  # from 0..16
            yield int(row), {"image": pixels[..., None], "label": int(digits.target[row])}


@dataclass(frozen=True)
class Split:
    """Some of a source's pictures."""

    about: int  # how many, as far as can be said without reading them all
    pictures: Callable[[], Iterator[Picture]]  # from the first one, in the fixed order


@dataclass(frozen=True)
class Source:
    """A set of labelled pictures that has not been prepared yet."""

    name: str
    classes: tuple[str, ...]  # names, by label
    splits: dict[str, Split]
    words: tuple[str, ...] = ()  # what a person calls the classes, where that is known


def open_source(data: ConfigDict) -> Source:
    """The source of the config. Raises UserError if its files are not there or not as they should be."""
    if data.name == "folder":
        return _folder(_manual_dir(data), data.validation_fraction)
    if data.name == "synset_tars":
        return _synset_tars(_manual_dir(data), data.validation_fraction)
    builder = _builder(data)
    if data.name == "imagenet2012" and not builder.is_prepared():
        return _imagenet(data, builder)
    return _tfds_set(data, builder)


def class_names(data: ConfigDict) -> tuple[str, ...]:
    """The dataset's classes, which are known before it is prepared. Raises UserError as `open_source`."""
    if data.name in ("folder", "synset_tars"):
        return open_source(data).classes
    return _keys_and_classes(data.name, _builder(data))[2]


def has_own_splits(name: str) -> bool:
    """Whether the source says by itself which pictures are for validation, and no fraction does."""
    return name not in ("folder", "synset_tars")


def root(data: ConfigDict) -> Path:
    """Where datasets lie: the config's folder, or TFDS's own."""
    chosen = data.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(chosen).expanduser().absolute()


# A folder of pictures.


def _manual_dir(data: ConfigDict) -> Path:
    if not data.manual_dir:
        raise UserError(
            f"config.data.name is '{data.name}' and no folder is named; give it as --config.data.manual_dir=DIR"
        )
    folder = Path(data.manual_dir).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(f"--config.data.manual_dir={data.manual_dir} is no folder; name the one that holds the data")
    return folder


def _split_folder(folder: Path, split: str) -> Path | None:
    return next((folder / name for name in FOLDERS[split] if (folder / name).is_dir()), None)


def _folder(folder: Path, fraction: float) -> Source:
    train = _split_folder(folder, "train")
    listed = {"train": _class_folders(train or folder)}
    for split in ("validation", "test"):
        found = _split_folder(folder, split)
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


def held_out(names: list[str], fraction: float) -> tuple[list[str], list[str]]:
    """A class's files, those for training and those for validation, each in the given order.

    Which ones is decided by a digest of each file's own name: the same wherever the files lie. Of
    two files or more at least one goes to either side.
    """
    chosen = round(len(names) * fraction)
    chosen = min(max(chosen, 1), len(names) - 1) if len(names) > 1 else 0
    by_digest = sorted(range(len(names)), key=lambda i: (_digest(os.path.basename(names[i])), i))
    out = set(by_digest[:chosen])
    return [n for i, n in enumerate(names) if i not in out], [n for i, n in enumerate(names) if i in out]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()


# Tars.


def _imagenet(data: ConfigDict, builder: tfds.core.DatasetBuilder) -> Source:
    """The two official tars: one of a tar per synset, and a flat one of the validation pictures."""
    folder = Path(data.manual_dir).expanduser() if data.manual_dir else Path(os.devnull)
    missing = [tar for tar in (TRAIN_TAR, VALIDATION_TAR) if not (folder / tar).is_file()]
    if missing:
        if data.manual_dir:
            there = sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []
            listed = ", ".join(there[:5]) + (f" and {len(there) - 5} more" if len(there) > 5 else "")
            where = f"'{data.manual_dir}' has no {' and no '.join(missing)} (it has {listed or 'nothing'})"
        else:
            where = "no folder of its tars was named"
        raise UserError(
            f"imagenet2012 is not prepared in {root(data)} and {where}; get {TRAIN_TAR} and {VALIDATION_TAR} "
            "from image-net.org (an account is needed) and give their folder as --config.data.manual_dir=DIR"
        )
    classes = _keys_and_classes(data.name, builder)[2]
    labels = {synset: label for label, synset in enumerate(classes)}

    def train() -> Iterator[Picture]:
        path = folder / TRAIN_TAR
        with _open_tar(path) as outer:
            for inner in _files_in(outer, path):
                synset = Path(inner.name).stem
                if synset not in labels:
                    raise UserError(f"{path} holds '{inner.name}', which is no tar of one of the 1,000 synsets")
                file = outer.extractfile(inner)
                with _open_tar(path, file) as tar:
                    for member in _files_in(tar, f"{path}, {inner.name}"):
                        at = inner.offset_data + member.offset_data
                        yield Picture(member.name, labels[synset], str(path), at, member.size)

    def validation() -> Iterator[Picture]:
        path = folder / VALIDATION_TAR
        try:
            synsets = imagenet_common.get_validation_labels(str(path))
        except tarfile.TarError as error:
            raise _damaged_tar(path, error) from error
        with _open_tar(path) as tar:
            for member in _files_in(tar, path):
                yield Picture(member.name, labels[synsets[member.name]], str(path), member.offset_data, member.size)

    def about(path: Path, pictures: Iterator[Picture]) -> Split:
        first = [picture.size + 512 for picture, _ in zip(pictures, range(256), strict=False)]
        mean = sum(first) / len(first) if first else 1
        return Split(max(1, round(path.stat().st_size / mean)), train if path.name == TRAIN_TAR else validation)

    splits = {"train": about(folder / TRAIN_TAR, train()), "validation": about(folder / VALIDATION_TAR, validation())}
    return Source(data.name, classes, splits)


def _synset_tars(folder: Path, fraction: float) -> Source:
    """One tar per synset; flat folders for validation and test, or a share of each tar held out."""
    tars = {path.stem: path for path in sorted((_split_folder(folder, "train") or folder).glob("*.tar"))}
    kit = _development_kit(folder)
    if len(tars) < 2:
        there = sorted(path.name for path in folder.iterdir())[:5]
        raise UserError(
            f"'{folder}' has {len(tars)} tars of synsets (nXXXXXXXX.tar) in it or in its folder train, and it has "
            f"{', '.join(there) or 'nothing'}; name the folder of the release as --config.data.manual_dir=DIR"
        )
    if kit:
        missing = sorted(synset.wnid for synset in kit if synset.is_leaf and synset.wnid not in tars)
        if missing:
            raise UserError(
                f"{len(missing)} of meta.mat's synsets have no tar in '{folder}', {missing[0]}.tar first of all; found "
                f"instead {', '.join(path.name for path in list(tars.values())[:5])}"
            )
        strange = sorted(set(tars) - {synset.wnid for synset in kit})
        if strange:
            raise UserError(f"{tars[strange[0]]} is the tar of no synset in meta.mat; remove it, or rename it")
        kit = [synset for synset in kit if synset.wnid in tars]  # in the order of their numbers
    classes = tuple(synset.wnid for synset in kit) if kit else tuple(tars)
    words = tuple(synset.words for synset in kit)
    by_number = {synset.number: label for label, synset in enumerate(kit)}
    splits = {
        split: _flat_folder(found, _ground_truth(folder, split), by_number)
        for split in ("validation", "test")
        if (found := _split_folder(folder, split))
    }

    def pictures(part: str) -> Iterator[Picture]:
        for label, synset in enumerate(classes):
            path = tars[synset]
            with _open_tar(path) as tar:
                members = {member.name: member for member in _files_in(tar, path)}
            names = list(members)
            if part != "all":
                names = held_out(names, fraction)[0 if part == "train" else 1]
            for name in names:
                yield Picture(name, label, str(path), members[name].offset_data, members[name].size)

    with _open_tar(tars[classes[0]]) as tar:
        sizes = [member.size + 512 for member in _files_in(tar, tars[classes[0]])]
    total = sum(path.stat().st_size for path in tars.values())
    about = max(1, round(total / (sum(sizes) / len(sizes)))) if sizes else 1
    if "validation" in splits:
        return Source("synset_tars", classes, {"train": Split(about, lambda: pictures("all")), **splits}, words)
    held = {"train": 1 - fraction, "validation": fraction}
    shares = {part: Split(max(1, round(about * share)), partial(pictures, part)) for part, share in held.items()}
    say(f"'{folder}' has no folder for validation: config.data.validation_fraction, {fraction:.0%}, is taken")
    return Source("synset_tars", classes, {**shares, **splits}, words)


@dataclass(frozen=True)
class _Synset:
    number: int  # as ground-truth files have it
    wnid: str
    words: str
    is_leaf: bool


def _development_kit(folder: Path) -> list[_Synset]:
    """The synsets of the development kit's meta.mat by their numbers; none where there is no such file."""
    path = _find(folder, lambda name: name == "meta.mat")
    if path is None:
        return []
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        rows = np.atleast_1d(loadmat(path, squeeze_me=True)["synsets"])
        number = next(name for name in rows.dtype.names or () if name.endswith("_ID"))
        synsets = [
            _Synset(int(row[number]), str(row["WNID"]), str(row["words"]), int(row["num_children"]) == 0)
            for row in rows
        ]
    # Each way of being another file has its own: no MATLAB file, version 7.3, no synsets, other fields.
    except (MatReadError, KeyError, TypeError, ValueError, StopIteration, NotImplementedError) as error:
        raise UserError(f"{path} is no meta.mat of a development kit ({error}); put the kit's own there") from error
    return sorted(synsets, key=lambda synset: synset.number)


def _ground_truth(folder: Path, split: str) -> Path:
    names = FOLDERS[split]
    path = _find(folder, lambda name: name.endswith("ground_truth.txt") and any(n in name for n in names))
    if path is None:
        raise UserError(
            f"'{folder}' has {split} pictures and no *_{split}_ground_truth.txt; put the development kit's there"
        )
    return path


def _find(folder: Path, is_it: Callable[[str], bool]) -> Path | None:
    """The first such file in the folder, the folders of pictures left out."""
    pictures = {name for names in FOLDERS.values() for name in names}
    for inside, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - pictures)
        for name in sorted(names):
            if is_it(name):
                return Path(inside, name)
    return None


def _flat_folder(folder: Path, ground_truth: Path, by_number: dict[int, int]) -> Split:
    names = sorted(path.name for path in folder.iterdir() if path.name.lower().endswith(SUFFIXES))
    lines = ground_truth.read_text().split()
    if len(lines) != len(names):
        raise UserError(
            f"{ground_truth} has {len(lines)} lines and '{folder}' has {len(names)} pictures; they must be as many: "
            "get the missing ones, or the ground truth of this release"
        )
    if not by_number:
        raise UserError(
            f"{ground_truth} gives synsets by number and there is no meta.mat to say which is which; put the "
            "development kit's beside it"
        )
    unknown = [line for line in lines if not line.isdigit() or int(line) not in by_number]
    if unknown:
        raise UserError(
            f"{ground_truth} has the synset number {unknown[0]}, which training lacks; put its tar beside the others"
        )
    labels = [by_number[int(line)] for line in lines]

    def pictures() -> Iterator[Picture]:
        for name, label in zip(names, labels, strict=True):
            yield Picture(name, label, str(folder / name))

    return Split(len(names), pictures)


def _open_tar(path: Path, file: Any = None) -> tarfile.TarFile:
    try:
        return tarfile.open(None if file else path, "r:", fileobj=file)
    except (tarfile.TarError, OSError) as error:
        raise _damaged_tar(path, error) from error


def _files_in(tar: tarfile.TarFile, where: Any) -> Iterator[tarfile.TarInfo]:
    try:
        for member in tar:
            if member.isfile():
                yield member
    except tarfile.TarError as error:
        raise _damaged_tar(where, error) from error


def _damaged_tar(where: Any, error: Exception) -> UserError:
    return UserError(f"{where} is no whole tar ({error}); get it anew, and the same command goes on")


# TFDS.


def _builder(data: ConfigDict) -> tfds.core.DatasetBuilder:
    try:
        return tfds.builder(data.name, data_dir=str(root(data)))
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        raise UserError(
            f"config.data.name is '{data.name}', which is no dataset of TFDS; set --config.data.name to one of its "
            "image classification sets, such as imagenet2012, or to folder, synset_tars or digits"
        ) from error
    except OSError as error:
        raise _unwritable(error) from error


def _unwritable(error: OSError) -> UserError:
    return UserError(
        f"the data folder '{error.filename}' cannot be written ({error.strerror}); set --config.data.data_dir to a "
        "folder that can"
    )


def _keys_and_classes(name: str, builder: tfds.core.DatasetBuilder) -> tuple[str, str, tuple[str, ...]]:
    keys = builder.info.supervised_keys
    if keys and len(keys) == 2:
        image_key, label_key = keys
        image, label = builder.info.features[image_key], builder.info.features[label_key]
        if isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.ClassLabel):
            return image_key, label_key, tuple(label.names)
    raise UserError(
        f"config.data.name is '{name}', which has no pair of a picture and a class; set --config.data.name to an "
        "image classification set"
    )


def _tfds_set(data: ConfigDict, builder: tfds.core.DatasetBuilder) -> Source:
    """A set that TFDS has prepared, read as it is; the digits are prepared here, without a network."""
    image_key, label_key, classes = _keys_and_classes(data.name, builder)
    if not builder.is_prepared():
        if data.name != "digits":
            raise UserError(
                f"'{data.name}' is not prepared in {root(data)}, and nothing is downloaded here; where there is a "
                f"network, run `tfds build {data.name} --data_dir=DIR` and give --config.data.data_dir=DIR"
            )
        try:
            with contextlib.redirect_stdout(sys.stderr):  # standard output is for the result
                builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
        except OSError as error:
            raise _unwritable(error) from error
    has_name = "file_name" in builder.info.features

    def pictures(split: str) -> Iterator[Picture]:
        dataset = builder.as_dataset(
            split=split,
            decoders={image_key: tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )
        for number, example in enumerate(dataset.as_numpy_iterator()):
            name = example["file_name"].decode() if has_name else f"{split}/{number}"
            yield Picture(name, int(example[label_key]), data=example[image_key])

    splits = {
        name: Split(info.num_examples, partial(pictures, name))
        for name, info in builder.info.splits.items()
        if info.num_examples and not re.search("unlabel|unsupervised", name) and (data.name, name) != UNLABELLED
    }
    return Source(data.name, classes, splits)
