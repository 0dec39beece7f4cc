"""What a batch holds: all that crosses to the devices for a step."""

from collections.abc import Mapping
from types import MappingProxyType

import flax.struct
import jax
import numpy as np
from jaxtyping import PyTree


@flax.struct.dataclass
class Batch:
    """Pictures, their labels, and the values drawn for each; the first axis of each array is the examples.

    A field holds an array on the host or the devices, or stands for it: then it holds its shape or sharding.
    """

    image: PyTree  # uint8 [b, crop, crop, 3], cropped and reflected; for ten views uint8 [b, resize, resize, 3]
    label: PyTree  # int32 [b]
    lighting: PyTree  # float32 [b, 3], added to every pixel, on 0..255
    offset: PyTree  # int32 [b, 2], row and column where the part of the mean image to subtract begins
    reflected: PyTree  # bool [b], whether that part is mirrored left to right
    scale: PyTree  # float32 [b], multiplies the picture at the end
    mask: PyTree = None  # bool [b], False for padding; for evaluation, and if an epoch's short last batch is kept


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
    """The shapes and types of a training batch with pictures of side x side, without arrays."""
    shapes = {"image": (side, side, 3), "label": (), "lighting": (3,), "offset": (2,), "reflected": (), "scale": ()}
    shapes |= {"mask": ()} if masked else {}
    leaves = {name: jax.ShapeDtypeStruct((batch_size, *rest), DTYPES[name]) for name, rest in shapes.items()}
    return Batch(**leaves)


def nothing_drawn(batch_size: int, first: int) -> dict[str, np.ndarray]:
    """The fields besides image and label, if nothing is random and each crop begins at row and column `first`."""
    return {
        "lighting": np.zeros((batch_size, 3), np.float32),
        "offset": np.full((batch_size, 2), first, np.int32),
        "reflected": np.zeros(batch_size, bool),
        "scale": np.ones(batch_size, np.float32),
    }


def without_draws(image: PyTree, first: int) -> Batch:
    """A batch of pictures without labels, if nothing is random and each crop begins at row and column `first`."""
    return Batch(image=image, label=np.zeros(len(image), np.int32), **nothing_drawn(len(image), first))
