"""The cost of saving for a run of the paper's network: the same steps with a checkpoint and without.

    python benchmarks/saving.py [--batch=128] [--steps=6] [--turns=3]

On one device two measurements take turns: --steps steps; and a checkpoint, saved as a run saves it, with --steps steps
while it is written, until both are done. The last line is JSON, with medians of the turns:

  copy_seconds: the time until the next step can begin.
  extra_seconds, every_extra_seconds: the additional time of the steps with a checkpoint, median and every turn's.
  step_seconds: the time of a step without a checkpoint.
  seconds_between: the time between checkpoints by the defaults of configs/alexnet.py, which go by time or by steps.
  share: extra_seconds over seconds_between.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax

from alexnet_jax.config.config import recipe_of
from alexnet_jax.devices import towers
from alexnet_jax.runs.checkpoint import Checkpoints, Progress
from alexnet_jax.training.step import compiled_steps, create_state
from benchmarks.step import device_and_versions, host_batch
from configs import alexnet


def main() -> None:
    """Makes both measurements in turns."""
    parser = argparse.ArgumentParser(description="The cost of saving for a run of the paper's network.")
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--steps", type=int, default=6, help="steps in a turn")
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    config = alexnet.get_config()
    recipe, mesh = recipe_of(config, 1000, steps_per_epoch=10_000), towers.make_mesh(1, 1)
    on_host, mean = host_batch(recipe, "train", args.batch)
    batch, mean_image = towers.put_batch(on_host, mesh), towers.replicate(mean, mesh)
    state, (train_step, _) = create_state(recipe, mesh), compiled_steps(recipe, mesh, 1)
    seconds: dict[str, list[float]] = {"plain": [], "saving": [], "copy": []}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        checkpoints = Checkpoints(Path(folder)).open_for_writing()
        state, _ = train_step(state, batch, mean_image)  # compiles
        jax.block_until_ready(state)
        for turn in range(args.turns):
            for kind in ("plain", "saving") if turn % 2 == 0 else ("saving", "plain"):
                start = time.perf_counter()
                if kind == "saving":
                    checkpoints.save(turn + 1, state, Progress())
                    seconds["copy"].append(time.perf_counter() - start)
                for _ in range(args.steps):
                    state, _ = train_step(state, batch, mean_image)
                jax.block_until_ready(state)
                checkpoints.finish()
                seconds[kind].append(time.perf_counter() - start)
        checkpoints.close()
    extra = [saving - plain for saving, plain in zip(seconds["saving"], seconds["plain"], strict=True)]
    step_seconds = statistics.median(seconds["plain"]) / args.steps
    between = min(60 * config.train.checkpoint_minutes, config.train.checkpoint_every * step_seconds)
    result = {
        "batch": args.batch,
        "copy_seconds": statistics.median(seconds["copy"]),
        "extra_seconds": statistics.median(extra),
        "every_extra_seconds": extra,
        "step_seconds": step_seconds,
        "seconds_between": between,
        "share": statistics.median(extra) / between,
    }
    print(json.dumps({**result, **device_and_versions("none")}))


if __name__ == "__main__":
    main()
