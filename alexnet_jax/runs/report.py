"""A run's numbers: lines or a progress bar, metrics.jsonl, TensorBoard, curves.png."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

Line = dict[str, float]


class Report:
    """Where the numbers of one run go.

    Attributes:
      lines: everything that metrics.jsonl holds.
    """

    def __init__(self, workdir: Path, first_step: int, last_step: int, steps_per_epoch: int) -> None:
        """Goes on with the files of a run that stands at `first_step`, less what it had after that."""
        # Imports TensorFlow, which must not be there before data/tensorflow.py has made it quiet.
        from clu import metric_writers

        self._workdir = workdir
        self._last_step = last_step
        self._steps_per_epoch = steps_per_epoch
        self.lines = [line for line in read_metrics(workdir) if line["step"] <= first_step]
        unfinished = workdir / ".metrics.jsonl"
        unfinished.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        os.replace(unfinished, workdir / "metrics.jsonl")
        self._file = open(workdir / "metrics.jsonl", "a", buffering=1)
        self._board = metric_writers.SummaryWriter(str(workdir))
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
        self.say(
            f"step {step}  validation: loss {metrics['loss']:.4f}  top-1 error {metrics['top1_error']:.2%}  "
            f"top-5 error {metrics['top5_error']:.2%}"
        )
        self._write(step, {f"validation/{name}": metrics[name] for name in ("loss", "top1_error", "top5_error")})
        if time.monotonic() - self._drawn > 60:
            self.draw()

    def say(self, text: str) -> None:
        """A line for people, which leaves the progress bar whole."""
        tqdm.write(text, file=sys.stderr)
        sys.stderr.flush()

    def draw(self) -> None:
        """Draws curves.png anew."""
        draw_curves(self.lines, self._steps_per_epoch, self._workdir / "curves.png")
        self._drawn = time.monotonic()

    def close(self) -> None:
        """Draws the curves and closes the files."""
        self._bar.close()
        self._file.close()
        self._board.close()
        self.draw()

    def _write(self, step: int, values: Line) -> None:
        line = {"step": step, **values}
        self.lines.append(line)
        self._file.write(json.dumps(line) + "\n")
        self._board.write_scalars(step, values)


def read_metrics(workdir: Path) -> list[Line]:
    """The lines of a run's metrics.jsonl; none if there is no such file. A torn last line is left out."""
    path = workdir / "metrics.jsonl"
    lines: list[Line] = []
    for text in path.read_text().splitlines() if path.is_file() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def draw_curves(lines: list[Line], steps_per_epoch: int, path: Path) -> None:
    """Loss and validation errors by epoch, as a picture."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, errors = figure.subplots(1, 2)

    def plot(axes: Axes, name: str, label: str, scale: float = 1.0, **style: Any) -> None:
        points = [(line["step"] / steps_per_epoch, line[name] * scale) for line in lines if name in line]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, **style)

    plot(losses, "train/loss", "training", color="tab:gray", linewidth=1)
    plot(losses, "validation/loss", "validation", color="tab:blue", marker=".")
    plot(errors, "validation/top1_error", "top-1, validation", 100, color="tab:red", marker=".")
    plot(errors, "validation/top5_error", "top-5, validation", 100, color="tab:orange", marker=".")
    for axes, label in ((losses, "loss (nats)"), (errors, "error (%)")):
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    figure.savefig(path, dpi=120)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
