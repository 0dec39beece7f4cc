"""The rates of preparing and feeding pictures, compared with plain decoding and a PyTorch DataLoader.

    python benchmarks/input.py [--pictures=4096] [--repeats=3]

All measurements take turns in one run on the same cores, and the best of the repeats counts. The pictures are 500x375
JPEGs cut from scikit-learn's two photographs. PyTorch is optional (`pip install torch`); without it the DataLoader's
rate is null. The last line is JSON with the rates of all turns, and

  jpeg_resume_seconds, raw_resume_seconds: the time to the first batch of a run that resumes nine tenths into an epoch;
    the epoch is shuffled in groups of 1,024 pictures, or as one group if there are fewer.
  resume_allowed_seconds: the limit for it, 2 s and a twentieth of the time for nine tenths of an epoch.
"""

import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from absl import app, flags
from PIL import Image

from alexnet_jax.data import centre_offset
from alexnet_jax.data.batches.training_statistics import training_statistics
from alexnet_jax.data.decode import squares, worker_processes
from alexnet_jax.data.decode.squares import Picture
from alexnet_jax.messages import say
from benchmarks.machine import CORES

flags.DEFINE_integer("pictures", 4096, "Pictures to prepare.", lower_bound=512)
flags.DEFINE_integer("repeats", 3, "Turns of each measurement; the best counts.", lower_bound=1)
BATCH = 128


def write_photographs(folder: Path, count: int) -> None:
    """Writes 500x375 JPEGs of about 50 KB in ten classes, each a random part of a photograph."""
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    rng = np.random.default_rng(0)
    for number in range(count):
        share = rng.uniform(0.5, 1)
        width, height = round(640 * share), round(427 * share)
        left, top = rng.integers(0, 641 - width), rng.integers(0, 428 - height)
        part = photographs[number % 2].crop((left, top, left + width, top + height)).resize((500, 375))
        path = folder / "train" / f"class{number % 10}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        part.save(path, quality=90)


def plain(paths: list[str]) -> int:
    """Decodes, resizes, crops and encodes by Pillow alone."""
    for path in paths:
        image = Image.open(path).convert("RGB")
        shorter = min(image.size)
        image = image.resize(
            (round(image.width * 256 / shorter), round(image.height * 256 / shorter)), Image.Resampling.BILINEAR
        )
        left, top = centre_offset(image.width, 256), centre_offset(image.height, 256)
        squares.to_jpeg(image.crop((left, top, left + 256, top + 256)), 95)
    return len(paths)


def bare(paths: list[str]) -> int:
    """As `plain`, by prepare's own functions, which resize only the pixels that are kept."""
    for path in paths:
        squares.to_jpeg(squares.square(squares.rgb(Picture("", 0, path).read(), 10**8), 256), 95)
    return len(paths)


def in_processes(work: Callable[[list[str]], int], paths: list[str], start: Callable[[], None] | None) -> float:
    """Pictures a second, including the start of the processes, as for prepare; each process calls `start`."""
    began = time.perf_counter()
    with ProcessPoolExecutor(CORES, multiprocessing.get_context("spawn"), start) as pool:
        done = sum(pool.map(work, [paths[i : i + 32] for i in range(0, len(paths), 32)]))
    return done / (time.perf_counter() - began)


def rate(batches: Iterator[Any], count: int, first: int) -> float:
    """Pictures a second over `count` batches, after `first` batches that do not count."""
    for _ in range(first):
        next(batches)
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    return count * BATCH / (time.perf_counter() - start)


def resume_seconds(prepared: Any, config: Any, statistics: Any, epoch: int) -> float:
    """Seconds to the first batch of a run that resumes nine tenths into an epoch of `epoch` batches."""
    from alexnet_jax.data.batches import pipeline

    first, shuffled = epoch * 9 // 10, config.data.shuffle_examples
    config.data.shuffle_examples = 1024
    start = time.perf_counter()
    with pipeline.training_batches(prepared, config, statistics, first, epoch) as batches:
        next(batches)
    config.data.shuffle_examples = shuffled
    return time.perf_counter() - start


def decode_only(stored: list[bytes], count: int) -> float:
    """Pictures a second of the pipeline's decoder alone: random crops of JPEGs in memory, on all cores."""
    import simplejpeg

    def crops(turn: int) -> None:
        rng = np.random.default_rng(turn)
        for number, row, column in rng.integers(0, [len(stored), 32, 32], (BATCH, 3)):
            simplejpeg.decode_jpeg(stored[number])[row : row + 224, column : column + 224].copy()

    with ThreadPoolExecutor(CORES) as pool:
        start = time.perf_counter()
        list(pool.map(crops, range(count)))
    return count * BATCH / (time.perf_counter() - start)


class Crops:
    """A PyTorch dataset: a random crop of a file, reflected at random, and a lighting shift for the device to add."""

    def __init__(self, paths: list[str], lighting: np.ndarray) -> None:
        """Takes JPEGs of 256x256, and the pipeline's lighting matrix."""
        self.paths, self.lighting = paths, lighting

    def __len__(self) -> int:
        """The number of files."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [224, 224, 3] and float32 [3]."""
        row, column = np.random.randint(0, 32, 2)
        image = Image.open(self.paths[index]).convert("RGB")
        if np.random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        crop = np.array(image.crop((column, row, column + 224, row + 224)))
        return crop, (self.lighting @ np.random.normal(0, 0.1, 3)).astype(np.float32)


def dataloader(folder: Path, lighting: np.ndarray, count: int, first: int) -> float | None:
    """Pictures a second of a DataLoader with Pillow, one process a core; None without PyTorch."""
    try:
        import torch
    except ImportError:
        return None
    paths = [str(path) for path in sorted(folder.glob("*.jpg"))]
    loader = torch.utils.data.DataLoader(
        # Crops has a Dataset's methods, but not its class: that would need PyTorch, which is optional.
        Crops(paths, lighting),  # type: ignore[arg-type]
        batch_size=BATCH,
        shuffle=True,
        num_workers=CORES,
        drop_last=True,
        multiprocessing_context="spawn",
        persistent_workers=True,
    )

    def endless() -> Iterator[Any]:
        while True:
            yield from loader

    return rate(endless(), count, first)


def main(argv: list[str]) -> None:
    """Makes all measurements in turns."""
    import tensorflow as tf

    from alexnet_jax.data.batches import pipeline
    from alexnet_jax.data.batches.epoch import lighting_matrix
    from alexnet_jax.data.prepared import prepare
    from alexnet_jax.data.tensorflow import tfds
    from configs import alexnet

    count = flags.FLAGS.pictures
    rates: dict[str, list[float | None]] = {}

    def note(name: str, value: float | None) -> None:
        rates.setdefault(name, []).append(value)
        say(f"{name}: {value and round(value)}")

    with tempfile.TemporaryDirectory() as text:
        root = Path(text)
        write_photographs(root / "photographs", count)
        paths = [str(path) for path in sorted((root / "photographs").rglob("*.jpg"))]
        config = alexnet.get_config()
        config.data.name, config.data.manual_dir = "folder", str(root / "photographs")
        sets = {}
        for turn in range(flags.FLAGS.repeats):
            config.data.encoding, config.data.prepared_dir = "jpeg", str(root / f"jpeg{turn}")
            start = time.perf_counter()
            sets["jpeg"] = prepare.open_or_prepare(config)
            note("prepare", count / (time.perf_counter() - start))
            note("plain_prepare", in_processes(plain, paths, None))
            note("bare_prepare", in_processes(bare, paths, worker_processes.start_worker))
        config.data.encoding, config.data.prepared_dir = "raw", str(root / "raw")
        sets["raw"] = prepare.open_or_prepare(config)
        (root / "squares").mkdir()
        for number, example in enumerate(
            sets["jpeg"]
            .builder.as_dataset(split="train", decoders={"image": tfds.decode.SkipDecoding()})
            .as_numpy_iterator()
        ):
            (root / "squares" / f"{number:06d}.jpg").write_bytes(example["image"])
        stored = [path.read_bytes() for path in sorted((root / "squares").glob("*.jpg"))]
        statistics = training_statistics(sets["jpeg"], config)
        epoch = count * 9 // 10 // BATCH
        for _ in range(flags.FLAGS.repeats):
            for encoding, prepared in sets.items():
                times = 4 if encoding == "jpeg" else 12  # epochs: some seconds each
                with pipeline.training_batches(prepared, config, statistics, 0, (times + 2) * epoch) as batches:
                    note(encoding, rate(batches, times * epoch, epoch))
            note("decode_only", decode_only(stored, 4 * epoch))
            matrix = lighting_matrix(statistics, config.augment)
            note("dataloader", dataloader(root / "squares", matrix, 4 * epoch, epoch))
        resumed = {f"{name}_resume_seconds": resume_seconds(sets[name], config, statistics, epoch) for name in sets}
    best = {name: max((v for v in values if v), default=None) for name, values in rates.items()}
    result: dict[str, Any] = {f"{name}_images_per_second": value for name, value in best.items()}
    result |= {"cores": CORES, "pictures": count, "repeats": flags.FLAGS.repeats, "tensorflow": tf.__version__}
    slower = min(best["jpeg"], best["raw"])
    result |= {**resumed, "resume_allowed_seconds": 2 + 0.9 * epoch * BATCH / slower / 20}
    for name in ("prepare", "jpeg", "raw", "dataloader", "decode_only"):
        result[f"{name}_all"] = rates[name]
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    app.run(main)
