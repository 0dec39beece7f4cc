"""The program that XLA compiles for a training step on an H100; this needs no GPU.

    pip install "jax[cuda12]"
    python benchmarks/gpu_program.py [--mesh=1x1] [--batch=1024] [--dtype=bfloat16] [--rows=20]

It computes nothing and measures no time. It lists the kernels that move the most memory, with the bytes of their
operands and results; an H100 moves 3 GB in 1 ms. An operand counts whole even if a kernel reads only a part of it. The
last line of standard output is JSON:

  bytes_moved: by all kernels on one device; bytes_moved_by_products: by convolutions and matrix products.
  kernels: the number of kernels.
  peak_bytes_per_device: arguments and temporaries.
  bytes_exchanged, bytes_exchanged_predicted: between devices, as in --mode=communication.
"""

import argparse
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"  # the check looks for a GPU

import jax
from jax.experimental import topologies

from alexnet_jax.devices import towers
from alexnet_jax.messages import say
from alexnet_jax.modes import communication
from alexnet_jax.training.collectives import predict
from alexnet_jax.training.step import Recipe
from alexnet_jax.training.xla_text import array_bytes, collectives_in
from benchmarks.step import SQUARE, mesh_sides

H100 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 8 }
runtime_version { major: 12 minor: 9 }
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_core: 233472 shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
}
"""


@dataclass(frozen=True)
class Kernel:
    """An instruction of the program's entry that runs on the GPU."""

    name: str
    product: bool  # a convolution or a matrix product of cuDNN, cuBLAS or Triton
    read: int  # bytes
    written: int  # bytes
    origin: str  # the place in the step


def kernels(text: str) -> list[Kernel]:
    """The kernels in a compiled program's text, in its order."""
    found, sizes = [], dict[str, int]()
    for line in text[text.index("\nENTRY ") :].splitlines():
        match = re.match(r"\s*(?:ROOT )?%([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*?)\)", line)
        if not match:
            continue
        name, shape, op, operands = match.groups()
        sizes[name] = sum(array_bytes(shape))
        if op in ("parameter", "constant", "tuple", "get-tuple-element", "bitcast"):
            continue
        read = sum(sizes.get(operand, 0) for operand in dict.fromkeys(re.findall(r"%([\w.-]+)", operands)))
        product = bool(re.search(r'custom_call_target="__cu(dnn|blas)|calls=%gemm_fusion', line))
        origin = re.search(r'op_name="([^"]*)"', line)
        found.append(Kernel(name, product, read, sizes[name], origin[1] if origin else ""))
    return found


def main() -> None:
    """Compiles the step, lists its kernels and prints the sums."""
    parser = argparse.ArgumentParser(description="The training step as XLA compiles it for an H100; needs no GPU.")
    parser.add_argument("--mesh", default="1x1", help="DATAxMODEL")
    parser.add_argument("--batch", type=int, default=1024, help="images a step, all devices together")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--rows", type=int, default=20, help="kernels listed")
    args = parser.parse_args()
    data, model = mesh_sides(parser, args)
    try:
        devices = topologies.get_topology_desc("", "cuda", target_config=H100, topology=f"1x1x{data * model}").devices
    except NotImplementedError:  # no plugin can describe a CUDA device
        parser.error('JAX has no CUDA plugin: pip install "jax[cuda12]"')
    mesh = towers.mesh_of(devices, data, model)
    recipe = Recipe(dtype=args.dtype)
    program = communication.lowered_step(recipe, mesh, args.batch, SQUARE).compile()
    text, memory = program.as_text(), program.memory_analysis()
    found = kernels(text)
    say(f"{'MB read':>9}{'MB written':>12}  kernel")
    for kernel in sorted(found, key=lambda kernel: -kernel.read - kernel.written)[: args.rows]:
        say(f"{kernel.read / 1e6:>9,.0f}{kernel.written / 1e6:>12,.0f}  {kernel.name} {kernel.origin}")
    predicted = predict(recipe.architecture, mesh, args.batch, args.dtype)
    result = {
        "mesh": args.mesh,
        "batch": args.batch,
        "dtype": args.dtype,
        "bytes_moved": sum(kernel.read + kernel.written for kernel in found),
        "bytes_moved_by_products": sum(kernel.read + kernel.written for kernel in found if kernel.product),
        "kernels": len(found),
        "peak_bytes_per_device": memory.argument_size_in_bytes + memory.temp_size_in_bytes,
        "bytes_exchanged": sum(one.bytes for one in collectives_in(text)),
        "bytes_exchanged_predicted": sum(one.bytes for one in predicted),
        "device": devices[0].device_kind,
        "jax": jax.__version__,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
