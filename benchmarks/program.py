"""The time to the first step, and the training rate on pictures compared with the step alone.

    python benchmarks/program.py [--batch=128] [--steps=8] [--turns=3]

launch.py trains the full network on one device on 500x375 photographs, prepared as JPEG and as raw pixels. step.py's
fixed batch takes turns with it. The start is measured at batch 16, from the command to the line of the first step:
cold, and warm with the programs that the cold start compiled. Three other times are measured beside it: importing
TensorFlow alone, describing the network, and starting Python to predict one picture's classes by `alexnet_jax.load`.
The last line is JSON:

  cold_seconds, warm_seconds, tensorflow_seconds, describe_seconds, answer_seconds: medians; `starts` has every turn's.
  step_images_per_second, jpeg_..., raw_...: medians; `rates` has every turn's.
  jpeg_ratio, raw_ratio: the rate on pictures over the rate of the step alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.input import write_photographs
from benchmarks.machine import ROOT
from benchmarks.record import result_of

PICTURES = 512  # enough for some batches of 128, and few enough for a quick page at the end of each run
ANSWER = "import sys, alexnet_jax; alexnet_jax.load(sys.argv[1]).predict(sys.argv[2])"  # arguments: a run, a file


def launched(cache: Path, *flags: str) -> tuple[float, dict[str, Any]]:
    """The seconds from the command to the first step's line, and the command's result."""
    command = [sys.executable, "launch.py", "--config=configs/alexnet.py", "--config.mesh.model=1", *flags]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "JAX_COMPILATION_CACHE_DIR": ""}
    start, first, line = time.perf_counter(), 0.0, ""
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr and process.stdout
        for line in process.stderr:
            if line.startswith("step ") and not first:
                first = time.perf_counter() - start
        out = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"launch.py ended with status {process.returncode}: {line.strip()}")
    return first, json.loads(out.splitlines()[-1])


def whole(*arguments: str) -> float:
    """The seconds that a Python process takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, check=True)
    return time.perf_counter() - start


def step_alone(batch: int, steps: int) -> float:
    """Images a second of the step on a fixed batch."""
    result = result_of("benchmarks/step.py", f"--batch={batch}", "--turns=1", f"--steps={steps}")
    return result["images_per_second"]


def main() -> None:
    """Makes all measurements in turns."""
    parser = argparse.ArgumentParser(description="The program's start, and its training rate compared with the step's.")
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--steps", type=int, default=8, help="steps timed in a turn")
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    rates: dict[str, list[float]] = {"step": [], "jpeg": [], "raw": []}
    starts: dict[str, list[float]] = {"cold": [], "warm": [], "tensorflow": [], "describe": [], "answer": []}
    with tempfile.TemporaryDirectory() as text:
        root = Path(text)
        write_photographs(root / "photographs", PICTURES)

        def data(encoding: str) -> tuple[str, ...]:
            return (
                *("--config.data.name=folder", f"--config.data.manual_dir={root / 'photographs'}"),
                *(f"--config.data.encoding={encoding}", f"--config.data.prepared_dir={root / encoding}"),
                *("--config.evaluate.split=validation[:16]", "--config.evaluate.batch_size=16"),
                f"--workdir={root / 'run'}",
            )

        for encoding in ("jpeg", "raw"):
            launched(root, "--mode=prepare", *data(encoding))
        for turn in range(args.turns):
            for kind, cache in (("cold", root / f"cache{turn}"), ("warm", root / f"cache{turn}")):
                small = (
                    "--restart",
                    "--config.train.batch_size=16",
                    "--config.train.steps=1",
                    "--config.train.log_every=1",
                )
                starts[kind].append(launched(cache, *data("jpeg"), *small)[0])
            starts["tensorflow"].append(whole("-c", "import tensorflow"))
            starts["describe"].append(whole("launch.py", "--config=configs/alexnet.py", "--mode=describe"))
            starts["answer"].append(whole("-c", ANSWER, str(root / "run"), str(next(root.rglob("*.jpg")))))
            rates["step"].append(step_alone(args.batch, args.steps))
            for encoding in ("jpeg", "raw"):
                flags = (
                    "--restart",
                    f"--config.train.batch_size={args.batch}",
                    f"--config.train.steps={args.steps + 1}",
                )
                rates[encoding].append(launched(root, *data(encoding), *flags)[1]["images_per_second"])
    medians = {name: statistics.median(values) for name, values in rates.items()}
    result: dict[str, Any] = {f"{kind}_seconds": statistics.median(values) for kind, values in starts.items()}
    result |= {f"{name}_images_per_second": value for name, value in medians.items()}
    result |= {f"{name}_ratio": medians[name] / medians["step"] for name in ("jpeg", "raw")}
    result |= {"starts": starts, "rates": rates, "batch": args.batch, "steps": args.steps}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
