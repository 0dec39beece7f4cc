"""The rates of predicting files and of their features, compared with evaluating a prepared set.

    python benchmarks/use.py [--network=alexnet|eighth] [--pictures=2000] [--repeats=3] [--batch=128]

The pictures are 500x375 JPEGs cut from scikit-learn's two photographs, prepared as a folder, and a run is trained on
them for one step. Three measurements take turns, each over all pictures with compiled programs: evaluating prepared
squares as --mode=evaluate does; decoding the files on all cores and predicting them; and the same for their fc7. Each
turn starts new decoding processes, and their start counts. The last line is JSON, with

  predict_ratio, features_ratio: pictures a second over the evaluation's, medians of the turns.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import app, flags

from alexnet_jax.messages import say
from benchmarks.input import write_photographs
from benchmarks.machine import CORES

flags.DEFINE_string("network", "alexnet", "alexnet: the paper's; eighth: with an eighth of its width.")
flags.DEFINE_integer("batch", 128, "Pictures at a time.", lower_bound=1)


def config_of(folder: Path) -> Any:
    """The config of the network, on the photographs."""
    from configs import alexnet

    config = alexnet.get_config()
    if flags.FLAGS.network == "eighth":
        config.model.kernels, config.model.units = (12, 32, 48, 48, 32), (512, 512)
    config.data.name, config.data.manual_dir = "folder", str(folder / "photographs")
    config.data.data_dir, config.data.validation_fraction = str(folder), 0.05
    config.train.steps, config.train.batch_size = 1, 8
    config.evaluate.batch_size, config.evaluate.split = flags.FLAGS.batch, "train"
    config.mesh.data, config.mesh.model = 1, 1
    return config


def main(argv: list[str]) -> None:
    """Makes the measurements in turns."""
    from alexnet_jax.data.prepared import prepare
    from alexnet_jax.devices import towers
    from alexnet_jax.inference import decode_pool, inputs
    from alexnet_jax.inference.net import open_net
    from alexnet_jax.loop import validation
    from alexnet_jax.modes import TrainInvocation, train
    from alexnet_jax.training.step import compiled_steps

    with tempfile.TemporaryDirectory() as text:
        root = Path(text)
        write_photographs(root / "photographs", flags.FLAGS.pictures)
        config = config_of(root)
        train.run(config, TrainInvocation(root / "run"), page=False)
        net = open_net(root / "run", config, "measured")
        source = prepare.open_or_prepare(config)
        _, eval_step = compiled_steps(net.recipe, net.mesh)
        mean_image = towers.replicate(net.mean_image, net.mesh)
        pictures = inputs.pictures_of([str(root / "photographs")])

        def evaluated(count: int) -> int:
            with validation.batches_of(config, source, net.mesh, "evaluation") as batches:
                some = islice(batches, -(-count // flags.FLAGS.batch))
                return int(validation.whole_set(eval_step, net.params, some, mean_image, net.mesh)[0]["examples"])

        def used(through: Callable[[Any], Any], count: int) -> int:
            with decode_pool.decoders(count) as pool:
                batches = net.read(pictures[:count], pool, 1, flags.FLAGS.batch)
                return sum(len(some.names) for some, _ in through(batches))

        works: dict[str, Callable[[int], int]] = {
            "evaluate": evaluated,
            "predict": partial(used, lambda batches: net.probabilities_of(batches, 1)),
            "features": partial(used, lambda batches: net.features_of(batches, ["fc7"])),
        }
        for work in works.values():
            work(flags.FLAGS.batch)  # compiles
        rates: dict[str, list[float]] = {name: [] for name in works}
        for turn in range(flags.FLAGS.repeats):
            for name, work in works.items():
                start = time.perf_counter()
                count = work(len(pictures))
                rates[name].append(count / (time.perf_counter() - start))
                say(f"turn {turn}, {name}: {rates[name][-1]:.1f} pictures/s")
    medians = {name: statistics.median(values) for name, values in rates.items()}
    result: dict[str, Any] = {f"{name}_images_per_second": value for name, value in medians.items()}
    result |= {f"{name}_ratio": medians[name] / medians["evaluate"] for name in ("predict", "features")}
    result |= {f"{name}_all": values for name, values in rates.items()}
    result |= {"cores": CORES, "network": flags.FLAGS.network, "batch": flags.FLAGS.batch}
    print(json.dumps({**result, "pictures": flags.FLAGS.pictures}), flush=True)


if __name__ == "__main__":
    flags.FLAGS.set_default("pictures", 2000)
    app.run(main)
