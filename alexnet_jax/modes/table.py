"""`--mode=table`: the paper's tables, published and measured side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.messages import UserError
from alexnet_jax.modes import Invocation
from alexnet_jax.runs import checkpoint
from alexnet_jax.runs.config import run_exists
from alexnet_jax.runs.folder import evaluations, open_run

CONFIGS = ("alexnet", "alexnet_2012")  # as published, and as run in 2012
Errors = tuple[float | None, float | None]  # top-1 and top-5, percent


@dataclass(frozen=True)
class Row:
    """A number of the paper, and which networks give it.

    Attributes:
      where: the table or section.
      what: the row's own name.
      members: the variants whose softmax is averaged, '' for the base; none for the rivals.
      published: percent, or percent more than the row of the base network where `relative`.
      log: the run of the source's logs and its errors, percent.
    """

    where: str
    what: str
    members: tuple[str, ...]
    published: Errors
    data: str = "imagenet2012"
    split: str = "validation"
    views: int = 10
    relative: bool = False
    log: tuple[str, float, float] | None = None


ROWS = (
    Row("Table 1", "Sparse coding", (), (47.1, 28.2), "synset_tars", "test"),
    Row("Table 1", "SIFT + FVs", (), (45.7, 25.7), "synset_tars", "test"),
    Row(
        "Table 1",
        "CNN, ten views",
        ("ilsvrc2010",),
        (37.5, 17.0),
        "synset_tars",
        "test",
        log=("145-2010", 37.4727, 16.9987),
    ),
    Row(
        "section 4.1",
        "CNN, centre view",
        ("ilsvrc2010",),
        (39.0, 18.3),
        "synset_tars",
        "test",
        views=1,
        log=("145-2010", 39.0247, 18.2953),
    ),
    Row("Table 2", "SIFT + FVs, test", (), (None, 26.2), split="test"),
    Row("Table 2", "1 CNN", ("",), (40.7, 18.2), log=("145", 40.6640, 18.2100)),
    Row("Table 2", "5 CNNs", ("",) * 5, (38.1, 16.4)),
    Row("Table 2", "1 CNN*", ("star",), (39.0, 16.6), log=("146-2012-2011", 38.990, 16.622)),
    Row("Table 2", "7 CNNs*", ("",) * 5 + ("star",) * 2, (36.7, 15.4)),
    Row("section 6", "Fall 2009", ("fall2009",), (67.4, 40.9), data="synset_tars"),
    Row("section 3.2", "one GPU", ("one_gpu",), (1.7, 1.2), relative=True, log=("145-half, 2010", 39.1680, 18.2287)),
    Row("section 3.3", "no LRN", ("no_lrn",), (1.4, 1.2), relative=True, log=("148", 42.034, 19.362)),
    Row(
        "section 3.4",
        "pooling 2/2",
        ("nonoverlapping_pooling",),
        (0.4, 0.3),
        relative=True,
        log=("147", 41.058, 18.510),
    ),
    Row("section 4.1", "no PCA lighting", ("no_lighting",), (1.0, None), relative=True),
    *(
        Row("section 7", f"{layer} removed", (f"no_{layer}",), (2.0, None), relative=True)
        for layer in ("conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
    ),
    Row("not in the paper", "no cross connections", ("no_cross",), (None, None), log=("150", 41.828, 19.330)),
    Row("Caffe", "bvlc_alexnet, centre view", ("caffe",), (42.9, 19.8), views=1),
    Row("Caffe", "bvlc_reference_caffenet, centre view", ("caffenet",), (42.6, 19.6), views=1),
    Row("torchvision", "alexnet, centre view", ("torchvision",), (43.478, 20.934), views=1),
)


@dataclass(frozen=True)
class Measured:
    """A result that a run's folder holds."""

    members: tuple[str, ...]  # the configs' names, sorted
    data: str
    split: str
    views: int
    top1: float  # percent
    top5: float  # percent


def run(config: ConfigDict | None, invocation: Invocation) -> dict[str, Any]:
    """Prints the table in Markdown on standard output, and gives it as JSON."""
    results = [one for folder in invocation.runs for one in measured(Path(folder).expanduser().absolute())]
    print(markdown(results))
    return {"rows": [as_json(row, results) for row in ROWS]}


def measured(folder: Path) -> list[Measured]:
    """The results in a folder, the latest first: of --mode=evaluate, and of the best validation.

    Raises:
      UserError: the folder has neither.
    """
    results = [
        Measured(
            tuple(sorted(line["members"])),
            line["data"],
            line["split"],
            line["views"],
            100 * line["top1_error"],
            100 * line["top5_error"],
        )
        for line in evaluations(folder)[::-1]
    ]
    if run_exists(folder):
        saved = open_run(folder).config
        checkpoints = checkpoint.Checkpoints(folder)
        best = checkpoints.best_step()
        metrics = checkpoints.metrics(best) if best is not None else None
        checkpoints.close()
        if metrics:
            evaluate = saved["evaluate"]
            errors = 100 * metrics["top1_error"], 100 * metrics["top5_error"]
            results.append(
                Measured((saved["name"],), saved["data"]["name"], evaluate["split"], evaluate["views"], *errors)
            )
    elif not results:
        raise UserError(f"--runs names {folder}, which holds no run and no evaluation; name folders of runs")
    return results


def of_row(row: Row, base: str, results: list[Measured]) -> Measured | None:
    """What was measured for the row with a config, on the row's own data if there is such."""
    members = tuple(sorted(f"{base}:{variant}" if variant else base for variant in row.members))
    fits = [one for one in results if members and one.members == members and one.views == row.views]
    return next((one for one in fits if (one.data, one.split) == (row.data, row.split)), fits[0] if fits else None)


def command(row: Row, base: str = "alexnet") -> str:
    """How the row is run, once the networks in it are trained."""
    if not row.members:
        return ""
    name = f"configs/{base}.py:{row.members[0]}" if row.members[0] else f"configs/{base}.py"
    if len(row.members) == 1:
        views = " --config.evaluate.views=10" if row.views == 10 else ""
        split = f" --config.evaluate.split={row.split}" if row.split != "validation" else ""
        return f"`--config={name} --mode=evaluate{views}{split}`"
    return f"`--config={name} --mode=evaluate --ensemble=DIR,… --config.evaluate.views=10`"


def percent(errors: Errors, relative: bool = False) -> str:
    """Top-1 / top-5 as the paper writes them; a dash where it does not say."""
    if errors == (None, None):
        return ""
    return " / ".join("-" if one is None else f"{one:+.1f}" if relative else f"{one:.1f}" for one in errors)


def said(row: Row, one: Measured | None) -> str:
    """What was measured, with its data where they are not the row's."""
    if one is None:
        return ""
    other = "" if (one.data, one.split) == (row.data, row.split) else f" ({one.data}, {one.split})"
    return percent((one.top1, one.top5)) + other


def markdown(results: list[Measured]) -> str:
    """The rows, top-1 / top-5 errors in percent."""
    head = [
        "",
        "row",
        "command, after python launch.py",
        "published",
        "source's log",
        *(f"measured, {base}.py" for base in CONFIGS),
    ]
    lines = [head, ["---"] * len(head)]
    for row in ROWS:
        log = f"{percent(row.log[1:])} ({row.log[0]})" if row.log else ""
        cells = [row.where, row.what, command(row), percent(row.published, row.relative), log]
        lines.append(cells + [said(row, of_row(row, base, results)) for base in CONFIGS])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def as_json(row: Row, results: list[Measured]) -> dict[str, Any]:
    """The row for a machine; errors are percent."""
    result: dict[str, Any] = {
        "where": row.where,
        "row": row.what,
        "members": list(row.members),
        "views": row.views,
        "published": list(row.published),
        "relative": row.relative,
        "log": list(row.log[1:]) if row.log else None,
    }
    for base in CONFIGS:
        one = of_row(row, base, results)
        result[base] = {"top1": one.top1, "top5": one.top5, "data": one.data, "split": one.split} if one else None
    return result
