"""The cost of training in several processes, compared with one process that has as many virtual devices.

    python benchmarks/processes.py [--batch=64] [--steps=4] [--turns=3] [--processes=1,2,4]

The paper's network trains on this machine's cores with one CPU device a process (mesh 1x1, 1x2, 2x2), joined over
loopback. It takes turns with one process that has the same mesh. A batch is made once, and nothing is read. The last
line is JSON, which also goes to results/processes/. Its `rates` has for each number of devices and both ways:

  images_per_second: the median, the lowest and the highest of the turns.
  idle_share: the share of the cores' time in which these processes do not compute, but wait for each other or for the
    exchange. Other programs count as waiting too, so measure on an idle machine.
  step_seconds: the median of the turns.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine import CORES, RESULTS, circumstances
from benchmarks.record import write_json

RECORD = RESULTS / "processes" / "processes.json"
MESHES = {1: (1, 1), 2: (1, 2), 4: (2, 2)}


def main() -> None:
    """Measures in turns."""
    parser = argparse.ArgumentParser(description="Several processes compared with one that has as many devices.")
    parser.add_argument("--batch", type=int, default=64, help="images a step, over all processes")
    parser.add_argument("--steps", type=int, default=4, help="steps in a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--processes", default="1,2,4", help="numbers of processes, separated by commas")
    parser.add_argument(
        "--place", default="", help="set by this program for the processes it starts: HOST:PORT,PROCESSES,PROCESS"
    )
    parser.add_argument("--devices", type=int, default=1, help="set likewise: devices of all processes together")
    args = parser.parse_args()
    if args.place:
        measure(args)
        return
    counts = [int(count) for count in args.processes.split(",")]
    if not set(counts) <= set(MESHES):
        parser.error(f"--processes={args.processes} must be of 1, 2 and 4")
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for turn in range(args.turns):
        for count in counts:
            for processes in dict.fromkeys((count, 1) if turn % 2 == 0 else (1, count)):
                way = "processes" if processes == count else "one_process"
                found.setdefault(str(count), {}).setdefault(way, []).append(run(args, count, processes))
                print(f"{count} devices, {processes} processes: {found[str(count)][way][-1]}", file=sys.stderr)
    rates = {count: {way: summary(turns) for way, turns in ways.items()} for count, ways in found.items()}
    record = {**circumstances(), "batch": args.batch, "turns": args.turns, "rates": rates}
    write_json(RECORD, record)
    print(json.dumps(record))


def summary(turns: list[dict[str, float]]) -> dict[str, Any]:
    """The medians, and the lowest and the highest rate."""
    rates = [turn["images_per_second"] for turn in turns]
    return {
        "images_per_second": [statistics.median(rates), min(rates), max(rates)],
        "idle_share": statistics.median(turn["idle_share"] for turn in turns),
        "step_seconds": statistics.median(turn["step_seconds"] for turn in turns),
    }


def run(args: argparse.Namespace, devices: int, processes: int) -> dict[str, float]:
    """Runs a turn in so many processes, and combines their measurements."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices // processes)}
    own = [sys.executable, __file__, f"--batch={args.batch}", f"--steps={args.steps}", f"--devices={devices}"]
    started = [
        subprocess.Popen(
            [*own, f"--place={address},{processes},{process}"], env=environment, stdout=subprocess.PIPE, text=True
        )
        for process in range(processes)
    ]
    outputs = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit("a process failed; its message is above")
    found = [json.loads(output.splitlines()[-1]) for output in outputs]
    seconds = max(process["seconds"] for process in found)
    computed = sum(process["cpu_seconds"] for process in found)
    return {
        "images_per_second": args.steps * args.batch / seconds,
        "idle_share": max(0.0, 1 - computed / seconds / CORES),
        "step_seconds": seconds / args.steps,
    }


def measure(args: argparse.Namespace) -> None:
    """Measures as one process of a turn; the last line is JSON with its seconds."""
    import jax
    import numpy as np

    from alexnet_jax.devices import cluster, launchers, towers
    from alexnet_jax.training.step import Recipe, compiled_steps, create_state
    from benchmarks.step import host_batch

    address, processes, process = args.place.split(",")
    if place := launchers.of_flags(address, int(processes), int(process)):
        cluster.join(place)
    recipe, mesh = Recipe(), towers.make_mesh(*MESHES[args.devices])
    whole, mean = host_batch(recipe, "train", args.batch)
    rows = towers.rows(mesh, args.batch)
    batch = towers.put_batch(jax.tree.map(lambda x: np.asarray(x)[rows], whole), mesh)
    mean_image = towers.replicate(mean, mesh)
    state, (train_step, _) = create_state(recipe, mesh), compiled_steps(recipe, mesh)
    for _ in range(2):  # compiles, and warms up
        state, metrics = train_step(state, batch, mean_image)
        jax.block_until_ready(metrics)
    start, computed = time.perf_counter(), time.process_time()
    for _ in range(args.steps):
        state, metrics = train_step(state, batch, mean_image)
        jax.block_until_ready(metrics)
    found = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - computed}
    cluster.end()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
