"""`--mode=table`: the paper's tables, with published and measured errors side by side."""

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
    """A row of the paper's tables, and the networks that give its errors.

    Attributes:
      where: the table or section.
      what: the row's own name.
      members: the variants whose softmax is averaged, '' for the base; () for other people's methods, and for test sets
        whose labels were never published.
      published: percent; in a relative row, percent more than the base network.
      base: the variant that a relative row is compared with; None for the other rows.
      configs: the files whose variants give the row, each in its column; a file without a column is in the first.
      words: the paper's words for its top-1 error, if it gives no number.
      log: the run among the source's logs, and its errors in percent.
    """

    where: str
    what: str
    members: tuple[str, ...]
    published: Errors
    data: str = "imagenet2012"
    split: str = "validation"
    views: int = 10
    base: str | None = None
    configs: tuple[str, ...] = CONFIGS
    words: str = ""
    log: tuple[str, float, float] | None = None

    @property
    def relative(self) -> bool:
        """Whether the row's errors are differences from those of the base network."""
        return self.base is not None


OF_2010 = ("synset_tars", "test")  # ILSVRC-2010's test set, the only one with published labels
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
        1,
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
    # The source's run with this name trained on the whole release, so alexnet_2012.py does not give the row.
    Row("section 6", "Fall 2009", ("fall2009",), (67.4, 40.9), data="synset_tars", configs=("alexnet",)),
    Row(
        "section 3.2",
        "one GPU",
        ("one_gpu",),
        (1.7, 1.2),
        *OF_2010,
        base="ilsvrc2010",
        log=("145-half", 39.168, 18.2287),
    ),
    *(
        Row("section 3.3", f"CIFAR-10, {what}", (name,), (error, None), "cifar10", "test", configs=("cifar10",))
        for name, what, error in (("no_lrn", "no LRN", 13.0), ("lrn", "with LRN", 11.0))
    ),
    Row("section 3.3", "no LRN", ("no_lrn",), (1.4, 1.2), base="", log=("148", 42.034, 19.362)),
    Row("section 3.4", "pooling 2/2", ("nonoverlapping_pooling",), (0.4, 0.3), base="", log=("147", 41.058, 18.510)),
    Row("section 4.1", "no PCA lighting", ("no_lighting",), (1.0, None), base="", words="over 1 more"),
    *(
        Row("section 7", f"{layer} removed", (f"no_{layer}",), (2.0, None), base="", words="about 2 more")
        for layer in ("conv2", "conv3", "conv4", "conv5")
    ),
    *(Row("not in the paper", f"{layer} removed", (f"no_{layer}",), NOTHING, base="") for layer in ("fc6", "fc7")),
    Row("not in the paper", "no cross connections", ("no_cross",), NOTHING, log=("150", 41.828, 19.330)),
    Row("Caffe", "bvlc_alexnet, centre", ("caffe",), (42.9, 19.8), views=1),
    Row("Caffe", "caffenet, centre", ("caffenet",), (42.6, 19.6), views=1),
    Row("torchvision", "alexnet, centre", ("torchvision",), (43.478, 20.934), views=1),
)


def run(config: ConfigDict | None, invocation: TableInvocation) -> dict[str, Any]:
    """Prints the table, writes it in Markdown to --output, and returns it for JSON."""
    output = invocation.output
    if output and not output.endswith(".md"):
        raise UserError(f"--output={output} is not FILE.md; the table is written in Markdown")
    results = [result for folder in invocation.runs for result in measured(Path(folder).expanduser().absolute())]
    others = other_results(results)
    for line in terminal(results, others):
        say(line)
    if not output:
        say("--output=FILE.md writes the table with each row's command")
    else:
        with new_file(output, invocation.overwrite) as unfinished:
            unfinished.write_text(f"{markdown(results)}\n{_markdown_of_others(others)}")
        say(f"the table with each row's command: {output}")
    rows = [as_json(row, results) for row in ROWS]
    other_data = [{**asdict(result), "members": list(result.members), "seeds": list(result.seeds)} for result in others]
    return {"rows": rows, "other_data": other_data, "output": output or None}


def config_in(row: Row, column: str) -> str:
    """The config file whose variants give the row in a column of `CONFIGS`, or ''."""
    if column in row.configs:
        return column
    return row.configs[0] if column == CONFIGS[0] and row.configs[0] not in CONFIGS else ""


def _named(config: str, variant: str) -> str:
    return f"{config}:{variant}" if variant else config


def _result(
    row: Row, variants: tuple[str, ...], column: str, results: list[Measured], checkpoint: str
) -> Measured | None:
    """The result of the variants on the row's data, split and views, at the checkpoint, or None."""
    config = config_in(row, column)
    if not variants or not config:
        return None
    members = tuple(sorted(_named(config, variant) for variant in variants))
    wanted = (members, row.data, row.split, row.views, checkpoint)
    for found in results:
        is_wanted = (found.members, found.data, found.split, found.views, found.checkpoint) == wanted
        if is_wanted and found.is_of_different_runs and not found.other_pictures:
            return found
    return None


def shown_errors(row: Row, column: str, results: list[Measured], checkpoint: str = NEWEST) -> Errors:
    """The measured errors, in a relative row less those of the base network; NOTHING if a result is missing.

    The base network's result has the same config, checkpoint, data, split and views.
    """
    found = _result(row, row.members, column, results, checkpoint)
    if found is None or row.base is None:
        return (found.top1, found.top5) if found else NOTHING
    base = _result(row, (row.base,), column, results, checkpoint)
    return _less((found.top1, found.top5), (base.top1, base.top5)) if base else NOTHING


def log_errors(row: Row) -> Errors:
    """The errors in the source's log, in a relative row less those of the base network."""
    if row.log is None or row.base is None:
        return row.log[1:] if row.log else NOTHING
    base = next(other.log for other in ROWS if other.log and (other.members, other.views) == ((row.base,), row.views))
    assert base is not None
    return _less(row.log[1:], base[1:])


def _less(errors: Errors, base: Errors) -> Errors:
    top1, top5 = (None if a is None or b is None else a - b for a, b in zip(errors, base, strict=True))
    return top1, top5


def other_results(results: list[Measured]) -> list[Measured]:
    """The results that belong to no row, such as those on the user's own pictures, each once."""
    placed = {
        _result(row, row.members, column, results, checkpoint)
        for row in ROWS
        for column in CONFIGS
        for checkpoint in (NEWEST, BEST)
    }
    return [result for result in dict.fromkeys(results) if result not in placed]


def command(row: Row) -> str:
    """The whole command that evaluates the row's trained networks.

    The members of an ensemble have different seeds: train each with its own --config.train.seed and --workdir.
    """
    if not row.members:
        return ""
    config = config_in(row, CONFIGS[0])
    words = ["python launch.py", f"--config={_named(f'configs/{config}.py', row.members[0])}", "--mode=evaluate"]
    if len(row.members) > 1:
        seeds = [row.members[:place].count(variant) for place, variant in enumerate(row.members)]
        names = [
            f"runs/{_named(config, variant).replace(':', '-')}-seed{seed}"
            for variant, seed in zip(row.members, seeds, strict=True)
        ]
        words.append(f"--ensemble={','.join(names)}")
    if row.views != 1:
        words.append(f"--config.evaluate.views={row.views}")
    if row.split != "validation":
        words.append(f"--config.evaluate.split={row.split}")
    return " ".join([*words, "--config.evaluate.checkpoint=newest"])


def percent(errors: Errors, relative: bool = False) -> str:
    """Top-1 / top-5 as the paper writes them, with a dash for a number that the paper does not give."""
    if errors == NOTHING:
        return ""
    return " / ".join("-" if error is None else f"{error:+.1f}" if relative else f"{error:.1f}" for error in errors)


def published(row: Row) -> str:
    """The row's published errors, or the paper's words if it gives no number."""
    return f"{row.words} / -" if row.words else percent(row.published, row.relative)


def _measured(row: Row, column: str, results: list[Measured]) -> str:
    """The errors of the newest checkpoint, followed by those of the best in brackets."""
    newest, best = (
        percent(shown_errors(row, column, results, checkpoint), row.relative) for checkpoint in (NEWEST, BEST)
    )
    return " ".join(filter(None, (newest, f"({best})" if best else "")))


def terminal(results: list[Measured], others: list[Measured]) -> list[str]:
    """The rows for a terminal with 100 columns, then the results that belong to no row."""
    lines = [
        "top-1 / top-5 errors in percent; with a sign: more than the base network. Measured: the newest",
        "checkpoint, as in the logs; in brackets the best one",
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
        lines += [
            f"  {_networks(result):<32} {_on(result):<44} {percent((result.top1, result.top5))}" for result in others
        ]
    return lines


def _line(row: str, cells: tuple[str, ...]) -> str:
    widths = (14, 10, 22, 22)
    padded = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"{row:<25} {' '.join(padded)}".rstrip()


def _networks(result: Measured) -> str:
    members = " + ".join(result.members) if len(result.members) < 3 else f"{len(result.members)} networks"
    return members if result.run in ("", members) else f"{result.run} ({members})"


def _on(result: Measured) -> str:
    others = ", other pictures" if result.other_pictures else ""
    views = f"{result.views} view{'s' if result.views > 1 else ''}"
    return f"{result.data}, {result.split}, {views}, {result.checkpoint}{others}"


def markdown(results: list[Measured]) -> str:
    """The rows as a Markdown table, top-1 / top-5 errors in percent."""
    lines = [["", "row", "command", "published", "source's log"]]
    lines[0] += [f"measured, {column}.py, newest (best)" for column in CONFIGS]
    lines.append(["---"] * len(lines[0]))
    for row in ROWS:
        log = f"{percent(log_errors(row), row.relative)} ({row.log[0]})" if row.log else ""
        how = f"`{command(row)}`" if row.members else ""
        lines.append([row.where, row.what, how, published(row), log, *(_measured(row, c, results) for c in CONFIGS)])
    return _table(lines)


def _markdown_of_others(others: list[Measured]) -> str:
    if not others:
        return ""
    lines = [["network", "data", "errors"], ["---"] * 3]
    lines += [[_networks(result), _on(result), percent((result.top1, result.top5))] for result in others]
    return f"\n{_table(lines)}\n"


def _table(lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def as_json(row: Row, results: list[Measured]) -> dict[str, Any]:
    """The row for JSON; errors are percent, in a relative row more than the base network."""
    line: dict[str, Any] = {
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
        cell = {"top1": top1, "top5": top5, "data": row.data, "split": row.split, "best": of_best}
        line[column] = cell if top1 is not None or of_best else None
    return line
