"""The pictures in TensorBoard for each validation: the kernels, and the answers to the same eight pictures."""

from collections.abc import Sequence
from functools import partial

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from PIL import Image, ImageDraw

from alexnet_jax.data import centre_offset
from alexnet_jax.data.batches.batch import Batch, without_draws
from alexnet_jax.data.prepared.contact_sheet import fitted, font_of
from alexnet_jax.data.prepared.prepared_set import PreparedSet
from alexnet_jax.devices import towers
from alexnet_jax.inference.examples import chosen
from alexnet_jax.inference.neighbour_sources import StoredSplit
from alexnet_jax.network import kernels
from alexnet_jax.network.model import Params
from alexnet_jax.training.step import Recipe, class_probabilities

TIMES = 3  # pixels in width and height for each weight of a kernel
PIXELS = 96  # of a picture's side on the sheet, at most
ACROSS, TOP, LINE, GAP = 4, 5, 15, 8  # pictures in a row, classes for each; pixels in a line, and between pictures
TRUE, OTHER = (230, 159, 0), (86, 180, 233)  # orange and sky blue


class ValidationImages:
    """Makes the pictures for a run; reads and compiles nothing before the first call."""

    def __init__(
        self, config: ConfigDict, source: PreparedSet, recipe: Recipe, mesh: Mesh, mean_image: jax.Array
    ) -> None:
        """Keeps what `pictures` needs.

        Args:
          mean_image: float32 [resize, resize, 3], on every device.
        """
        self._config, self._source, self._recipe, self._mesh = config, source, recipe, mesh
        self._mean_image = mean_image
        named = source.classes  # the network may have more classes
        self._classes = (*named, *map(str, range(len(named), recipe.architecture.classes)))
        function = partial(class_probabilities, recipe, mesh, 1)
        self._program = jax.jit(function, compiler_options=towers.compiler_options(mesh, recipe.dtype))
        self._batch: Batch | None = None
        self._images, self._labels = np.zeros((0, 0, 0, 3), np.uint8), [0]

    def pictures(self, params: Params) -> dict[str, np.ndarray]:
        """`kernels` and `predictions` for these parameters, uint8 [height, width, 3] each."""
        batch = self._batch or self._read()
        rows = towers.rows(self._mesh, len(batch.label))
        here = towers.put_batch(jax.tree.map(lambda x: x[rows], batch), self._mesh)
        found = towers.on_host(self._program(params, here, self._mean_image))
        first = self._recipe.architecture.layers[0].name
        predictions = sheet(self._images, self._labels, found[: len(self._images)], self._classes)
        return {"kernels": _kernels(towers.on_host(params[first]["kernel"]), self._recipe), "predictions": predictions}

    def _read(self) -> Batch:
        """Reads the eight pictures into a batch that can be divided over the devices."""
        data, split = self._config.data, self._config.evaluate.split
        rows = chosen(self._source.examples(split), self._config.train.seed)[0].tolist()
        stored = StoredSplit(self._config, self._source, split)
        self._images, self._labels = stored.cut(rows, data.crop), [label or 0 for label in stored.labels(rows)]
        slices = self._mesh.shape[towers.DATA]
        room = np.zeros((-(-len(rows) // slices) * slices, data.crop, data.crop, 3), np.uint8)
        room[: len(rows)] = self._images
        self._batch = without_draws(room, centre_offset(data.resize, data.crop))
        return self._batch


def _kernels(kernel: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The kernels of all towers, one tower below the other, on one scale."""
    kernel = np.nan_to_num(np.asarray(kernel))
    largest = float(np.abs(kernel).max())
    sheets = [kernels.sheet(tower, largest) for tower in kernels.by_tower(kernel, recipe.architecture.towers)]
    between = np.full((2, sheets[0].shape[1], 3), 255, np.uint8)
    parts = [part for one in sheets for part in (one, between)][:-1]
    return np.concatenate(parts).repeat(TIMES, axis=0).repeat(TIMES, axis=1)


def sheet(images: np.ndarray, labels: Sequence[int], probabilities: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Draws each picture under its class, and below it the five likeliest classes as bars; the true class is orange.

    Args:
      images: uint8 [pictures, side, side, 3].
      probabilities: float32 [pictures, at least classes].

    Returns:
      uint8 [height, width, 3].
    """
    side, font = min(PIXELS, images.shape[1]), font_of(11)
    width, height = max(side, PIXELS) + GAP, side + (1 + TOP) * LINE + GAP
    columns = min(ACROSS, len(images))
    drawn = Image.new("RGB", (columns * width + GAP, -(-len(images) // columns) * height + GAP), "white")
    pen = ImageDraw.Draw(drawn)
    for place, (image, label, row) in enumerate(zip(images, labels, probabilities, strict=True)):
        left, top = GAP + place % columns * width, GAP + place // columns * height
        room = width - GAP
        pen.text((left, top), fitted(classes[label], font, room), "black", font)
        small = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
        drawn.paste(small, (left, top + LINE))
        real = np.nan_to_num(row[: len(classes)])
        for line, at in enumerate(np.argsort(-real, kind="stable")[:TOP].tolist()):
            low = top + LINE + side + 2 + line * LINE
            bar = round(room * float(real[at]))
            if bar:
                pen.rectangle((left, low, left + bar - 1, low + LINE - 3), TRUE if at == label else OTHER)
            written = f"{real[at]:.0%}"
            from_right = font.getlength(written)
            pen.text((left + 2, low), fitted(classes[at], font, int(room - from_right - 6)), "black", font)
            pen.text((left + room - from_right, low), written, "black", font)
    return np.asarray(drawn)
