"""`--mode=predict`: the likeliest classes of pictures."""

import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.data.decode.squares import Picture
from alexnet_jax.files import new_file
from alexnet_jax.inference import decode_pool, inputs
from alexnet_jax.inference.decode_pool import Rejected, Some
from alexnet_jax.inference.net import TOP, Prediction, open_net, say_of_mirrors
from alexnet_jax.messages import Advance, UserError, as_json, say
from alexnet_jax.modes import Invocation

SHOWN = 50  # pictures in the table for people
WIDTH = 24  # letters of a class's bar
SUFFIXES = (".csv", ".jsonl")

Write = Callable[[str, Prediction, str], None]  # a file's name, its classes, and the reason why it has none


def run(config: ConfigDict | None, invocation: Invocation) -> dict[str, Any]:
    """The top five of each picture that the command line names, by a run's network.

    Raises:
      UserError: no picture is named, none can be used, or there is no run or no place for the output.
    """
    pictures = inputs.pictures_of(invocation.files)
    predictions: list[dict[str, Any]] = []
    rejected: list[Rejected] = []
    with _written(invocation) as write:
        net = open_net(invocation.workdir, config, "used to predict")
        views = net.config.evaluate.views
        say_of_mirrors(net.config, net.config)
        say(f"predicting by the checkpoint of step {net.step} of {net.workdir}, views: {views}")
        with decode_pool.decoders(len(pictures)) as pool:
            batches = counted(net.read(pictures, pool, views, net.batch_size(len(pictures))), pictures, rejected)
            for some, probabilities in net.probabilities_of(batches, views):
                for name, row in zip(some.names, probabilities, strict=True):
                    top = net.likeliest(row)
                    write(name, top, "")
                    if len(predictions) < SHOWN:
                        _show(name, top)
                    predictions.append({"file": name, "top5": [{"class": c, "probability": p} for c, p in top]})
                for one in some.rejected:
                    write(one.file, [], one.reason)
        if len(predictions) > SHOWN:
            say(f"and {len(predictions) - SHOWN} pictures more")
        require_some(len(predictions), rejected)
    result = {"predictions": predictions, "rejected": [one._asdict() for one in rejected]}
    return {**result, "views": views, "step": net.step, "workdir": str(net.workdir)}


def counted(batches: Iterable[Some], pictures: list[Picture], rejected: list[Rejected]) -> Iterator[Some]:
    """The batches, while a bar shows how far they are and what cannot be used is said and put to `rejected`."""
    alone = len(pictures) == 1  # what is wrong with it, `require_some` says
    with Advance("pictures", len(pictures), "pictures") as advance:
        for some in batches:
            for one in () if alone else some.rejected:
                advance.say(f"{one.file} cannot be used: {one.reason}")
            rejected += some.rejected
            yield some
            advance.add(len(some.names) + len(some.rejected))


def require_some(used: int, rejected: list[Rejected]) -> None:
    """Raises UserError if no picture could be used: then there is no result."""
    if not used:
        first = rejected[0]
        raise UserError(
            f"none of the {len(rejected)} pictures can be used, such as {first.file}: {first.reason}; name others"
            if len(rejected) > 1
            else f"{first.file} cannot be used: {first.reason}; name another picture"
        )


def _show(name: str, top: Prediction) -> None:
    """A picture's lines in the table for people."""
    try:
        "█".encode(sys.stderr.encoding or "ascii")
        block = "█"
    except UnicodeEncodeError:
        block = "#"
    longest = max(len(of_class) for of_class, _ in top)
    say(name)
    for of_class, probability in top:
        bar = block * round(probability * WIDTH)
        say(f"  {of_class:{longest}}  {probability:6.1%}  {bar}".rstrip())


@contextmanager
def _written(invocation: Invocation) -> Iterator[Write]:
    """Writes rows to the table that --output names, a line a file; nowhere where it names none."""
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
            pairs = [cell for of_class, probability in top for cell in (of_class, f"{probability:.6g}")]
            rows.writerow([name, *pairs, *[""] * (2 * TOP - len(pairs)), reason])

        def write_jsonl(name: str, top: Prediction, reason: str) -> None:
            top5 = [{"class": of_class, "probability": probability} for of_class, probability in top]
            file.write(as_json({"file": name, "reason": reason} if reason else {"file": name, "top5": top5}) + "\n")

        if suffix == ".csv":
            numbers = range(1, TOP + 1)
            rows.writerow(["file", *(f"{what}{i}" for i in numbers for what in ("class", "probability")), "reason"])
        yield write_csv if suffix == ".csv" else write_jsonl
