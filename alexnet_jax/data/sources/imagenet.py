"""ImageNet 2012 from its two official tars."""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict
from tensorflow_datasets.datasets.imagenet2012 import imagenet_common

from alexnet_jax.data.pictures import Picture
from alexnet_jax.data.sources.source import Source, Split, root
from alexnet_jax.data.sources.tars import damaged_tar, files_in, open_inner_tar, open_tar
from alexnet_jax.data.sources.tfds_set import keys_and_classes
from alexnet_jax.data.tensorflow import tfds
from alexnet_jax.messages import UserError

TRAIN_TAR, VALIDATION_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"


def open_imagenet(data: ConfigDict, builder: tfds.core.DatasetBuilder) -> Source:
    """The two official tars: one of a tar per synset, and a flat one of the validation pictures.

    Args:
      builder: TFDS's, for the names of the classes.

    Raises:
      UserError: a tar is not there or is not whole.
    """
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
    classes = keys_and_classes(data.name, builder)[2]
    labels = {synset: label for label, synset in enumerate(classes)}

    def train() -> Iterator[Picture]:
        path = folder / TRAIN_TAR
        with open_tar(path) as outer:
            for inner in files_in(outer, path):
                synset = Path(inner.name).stem
                if synset not in labels:
                    raise UserError(f"{path} holds '{inner.name}', which is no tar of one of the 1,000 synsets")
                with open_inner_tar(outer, inner, path) as tar:
                    for member in files_in(tar, f"{path}, {inner.name}"):
                        at = inner.offset_data + member.offset_data
                        yield Picture(member.name, labels[synset], str(path), at, member.size)

    def validation() -> Iterator[Picture]:
        path = folder / VALIDATION_TAR
        try:
            synsets = imagenet_common.get_validation_labels(str(path))
        except tarfile.TarError as error:
            raise damaged_tar(path, error) from error
        with open_tar(path) as tar:
            for member in files_in(tar, path):
                yield Picture(member.name, labels[synsets[member.name]], str(path), member.offset_data, member.size)

    def about(path: Path, pictures: Iterator[Picture]) -> Split:
        first = [picture.size + 512 for picture, _ in zip(pictures, range(256), strict=False)]
        mean = sum(first) / len(first) if first else 1
        return Split(max(1, round(path.stat().st_size / mean)), train if path.name == TRAIN_TAR else validation)

    splits = {"train": about(folder / TRAIN_TAR, train()), "validation": about(folder / VALIDATION_TAR, validation())}
    return Source(data.name, classes, splits)
