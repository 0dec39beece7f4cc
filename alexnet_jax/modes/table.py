"""`--mode=table`: the paper's tables, published and measured side by side."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.messages import UserError, say
from alexnet_jax.modes import Invocation
from alexnet_jax.runs import checkpoint
from alexnet_jax.runs.config import run_exists
from alexnet_jax.runs.folder import evaluations, open_run
from alexnet_jax.runs.outputs import new_file
from alexnet_jax.training.step import TOP_K

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
    top5: float | None  # percent; None where it says nothing, of five classes or fewer
    run: str = ""  # the folder's name
    other_pictures: bool = False  # than the network was trained on, as far as is known; or divided in another way


def run(config: ConfigDict | None, invocation: Invocation) -> dict[str, Any]:
    """Shows the table, writes it in Markdown where --output says, and gives it as JSON."""
    output = invocation.output
    if output and not output.endswith(".md"):
        raise UserError(f"--output={output} is not FILE.md; the table is written in Markdown")
    results = [one for folder in invocation.runs for one in measured(Path(folder).expanduser().absolute())]
    others = of_other_data(results)
    for line in terminal(results, others):
        say(line)
    if output:
        with new_file(output, invocation.overwrite) as unfinished:
            unfinished.write_text(f"{markdown(results)}\n{_markdown_of_others(others)}")
    rows = [as_json(row, results) for row in ROWS]
    return {"rows": rows, "other_data": [_as_dict(one) for one in others], "output": output or None}


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
            _top5(line["top5_error"], line.get("classes", TOP_K + 1)),
            folder.name,
            bool(line.get("other_pictures")),
        )
        for line in evaluations(folder)[::-1]
    ]
    if run_exists(folder):
        run = open_run(folder)
        saved = run.config
        checkpoints = checkpoint.Checkpoints(folder)
        best = checkpoints.best_step()
        metrics = checkpoints.metrics(best) if best is not None else None
        checkpoints.close()
        if metrics:
            evaluate = saved["evaluate"]
            classes = len(run.classes) or saved["model"]["classes"]
            errors = 100 * metrics["top1_error"], _top5(metrics["top5_error"], classes)
            results.append(
                Measured(
                    (saved["name"],), saved["data"]["name"], evaluate["split"], evaluate["views"], *errors, folder.name
                )
            )
    elif not results:
        raise UserError(f"--runs names {folder}, which holds no run and no evaluation; name folders of runs")
    return results


def _top5(error: float, classes: int) -> float | None:
    return 100 * error if classes > TOP_K else None


def of_row(row: Row, base: str, results: list[Measured]) -> Measured | None:
    """What was measured for the row with a config: on the row's data, split and views, or nothing."""
    members = tuple(sorted(f"{base}:{variant}" if variant else base for variant in row.members))
    return next((one for one in results if members and _is_of(one, row) and one.members == members), None)


def _is_of(one: Measured, row: Row) -> bool:
    return (one.data, one.split, one.views, one.other_pictures) == (row.data, row.split, row.views, False)


def shown_errors(row: Row, base: str, results: list[Measured]) -> Errors:
    """The measured errors as the row has its published ones: a relative row's less those of the base network.

    The base is measured with the same config, on the same data, split and views; without it there is nothing to show.
    """
    one = of_row(row, base, results)
    if one is None or not row.relative:
        return (one.top1, one.top5) if one else (None, None)
    whole = next((other for other in results if _is_of(other, row) and other.members == (base,)), None)
    if whole is None:
        return None, None
    return one.top1 - whole.top1, None if one.top5 is None or whole.top5 is None else one.top5 - whole.top5


def of_other_data(results: list[Measured]) -> list[Measured]:
    """The results that are no row's, such as those of own pictures, each once."""
    placed = {of_row(row, base, results) for row in ROWS for base in CONFIGS}
    return [one for one in dict.fromkeys(results) if one not in placed]


def command(row: Row, base: str = "alexnet") -> str:
    """How the row is run, once the networks in it are trained; the whole command."""
    if not row.members:
        return ""
    name = f"configs/{base}.py:{row.members[0]}" if row.members[0] else f"configs/{base}.py"
    views = " --config.evaluate.views=10" if row.views == 10 else ""
    split = f" --config.evaluate.split={row.split}" if row.split != "validation" else ""
    runs = f" --ensemble={','.join(['DIR'] * len(row.members))}" if len(row.members) > 1 else ""
    return f"python launch.py --config={name} --mode=evaluate{runs}{views}{split}"


def percent(errors: Errors, relative: bool = False) -> str:
    """Top-1 / top-5 as the paper writes them; a dash where it does not say."""
    if errors == (None, None):
        return ""
    return " / ".join("-" if one is None else f"{one:+.1f}" if relative else f"{one:.1f}" for one in errors)


def terminal(results: list[Measured], others: list[Measured]) -> list[str]:
    """The rows for a terminal of 100 columns, and what was measured on other data below them."""
    head = ("", "row", "published", "2012 log", "alexnet", "alexnet_2012")
    lines = ["top-1 / top-5 errors in percent; with a sign: more than the base network's", _line(head)]
    for row in ROWS:
        cells = [percent(errors, row.relative) for errors in (row.published, log_errors(row))]
        cells += [percent(shown_errors(row, base, results), row.relative) for base in CONFIGS]
        lines.append(_line((row.where, row.what, *(cell.replace(" ", "") for cell in cells))))
    if others:
        lines += ["", "on other data, or measured in another way"]
        lines += [f"  {_name(one):<32} {_where(one):<38} {percent((one.top1, one.top5))}" for one in others]
    lines.append("--output=FILE.md writes the table with each row's command")
    return lines


def _line(cells: tuple[str, ...]) -> str:
    where, row, *errors = cells
    return f"{where:<16} {row:<36} " + " ".join(f"{cell:<10}" for cell in errors).rstrip()


def _name(one: Measured) -> str:
    members = " + ".join(one.members) if len(one.members) < 3 else f"{len(one.members)} networks"
    return members if one.run in ("", members) else f"{one.run} ({members})"


def log_errors(row: Row) -> Errors:
    """Those of the source's logs as the row has its published ones: a relative row's less those of its base."""
    if row.log is None or not row.relative:
        return row.log[1:] if row.log else (None, None)
    of_2010 = row.log[0].endswith("2010")
    base = next(one.log for one in ROWS if one.log and one.log[0] == ("145-2010" if of_2010 else "145"))
    assert base is not None
    return row.log[1] - base[1], row.log[2] - base[2]


def _where(one: Measured) -> str:
    others = ", other pictures" if one.other_pictures else ""
    return f"{one.data}, {one.split}, {one.views} view{'s' if one.views > 1 else ''}{others}"


def markdown(results: list[Measured]) -> str:
    """The rows, top-1 / top-5 errors in percent."""
    measured_with = (f"measured, {base}.py" for base in CONFIGS)
    head = ["", "row", "command", "published", "source's log", *measured_with]
    lines = [head, ["---"] * len(head)]
    for row in ROWS:
        log = f"{percent(log_errors(row), row.relative)} ({row.log[0]})" if row.log else ""
        how = f"`{command(row)}`" if row.members else ""
        cells = [row.where, row.what, how, percent(row.published, row.relative), log]
        cells += [percent(shown_errors(row, base, results), row.relative) for base in CONFIGS]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _markdown_of_others(others: list[Measured]) -> str:
    if not others:
        return ""
    lines = [["network", "data", "errors"], ["---"] * 3]
    lines += [[_name(one), _where(one), percent((one.top1, one.top5))] for one in others]
    return "\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def as_json(row: Row, results: list[Measured]) -> dict[str, Any]:
    """The row for a machine; errors are percent, of a relative row more than the base network's."""
    result: dict[str, Any] = {
        "where": row.where,
        "row": row.what,
        "members": list(row.members),
        "command": command(row),
        "views": row.views,
        "published": list(row.published),
        "relative": row.relative,
        "log": list(row.log[1:]) if row.log else None,
    }
    for base in CONFIGS:
        one, (top1, top5) = of_row(row, base, results), shown_errors(row, base, results)
        found = one and top1 is not None
        result[base] = {"top1": top1, "top5": top5, "data": row.data, "split": row.split} if found else None
    return result


def _as_dict(one: Measured) -> dict[str, Any]:
    return {**asdict(one), "members": list(one.members)}
