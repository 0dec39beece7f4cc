"""A run's TensorBoard files, written and read by TensorFlow."""

import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from alexnet_jax.data.tensorflow import tf

EVENTS = "events.out.tfevents.*"
SPACE = 1 << 20  # bytes that must be free on the disk before anything is written
WAITING = 100  # validations at most whose pictures wait for space on the disk
Picture = UInt8[np.ndarray, "height width 3"]
Line = Mapping[str, float]


class TensorBoard:
    """Shows the lines of metrics.jsonl as two series, `train` and `validation`, and pictures in the second.

    A number with the same name in both series has one chart.
    """

    def __init__(self, workdir: Path) -> None:
        """Writes nothing yet."""
        self._folders = {"train": workdir, "validation": workdir / "validation"}
        self._writers: dict[str, Any] = {}
        self._written = 0  # lines
        self._waiting: deque[tuple[int, Mapping[str, Picture]]] = deque(maxlen=WAITING)

    def rewrite(self, lines: Sequence[Line], last_validation: int) -> None:
        """Replaces the files, so that each step is there once, however the run ended.

        Args:
          last_validation: the step up to which pictures are kept.
        """
        before = [path for folder in self._folders.values() for path in sorted(folder.glob(EVENTS))]
        self._writers = {name: tf.summary.create_file_writer(str(folder)) for name, folder in self._folders.items()}
        self.numbers(lines)
        for (step, name), image in read_pictures(before, last_validation).items():
            self.pictures(step, {name: image})
        for path in before:
            path.unlink()

    def numbers(self, lines: Sequence[Line]) -> None:
        """Writes those of all lines that are new, if the disk has space; or else later.

        TensorFlow's writer notices a full disk late, and half a record would hide everything after it.
        """
        if self._free() < SPACE:
            return
        for line in lines[self._written :]:
            for series, values in _by_series(line).items():
                with self._writers[series].as_default(int(line["step"])):
                    for name, value in values.items():
                        tf.summary.scalar(name, value)
        self._written = len(lines)
        for writer in self._writers.values():
            writer.flush()

    def pictures(self, step: int, named: Mapping[str, Picture]) -> None:
        """Writes a step's pictures, and those that wait, if the disk has space; or else later."""
        self._waiting.append((step, named))
        self._write_pictures()

    def _write_pictures(self) -> None:
        needed = sum(image.nbytes for _, named in self._waiting for image in named.values())
        if not needed or self._free() < 2 * needed:
            return
        for step, named in self._waiting:
            with self._writers["validation"].as_default(step):
                for name, image in named.items():
                    tf.summary.image(name, image[None])
        self._waiting.clear()
        self._writers["validation"].flush()

    def close(self, lines: Sequence[Line]) -> None:
        """Writes what waits, if the disk has space, and closes the files."""
        self.numbers(lines)
        self._write_pictures()
        for writer in self._writers.values():
            writer.close()

    def _free(self) -> int:
        return shutil.disk_usage(self._folders["train"]).free


def _by_series(line: Line) -> dict[str, dict[str, float]]:
    """The line's numbers in each series; without the epoch, whose curve says nothing."""
    by_series: dict[str, dict[str, float]] = {}
    for name, value in line.items():
        series, slash, of_series = name.partition("/")
        if slash:
            by_series.setdefault(series, {})[of_series] = value
        elif name not in ("step", "epoch"):
            by_series.setdefault("train", {})[name] = value
    return by_series


def read_pictures(paths: Sequence[Path], last_step: int) -> dict[tuple[int, str], Picture]:
    """The pictures in TensorBoard's files up to a step, by step and name, each once.

    From a file that ends within a picture, as after a crash, the pictures before it.
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
