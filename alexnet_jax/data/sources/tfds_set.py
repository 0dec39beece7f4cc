"""A set of TFDS, read as TFDS has prepared it."""

import hashlib
import os
import re
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.data.decode.squares import Picture
from alexnet_jax.data.sources import digits  # which registers them with TFDS
from alexnet_jax.data.sources.source import LeftOut, Source, Split, root
from alexnet_jax.data.tensorflow import tfds
from alexnet_jax.messages import UserError

LENGTH, CHECKSUM = struct.Struct("<Q4x"), 4  # of TFRecord: before a record and its checksum, and behind; bytes
UNLABELLED = ("imagenet2012", "test")  # a split whose labels were never published


def builder_of(data: ConfigDict) -> tfds.core.DatasetBuilder:
    """TFDS's builder of the config's set. Raises UserError if TFDS knows none of that name."""
    try:
        return tfds.builder(data.name, data_dir=str(root(data)))
    except (tfds.core.registered.DatasetNotFoundError, ValueError, AssertionError) as error:
        raise UserError(
            f"config.data.name is '{data.name}', which is no dataset of TFDS, or has no such version; set "
            "--config.data.name to one of its image classification sets, such as imagenet2012, or to folder, "
            "synset_tars, idx or digits"
        ) from error
    except OSError as error:
        raise _unwritable(error) from error
    except Exception as error:  # of many kinds, for files that are not what TFDS wrote
        raise UserError(
            f"'{data.name}' in {root(data)} cannot be read ({str(error).splitlines()[0]}); remove its folder there, "
            "and prepare it again"
        ) from error


def _unwritable(error: OSError) -> UserError:
    return UserError(
        f"the data folder '{error.filename}' cannot be written ({error.strerror}); set --config.data.data_dir to a "
        "folder that can"
    )


def keys_and_classes(name: str, builder: tfds.core.DatasetBuilder) -> tuple[str, str, tuple[str, ...]]:
    """The features that are the picture and its class, and the classes. Raises UserError if there are no such two."""
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


def _checksums(path: str) -> str:
    """A digest of the checksums that a TFRecord file has of its records, which tells of what is in them.

    Only these are read. Of a file of another format, or a damaged one, it is of the file's times.
    """
    digest, size = hashlib.blake2b(digest_size=8), os.path.getsize(path)
    with open(path, "rb") as file:
        at = 0
        while ".tfrecord" in path and at + LENGTH.size <= size:
            file.seek(at)
            at += LENGTH.size + LENGTH.unpack(file.read(LENGTH.size))[0] + CHECKSUM
            file.seek(at - CHECKSUM)
            digest.update(file.read(CHECKSUM))
    return digest.hexdigest() if at == size else f"{os.stat(path).st_mtime_ns:x}"


def open_tfds_set(data: ConfigDict, builder: tfds.core.DatasetBuilder) -> Source:
    """A set that TFDS has prepared, read as it is; the digits are prepared here, without a network."""
    image_key, label_key, classes = keys_and_classes(data.name, builder)
    if not builder.is_prepared():
        if data.name != "digits":
            raise UserError(
                f"'{data.name}' is not prepared in {root(data)}, and nothing is downloaded here; where there is a "
                f"network, run `tfds build {data.name} --data_dir=DIR` and give --config.data.data_dir=DIR"
            )
        try:
            digits.build(builder)
        except OSError as error:
            raise _unwritable(error) from error
        except RuntimeError as error:  # TFDS's, of what TensorFlow could not write
            raise UserError(
                f"the digits cannot be written in {root(data)} ({str(error.__cause__ or error).splitlines()[0]}); make "
                "room there, or set --config.data.data_dir to another folder"
            ) from error
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

    met, splits, left_out = 0, {}, []
    for name, info in builder.info.splits.items():
        met += info.num_examples
        if re.search("unlabel|unsupervised", name) or (data.name, name) == UNLABELLED:
            left_out.append(LeftOut("pictures without labels", info.num_examples, (name,)))
        elif info.num_examples:
            files = [
                Picture(f"{Path(path).name} {_checksums(str(path))}", 0, size=os.path.getsize(path))
                for path in info.filepaths
            ]
            splits[name] = Split(info.num_examples, files, partial(pictures, name))
    return Source(data.name, classes, splits, met=met, left_out=tuple(left_out))
