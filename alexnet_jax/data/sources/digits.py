"""The digits that come with scikit-learn, as a set of TFDS that is written without a network."""

import contextlib
import io
from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data.sources.source import Kind, Source, root
from alexnet_jax.data.sources.tfds_set import builder_of, class_names, open_prepared, prepared_files, unwritable
from alexnet_jax.data.tensorflow import tfds
from alexnet_jax.messages import UserError, say

Example = tuple[int, dict[str, np.ndarray | int]]  # a key and the features


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

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Example]]:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        rows = np.arange(len(digits.target))
        train, validation = train_test_split(rows, test_size=360, stratify=digits.target, random_state=0)
        return {
            "train": self._generate_examples(digits.images, digits.target, train),
            "validation": self._generate_examples(digits.images, digits.target, validation),
        }

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> Iterator[Example]:
        for row in rows:
            pixels = np.round(images[row] * (255 / 16)).astype(np.uint8)  # from 0..16
            yield int(row), {"image": pixels[..., None], "label": int(labels[row])}


def open_digits(data: ConfigDict) -> Source:
    """The digits, which the first call writes. Raises UserError if they cannot be written."""
    builder = builder_of(data)
    if builder.is_prepared():
        return open_prepared(data)
    say(f"writing scikit-learn's digits into {builder.data_dir}")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS would report a download
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except OSError as error:
        raise unwritable(error) from error
    except RuntimeError as error:  # from TFDS, if TensorFlow could not write
        raise UserError(
            f"the digits cannot be written in {root(data)} ({str(error.__cause__ or error).splitlines()[0]}); make "
            "room there, or set --config.data.data_dir to another folder"
        ) from error
    return open_prepared(data)


KIND = Kind("digits", open_digits, class_names, prepared_files, is_written_when_listed=True)
