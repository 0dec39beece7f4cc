"""What it costs to train in several processes: their rate, against one process with as many virtual devices.

    python benchmarks/processes.py [--batch=64] [--steps=4] [--turns=3] [--processes=1,2,4]

The paper's network on this machine's cores, one CPU device a process (mesh 1x1, 1x2, 2x2), joined over loopback, in
turns with one process of the same mesh. Batches are made once; nothing is read. The last line is JSON, which
results/processes/ keeps, too; its `rates` has for each number of devices and both ways:

  images_per_second: the median over the turns, the lowest and the highest.
  idle_share: of the cores' time in a step, what none of these processes computes in: they wait, for each other or for
    the exchange (or for other programs: to be measured on a quiet machine).
  step_seconds: the median.
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

from benchmarks.machine import CORES, circumstances

RECORD = Path(__file__).resolve().parent / "results" / "processes" / "processes.json"
MESHES = {1: (1, 1), 2: (1, 2), 4: (2, 2)}


def main() -> None:
    """Measures in turns."""
    parser = argparse.ArgumentParser(description="Several processes against one with as many devices.")
    parser.add_argument("--batch", type=int, default=64, help="images a step, over all processes")
    parser.add_argument("--steps", type=int, default=4, help="in a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--processes", default="1,2,4", help="numbers, with commas between")
    parser.add_argument(
        "--place", default="", help="of the processes that this one starts: HOST:PORT,PROCESSES,PROCESS"
    )
    parser.add_argument("--devices", type=int, default=1, help="likewise: over all of them")
    args = parser.parse_args()
    if args.place:
        measure(args)
        return
    counts = [int(one) for one in args.processes.split(",")]
    if not set(counts) <= set(MESHES):
        parser.error(f"--processes={args.processes}: there are 1, 2 and 4")
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for turn in range(args.turns):
        for count in counts:
            for processes in dict.fromkeys((count, 1) if turn % 2 == 0 else (1, count)):
                way = "processes" if processes == count else "one_process"
                found.setdefault(str(count), {}).setdefault(way, []).append(run(args, count, processes))
                print(f"{count} devices, {processes} processes: {found[str(count)][way][-1]}", file=sys.stderr)
    rates = {count: {way: summary(turns) for way, turns in ways.items()} for count, ways in found.items()}
    record = {**circumstances(), "batch": args.batch, "turns": args.turns, "rates": rates}
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))


def summary(turns: list[dict[str, float]]) -> dict[str, Any]:
    """Medians, and the lowest and the highest rate."""
    rates = [one["images_per_second"] for one in turns]
    return {
        "images_per_second": [statistics.median(rates), min(rates), max(rates)],
        "idle_share": statistics.median(one["idle_share"] for one in turns),
        "step_seconds": statistics.median(one["step_seconds"] for one in turns),
    }


def run(args: argparse.Namespace, devices: int, processes: int) -> dict[str, float]:
    """One turn: starts the processes and gives what they measured together."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{one.getsockname()[1]}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices // processes)}
    own = [sys.executable, __file__, f"--batch={args.batch}", f"--steps={args.steps}", f"--devices={devices}"]
    started = [
        subprocess.Popen(
            [*own, f"--place={address},{processes},{process}"], env=environment, stdout=subprocess.PIPE, text=True
        )
        for process in range(processes)
    ]
    lines = [one.communicate()[0] for one in started]
    if any(one.returncode for one in started):
        raise SystemExit("a process failed; what it says stands above")
    each = [json.loads(line.splitlines()[-1]) for line in lines]
    seconds = max(one["seconds"] for one in each)
    computed = sum(one["cpu_seconds"] for one in each)
    return {
        "images_per_second": args.steps * args.batch / seconds,
        "idle_share": max(0.0, 1 - computed / seconds / CORES),
        "step_seconds": seconds / args.steps,
    }


def measure(args: argparse.Namespace) -> None:
    """One process of a turn; its last line is what it took."""
    import jax
    import numpy as np
    from step import host_batch

    from alexnet_jax.devices import cluster, launchers, towers
    from alexnet_jax.training.step import Recipe, compiled_steps, create_state

    address, processes, process = args.place.split(",")
    if place := launchers.of_flags(address, int(processes), int(process)):
        cluster.join(place)
    args.mode = "train"
    recipe, mesh = Recipe(), towers.make_mesh(*MESHES[args.devices])
    whole, mean = host_batch(recipe, args)
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
