"""The four files of the MNIST family, as they are distributed: MNIST, Fashion-MNIST, KMNIST.

An idx file has two zero bytes, a byte for its type (8: unsigned bytes), a byte for the number of axes, the length of
each axis in four bytes, the highest first, and then the values. The files here are packed with gzip.
"""

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict
from PIL import Image

from alexnet_jax.data.decode.picture import Picture
from alexnet_jax.data.sources.source import Files, Kind, Source, Split, files_in_manual_dir, manual_dir, split_of
from alexnet_jax.messages import UserError

FILES = {  # for each split, its pictures and its labels
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
NAMES = tuple(name for pair in FILES.values() for name in pair)
PICTURES_MAGIC, LABELS_MAGIC = 0x803, 0x801  # the first four bytes: unsigned bytes with three axes, or one
MAX_BYTES = 1 << 31  # of unpacked values: a damaged header may ask for more than the memory holds


def list_idx(folder: Path) -> Source:
    """The pictures of the four files in `folder`; the names of the classes are their numbers, 0, 1 and so on.

    Raises:
      UserError: a file is missing, cut short or of another kind; the numbers of pictures and labels differ; there is
        only one class; or a label has no training picture.
    """
    for name in NAMES:
        if not (folder / name).is_file():
            raise UserError(
                f"'{folder}' lacks {name}; put the set's four files there as they are distributed, in gzip and by "
                "these names"
            )
    splits: dict[str, Split] = {}
    classes = 0
    for split, (pictures, labels) in FILES.items():
        pixels, of_each = read_idx(folder / pictures, PICTURES_MAGIC), read_idx(folder / labels, LABELS_MAGIC)
        if len(pixels) != len(of_each):
            raise UserError(
                f"'{folder / pictures}' has {len(pixels):,} pictures, but {labels} has {len(of_each):,} labels; get "
                "both again, from the same set"
            )
        if split == "train":
            classes = _number_of_classes(of_each, folder / labels)
        elif unknown := sorted(set(of_each.tolist()) - set(range(classes))):
            raise UserError(
                f"'{folder / labels}' has the label {unknown[0]}, but training has only the labels from 0 to "
                f"{classes - 1}; get the four files again, from the same set"
            )
        # Numbers have leading zeros, so that sorted names keep the order of the pictures.
        wide = len(str(len(pixels) - 1))
        splits[split] = split_of(
            [
                Picture(f"{split}/{number:0{wide}d}.png", int(label), size=len(png), data=png)
                for number, (label, png) in enumerate(zip(of_each, map(_png, pixels), strict=True))
            ]
        )
    met = sum(split.count for split in splits.values())
    return Source("idx", tuple(str(label) for label in range(classes)), splits, met=met)


def open_idx(data: ConfigDict) -> Source:
    """The pictures in the folder that the config names. Raises UserError as `list_idx`."""
    return list_idx(manual_dir(data))


def class_names(data: ConfigDict) -> tuple[str, ...]:
    """The classes, from the training labels alone. Raises UserError if these cannot be read."""
    folder = manual_dir(data)
    path = folder / FILES["train"][1]
    if not path.is_file():
        raise UserError(f"'{folder}' lacks {path.name}; put the set's four files there as they are distributed")
    return tuple(str(label) for label in range(_number_of_classes(read_idx(path, LABELS_MAGIC), path)))


def _number_of_classes(labels: UInt8[np.ndarray, " pictures"], path: Path) -> int:
    there = np.unique(labels)
    if len(there) < 2:
        raise UserError(
            f"'{path}' has labels of {len(there)} class{'' if len(there) == 1 else 'es'}; at least two are needed"
        )
    lacking = sorted(set(range(int(there[-1]) + 1)) - set(there.tolist()))
    if lacking:
        raise UserError(
            f"'{path}' has labels up to {there[-1]} but no label {lacking[0]}, so that this class has no pictures; get "
            "it again"
        )
    return len(there)


def read_idx(path: Path, magic: int) -> UInt8[np.ndarray, "..."]:
    """The array in an idx file, unsigned bytes.

    Args:
      magic: its first four bytes; the last of them is the number of axes.

    Raises:
      UserError: it has other first bytes, is cut short, is longer than its header says, is damaged, or is no gzip file.
    """
    axes = magic & 0xFF
    what = "pictures" if axes == 3 else "labels"
    try:
        with gzip.open(path) as file:
            head = file.read(4 * (1 + axes))
            found = struct.unpack(">I", head[:4])[0] if len(head) >= 4 else None
            if found is not None and found != magic:
                raise UserError(
                    f"'{path}' is not an idx file of {what}: it begins with {found:#06x} and should begin with "
                    f"{magic:#06x}; get it again"
                )
            if len(head) < 4 * (1 + axes):
                raise EOFError
            shape = struct.unpack(f">{axes}I", head[4:])
            size = int(np.prod(shape, dtype=np.float64))
            if size >= MAX_BYTES:
                raise UserError(
                    f"'{path}' says that it holds {what} of shape {shape}, which is too large; get it again"
                )
            content = file.read(size + 1)
    except EOFError:
        raise UserError(f"'{path}' is cut short; get it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"'{path}' is damaged, or no gzip file ({error}); get it again") from error
    if len(content) != size:
        how = f"cut short: {len(content):,} bytes of" if len(content) < size else "longer than"
        raise UserError(f"'{path}' is {how} {what} of shape {shape} in it; get it again")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _png(pixels: UInt8[np.ndarray, "height width"]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _files(data: ConfigDict) -> Files | None:
    return files_in_manual_dir(data, NAMES)


KIND = Kind("idx", open_idx, class_names, _files, is_named_by_folder=True)
