"""The table of docs/faults.md, of what the runs here left: python -m tests.faults.table LINES FILE."""

import json
import sys
from collections import defaultdict
from pathlib import Path

HEAD = """# What was done to runs, and what came of it

`make faults` writes this. Each run is a narrow network on the digits, {steps} steps with a checkpoint every {every};
after the harm the same command goes on. "Identical": the parameters bit for bit, metrics.jsonl but for the speed,
TensorBoard with each step once, as in the run that nothing happened to. Where a file cannot be done without, the
program ends in one sentence that names it. Of a metrics.jsonl what it lost is lost, and said; the parameters are
the same. Where a disk was too small, TensorBoard may lack the pictures of a validation for which it had no room.

| fault | tried | survived | steps done again, at most | result identical | refused in a sentence |
|---|---:|---:|---:|---:|---:|
"""


def markdown(lines: list[str], steps: int, every: int) -> str:
    """The text of the file, of records as JSON."""
    by_fault = defaultdict(list)
    for line in lines:
        case = json.loads(line)
        by_fault[case["fault"]].append(case)
    rows = []
    for fault, cases in sorted(by_fault.items()):
        survived = [case for case in cases if case["survived"]]
        identical = sum(case["identical"] for case in survived)
        refused = sum(case["refused"] for case in survived)
        again = max(case["again"] for case in cases)
        rows.append(f"| {fault} | {len(cases)} | {len(survived)} | {again} | {identical} | {refused} |\n")
    return HEAD.format(steps=steps, every=every) + "".join(rows)


if __name__ == "__main__":
    from tests.faults.harness import EVERY, STEPS

    Path(sys.argv[2]).write_text(markdown(Path(sys.argv[1]).read_text().splitlines(), STEPS, EVERY))
