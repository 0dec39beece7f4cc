"""A run's numbers: lines or a progress bar, metrics.jsonl, TensorBoard, curves.png."""

import json
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from tqdm import tqdm

from alexnet_jax.messages import UserError, say
from alexnet_jax.training.step import TOP_K

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Line = dict[str, float]
SERIES = ("train", "validation")  # before the slash of a number's name
MARKED = 50  # validations, beyond which their points would be a band
ROOM = 1 << 20  # bytes on the disk, with which TensorBoard's files are written
WAITING = 100  # validations whose pictures are kept for a disk that has room, at most
BAD = 3  # lines that cannot be read, whose numbers are said


class Report:
    """Where the numbers of one run go.

    Attributes:
      lines: everything that metrics.jsonl holds.
    """

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
        """Goes on with the files of a run that stands at `first_step`, less what it had after that.

        Args:
          validated: whether its checkpoint has been; if not, that step's validation comes again.
          classes: that are told apart; of five or fewer no top-5 error is said.
          best_step: which checkpoint is the best so far.
        """
        from alexnet_jax.loop.tensorboard import (  # by TensorFlow, which takes seconds to import
            EVENTS,
            Board,
            read_pictures,
        )

        self._workdir = workdir
        self._last_step = last_step
        self._steps_per_epoch = steps_per_epoch
        self._classes, self._best_step = classes, best_step
        self.lines = [
            line
            for line in read_metrics(workdir)
            if line["step"] < first_step
            or (line["step"] == first_step and (validated or "validation/loss" not in line))
        ]
        self._whole = True  # whether metrics.jsonl has all lines
        self._file = self._write_anew()
        self._waiting: deque[tuple[int, dict[str, np.ndarray]]] = deque(maxlen=WAITING)
        self._shown = 0  # lines that TensorBoard has
        # Two series of the same names, which TensorBoard shows in one chart; pictures are in the second.
        folders = {"train": workdir, "validation": workdir / "validation"}
        before = [path for folder in folders.values() for path in sorted(folder.glob(EVENTS))]
        last_kept = first_step if validated else first_step - 1
        self._boards = {name: Board(folder) for name, folder in folders.items()}
        self._show()  # all lines anew, so that TensorBoard has each step once, however a run ended
        for (step, name), image in read_pictures(before, last_kept).items():
            self.pictures(step, {name: image})
        for path in before:
            path.unlink()
        self._bar = tqdm(total=last_step, initial=first_step, unit=" steps", disable=None, file=sys.stderr)
        self._drawn = time.monotonic()

    def stepped(self) -> None:
        """One more step was done."""
        self._bar.update()

    def training(
        self, step: int, means: dict[str, float], learning_rate: float, images_per_second: float, batch: int
    ) -> None:
        """The mean `loss` and `top1_error` since the last report, the rate of learning, and images a second."""
        left = (self._last_step - step) * batch / images_per_second
        self.say(
            f"step {step}/{self._last_step}  epoch {step / self._steps_per_epoch:.2f}  loss {means['loss']:.4f}  "
            f"rate {learning_rate:.2g}  {images_per_second:.0f} images/s  {_duration(left)} left"
        )
        self._write(
            step,
            {
                "epoch": step / self._steps_per_epoch,
                **{f"train/{name}": value for name, value in means.items()},
                "learning_rate": learning_rate,
                "images_per_second": images_per_second,
            },
        )

    def validation(self, step: int, metrics: dict[str, float]) -> None:
        """Loss and errors on the whole validation set."""
        top5 = f"  top-5 error {metrics['top5_error']:.2%}" if self._classes > TOP_K else ""
        self.say(f"step {step}  validation: loss {metrics['loss']:.4f}  top-1 error {metrics['top1_error']:.2%}{top5}")
        self._write(step, {f"validation/{name}": metrics[name] for name in ("loss", "top1_error", "top5_error")})
        if time.monotonic() - self._drawn > 60:
            with suppress(OSError):  # at the end it is drawn again
                self.draw()

    def pictures(self, step: int, named: dict[str, np.ndarray]) -> None:
        """Shows uint8 [height, width, 3] each in TensorBoard, at once or when the disk has room again."""
        self._waiting.append((step, named))
        self._show_pictures()

    def _show_pictures(self) -> None:
        needed = sum(image.nbytes for _, named in self._waiting for image in named.values())
        if not needed or shutil.disk_usage(self._workdir).free < 2 * needed:
            return
        for step, named in self._waiting:
            self._boards["validation"].pictures(step, named)
        self._waiting.clear()
        self._boards["validation"].flush()

    def say(self, text: str) -> None:
        """A line for people, which leaves the progress bar whole."""
        with tqdm.external_write_mode(file=sys.stderr):
            say(text)

    def draw(self) -> None:
        """Draws curves.png anew. Raises OSError if it cannot be written."""
        self._drawn = time.monotonic()
        draw_curves(self.lines, self._steps_per_epoch, self._workdir / "curves.png", self._classes, self._best_step())

    def close(self) -> None:
        """Draws the curves and closes the files. Raises OSError if a line could not be written."""
        self._bar.close()
        self._show()
        self._show_pictures()
        for board in self._boards.values():
            board.close()
        self.draw()
        if not self._whole:
            self._file = self._write_anew()
        self._file.close()

    def _write_anew(self) -> TextIO:
        """All lines, by one renaming; the file, to add to."""
        unfinished = self._workdir / ".metrics.jsonl"
        unfinished.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        os.replace(unfinished, self._workdir / "metrics.jsonl")
        return open(self._workdir / "metrics.jsonl", "a", buffering=1)

    def _write(self, step: int, values: Line) -> None:
        line = {"step": step, **values}
        self.lines.append(line)
        try:
            if self._whole:
                self._file.write(json.dumps(line) + "\n")
            else:
                self._file = self._write_anew()
            self._whole = True
        except OSError as error:
            if self._whole:
                self.say(f"metrics.jsonl cannot be written ({error.strerror}): its lines are kept, for when it can")
            self._whole = False
        self._show()

    def _show(self) -> None:
        """Hands the numbers of the lines since to TensorBoard, where the disk has room, and else later.

        TensorFlow's writer hears late of a full disk, and half a record would hide all that comes after it.
        """
        if shutil.disk_usage(self._workdir).free < ROOM:
            return
        for line in self.lines[self._shown :]:
            for series, values in _by_series(line).items():
                self._boards[series].scalars(int(line["step"]), values)
        self._shown = len(self.lines)
        for board in self._boards.values():
            board.flush()


class Unheard:
    """In place of a `Report`, of a process that computes what another one reports."""

    def stepped(self) -> None:
        """Nothing."""

    def training(
        self, step: int, means: dict[str, float], learning_rate: float, images_per_second: float, batch: int
    ) -> None:
        """Nothing."""

    def validation(self, step: int, metrics: dict[str, float]) -> None:
        """Nothing."""

    def pictures(self, step: int, named: dict[str, np.ndarray]) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _by_series(line: Line) -> dict[str, Line]:
    """What of the line is shown in which series: all but the epoch, whose curve says nothing."""
    by_series: dict[str, Line] = {}
    for name, value in line.items():
        series, slash, of_series = name.partition("/")
        if slash:
            by_series.setdefault(series, {})[of_series] = value
        elif name not in ("step", "epoch"):
            by_series.setdefault("train", {})[name] = value
    return by_series


def read_metrics(workdir: Path) -> list[Line]:
    """The lines of a run's metrics.jsonl; none if there is no such file. What is no such line is left out, and said.

    Raises:
      UserError: the file cannot be read.
    """
    path = workdir / "metrics.jsonl"
    try:
        texts = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise UserError(
            f"'{path}' cannot be read ({error.strerror}); see to it that it can, or move it away"
        ) from error
    lines, bad = [], []
    for number, text in enumerate(texts, 1):
        try:
            lines.append(_line_of(text))
        except ValueError:
            if text or number < len(texts):  # the last one ends with a line break
                bad.append(str(number))
    if bad:
        more = f" and {len(bad) - BAD} more" if len(bad) > BAD else ""
        say(f"'{path}': what stands in line {', '.join(bad[:BAD])}{more} cannot be read and is left out")
    return lines


def _line_of(text: bytes) -> Line:
    """Raises ValueError if the text is no line of numbers with a step."""
    line = json.loads(text)
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        raise ValueError("no object with a step")
    if not all(type(value) in (int, float) for value in line.values()):
        raise ValueError("it has what is no number")
    if any("/" in name and name.partition("/")[0] not in SERIES for name in line):
        raise ValueError("it has a series that is none")
    return line


def draw_curves(lines: list[Line], steps_per_epoch: int, path: Path, classes: int, best: int | None) -> None:
    """Loss and errors by epoch, where the learning rate drops, and the best checkpoint, as a picture.

    Args:
      classes: that are told apart; of five or fewer there is no top-5 error.
      best: the step of the best checkpoint.
    """
    from matplotlib.figure import Figure  # a quarter of a second, which no first step waits for

    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, errors = figure.subplots(1, 2)

    def plot(axes: "Axes", name: str, label: str, scale: float = 1.0, **style: Any) -> None:
        points = [(line["step"] / steps_per_epoch, line[name] * scale) for line in lines if name in line]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, **style)

    marker = "." if sum("validation/loss" in line for line in lines) <= MARKED else ""
    plot(losses, "train/loss", "training", color="tab:gray", linewidth=1)
    plot(losses, "validation/loss", "validation", color="tab:blue", marker=marker)
    plot(errors, "train/top1_error", "top-1, training", 100, color="tab:gray", linewidth=1)
    plot(errors, "validation/top1_error", "top-1, validation", 100, color="tab:red", marker=marker)
    if classes > TOP_K:
        plot(errors, "validation/top5_error", "top-5, validation", 100, color="tab:orange", marker=marker)
    drops = [step / steps_per_epoch for step in drops_of(lines)]
    for axes, name, label, scale in (
        (losses, "validation/loss", "loss (nats)", 1),
        (errors, "validation/top1_error", "error (%)", 100),
    ):
        for number, drop in enumerate(drops):
            axes.axvline(drop, color="black", linewidth=0.8, linestyle=":", label="" if number else "lower rate")
        for line in lines:
            if line["step"] == best and name in line:
                place = best / steps_per_epoch, line[name] * scale
                axes.plot(*place, "*", color="black", markersize=11, label=f"best checkpoint, step {best}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    figure.suptitle(path.parent.name)
    figure.savefig(path, dpi=120)


def drops_of(lines: list[Line]) -> list[int]:
    """The steps of the last reports before one with a lower learning rate; the rate drops after such a step."""
    rates = [(int(line["step"]), line["learning_rate"]) for line in lines if "learning_rate" in line]
    return [step for (step, before), (_, rate) in pairwise(rates) if rate < before]


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
