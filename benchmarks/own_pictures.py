"""Three collections like people's own pictures, and how well the commands of docs/pictures.md learn them.

    python benchmarks/own_pictures.py [--collections=few,digits,rings] [--seeds=0,1] [--folder=DIR]

The program makes each collection from scikit-learn's two photographs, its handwritten digits, and drawings. The
pictures differ in size, in light, and in where things are. `few` has 64 pictures in three classes, two of photographs
and one of drawings. `digits` has 600 in ten classes, on paper. `rings` has 3,000 in two classes: 2,700 photographs, and
300 with a ring drawn on them. The commands of docs/pictures.md, with configs/photos.py, prepare, train and evaluate.

If all three are measured, the record goes to results/own_pictures/, and the table into docs/pictures.md between the
lines <!-- own pictures: begin --> and <!-- own pictures: end -->. The last line is JSON. For each collection and seed
it has

  error: the mean of the validation errors of the classes, a fraction;
  seconds, cpu_seconds: the time of preparing and training, by the clock and as CPU time of all cores.
"""

import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from absl import app, flags
from PIL import Image, ImageDraw, ImageFilter
from sklearn.datasets import load_digits, load_sample_images

from alexnet_jax.messages import say
from benchmarks.machine import RESULTS, circumstances
from benchmarks.record import result_of, write_json
from benchmarks.table import put_into_page

RECORD = RESULTS / "own_pictures" / "own_pictures.json"
SHOWN = {  # the number of pictures and what they show, for docs/pictures.md
    "few": ("64", "parts of two photographs, and drawings"),
    "digits": ("600", "ten handwritten digits, on paper"),
    "rings": ("2,700 and 300", "parts of photographs, without and with a ring drawn on them"),
}
CHINA, FLOWER = (Image.fromarray(image) for image in load_sample_images().images)
MIDDLE = {id(CHINA): (200, 230), id(FLOWER): (320, 210)}  # where the temple and the flower are, pixels

flags.DEFINE_list("collections", list(SHOWN), "The collections to learn.")
flags.DEFINE_list("seeds", ["0", "1"], "The runs' seeds; the pictures are the same.")
flags.DEFINE_string("folder", "", "The folder for pictures and runs; by default a temporary one.")


def size_of(rng: np.random.Generator) -> tuple[int, int]:
    """A random width and height, pixels."""
    width = int(rng.integers(120, 320))
    return width, int(width * rng.uniform(0.65, 1.5))


def lit(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture in random light: brighter or darker, warmer or colder."""
    pixels = np.asarray(image, np.float32) * rng.uniform(0.6, 1.3) * rng.uniform(0.9, 1.1, 3)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def part(photograph: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A random part of a photograph around its subject, at a random distance and in random light."""
    width, height = size_of(rng)
    scale = rng.uniform(0.4, 1.0) * min(photograph.width / width, photograph.height / height)
    wide, high = int(width * scale), int(height * scale)
    x, y = MIDDLE[id(photograph)]
    left = int(np.clip(x - rng.uniform(0.2, 0.8) * wide, 0, photograph.width - wide))
    top = int(np.clip(y - rng.uniform(0.2, 0.8) * high, 0, photograph.height - high))
    return lit(photograph.crop((left, top, left + wide, top + high)).resize((width, height)), rng)


def paper(rng: np.random.Generator) -> Image.Image:
    """A sheet of paper with grain."""
    width, height = size_of(rng)
    grain = rng.normal(rng.uniform(190, 235), 6, (height, width, 1)) * np.array([1.0, 0.98, 0.93])
    return Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8))


def drawing(rng: np.random.Generator) -> Image.Image:
    """A house, a sun and some grass on paper."""
    image = paper(rng)
    pen, (width, height) = ImageDraw.Draw(image), image.size
    side = rng.uniform(0.25, 0.45) * min(width, height)
    x, y = rng.uniform(0.1, 0.9) * (width - side), rng.uniform(0.4, 0.9) * (height - side)
    red, blue, yellow, green = (200, 60, 50), (60, 80, 170), (240, 190, 40), (60, 140, 60)
    pen.rectangle((x, y, x + side, y + side), outline=blue, width=3)
    pen.polygon([(x, y), (x + side / 2, y - side / 2), (x + side, y)], outline=red, width=3)
    sun = rng.uniform(0.1, 0.9) * width
    pen.ellipse((sun - side / 4, 4, sun + side / 4, 4 + side / 2), fill=yellow)
    for _ in range(int(rng.integers(10, 30))):
        foot = rng.uniform(0, width)
        pen.line((foot, height, foot + rng.uniform(-5, 5), height * rng.uniform(0.85, 0.95)), fill=green, width=2)
    return lit(image, rng)


def digit(number: int, rng: np.random.Generator) -> Image.Image:
    """A handwritten digit in ink, at a random place on a sheet of paper."""
    image = paper(rng)
    side = int(rng.uniform(0.55, 0.85) * min(image.size))
    strength = Image.fromarray((load_digits_once().images[number] * (255 / 16)).astype(np.uint8))
    strength = strength.resize((side, side), Image.Resampling.BICUBIC).rotate(rng.uniform(-8, 8))
    ink = Image.new("RGB", (side, side), tuple(int(x) for x in rng.integers(0, 90, 3)))
    place = int(rng.integers(0, image.width - side + 1)), int(rng.integers(0, image.height - side + 1))
    image.paste(ink, place, strength)
    return lit(image, rng)


def with_ring(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture with a thick ring of one colour at a random place."""
    colour = tuple(int(x) for x in rng.permutation([int(rng.integers(200, 256)), int(rng.integers(0, 60)), 40]))
    side = rng.uniform(0.3, 0.6) * min(image.size)
    x, y = rng.uniform(0, image.width - side), rng.uniform(0, image.height - side)
    ImageDraw.Draw(image).ellipse((x, y, x + side, y + side), outline=colour, width=max(4, int(side / 7)))
    return image.filter(ImageFilter.GaussianBlur(0.5))


@cache
def load_digits_once() -> Any:
    """scikit-learn's handwritten digits."""
    return load_digits()


def write(folder: Path, name: str, pictures: Iterable[Image.Image]) -> None:
    """Writes the pictures of a class as JPEGs."""
    (folder / name).mkdir(parents=True)
    for number, picture in enumerate(pictures):
        picture.save(folder / name / f"{number:04d}.jpg", quality=90)


def few(folder: Path) -> None:
    """64 pictures in three classes."""
    rng = np.random.default_rng(1)
    write(folder, "temple", (part(CHINA, rng) for _ in range(22)))
    write(folder, "flower", (part(FLOWER, rng) for _ in range(21)))
    write(folder, "drawing", (drawing(rng) for _ in range(21)))


def digits(folder: Path) -> None:
    """600 pictures in ten classes."""
    rng = np.random.default_rng(2)
    for label in range(10):
        numbers = np.flatnonzero(load_digits_once().target == label).tolist()
        write(folder, f"digit {label}", (digit(number, rng) for number in numbers[:60]))


def rings(folder: Path) -> None:
    """3,000 pictures in two classes, 2,700 and 300."""
    rng = np.random.default_rng(3)
    write(folder, "plain", (part((CHINA, FLOWER)[place % 2], rng) for place in range(2700)))
    write(folder, "ring", (with_ring(part((CHINA, FLOWER)[place % 2], rng), rng) for place in range(300)))


COLLECTIONS: dict[str, Callable[[Path], None]] = {"few": few, "digits": digits, "rings": rings}


def measured(folder: Path, name: str, seed: str) -> dict[str, Any]:
    """Error and time of the commands of docs/pictures.md on a collection."""
    data = (f"--config.data.manual_dir={folder / name}", f"--config.data.data_dir={folder / f'prepared-{seed}'}")
    workdir = folder / f"run-{name}-{seed}"
    start, before = time.perf_counter(), _cpu_seconds()
    result_of("launch.py", "--config=configs/photos.py", "--mode=prepare", *data)
    trained = result_of(
        "launch.py", "--config=configs/photos.py", *data, f"--workdir={workdir}", f"--config.train.seed={seed}"
    )
    seconds, cpu_seconds = time.perf_counter() - start, _cpu_seconds() - before
    found = result_of("launch.py", "--mode=evaluate", f"--workdir={workdir}")
    shares = [row["errors"] / row["examples"] for row in found["worst_classes"]]
    return {
        "collection": name,
        "seed": int(seed),
        "error": float(np.mean(shares)),
        "classes": len(shares),
        "best_step": trained["best_step"],
        "steps": trained["step"],
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
    }


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(record: dict[str, Any]) -> str:
    """The table for docs/pictures.md from a record."""
    lines = [
        "| pictures | classes | mean of the classes' validation errors, by seed | minutes |",
        "|---|---|---:|---:|",
    ]
    for name, (count, what) in SHOWN.items():
        found = [result for result in record["results"] if result["collection"] == name]
        errors = ", ".join(f"{result['error']:.0%}".replace("%", " %") for result in found)
        minutes = ", ".join(f"{result['seconds'] / 60:.1f}" for result in found)
        lines.append(f"| {count} | {what} | {errors} | {minutes} |")
    where = f"On {record['cores']} cores of {record['machine']}, jax {record['jax']}."
    return "\n".join([*lines, "", where])


def main(argv: list[str]) -> None:
    """Makes the collections and learns each with every seed."""
    folder = Path(flags.FLAGS.folder or tempfile.mkdtemp()).absolute()
    try:
        results = []
        for name in flags.FLAGS.collections:
            if not (folder / name).exists():
                COLLECTIONS[name](folder / name)
            for seed in flags.FLAGS.seeds:
                results.append(measured(folder, name, seed))
                say(json.dumps(results[-1]))
    finally:
        if not flags.FLAGS.folder:
            shutil.rmtree(folder)
    record = {**circumstances(), "results": results}
    if set(flags.FLAGS.collections) == set(SHOWN):
        write_json(RECORD, record)
        put_into_page("docs/pictures.md", "own pictures", table(record))
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    app.run(main)
