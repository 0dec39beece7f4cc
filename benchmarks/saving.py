"""What saving costs a run of the paper's network: the same steps with a checkpoint among them, and without.

    python benchmarks/saving.py [--batch=128] [--steps=6] [--turns=3]

In turns, on one device: so many steps; and a checkpoint, as a run saves it, then so many steps while it is written,
to the end of both. The last line is JSON:

  copy_seconds: until the next step may begin, medians over the turns, as all that follows.
  extra_seconds: by which the steps with the checkpoint took longer, and every turn's.
  step_seconds: of a step without.
  seconds_between: two checkpoints by the defaults of configs/alexnet.py, by time or by steps.
  share: extra_seconds of seconds_between.
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
from step import circumstances, host_batch

from alexnet_jax.config.config import recipe_of
from alexnet_jax.devices import towers
from alexnet_jax.runs.checkpoint import Checkpoints, Progress
from alexnet_jax.training.step import compiled_steps, create_state
from configs import alexnet


def main() -> None:
    """Measures in turns."""
    parser = argparse.ArgumentParser(description="What saving costs a run of the paper's network.")
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--steps", type=int, default=6, help="in a turn")
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    args.mode = "train"
    config = alexnet.get_config()
    recipe, mesh = recipe_of(config, 1000, steps_per_epoch=10_000), towers.make_mesh(1, 1)
    on_host, mean = host_batch(recipe, args)
    batch, mean_image = towers.put_batch(on_host, mesh), towers.replicate(mean, mesh)
    state, (train_step, _) = create_state(recipe, mesh), compiled_steps(recipe, mesh, 1)
    seconds: dict[str, list[float]] = {"plain": [], "saving": [], "copy": []}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        checkpoints = Checkpoints(Path(folder), writes=True)
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
    print(json.dumps({**result, **circumstances("none")}))


if __name__ == "__main__":
    main()
