"""The time from a picture's file to its classes, compared with PyTorch without compilation.

    python benchmarks/latency.py [--pictures=20] [--turns=7]

The program trains the paper's network for one step, opens the run with `alexnet_jax.load`, and predicts 500x375 JPEGs
one by one. PyTorch takes turns with it; it decodes, resizes and crops by Pillow as torchvision does. The first turn
does not count. For the same pixels both must give the same probabilities. The last line is JSON, in milliseconds a
picture:

  ours, peer: the medians of the turns, PyTorch's for each form of its network.
  spread: the lowest and the highest of ours.
  ratio: ours over PyTorch's best.
  first_seconds: the time of our first picture, which includes compiling.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import numpy as np
from PIL import Image

import alexnet_jax
from alexnet_jax.data import centre_offset
from alexnet_jax.messages import say
from benchmarks.input import write_photographs
from benchmarks.machine import CORES, circumstances
from benchmarks.step import SQUARE


def run_of_one_step(root: Path) -> Path:
    """Trains the paper's network for one step; the run is in `run`, and its photographs in `photographs`."""
    from alexnet_jax.modes import TrainInvocation, train
    from configs import alexnet

    write_photographs(root / "photographs", 64)
    config = alexnet.get_config()
    config.data.name, config.data.manual_dir, config.data.data_dir = "folder", str(root / "photographs"), str(root)
    config.model.classes, config.train.steps, config.train.batch_size = 1000, 1, 8
    config.evaluate.split, config.evaluate.batch_size = "validation[:2]", 2
    config.mesh.data, config.mesh.model = 1, 1
    train.run(config, TrainInvocation(root / "run"), page=False)
    return root / "run"


def of_torch(
    params: dict[str, dict[str, np.ndarray]], mean: np.ndarray
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """For each form of PyTorch's network a function from uint8 [224, 224, 3] to float32 [classes] probabilities."""
    import torch

    from benchmarks import torch_peer

    torch_peer.prepare(CORES, "float32")
    net = torch_peer.network(params, "cpu").eval()
    under = torch.tensor(mean)

    def form(name: str) -> Callable[[np.ndarray], np.ndarray]:
        @torch.inference_mode()
        def probabilities(pixels: np.ndarray) -> np.ndarray:
            return net(torch.tensor(pixels)[None], under, name).softmax(1)[0].numpy()

        return probabilities

    return {name: form(name) for name in torch_peer.FORMS}


def by_pillow(path: Path, side: int) -> np.ndarray:
    """The centre of a picture, uint8 [side, side, 3], as torchvision's Resize and CenterCrop give it."""
    image = Image.open(path).convert("RGB")
    factor = SQUARE / min(image.size)
    image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BILINEAR)
    left, top = centre_offset(image.width, side), centre_offset(image.height, side)
    return np.array(image.crop((left, top, left + side, top + side)))


def main() -> None:
    """Measures in turns."""
    parser = argparse.ArgumentParser("latency.py", description="The time from a picture's file to its classes.")
    parser.add_argument("--pictures", type=int, default=20, help="pictures in a turn")
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        run = run_of_one_step(Path(text))
        files = sorted(Path(text, "photographs").rglob("*.jpg"))[: args.pictures]
        net = alexnet_jax.load(run)
        begun = time.perf_counter()
        net.predict(files[0])
        first = time.perf_counter() - begun
        side = net.config.data.crop
        room = centre_offset(SQUARE, side)
        centre = np.array(net.mean_image[room : room + side, room : room + side])
        forms = of_torch(jax.device_get(net.params), centre)
        for name, probabilities in forms.items():
            theirs, ours = probabilities(net.pixels(files[0])), net.probabilities(files[0])
            if not np.allclose(theirs, ours, rtol=1e-4, atol=1e-6):
                raise ValueError(f"for the same pixels PyTorch ({name}) gives {theirs} and this program {ours}")
        work: dict[str, Callable[[Path], object]] = {"ours": net.predict}
        for name, probabilities in forms.items():
            work[name] = lambda file, probabilities=probabilities: np.argsort(-probabilities(by_pillow(file, side)))[:5]
        turns: dict[str, list[float]] = {name: [] for name in work}
        for turn in range(-1, args.turns):
            for name in list(work)[:: 1 if turn % 2 else -1]:
                begun = time.perf_counter()
                for file in files:
                    work[name](file)
                spent = 1e3 * (time.perf_counter() - begun) / len(files)
                say(f"{'warm-up' if turn < 0 else f'turn {turn + 1} of {args.turns}'}: {name} {spent:.1f} ms")
                if turn >= 0:
                    turns[name].append(spent)
    medians = {name: statistics.median(values) for name, values in turns.items()}
    mine = medians.pop("ours")
    result = {
        **{"ours": mine, "spread": [min(turns["ours"]), max(turns["ours"])], "peer": medians},
        **{"ratio": mine / min(medians.values()), "first_seconds": first},
        **{"pictures": len(files), "turns": args.turns, **circumstances()},
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
