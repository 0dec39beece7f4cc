"""`--mode=predict`: the likeliest classes of pictures."""

import csv
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.data.decode.squares import Picture
from alexnet_jax.files import new_file
from alexnet_jax.inference import decode_pool, inputs
from alexnet_jax.inference.decode_pool import Rejected, Some
from alexnet_jax.inference.net import TOP, Net, Prediction, open_net, warn_of_mirrored_views
from alexnet_jax.messages import Advance, UserError, as_json, say
from alexnet_jax.modes import PredictInvocation

SHOWN = 50  # pictures whose predictions are printed
WIDTH = 24  # characters of the bar for a probability of 1
SUFFIXES = (".csv", ".jsonl")
COLUMNS = ("file", *(f"{what}{i}" for i in range(1, TOP + 1) for what in ("class", "probability")), "reason")

Write = Callable[[str, Prediction, str], None]  # a file's name, its classes, and why it has none


def run(config: ConfigDict | None, invocation: PredictInvocation) -> dict[str, Any]:
    """The top five of each picture that the command line names, by a run's network.

    Raises:
      UserError: no picture is named or can be used, there is no run, or the output cannot be written.
    """
    pictures = inputs.pictures_of(invocation.files)
    predictions: list[dict[str, Any]] = []
    rejected: list[Rejected] = []
    with _table(invocation) as write:
        net = open_net(invocation.workdir, config, "used to predict")
        views = net.config.evaluate.views
        warn_of_mirrored_views(net.run, views)
        say(f"predicting with the checkpoint of step {net.step} of {net.workdir}, views: {views}")
        batches = read(net, pictures, views, net.batch_size(len(pictures)), rejected)
        for some, probabilities in net.probabilities_of(batches, views):
            for name, row in zip(some.names, probabilities, strict=True):
                top = net.likeliest(row)
                write(name, top, "")
                if len(predictions) < SHOWN:
                    _show(name, top)
                predictions.append({"file": name, "top5": _as_dicts(top)})
            for picture in some.rejected:
                write(picture.file, [], picture.reason)
        if len(predictions) > SHOWN:
            say(f"and {len(predictions) - SHOWN} pictures more")
        require_some(len(predictions), rejected)
    result = {"predictions": predictions, "rejected": [picture._asdict() for picture in rejected]}
    return {**result, "views": views, "step": net.step, "workdir": str(net.workdir)}


def read(net: Net, pictures: list[Picture], views: int, size: int, rejected: list[Rejected]) -> Iterator[Some]:
    """Batches as in `Net.read`. A bar shows the progress; pictures that cannot be used are added to `rejected`."""
    is_alone = len(pictures) == 1  # then `require_some` reports it
    with (
        decode_pool.decoders(len(pictures)) as pool,
        Advance("pictures", len(pictures), "pictures") as advance,
    ):
        for some in net.read(pictures, pool, views, size):
            for picture in () if is_alone else some.rejected:
                advance.say(f"{picture.file} cannot be used: {picture.reason}")
            rejected += some.rejected
            yield some
            advance.add(len(some.names) + len(some.rejected))


def require_some(used: int, rejected: list[Rejected]) -> None:
    """Raises UserError if no picture could be used."""
    if not used:
        first = rejected[0]
        raise UserError(
            f"none of the {len(rejected)} pictures can be used, such as {first.file}: {first.reason}; name others"
            if len(rejected) > 1
            else f"{first.file} cannot be used: {first.reason}; name another picture"
        )


def _show(name: str, top: Prediction) -> None:
    """Prints the picture's name, and a line for each class with its probability as a bar."""
    try:
        "█".encode(sys.stderr.encoding or "ascii")
        block = "█"
    except UnicodeEncodeError:
        block = "#"
    longest = max(len(class_name) for class_name, _ in top)
    say(name)
    for class_name, probability in top:
        bar = block * round(probability * WIDTH)
        say(f"  {class_name:{longest}}  {probability:6.1%}  {bar}".rstrip())


def _as_dicts(top: Prediction) -> list[dict[str, Any]]:
    return [{"class": class_name, "probability": probability} for class_name, probability in top]


@contextmanager
def _table(invocation: PredictInvocation) -> Iterator[Write]:
    """Yields a function that adds a picture to the table that --output names; without --output it does nothing."""
    if not invocation.output:
        yield lambda name, top, reason: None
        return
    suffix = Path(invocation.output).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(
            f"--output={invocation.output} is neither FILE.csv nor FILE.jsonl; give it one of these endings"
        )
    with (
        new_file(invocation.output, invocation.overwrite) as path,
        open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        rows = csv.writer(file)

        def write_csv(name: str, top: Prediction, reason: str) -> None:
            pairs = [cell for class_name, probability in top for cell in (class_name, f"{probability:.6g}")]
            rows.writerow([name, *pairs, *[""] * (2 * TOP - len(pairs)), reason])

        def write_jsonl(name: str, top: Prediction, reason: str) -> None:
            found = {"reason": reason} if reason else {"top5": _as_dicts(top)}
            file.write(as_json({"file": name, **found}) + "\n")

        if suffix == ".csv":
            rows.writerow(COLUMNS)
        yield write_csv if suffix == ".csv" else write_jsonl
