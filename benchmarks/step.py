"""The rates at which the full network trains and predicts, on a batch that is on the device already.

    python benchmarks/step.py [--mode=train|inference|ten_views] [--mesh=1x1] [--batch=128]
                              [--dtype=float32|bfloat16|tf32] [--turns=5] [--peer=torch|one_device]

A turn is --steps steps timed together. Our step, a large matrix product and, with --peer=torch, each setting of PyTorch
take turns in one run, and the median counts. With ten views a picture counts as one image. The last line of standard
output is JSON:

  images_per_second, spread: the median and [lowest, highest] of the turns.
  peer_settings: the same for each setting of PyTorch, or its error.
  peer_images_per_second: the best median among them. A mesh of several GPUs is compared with PyTorch on one GPU. With
    --peer=one_device the peer is our own step on the mesh 1x1.
  ratio, ratio_eager: our rate over PyTorch's best, and over its best without torch.compile.
  loss_check: both losses for the same batch and the same weights, with kernels enlarged so that the logits differ; the
    program fails if they differ by 1e-4 or more.
  flops_utilisation: our FLOP/s over those of a 4096 x 4096 x 4096 product of the same type. A forward pass has the
    FLOPs that architecture.py counts (2 a multiply-add; only convolutions and dense layers), and a training step three
    times as many, which includes an input gradient that conv1 does not need.
  peak_bytes_per_device: arguments, temporaries, and outputs that reuse no argument, as compiled.
  one_device_peak_bytes: the same for the mesh 1x1, if that is the peer.
  peak_bytes_in_use: by the GPU's allocator, including the creation of the state; null on CPU.
  compile_seconds: XLA's time without a cache.
"""

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import flax
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import optax
from jax.sharding import Mesh

from alexnet_jax.data import centre_offset
from alexnet_jax.data.batches.batch import Batch
from alexnet_jax.devices import towers
from alexnet_jax.messages import say
from alexnet_jax.network import architecture, views
from alexnet_jax.training.step import Recipe, compiled_steps, create_state
from benchmarks.machine import CORES, cpu_model

SQUARE = 256  # side of prepared squares and of the mean image, pixels
PASSES = {"train": 3, "inference": 1, "ten_views": views.VIEWS}  # an image's work, in forward passes
PRODUCT = 4096  # side of the matrices whose product sets the limit
ENLARGED = 2.0  # times the initial kernels in comparisons, so that activations are large enough to differ

Turn = Callable[[int], None]  # does so many steps and waits for them


def flags() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser("step.py", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--mode", choices=tuple(PASSES), default="train", help="inference: one view a picture")
    parser.add_argument("--devices", type=int, default=0, help="virtual CPU devices; 0: as many as the mesh has")
    parser.add_argument("--mesh", default="1x1", help="DATAxMODEL")
    parser.add_argument("--batch", type=int, default=128, help="images a step, all devices together")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "tf32"), default="float32", help="type of activations"
    )
    parser.add_argument("--turns", type=int, default=5, help="timed turns of each side")
    parser.add_argument("--steps", type=int, default=2, help="steps in a turn")
    parser.add_argument(
        "--peer", choices=("none", "torch", "one_device"), default="none", help="the step to compare with"
    )
    return parser


def mesh_sides(parser: argparse.ArgumentParser, args: argparse.Namespace) -> tuple[int, int]:
    """The two sides of --mesh. Ends the program if --mesh or --batch is invalid."""
    sides = re.fullmatch(r"(\d+)x([12])", args.mesh)
    if not sides or int(sides[1]) < 1:
        parser.error(f"--mesh={args.mesh} is not DATAxMODEL: give two numbers such as 1x2, MODEL 1 or 2")
    data, model = int(sides[1]), int(sides[2])
    if args.batch < 1:
        parser.error(f"--batch={args.batch} is too small: give 1 or more")
    if args.batch % data:
        parser.error(f"--batch={args.batch} cannot be divided by --mesh={args.mesh}: give a multiple of {data}")
    return data, model


def devices(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Mesh:
    """Checks the flags, then makes the mesh. Ends the program if a flag is invalid."""
    data, model = mesh_sides(parser, args)
    for name in ("turns", "steps"):
        if getattr(args, name) < 1:
            parser.error(f"--{name}={getattr(args, name)} is too small: give 1 or more")
    if args.devices and args.devices < data * model:
        parser.error(f"--devices={args.devices} is less than --mesh={args.mesh} needs: give {data * model} or more")
    jax.config.update("jax_num_cpu_devices", args.devices or data * model)
    if args.peer == "torch":  # leaves memory on the GPU for PyTorch
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    gpu = jax.default_backend() == "gpu"
    if len(jax.devices()) < data * model:
        parser.error(
            f"--mesh={args.mesh} needs more than the {len(jax.devices())} devices of this machine: give a smaller one"
        )
    if args.dtype == "tf32" and not gpu:
        parser.error("--dtype=tf32 needs an NVIDIA GPU and there is none: give float32 or bfloat16")
    if args.peer == "torch":
        try:
            from benchmarks import torch_peer
        except ImportError:
            parser.error("--peer=torch finds no PyTorch: pip install torch, or leave the flag out")
        if gpu and not torch_peer.has_cuda():
            parser.error("--peer=torch finds a PyTorch without CUDA: install one with it, or leave the flag out")
    return towers.make_mesh(data, model)


def host_batch(recipe: Recipe, mode: str, size: int) -> tuple[Batch, np.ndarray]:
    """A batch of `size` random pictures, as centre crops or as squares for ten views, and a random mean image."""
    rng = np.random.default_rng(0)
    crop = recipe.architecture.input_size
    side = SQUARE if mode == "ten_views" else crop
    batch = Batch(
        image=rng.integers(0, 256, (size, side, side, 3), np.uint8),
        label=rng.integers(0, recipe.architecture.classes, size, np.int32),
        lighting=np.zeros((size, 3), np.float32),
        offset=np.full((size, 2), centre_offset(SQUARE, crop), np.int32),
        reflected=np.zeros(size, np.bool_),
        scale=np.ones(size, np.float32),
        mask=None if mode == "train" else np.ones(size, np.bool_),
    )
    return batch, rng.uniform(100, 150, (SQUARE, SQUARE, 3)).astype(np.float32)


def ours(recipe: Recipe, mesh: Mesh, args: argparse.Namespace, batch: Batch, mean: Any) -> tuple[Any, Turn, float]:
    """The compiled step, a function that runs it, and the seconds of compiling."""
    state = create_state(recipe, mesh)
    train, evaluate = compiled_steps(recipe, mesh, views.VIEWS if args.mode == "ten_views" else 1)
    if args.mode == "train":
        lowered = train.lower(state, batch, mean)
    else:
        lowered = evaluate.lower(state.params, batch, mean)
    start = time.perf_counter()
    program = lowered.compile()
    seconds = time.perf_counter() - start

    def run(steps: int) -> None:
        nonlocal state
        metrics: Any = None
        for _ in range(steps):
            if args.mode == "train":
                state, metrics = program(state, batch, mean)
            else:
                metrics = program(state.params, batch, mean)
        jax.block_until_ready((state, metrics))

    return program, run, seconds


def product(dtype: str, count: int) -> Turn:
    """A function that computes `count` products of two large random matrices, for any number of steps."""
    rng = np.random.default_rng(0)
    type_ = jnp.bfloat16 if dtype == "bfloat16" else jnp.float32
    a, b = (jnp.asarray(rng.standard_normal((PRODUCT, PRODUCT), np.float32), type_) for _ in range(2))
    multiply = jax.jit(jnp.matmul)

    def run(steps: int) -> None:
        jax.block_until_ready([multiply(a, b) for _ in range(count)])

    return run


def check_losses(
    args: argparse.Namespace, mesh: Mesh, params: Any, host: tuple[Any, Any], placed: tuple[Any, Any], device: str
) -> dict[str, Any]:
    """Both losses at test time in float32, with the same weights.

    Raises:
      ValueError: they differ by 1e-4 of ours or more.
    """
    from benchmarks import torch_peer

    grown = jax.tree.map(lambda x: x if x.ndim == 1 else np.float32(ENLARGED) * x, params)
    on_mesh = jax.device_put(grown, towers.shardings(towers.parameter_specs(grown, mesh), mesh))
    _, evaluate = compiled_steps(Recipe(), mesh, views.VIEWS if args.mode == "ten_views" else 1)
    batch, mean = placed
    batch = replace(batch, mask=jax.device_put(np.ones(args.batch, np.bool_), batch.label.sharding))
    with jax.default_matmul_precision("float32"):
        mine = float(evaluate(on_mesh, batch, mean)["loss"]) / args.batch
    torch_peer.precise(True)
    theirs = torch_peer.losses(grown, args.mode, *host, device)
    difference = max(abs(loss - mine) / mine for loss in theirs.values())
    say(f"loss: ours {mine:.6f}, PyTorch's {theirs}")
    if not difference < 1e-4:
        raise ValueError(f"with the same weights our loss is {mine} and PyTorch's is {theirs}")
    return {"ours": mine, "peer": theirs, "relative_difference": difference}


def in_turns(work: dict[str, Turn], warm: int, turns: int, steps: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    """The seconds of every turn, after `warm` steps each, and the errors of the peer's settings that fail."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    errors: dict[str, str] = {}
    for turn in range(-1, turns):
        # The order alternates: cores are hot after the large product, which makes the next program 3 % slower.
        for name, run in list(work.items())[:: 1 if turn % 2 else -1]:
            if name in errors:
                continue
            start = time.perf_counter()
            try:
                run(warm if turn < 0 else steps)
            except Exception as error:
                if name in ("ours", "product"):
                    raise
                errors[name] = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
                say(f"{name}: {errors[name]}")
                continue
            spent = time.perf_counter() - start
            say(f"{'warm-up' if turn < 0 else f'turn {turn + 1} of {turns}'}: {name} {spent:.2f} s")
            if turn >= 0:
                seconds[name].append(spent)
    return seconds, errors


def peak_bytes(program: Any) -> int:
    """The peak of one device; XLA's own figure leaves out temporaries on CPU."""
    memory = program.memory_analysis()
    outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return memory.argument_size_in_bytes + memory.temp_size_in_bytes + outputs


def versions(peer: str) -> dict[str, str | None]:
    """The versions of Python and of all libraries measured."""
    found: dict[str, str | None] = {
        "python": platform.python_version(),
        **{module.__name__: module.__version__ for module in (jax, jaxlib, flax, optax, np)},
        "torch": None,
    }
    if peer == "torch":
        from benchmarks import torch_peer

        found["torch"] = torch_peer.VERSION
    return found


def peer_result(rates: dict[str, list[float]], errors: dict[str, str], mine: float) -> dict[str, Any]:
    """The JSON's entries about the peer."""
    medians = {name: statistics.median(values) for name, values in rates.items() if name not in errors}
    best = max(medians.values(), default=None)
    eager = max((rate for name, rate in medians.items() if name.startswith("eager")), default=None)
    each: dict[str, Any] = {n: {"median": m, "min": min(rates[n]), "max": max(rates[n])} for n, m in medians.items()}
    return {
        "peer_images_per_second": best,
        "peer_settings": each | {name: {"error": error} for name, error in errors.items()},
        "ratio": best and mine / best,
        "ratio_eager": eager and mine / eager,
    }


def torch_forms(
    args: argparse.Namespace, mesh: Mesh, host: tuple[Batch, np.ndarray], placed: tuple[Batch, jax.Array]
) -> tuple[dict[str, float], dict[str, Turn]]:
    """The check of the losses, and PyTorch's settings by name."""
    from benchmarks import torch_peer

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    params = jax.device_get(create_state(Recipe(), mesh).params)
    torch_peer.prepare(CORES, args.dtype)
    loss_check = check_losses(args, mesh, params, host, placed, device)
    torch_peer.prepare(CORES, args.dtype)  # again, since the check was in full float32
    return loss_check, torch_peer.settings(params, args.mode, args.dtype, *host, device)


def device_and_versions(peer: str) -> dict[str, Any]:
    """The device, the versions and the time of a measurement."""
    device = {
        "platform": jax.default_backend(),
        "kind": jax.devices()[0].device_kind,
        "cpu": cpu_model(),
        "cores": CORES,
    }
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"device": device, "versions": versions(peer), "date": date}


def main() -> None:
    """Makes all measurements in turns."""
    parser = flags()
    args = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    mesh = devices(parser, args)
    gpu = jax.default_backend() == "gpu"
    if gpu and args.dtype != "bfloat16":  # XLA's default for float32 is TF32 there
        jax.config.update("jax_default_matmul_precision", {"float32": "float32", "tf32": "tensorfloat32"}[args.dtype])
    recipe = Recipe(dtype="bfloat16" if args.dtype == "bfloat16" else "float32")
    host = host_batch(recipe, args.mode, args.batch)
    placed = towers.put_batch(host[0], mesh), towers.replicate(host[1], mesh)
    program, run, compile_seconds = ours(recipe, mesh, args, *placed)
    say(f"compiled in {compile_seconds:.1f} s")
    run(1)
    allocator = jax.devices()[0].memory_stats() or {}
    products = 100 if gpu else 2  # in a turn
    work: dict[str, Turn] = {"ours": run, "product": product(args.dtype, products)}
    loss_check = None
    if args.peer == "torch":
        loss_check, of_torch = torch_forms(args, mesh, host, placed)
        work |= of_torch
    one_device_bytes = None
    if args.peer == "one_device":
        alone = towers.make_mesh(1, 1)
        on_one = towers.put_batch(host[0], alone), towers.replicate(host[1], alone)
        one_program, work["one device"], _ = ours(recipe, alone, args, *on_one)
        one_device_bytes = peak_bytes(one_program)
    seconds, errors = in_turns(work, 3 if gpu else 1, args.turns, args.steps)
    limit = 2 * PRODUCT**3 * products / statistics.median(seconds.pop("product"))
    rates = {name: [args.batch * args.steps / spent for spent in turns] for name, turns in seconds.items()}
    own = rates.pop("ours")
    mine = statistics.median(own)
    flops = PASSES[args.mode] * sum(row.flops for row in architecture.table(recipe.architecture))
    result = {
        "mode": args.mode,
        "mesh": args.mesh,
        "batch": args.batch,
        "dtype": args.dtype,
        "peer": args.peer,
        "turns": args.turns,
        "steps": args.steps,
        "images_per_second": mine,
        "spread": [min(own), max(own)],
        **peer_result(rates, errors, mine),
        "loss_check": loss_check,
        # Virtual CPU devices share the cores that the product had to itself.
        "flops_utilisation": mine * flops / (limit * (mesh.size if gpu else 1)),
        "product_flops_per_second": limit,
        "peak_bytes_per_device": peak_bytes(program),
        "one_device_peak_bytes": one_device_bytes,
        "peak_bytes_in_use": allocator.get("peak_bytes_in_use"),
        "compile_seconds": compile_seconds,
        **device_and_versions(args.peer),
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
