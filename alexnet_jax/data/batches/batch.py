"""What crosses to the devices for one step: the one place that says what a batch holds."""

from collections.abc import Mapping
from types import MappingProxyType

import flax.struct
import jax
import numpy as np
from jaxtyping import PyTree


@flax.struct.dataclass
class Batch:
    """Pictures, their labels, and what was drawn for each; every array's first axis is the examples.

    PyTree: an array, on the host or on the devices, or what stands for it: a shape, a sharding.
    """

    image: PyTree  # uint8 [b, crop, crop, 3], cropped and reflected; for ten views uint8 [b, resize, resize, 3]
    label: PyTree  # int32 [b]
    lighting: PyTree  # float32 [b, 3], added to every pixel, on 0..255
    offset: PyTree  # int32 [b, 2], row and column of the first pixel of the part of the mean image to subtract
    reflected: PyTree  # bool [b], whether that part is mirrored left to right
    scale: PyTree  # float32 [b], a factor at the end
    mask: PyTree = None  # bool [b], False for padding; in evaluation, and where an epoch's short last batch is kept


DTYPES: Mapping[str, type[np.generic]] = MappingProxyType(
    {
        "image": np.uint8,
        "label": np.int32,
        "lighting": np.float32,
        "offset": np.int32,
        "reflected": np.bool_,
        "scale": np.float32,
        "mask": np.bool_,
    }
)


def described(batch_size: int, side: int, masked: bool = False) -> Batch:
    """The shapes and types of a batch of training, pictures of side x side, with no arrays."""
    shapes = {"image": (side, side, 3), "label": (), "lighting": (3,), "offset": (2,), "reflected": (), "scale": ()}
    shapes |= {"mask": ()} if masked else {}
    leaves = {name: jax.ShapeDtypeStruct((batch_size, *rest), DTYPES[name]) for name, rest in shapes.items()}
    return Batch(**leaves)


def nothing_drawn(batch_size: int, first: int) -> dict[str, np.ndarray]:
    """The fields beside picture and label of a batch where nothing is random, cut from row and column `first` on."""
    return {
        "lighting": np.zeros((batch_size, 3), np.float32),
        "offset": np.full((batch_size, 2), first, np.int32),
        "reflected": np.zeros(batch_size, bool),
        "scale": np.ones(batch_size, np.float32),
    }


def without_draws(image: PyTree, first: int) -> Batch:
    """The batch of pictures of which nothing is drawn and no label known, cut from row and column `first` on."""
    return Batch(image=image, label=np.zeros(len(image), np.int32), **nothing_drawn(len(image), first))
