"""A run's numbers: lines or a progress bar, metrics.jsonl, TensorBoard, curves.png."""

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import numpy as np
from tqdm import tqdm

from alexnet_jax.files import write_whole
from alexnet_jax.loop.curves import Line, draw_curves
from alexnet_jax.messages import UserError, say
from alexnet_jax.training.step import TOP_K

SERIES = ("train", "validation")  # before the slash in a number's name
NAMED = 3  # numbers of unreadable lines in the message about them
DRAWN_EVERY = 60  # seconds at least between two drawings of the curves


class Report:
    """Reports the numbers of a run."""

    def __init__(
        self,
        workdir: Path,
        first_step: int,
        last_step: int,
        steps_per_epoch: int,
        validated: bool = False,
        classes: int = TOP_K + 1,
        best_step: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Writes nothing yet; see `start`.

        Args:
          first_step: updates done.
          validated: whether the run has been validated at `first_step`; if not, the validation comes again.
          classes: that are told apart; with five or fewer the log gives no top-5 error.
          best_step: returns the step of the best checkpoint.
        """
        from alexnet_jax.loop.tensorboard import TensorBoard  # imports TensorFlow, which takes seconds

        self._workdir = workdir
        self._first_step, self._last_step, self._steps_per_epoch = first_step, last_step, steps_per_epoch
        self._last_validation = first_step if validated else first_step - 1
        self._classes, self._best_step = classes, best_step
        lines = [line for line in read_metrics(workdir) if self._is_kept(line)]
        self._metrics, self._board = MetricsFile(workdir / "metrics.jsonl", lines), TensorBoard(workdir)
        self._drawn = time.monotonic()

    def _is_kept(self, line: Line) -> bool:
        """Whether the line stays in the file: the run goes on from `first_step`, and later lines come again."""
        return line["step"] <= (self._last_validation if "validation/loss" in line else self._first_step)

    def start(self) -> None:
        """Rewrites the files without what comes again, and shows the progress bar. Raises OSError."""
        self._metrics.rewrite()
        self._board.rewrite(self._metrics.lines, self._last_validation)
        self._bar = tqdm(total=self._last_step, initial=self._first_step, unit=" steps", disable=None, file=sys.stderr)

    def stepped(self) -> None:
        """Moves the progress bar by a step."""
        self._bar.update()

    def training(
        self, step: int, means: dict[str, float], learning_rate: float, images_per_second: float, batch: int
    ) -> None:
        """Reports the mean `loss` in nats and `top1_error` since the last report."""
        left = (self._last_step - step) * batch / images_per_second
        self.say(
            f"step {step}/{self._last_step}  epoch {step / self._steps_per_epoch:.2f}  loss {means['loss']:.4f}  "
            f"rate {learning_rate:.2g}  {images_per_second:.0f} images/s  {_duration(left)} left"
        )
        self._add(
            {
                "step": step,
                "epoch": step / self._steps_per_epoch,
                **{f"train/{name}": value for name, value in means.items()},
                "learning_rate": learning_rate,
                "images_per_second": images_per_second,
            }
        )

    def validation(self, step: int, metrics: dict[str, float]) -> None:
        """Reports loss and errors on the whole validation set."""
        top5 = f"  top-5 error {metrics['top5_error']:.2%}" if self._classes > TOP_K else ""
        self.say(f"step {step}  validation: loss {metrics['loss']:.4f}  top-1 error {metrics['top1_error']:.2%}{top5}")
        errors = {f"validation/{name}": metrics[name] for name in ("loss", "top1_error", "top5_error")}
        self._add({"step": step, **errors})
        if time.monotonic() - self._drawn > DRAWN_EVERY:
            with suppress(OSError):  # at the end the curves are drawn again
                self._draw()

    def pictures(self, step: int, named: dict[str, np.ndarray]) -> None:
        """Shows uint8 pictures [height, width, 3] in TensorBoard, now or once the disk has space again."""
        self._board.pictures(step, named)

    def say(self, text: str) -> None:
        """Writes a line above the progress bar."""
        with tqdm.external_write_mode(file=sys.stderr):
            say(text)

    def close(self) -> None:
        """Draws the curves and closes the files. Raises OSError if a line could not be written."""
        self._bar.close()
        self._board.close(self._metrics.lines)
        self._draw()
        self._metrics.close()

    def _draw(self) -> None:
        """Draws curves.png. Raises OSError."""
        self._drawn = time.monotonic()
        lines, path = self._metrics.lines, self._workdir / "curves.png"
        draw_curves(lines, self._steps_per_epoch, path, self._classes, self._best_step())

    def _add(self, line: Line) -> None:
        if problem := self._metrics.add(line):
            self.say(
                f"metrics.jsonl cannot be written ({problem}): its lines are kept in memory until it can be written"
            )
        self._board.numbers(self._metrics.lines)


class SilentReport:
    """Stands for a `Report` in the processes other than process 0, which reports for all."""

    def start(self) -> None:
        """Does nothing."""

    def stepped(self) -> None:
        """Does nothing."""

    def training(
        self, step: int, means: dict[str, float], learning_rate: float, images_per_second: float, batch: int
    ) -> None:
        """Does nothing."""

    def validation(self, step: int, metrics: dict[str, float]) -> None:
        """Does nothing."""

    def pictures(self, step: int, named: dict[str, np.ndarray]) -> None:
        """Does nothing."""

    def say(self, text: str) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class MetricsFile:
    """metrics.jsonl; while the disk is full, its new lines are kept in memory.

    Attributes:
      lines: all lines of the run.
    """

    def __init__(self, path: Path, lines: list[Line]) -> None:
        """Writes nothing yet."""
        self._path, self.lines = path, lines
        self._file: TextIO | None = None  # None: does not have all lines

    def rewrite(self) -> None:
        """Writes the whole file. Raises OSError."""
        write_whole(self._path, "".join(json.dumps(line) + "\n" for line in self.lines), one_writer=True)
        self._file = open(self._path, "a", buffering=1)

    def add(self, line: Line) -> str:
        """Adds the line. Returns what is wrong if the file has just become unwritable, or else ''."""
        self.lines.append(line)
        file, self._file = self._file, None
        try:
            if file is None:
                self.rewrite()
            else:
                file.write(json.dumps(line) + "\n")
                self._file = file
        except OSError as error:
            if file is None:
                return ""
            with suppress(OSError):
                file.close()
            return error.strerror or str(error)
        return ""

    def close(self) -> None:
        """Closes the file. Raises OSError if a line could not be written."""
        if self._file is None:
            self.rewrite()
        assert self._file is not None
        self._file.close()


def read_metrics(workdir: Path) -> list[Line]:
    """The lines of a run's metrics.jsonl; none without the file. A message names lines that cannot be read.

    Raises:
      UserError: the file cannot be read.
    """
    path = workdir / "metrics.jsonl"
    try:
        texts = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise UserError(f"'{path}' cannot be read ({error.strerror}); make it readable, or move it away") from error
    lines, bad = [], []
    for number, text in enumerate(texts, 1):
        try:
            lines.append(_line_of(text))
        except ValueError:
            if text or number < len(texts):  # behind the last line break is no line
                bad.append(str(number))
    if bad:
        more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        say(f"'{path}': line {', '.join(bad[:NAMED])}{more} cannot be read and is left out")
    return lines


def _line_of(text: bytes) -> Line:
    """Raises ValueError if the text is not an object of numbers with a step."""
    line = json.loads(text)
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        raise ValueError("no object with a step")
    if not all(type(value) in (int, float) for value in line.values()):
        raise ValueError("a value is not a number")
    if any("/" in name and name.partition("/")[0] not in SERIES for name in line):
        raise ValueError("it has an unknown series")
    return line


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
