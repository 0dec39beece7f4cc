"""The results of benchmarks/claims.py as a table, as a sentence, and as the lines of docs/paper.md."""

import statistics
from collections.abc import Sequence
from typing import Any

NOT_YET = "Not run to its end yet."
ACTIVATIONS = ("relu", "tanh")


def mean_and_spread(values: Sequence[float], sign: bool = False) -> str:
    """The mean, the lowest and the highest of a few seeds."""
    form = "{:+.2f}" if sign else "{:.2f}"
    return f"{form.format(statistics.mean(values))} ({form.format(min(values))} to {form.format(max(values))})"


def table(record: dict[str, Any]) -> list[str]:
    """The whole table in Markdown."""
    lines = ["| what is changed | section | paper | rate | test error, % | more than as it is | the paper's sign |"]
    lines += ["|---|---|---|---:|---:|---:|---|"]
    for row in record["rows"]:
        more = mean_and_spread(row["more"], sign=True) if "more" in row else ""
        cells = (row["what"], row["where"], row["paper"], f"{row['rate']:g}", mean_and_spread(row["errors"]), more)
        lines.append(f"| {' | '.join(cells)} | {row.get('verdict', '')} |")
    lines += [
        "",
        "| biases of Figure 1's hidden layers | ReLUs | tanh units | ratio; paper 6 |",
        "|---|---:|---:|---:|",
    ]
    for row in record["figure"]:
        found = [_epochs(row[activation]) for activation in ACTIVATIONS]
        ratio = _ratio(row)
        lines.append(f"| {row['bias']:g} | {' | '.join(found)} | {f'{ratio:.1f}' if ratio else ''} |")
    return lines


def _epochs(found: dict[str, Any]) -> str:
    reached = [epochs for epochs in found["epochs"] if epochs is not None]
    never = f", {len(found['epochs']) - len(reached)} never" if len(reached) < len(found["epochs"]) else ""
    return f"{mean_and_spread(reached) if reached else 'none'}{never} at {found['rate']:g}"


def _ratio(row: dict[str, Any]) -> float | None:
    means = []
    for activation in ACTIVATIONS:
        if None in row[activation]["epochs"]:
            return None
        means.append(statistics.mean(row[activation]["epochs"]))
    return means[1] / means[0]


def summary(record: dict[str, Any]) -> str:
    """Which of the paper's effects show at this size and which do not, as a list."""
    by_verdict: dict[str, list[str]] = {"shows": [], "does not show": [], "the other way": []}
    for row in record["rows"]:
        if "verdict" in row:
            by_verdict[row["verdict"]].append(row["what"])
    return "\n".join(
        [
            f"- A higher error for every seed, as in the paper: {', '.join(by_verdict['shows']) or 'none'}.",
            f"- Not told apart by three seeds: {', '.join(by_verdict['does not show']) or 'none'}.",
            f"- A lower error for every seed: {', '.join(by_verdict['the other way']) or 'none'}.",
        ]
    )


def page_part(record: dict[str, Any] | None) -> str:
    """The lines for docs/paper.md."""
    if record is None:
        return NOT_YET
    ratios = [f"{ratio:.1f} with biases of {row['bias']:g}" for row in record["figure"] if (ratio := _ratio(row))]
    whole = record["rows"][0]
    return "\n".join(
        [
            f"{record['cores']} cores of {record['machine']}, jax {record['versions']['jax']}, "
            f"{record['minutes']:.0f} minutes. The network as it is has {mean_and_spread(whole['errors'])} % test "
            f"error after {record['plan']['epochs']:g} epochs.",
            "",
            "| changed | paper | more error here, % (of three seeds) | the paper's sign |",
            "|---|---|---:|---|",
            *(
                f"| {row['what']} | {row['paper']} | {mean_and_spread(row['more'], True)} | {row['verdict']} |"
                for row in record["rows"]
                if "more" in row
            ),
            "",
            "At this size:",
            "",
            summary(record),
            "- Figure 1: ReLUs need fewer epochs than tanh units to 25 % training error, by a factor of "
            f"{' and '.join(ratios) or 'unknown size'} (paper: 6).",
        ]
    )
