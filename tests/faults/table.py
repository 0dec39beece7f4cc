"""Writes docs/faults.md from the records of the tests here: python -m tests.faults.table LINES FILE."""

import json
import sys
from collections import defaultdict
from pathlib import Path

HEAD = """# What was done to runs, and what happened

`make faults` writes this page. Each run trains a narrow network on the digits: {steps} steps, with a checkpoint every
{every} steps. After the harm the same command resumes the run.

- "Result identical" compares with a run that nothing happened to. The parameters are the same bit for bit,
  metrics.jsonl is the same apart from the speed, and TensorBoard has each step once.
- "Refused in a sentence": a file that the program needs is missing or damaged, and one sentence names it.
- Lines that metrics.jsonl lost stay lost, and the program says so. The parameters are the same.
- On a disk that was too small, TensorBoard may lack the pictures of a validation for which there was no room.

| fault | tried | survived | steps repeated, at most | result identical | refused in a sentence |
|---|---:|---:|---:|---:|---:|
"""


def markdown(lines: list[str], steps: int, every: int) -> str:
    """The text of the page.

    Args:
      lines: records as JSON.
    """
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
