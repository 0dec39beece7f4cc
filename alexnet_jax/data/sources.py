"""Where examples come from: any TFDS image classification set, and the digits."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from alexnet_jax.messages import UserError, say

IMAGENET_TARS = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")


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
class Source:
    """A prepared dataset."""

    name: str
    builder: tfds.core.DatasetBuilder
    image_key: str
    label_key: str
    classes: tuple[str, ...]  # names, by label

    def examples(self, split: str) -> int:
        """How many the split has. Raises UserError if there is no such split."""
        try:
            return int(self.builder.info.splits[split].num_examples)
        except (KeyError, ValueError) as error:
            there = ", ".join(self.builder.info.splits)
            raise UserError(f"'{self.name}' has no split '{split}'; it has {there}") from error

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return Path(self.builder.data_dir)


def class_names(data: ConfigDict) -> tuple[str, ...]:
    """The dataset's classes, which are known before it is there. Raises UserError as `open_source`."""
    builder = _builder(data)
    return _keys_and_classes(data.name, builder)[2]


def open_source(data: ConfigDict) -> Source:
    """The dataset of the config, prepared first where that needs no download.

    Raises:
      UserError: there is no such dataset, or it is not prepared and its files are not there.
    """
    builder = _builder(data)
    image_key, label_key, classes = _keys_and_classes(data.name, builder)
    if not builder.is_prepared():
        _prepare(builder, data)
    return Source(data.name, builder, image_key, label_key, classes)


def _builder(data: ConfigDict) -> tfds.core.DatasetBuilder:
    folder = os.path.abspath(os.path.expanduser(data.data_dir)) if data.data_dir else None
    try:
        return tfds.builder(data.name, data_dir=folder)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        raise UserError(
            f"config.data.name is '{data.name}', which is no dataset of TFDS; set --config.data.name to one of its "
            "image classification sets, such as imagenet2012, or to digits"
        ) from error
    except PermissionError as error:
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


def _prepare(builder: tfds.core.DatasetBuilder, data: ConfigDict) -> None:
    if data.name == "imagenet2012":
        missing = [tar for tar in IMAGENET_TARS if not Path(data.manual_dir or os.devnull, tar).is_file()]
        if missing:
            where = f"'{data.manual_dir}' has no {' and no '.join(missing)}"
            where = where if data.manual_dir else "no folder of its tars was named"
            raise UserError(
                f"imagenet2012 is not prepared in {builder.data_dir} and {where}; get {' and '.join(IMAGENET_TARS)} "
                "from image-net.org (an account is needed) and give their folder as --config.data.manual_dir=DIR"
            )
    elif data.name != "digits":
        raise UserError(
            f"'{data.name}' is not prepared in {builder.data_dir}, and nothing is downloaded here; where there is a "
            f"network, run `tfds build {data.name} --data_dir=DIR` and give --config.data.data_dir=DIR"
        )
    say(f"preparing {data.name} in {builder.data_dir}")
    download = tfds.download.DownloadConfig(manual_dir=data.manual_dir or None, try_download_gcs=False)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for the result
            builder.download_and_prepare(download_config=download)
    except PermissionError as error:
        raise _unwritable(error) from error
