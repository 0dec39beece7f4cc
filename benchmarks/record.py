"""Runs programs from the root of the checkout, and writes what they measured."""

import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import table
from benchmarks.machine import RESULTS, ROOT


def answer(code: str) -> str:
    """The output of a few lines of Python in their own process; empty if they fail."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    return done.stdout.strip() if done.returncode == 0 else ""


def result_of(*arguments: str) -> dict[str, Any]:
    """The JSON in the last line that a program of the checkout prints. Raises CalledProcessError if it fails."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Writes a record, and makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")


def without_paths(text: str) -> str:
    """The text with files' names, but without their folders."""
    return re.sub(r"(?<![\w/.])(?:[A-Za-z]:|~)?/(?:[^\s/'\":,()<>|]+/)*(?=[^\s/])", "", text)


def cleaned(value: Any) -> Any:
    """The record without this machine's folders in any of its texts."""
    if isinstance(value, dict):
        return {key: cleaned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [cleaned(item) for item in value]
    return without_paths(value) if isinstance(value, str) else value


def measured(arguments: list[str], seconds: float | None = None) -> dict[str, Any]:
    """The arguments, and the program's result, or the last line of its standard error.

    Args:
      seconds: the time after which the program is killed.
    """
    print(f"python {' '.join(arguments)}", file=sys.stderr, flush=True)
    last = ""
    with tempfile.TemporaryFile("w+") as output:
        command = [sys.executable, *arguments]
        # With the filter a traceback's last line would be about the filter.
        environment = {**os.environ, "JAX_TRACEBACK_FILTERING": "off"}
        with subprocess.Popen(
            command, stdout=output, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        ) as process:
            assert process.stderr
            clock = threading.Timer(seconds, process.kill) if seconds else None
            if clock:
                clock.start()
            for line in process.stderr:
                print(line, end="", file=sys.stderr, flush=True)
                last = line.strip() or last
            process.wait()
            late = clock is not None and not clock.is_alive()
            if clock:
                clock.cancel()
        output.seek(0)
        lines = output.read().splitlines()
    if process.returncode == 0 and lines:
        return {"arguments": arguments, "result": cleaned(json.loads(lines[-1]))}
    why = f"took more than {seconds:.0f} s" if late else without_paths(last) or f"exit status {process.returncode}"
    return {"arguments": arguments, "error": why}


def slug(results: list[dict[str, Any]]) -> str:
    """The name of the GPU, or else of the processor, in letters and digits."""
    devices = [run["result"]["device"] for run in results if "device" in run.get("result", {})]
    if not devices:
        return "unknown"
    name = devices[0]["cpu"] if devices[0]["platform"] == "cpu" else devices[0]["kind"]
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def write(results: list[dict[str, Any]], date: datetime.datetime, folder: Path = RESULTS) -> Path:
    """Writes the file for this machine and day, and prints its table."""
    path = folder / f"{slug(results)}-{date:%Y-%m-%d}.json"
    record = {"date": date.isoformat(timespec="seconds"), "results": results}
    write_json(path, record)
    print(table.of_record(record))
    return path
