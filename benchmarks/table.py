"""Makes the tables and the line about speed from the files that benchmarks/run writes.

    python benchmarks/table.py

It rewrites docs/speed.md between the lines <!-- speed: begin --> and <!-- speed: end -->, and README.md between the
lines <!-- speed line: begin --> and <!-- speed line: end -->.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine import RESULTS, ROOT

MODES = {"train": "training", "inference": "one view", "ten_views": "ten views"}
HEAD = (
    "| what | images/s, median (lowest-highest) | PyTorch's best | PyTorch's best, eager | ratio "
    "| of the product's rate | compile, s | GB a device |"
)
PREDICTION_HEAD = "| pictures a second | float32 | PyTorch's best | ratio | bfloat16 | PyTorch's best | ratio |"
INPUT = {"prepare": "prepared", "jpeg": "fed from JPEG", "raw": "fed raw", "dataloader": "fed by PyTorch's DataLoader"}


def newest(results_dir: Path) -> dict[str, Any] | None:
    """The record with the latest date, of any machine; None without records."""
    records = [json.loads(path.read_text()) for path in sorted(results_dir.glob("*.json"))]
    return max(records, key=lambda record: record["date"], default=None)


def markdown(results_dir: Path) -> str:
    """A paragraph and the tables of the newest measurement; empty without results."""
    record = newest(results_dir)
    return of_record(record) if record else ""


def line(results_dir: Path) -> str:
    """A line about the newest measurement: training and predicting on one device; empty without results."""
    record = newest(results_dir)
    found = [run["result"] for run in record["results"] if "result" in run] if record else []
    steps = [result for result in found if result.get("mesh") == "1x1" and result.get("dtype") == "float32"]
    training = [result for result in steps if result["mode"] == "train"][:1]
    predicting = [result for result in steps if result["mode"] == "inference"][:1]
    sentences = [f"Training at batch {result['batch']}: {_against_torch(result)}." for result in training]
    sentences += [f"Predicting, {result['batch']} at a time: {_against_torch(result)}." for result in predicting]
    return f"{' '.join(sentences)} Measured on {_heading(record, steps)}" if record and sentences else ""


def _against_torch(result: dict[str, Any]) -> str:
    rate = f"{_number(result['images_per_second'])} images/s"
    return f"{rate}, {result['ratio']:.2f} times PyTorch's best" if result["ratio"] else rate


def of_record(record: dict[str, Any]) -> str:
    """A paragraph that names the machine, and the tables of its measurements."""
    measured = _results(record, "step.py")
    predictions = [result for result in measured if _is_prediction(result)]
    steps = [run for run in record["results"] if run["arguments"][0].endswith("step.py")]
    lines = [_heading(record, measured), "", HEAD, "|---|" + "---:|" * 7]
    lines += [_row(run) for run in steps if run.get("result") not in predictions]
    if predictions:
        lines += ["", PREDICTION_HEAD, "|---|" + "---:|" * 6, *_prediction_rows(predictions)]
    for fed in _results(record, "input.py")[:1]:
        rates = {text: fed.get(f"{name}_images_per_second") for name, text in INPUT.items()}
        listed = ", ".join(f"{text} {_number(rate)}" for text, rate in rates.items() if rate)
        lines += ["", f"Pictures a second: {listed}."]
    for started in _results(record, "program.py")[:1]:
        lines += ["", *_about_starting(started)]
    for waited in _results(record, "latency.py")[:1]:
        forms = ", ".join(f"{ms:.0f} ms ({name})" for name, ms in waited["peer"].items())
        lines += [
            "",
            f"One picture from its file to its classes, after the first picture: {waited['ours']:.0f} ms. PyTorch "
            f"without `torch.compile` takes {forms}.",
        ]
    return "\n".join(lines)


def _results(record: dict[str, Any], program: str) -> list[dict[str, Any]]:
    """The results of a program's runs that succeeded."""
    return [run["result"] for run in record["results"] if run["arguments"][0].endswith(program) and "result" in run]


def _about_starting(result: dict[str, Any]) -> list[str]:
    lines = [
        f"From the command to the first step: {result['cold_seconds']:.0f} s, or {result['warm_seconds']:.0f} s if the "
        f"programs were compiled before. Training on pictures reaches {result['jpeg_ratio']:.2f} (JPEG) and "
        f"{result['raw_ratio']:.2f} (raw) of the rate of the step alone."
    ]
    if "answer_seconds" in result:  # earlier records have none
        lines.append(
            f"On that machine a plain `import tensorflow`, with Keras, takes {result['tensorflow_seconds']:.1f} s; "
            f"the whole start with compiled programs {result['warm_seconds']:.1f} s; describing the network "
            f"{result['describe_seconds']:.1f} s; from a fresh Python, `alexnet_jax.load` and the classes of one "
            f"picture {result['answer_seconds']:.1f} s."
        )
    return lines


def _is_prediction(result: dict[str, Any]) -> bool:
    """Whether the result belongs into the table of predictions: those on one device of a processor."""
    return result["mode"] != "train" and result["mesh"] == "1x1" and result["device"]["platform"] == "cpu"


def _prediction_rows(results: list[dict[str, Any]]) -> list[str]:
    """A row for each mode and batch, with both types side by side."""
    found = {(result["mode"], result["batch"], result["dtype"]): result for result in results}
    rows = []
    for mode, batch in dict.fromkeys((result["mode"], result["batch"]) for result in results):
        cells = [f"{MODES[mode]}, {batch} at a time"]
        for dtype in ("float32", "bfloat16"):
            one = found.get((mode, batch, dtype), {})
            ratio = one.get("ratio")
            rates = (_number(one.get("images_per_second")), _number(one.get("peer_images_per_second")))
            cells += [*rates, f"{ratio:.2f}" if ratio else ""]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _heading(record: dict[str, Any], results: list[dict[str, Any]]) -> str:
    if not results:
        return f"No run succeeded; {record['date'][:10]}."
    device = results[0]["device"]
    names: dict[str, str] = {}
    for result in results:
        names |= {name: version for name, version in result["versions"].items() if version}
    where = f"{device['cores']} cores of {device['cpu']}"
    if device["platform"] != "cpu":
        where = f"{device['kind']}, {where}"
    used = ", ".join(f"{name} {names[name]}" for name in ("python", "jax", "flax", "torch") if name in names)
    return f"{where}; {used}; {record['date'][:10]}."


def _row(run: dict[str, Any]) -> str:
    if "error" in run:
        shown = run["error"].replace("|", "/")
        return f"| `{' '.join(run['arguments'][1:])}` | failed: {shown} | | | | | | |"
    result = run["result"]
    eager = result["ratio_eager"] and result["images_per_second"] / result["ratio_eager"]
    low, high = result["spread"]
    ratio = f"{result['ratio']:.2f}" if result["ratio"] else ""
    torch = result["peer_images_per_second"]
    if result["peer"] == "one_device":
        less = result["peak_bytes_per_device"] / result["one_device_peak_bytes"]
        ratio, torch = f"{ratio} of one device, {less:.2f} of its memory", None
    cells = [
        f"{MODES[result['mode']]}, {result['dtype']}, batch {result['batch']}, mesh {result['mesh']}",
        f"{_number(result['images_per_second'])} ({_number(low)}-{_number(high)})",
        _number(torch),
        _number(eager),
        ratio,
        # Ten views share what lies under several of them, so that a share of ten passes says nothing.
        "" if result["mode"] == "ten_views" else f"{100 * result['flops_utilisation']:.0f} %",
        f"{result['compile_seconds']:.1f}",
        f"{result['peak_bytes_per_device'] / 1e9:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def _number(rate: float | None) -> str:
    """The rate with three digits, or with all digits before the point."""
    if rate is None:
        return ""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 10 else f"{rate:.2f}"


def put_into_page(page: str, name: str, text: str) -> None:
    """Rewrites the part between the page's two lines with that name; ends the program if they are missing.

    Args:
      page: the file's path from the root of the checkout, such as docs/speed.md.
    """
    path, begin, end = ROOT / page, f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = path.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        sys.exit(f"{page} has no lines {begin} and {end}: add them where the table belongs")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main() -> None:
    """Rewrites the parts of docs/speed.md and README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    put_into_page("docs/speed.md", "speed", markdown(RESULTS))
    put_into_page("README.md", "speed line", line(RESULTS))


if __name__ == "__main__":
    main()
