"""`--mode=table`: the paper's tables, published and measured side by side."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.files import new_file
from alexnet_jax.messages import UserError, say
from alexnet_jax.modes import TableInvocation
from alexnet_jax.runs.results import BEST, NEWEST, Measured, measured

CONFIGS = ("alexnet", "alexnet_2012")  # as published, and as run in 2012
Errors = tuple[float | None, float | None]  # top-1 and top-5, percent
NOTHING: Errors = (None, None)


@dataclass(frozen=True)
class Row:
    """A number of the paper, and which networks give it.

    Attributes:
      where: the table or section.
      what: the row's own name.
      members: the variants whose softmax is averaged, '' for the base; none for the rivals, and where the labels
        were never published.
      published: percent, or percent more than the row of the base network where `relative`.
      base: of a relative row, the variant that it is compared with.
      configs: the files whose variants give it, each in its column; one that has no column is in the first.
      words: how the paper puts its top-1 error, where that is no number.
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
    base: str = ""
    configs: tuple[str, ...] = CONFIGS
    words: str = ""
    log: tuple[str, float, float] | None = None


OF_2010 = ("synset_tars", "test")  # ILSVRC-2010's test set, the one whose labels were published
ROWS = (
    Row("Table 1", "Sparse coding", (), (47.1, 28.2), *OF_2010),
    Row("Table 1", "SIFT + FVs", (), (45.7, 25.7), *OF_2010),
    Row("Table 1", "CNN, ten views", ("ilsvrc2010",), (37.5, 17.0), *OF_2010, log=("145-2010", 37.4727, 16.9987)),
    Row(
        "section 4.1",
        "CNN, centre view",
        ("ilsvrc2010",),
        (39.0, 18.3),
        *OF_2010,
        views=1,
        log=("145-2010", 39.0247, 18.2953),
    ),
    Row("Table 2", "SIFT + FVs, test", (), (None, 26.2), split="test"),
    Row("Table 2", "1 CNN", ("",), (40.7, 18.2), log=("145", 40.6640, 18.2100)),
    Row("Table 2", "5 CNNs", ("",) * 5, (38.1, 16.4)),
    Row("Table 2", "5 CNNs, test", (), (None, 16.4), split="test"),
    Row("Table 2", "1 CNN*", ("star",), (39.0, 16.6), log=("146-2012-2011", 38.990, 16.622)),
    Row("Table 2", "7 CNNs*", ("",) * 5 + ("star",) * 2, (36.7, 15.4)),
    Row("Table 2", "7 CNNs*, test", (), (None, 15.3), split="test"),
    Row("section 6", "Fall 2009, best before", (), (78.1, 60.9), data="synset_tars"),
    # The source's own run of that name had the whole release to train on.
    Row("section 6", "Fall 2009", ("fall2009",), (67.4, 40.9), data="synset_tars", configs=("alexnet",)),
    Row(
        "section 3.2",
        "one GPU",
        ("one_gpu",),
        (1.7, 1.2),
        *OF_2010,
        relative=True,
        base="ilsvrc2010",
        log=("145-half", 39.1680, 18.2287),
    ),
    *(
        Row("section 3.3", f"CIFAR-10, {what}", (name,), (error, None), "cifar10", "test", configs=("cifar10",))
        for name, what, error in (("no_lrn", "no LRN", 13.0), ("lrn", "with LRN", 11.0))
    ),
    Row("section 3.3", "no LRN", ("no_lrn",), (1.4, 1.2), relative=True, log=("148", 42.034, 19.362)),
    Row(
        "section 3.4",
        "pooling 2/2",
        ("nonoverlapping_pooling",),
        (0.4, 0.3),
        relative=True,
        log=("147", 41.058, 18.510),
    ),
    Row("section 4.1", "no PCA lighting", ("no_lighting",), (1.0, None), relative=True, words="over 1 more"),
    *(
        Row("section 7", f"{layer} removed", (f"no_{layer}",), (2.0, None), relative=True, words="about 2 more")
        for layer in ("conv2", "conv3", "conv4", "conv5")
    ),
    *(
        Row("not in the paper", f"{layer} removed", (f"no_{layer}",), NOTHING, relative=True)
        for layer in ("fc6", "fc7")
    ),
    Row("not in the paper", "no cross connections", ("no_cross",), NOTHING, log=("150", 41.828, 19.330)),
    Row("Caffe", "bvlc_alexnet, centre", ("caffe",), (42.9, 19.8), views=1),
    Row("Caffe", "caffenet, centre", ("caffenet",), (42.6, 19.6), views=1),
    Row("torchvision", "alexnet, centre", ("torchvision",), (43.478, 20.934), views=1),
)


def run(config: ConfigDict | None, invocation: TableInvocation) -> dict[str, Any]:
    """Shows the table, writes it in Markdown where --output says, and gives it as JSON."""
    output = invocation.output
    if output and not output.endswith(".md"):
        raise UserError(f"--output={output} is not FILE.md; the table is written in Markdown")
    results = [one for folder in invocation.runs for one in measured(Path(folder).expanduser().absolute())]
    others = of_other_data(results)
    for line in terminal(results, others):
        say(line)
    if not output:
        say("--output=FILE.md writes the table with each row's command")
    else:
        with new_file(output, invocation.overwrite) as unfinished:
            unfinished.write_text(f"{markdown(results)}\n{_markdown_of_others(others)}")
        say(f"the table with each row's command: {output}")
    rows = [as_json(row, results) for row in ROWS]
    return {"rows": rows, "other_data": [_as_dict(one) for one in others], "output": output or None}


def config_in(row: Row, column: str) -> str:
    """The file whose variants give the row in a column of `CONFIGS`; '' where none does."""
    if column in row.configs:
        return column
    apart = [config for config in row.configs if config not in CONFIGS]
    return apart[0] if apart and column == CONFIGS[0] else ""


def _named(config: str, variant: str) -> str:
    return f"{config}:{variant}" if variant else config


def of_row(row: Row, column: str, results: list[Measured], checkpoint: str = NEWEST) -> Measured | None:
    """What was measured for the row: on its data, split and views, at the checkpoint; or nothing."""
    members = tuple(sorted(_named(config_in(row, column), variant) for variant in row.members))
    if not members or not config_in(row, column):
        return None
    return next((one for one in results if one.members == members and _is_of(one, row, checkpoint)), None)


def _is_of(one: Measured, row: Row, checkpoint: str) -> bool:
    where = (one.data, one.split, one.views, one.checkpoint) == (row.data, row.split, row.views, checkpoint)
    return where and one.is_of_different_runs and not one.other_pictures


def shown_errors(row: Row, column: str, results: list[Measured], checkpoint: str = NEWEST) -> Errors:
    """The measured errors as the row has its published ones: a relative row's less those of the base network.

    The base is measured with the same config, at the same checkpoint, on the same data, split and views; without it
    there is nothing to show.
    """
    one = of_row(row, column, results, checkpoint)
    if one is None or not row.relative:
        return (one.top1, one.top5) if one else NOTHING
    base = (_named(config_in(row, column), row.base),)
    whole = next((other for other in results if _is_of(other, row, checkpoint) and other.members == base), None)
    if whole is None:
        return NOTHING
    return one.top1 - whole.top1, None if one.top5 is None or whole.top5 is None else one.top5 - whole.top5


def of_other_data(results: list[Measured]) -> list[Measured]:
    """The results that are no row's, such as those of own pictures, each once."""
    placed = {
        of_row(row, column, results, checkpoint) for row in ROWS for column in CONFIGS for checkpoint in (NEWEST, BEST)
    }
    return [one for one in dict.fromkeys(results) if one not in placed]


def command(row: Row) -> str:
    """How the row is run, once the networks in it are trained; the whole command.

    Those of an ensemble are of as many seeds: train each with its own --config.train.seed and --workdir.
    """
    if not row.members:
        return ""
    config = config_in(row, CONFIGS[0])
    path = f"configs/{config}.py"
    views = f" --config.evaluate.views={row.views}" if row.views != 1 else ""
    split = f" --config.evaluate.split={row.split}" if row.split != "validation" else ""
    seeds = [row.members[:place].count(variant) for place, variant in enumerate(row.members)]
    names = [
        f"runs/{'-'.join(filter(None, (config, variant)))}-seed{seed}"
        for variant, seed in zip(row.members, seeds, strict=True)
    ]
    runs = f" --ensemble={','.join(names)}" if len(names) > 1 else ""
    return (
        f"python launch.py --config={_named(path, row.members[0])} --mode=evaluate{runs}{views}{split} "
        "--config.evaluate.checkpoint=newest"
    )


def percent(errors: Errors, relative: bool = False) -> str:
    """Top-1 / top-5 as the paper writes them; a dash where it does not say."""
    if errors == NOTHING:
        return ""
    return " / ".join("-" if one is None else f"{one:+.1f}" if relative else f"{one:.1f}" for one in errors)


def published(row: Row) -> str:
    """The row's published errors, in the paper's words where it has no number."""
    return f"{row.words} / -" if row.words else percent(row.published, row.relative)


def _measured(row: Row, column: str, results: list[Measured]) -> str:
    """The errors of the newest checkpoint, and beside them in brackets those of the best."""
    newest, best = (
        percent(shown_errors(row, column, results, checkpoint), row.relative) for checkpoint in (NEWEST, BEST)
    )
    return " ".join(filter(None, (newest, f"({best})" if best else "")))


def terminal(results: list[Measured], others: list[Measured]) -> list[str]:
    """The rows for a terminal of 100 columns, and what was measured on other data below them."""
    lines = [
        "top-1 / top-5 errors in percent; with a sign: more than the base network's. Measured: of the newest",
        "checkpoint, as the logs' are; in brackets of the best one",
        _line("", ("published", "2012 log", "alexnet", "alexnet_2012")),
    ]
    where = ""
    for row in ROWS:
        if row.where != where:
            where = row.where
            lines.append(where)
        log = percent(log_errors(row), row.relative)
        cells = (published(row), log, *(_measured(row, column, results) for column in CONFIGS))
        lines.append(_line(f"  {row.what}", tuple(cell.replace(" / ", "/") for cell in cells)))
    if others:
        lines += ["", "on other data, or measured in another way"]
        lines += [f"  {_name(one):<32} {_where(one):<44} {percent((one.top1, one.top5))}" for one in others]
    return lines


def _line(row: str, cells: tuple[str, ...]) -> str:
    widths = (14, 10, 22, 22)
    padded = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"{row:<25} {' '.join(padded)}".rstrip()


def _name(one: Measured) -> str:
    members = " + ".join(one.members) if len(one.members) < 3 else f"{len(one.members)} networks"
    return members if one.run in ("", members) else f"{one.run} ({members})"


def log_errors(row: Row) -> Errors:
    """Those of the source's logs as the row has its published ones: a relative row's less those of its base."""
    if row.log is None or not row.relative:
        return row.log[1:] if row.log else NOTHING
    base = next(one.log for one in ROWS if one.log and (one.members, one.views) == ((row.base,), row.views))
    assert base is not None
    return row.log[1] - base[1], row.log[2] - base[2]


def _where(one: Measured) -> str:
    others = ", other pictures" if one.other_pictures else ""
    return f"{one.data}, {one.split}, {one.views} view{'s' if one.views > 1 else ''}, {one.checkpoint}{others}"


def markdown(results: list[Measured]) -> str:
    """The rows, top-1 / top-5 errors in percent."""
    measured_with = (f"measured, {base}.py, newest (best)" for base in CONFIGS)
    head = ["", "row", "command", "published", "source's log", *measured_with]
    lines = [head, ["---"] * len(head)]
    for row in ROWS:
        log = f"{percent(log_errors(row), row.relative)} ({row.log[0]})" if row.log else ""
        how = f"`{command(row)}`" if row.members else ""
        lines.append([row.where, row.what, how, published(row), log, *(_measured(row, c, results) for c in CONFIGS)])
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
        "published_as": published(row),
        "relative": row.relative,
        "log": list(row.log[1:]) if row.log else None,
    }
    for column in CONFIGS:
        (top1, top5), best = (shown_errors(row, column, results, checkpoint) for checkpoint in (NEWEST, BEST))
        of_best = {"top1": best[0], "top5": best[1]} if best != NOTHING else None
        there = {"top1": top1, "top5": top5, "data": row.data, "split": row.split, "best": of_best}
        result[column] = there if top1 is not None or of_best else None
    return result


def _as_dict(one: Measured) -> dict[str, Any]:
    return {**asdict(one), "members": list(one.members), "seeds": list(one.seeds)}
