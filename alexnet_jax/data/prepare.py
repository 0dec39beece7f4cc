"""Once for a dataset: the mean image and the RGB covariance of its training pictures."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from alexnet_jax.data import pipeline, sources
from alexnet_jax.messages import UserError, say


@dataclass(frozen=True)
class Preprocessing:
    """What is subtracted from a picture and what its lighting is drawn from."""

    mean_image: np.ndarray  # float32 [resize, resize, 3], RGB from 0 to 255
    rgb_covariance: np.ndarray  # float64 [3, 3], of all pixels, on 0 to 1

    @property
    def lighting(self) -> np.ndarray:
        """float64 [3, 3]: principal axes of RGB as columns, times eigenvalue, on 0..255 (section 4.1).

        The formula means something only with pixels from 0 to 1; the shift is then scaled to 0..255.
        """
        values, axes = np.linalg.eigh(self.rgb_covariance)
        return axes * values * 255

    def save(self, path: Path) -> None:
        """Writes the file as a whole or not at all."""
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        with open(unfinished, "wb") as file:
            np.savez(file, mean_image=self.mean_image, rgb_covariance=self.rgb_covariance)
        os.replace(unfinished, path)


def load(path: Path) -> Preprocessing:
    """Raises UserError if the file is not there or is not whole."""
    try:
        with np.load(path) as arrays:
            return Preprocessing(arrays["mean_image"], arrays["rgb_covariance"])
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it to have it made anew") from error


def statistics(batches: Iterable[np.ndarray]) -> Preprocessing:
    """Mean image and covariance of uint8 [b, side, side, 3] pictures, by sums that are exact."""
    count, total, products = 0, np.zeros(()), np.zeros((3, 3))
    for images in batches:
        pixels = images.reshape(-1, 3).astype(np.float64)
        products = products + pixels.T @ pixels  # integers, exact to 2^53
        total = total + images.sum(axis=0, dtype=np.int64)
        count += len(images)
    mean = total / count
    rgb = mean.mean(axis=(0, 1))
    covariance = products / (count * mean.shape[0] * mean.shape[1]) - np.outer(rgb, rgb)
    return Preprocessing(mean.astype(np.float32), covariance / 255**2)


def prepare(source: sources.Source, config: Any) -> Preprocessing:
    """The training set's statistics: those that lie beside the data, or made and put there."""
    data = config.data
    split = "".join(c if c.isalnum() else "_" for c in data.train_split)
    name = f"preprocessing-{split}-{data.resize}.npz"
    folders = [source.folder, _cache() / source.folder.relative_to(source.folder.anchor)]
    for folder in folders:
        if (folder / name).is_file():
            return load(folder / name)
    examples = source.examples(data.train_split)
    say(f"computing the mean image and the RGB covariance of {examples} pictures of {source.name}")
    bar = tqdm(total=examples, unit=" pictures", disable=None)

    def counted() -> Iterable[np.ndarray]:
        for batch in pipeline.squares(source, data.train_split, data.resize):
            yield batch
            bar.update(len(batch))

    with bar:
        result = statistics(counted())
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            result.save(folder / name)
            return result
        except OSError:
            continue  # data that cannot be written to has its statistics in the user's cache
    raise UserError(f"neither {folders[0]} nor {folders[1]} can be written; set XDG_CACHE_HOME to a folder that can")


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "alexnet_jax")


def run(config: Any, invocation: Any) -> dict[str, Any]:
    """`--mode=prepare`: the dataset and its statistics, ready for training."""
    source = sources.open_source(config.data)
    preprocessing = prepare(source, config)
    say(f"{source.name} is ready in {source.folder}")
    return {
        "name": source.name,
        "data_dir": str(source.folder),
        "examples": source.examples(config.data.train_split),
        "classes": len(source.classes),
        "mean_rgb": [float(x) for x in preprocessing.mean_image.mean(axis=(0, 1))],
    }
