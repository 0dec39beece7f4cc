"""TensorBoard's files of a run, written and read again by TensorFlow."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from alexnet_jax.data.tensorflow import tf

EVENTS = "events.out.tfevents.*"
Picture = UInt8[np.ndarray, "height width 3"]


class Board:
    """One series: a new file in a folder."""

    def __init__(self, folder: Path) -> None:
        """Makes the file, and the folder where it is not there."""
        self._writer = tf.summary.create_file_writer(str(folder))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of a step, each by its name."""
        with self._writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def pictures(self, step: int, named: Mapping[str, Picture]) -> None:
        """Pictures of a step, each by its name."""
        with self._writer.as_default(step):
            for name, image in named.items():
                tf.summary.image(name, image[None])

    def flush(self) -> None:
        """What was handed over is in the file then."""
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()


def read_pictures(paths: Sequence[Path], last_step: int) -> dict[tuple[int, str], Picture]:
    """What `Board.pictures` left in files up to a step, by step and name, each once.

    A file that ends in the middle of a picture, as of a process that was killed, has those before it.
    """
    found = {}
    for path in paths:
        with suppress(tf.errors.OpError):
            for record in tf.data.TFRecordDataset(str(path)):
                event = tf.compat.v1.Event.FromString(record.numpy())
                for value in event.summary.value:
                    if value.metadata.plugin_data.plugin_name == "images" and event.step <= last_step:
                        encoded = tf.make_ndarray(value.tensor)[2]  # after the width and the height
                        found[event.step, value.tag] = tf.io.decode_png(encoded, channels=3).numpy()
    return found
