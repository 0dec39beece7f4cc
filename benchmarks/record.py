"""What benchmarks/run and benchmarks/gpu have in common: programs in a row, and the file of their results."""

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

import table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def answer(code: str) -> str:
    """What a Python program of its own prints; empty if it fails."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    return done.stdout.strip() if done.returncode == 0 else ""


def without_paths(text: str) -> str:
    """Files keep their names and lose their folders."""
    return re.sub(r"(?<![\w/.])(?:[A-Za-z]:|~)?/(?:[^\s/'\":,()<>|]+/)*(?=[^\s/])", "", text)


def cleaned(value: Any) -> Any:
    """The record with no folder of this machine in any of its texts."""
    if isinstance(value, dict):
        return {key: cleaned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [cleaned(item) for item in value]
    return without_paths(value) if isinstance(value, str) else value


def measured(arguments: list[str], seconds: float | None = None) -> dict[str, Any]:
    """The arguments, and the program's result or the last line that it left on standard error.

    Args:
      seconds: after which the program is ended.
    """
    print(f"python {' '.join(arguments)}", file=sys.stderr, flush=True)
    last = ""
    with tempfile.TemporaryFile("w+") as output:
        command = [sys.executable, *arguments]
        environment = {**os.environ, "JAX_TRACEBACK_FILTERING": "off"}  # whose last line would be of the filter
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
    """The GPU's name, or the processor's, in letters and digits."""
    devices = [run["result"]["device"] for run in results if "device" in run.get("result", {})]
    if not devices:
        return "unknown"
    name = devices[0]["cpu"] if devices[0]["platform"] == "cpu" else devices[0]["kind"]
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def write(results: list[dict[str, Any]], date: datetime.datetime, folder: Path = RESULTS) -> Path:
    """Writes the file of this machine and day, and prints its table."""
    folder.mkdir(exist_ok=True)
    text = json.dumps({"date": date.isoformat(timespec="seconds"), "results": results}, indent=1) + "\n"
    path = folder / f"{slug(results)}-{date:%Y-%m-%d}.json"
    path.write_text(text)
    with tempfile.TemporaryDirectory() as alone:  # of this machine, whatever results there are of others
        (Path(alone) / path.name).write_text(text)
        print(table.markdown(Path(alone)))
    return path
