"""Any set that TFDS knows, as TFDS has prepared it. Nothing is downloaded."""

import hashlib
import os
import re
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.data.decode.picture import Picture
from alexnet_jax.data.sources.source import Files, Kind, LeftOut, Source, Split, root
from alexnet_jax.data.tensorflow import tfds
from alexnet_jax.messages import UserError

# A TFRecord file has a length and its checksum before each record, and a checksum behind it; in bytes.
LENGTH, CHECKSUM = struct.Struct("<Q4x"), 4


def builder_of(data: ConfigDict) -> tfds.core.DatasetBuilder:
    """TFDS's builder for the config's set. Raises UserError if TFDS knows no set of that name."""
    try:
        return tfds.builder(data.name, data_dir=str(root(data)))
    except (tfds.core.registered.DatasetNotFoundError, ValueError, AssertionError) as error:
        raise UserError(
            f"config.data.name is '{data.name}', which is not a dataset of TFDS, or not in that version; set "
            "--config.data.name to one of its image classification sets, such as imagenet2012, or to folder, "
            "synset_tars, idx or digits"
        ) from error
    except OSError as error:
        raise unwritable(error) from error
    except Exception as error:  # TFDS raises many kinds for damaged files
        raise UserError(
            f"'{data.name}' in {root(data)} cannot be read ({str(error).splitlines()[0]}); remove its folder there, "
            "and prepare it again"
        ) from error


def unwritable(error: OSError) -> UserError:
    """For a data folder that cannot be written."""
    return UserError(
        f"the data folder '{error.filename}' cannot be written ({error.strerror}); set --config.data.data_dir to a "
        "writable folder"
    )


def prepared_files(data: ConfigDict) -> Files | None:
    """The files of the set that TFDS has prepared; None if it has not. Raises UserError as `builder_of`."""
    builder = builder_of(data)
    return Files(Path(builder.data_dir)) if builder.is_prepared() else None


def class_names(data: ConfigDict) -> tuple[str, ...]:
    """The set's classes. Raises UserError if it is no set of pictures with classes."""
    return _keys_and_classes(data.name, builder_of(data))[2]


def _keys_and_classes(name: str, builder: tfds.core.DatasetBuilder) -> tuple[str, str, tuple[str, ...]]:
    """The names of the features that hold the picture and its class, and the classes. Raises UserError."""
    keys = builder.info.supervised_keys
    if keys and len(keys) == 2:
        image_key, label_key = keys
        image, label = builder.info.features[image_key], builder.info.features[label_key]
        if isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.ClassLabel):
            return image_key, label_key, tuple(label.names)
    raise UserError(
        f"config.data.name is '{name}', whose examples are not pairs of a picture and a class; set --config.data.name "
        "to an image classification set"
    )


def _checksums(path: str) -> str:
    """A digest of the checksums in a TFRecord file, which changes with any of its records.

    The records themselves are not read. For a file of another format, or a damaged file, it is the file's time.
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


def open_tfds_set(data: ConfigDict) -> Source:
    """The set, by `config.data.name`. Raises UserError if TFDS does not know it or has not prepared it."""
    class_names(data)  # refuses a set that is not for classification before anybody prepares it
    if not builder_of(data).is_prepared():
        raise UserError(
            f"'{data.name}' is not prepared in {root(data)}, and nothing is downloaded here; where there is a "
            f"network, run `tfds build {data.name} --data_dir=DIR` and give --config.data.data_dir=DIR"
        )
    return open_prepared(data)


def open_prepared(data: ConfigDict, unlabelled: tuple[str, ...] = ()) -> Source:
    """A set that TFDS has prepared.

    Args:
      unlabelled: splits to leave out because their pictures have no labels, besides those whose names say so.
    """
    builder = builder_of(data)
    image_key, label_key, classes = _keys_and_classes(data.name, builder)
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
        if re.search("unlabel|unsupervised", name) or name in unlabelled:
            left_out.append(LeftOut("pictures without labels", info.num_examples, (name,)))
        elif info.num_examples:
            files = [
                Picture(f"{Path(path).name} {_checksums(str(path))}", 0, size=os.path.getsize(path))
                for path in info.filepaths
            ]
            splits[name] = Split(info.num_examples, files, partial(pictures, name))
    return Source(data.name, classes, splits, met=met, left_out=tuple(left_out))


KIND = Kind("", open_tfds_set, class_names, prepared_files)
