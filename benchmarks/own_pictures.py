"""Three collections of pictures such as people have, and how the commands of docs/pictures.md learn them.

    python benchmarks/own_pictures.py [--collections=few,digits,rings] [--seeds=0,1] [--folder=DIR]

Each is made anew, from what scikit-learn ships (two photographs, handwritten digits) and drawings; pictures differ in
size, in light, and in where things lie. `few`: 64 pictures in three classes, two of photographs and one of drawings;
`digits`: 600 in ten, on paper; `rings`: 3,000 in two, 2,700 photographs and 300 with a ring drawn on them. They are
prepared, learnt and evaluated with configs/photos.py as docs/pictures.md says. For all three the record goes to
results/own_pictures/, and the table to docs/pictures.md, between the lines <!-- own pictures: begin --> and
<!-- own pictures: end -->. The last line is JSON, with, of each collection and seed,

  error: the mean of the classes' own validation errors, a fraction;
  seconds, cpu_seconds: of the commands that prepare and train, by the clock, and computed on all cores together.
"""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from absl import app, flags
from PIL import Image, ImageDraw, ImageFilter
from sklearn.datasets import load_digits, load_sample_images

from alexnet_jax.messages import say
from benchmarks.machine import circumstances
from benchmarks.table import put_into_page

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "benchmarks" / "results" / "own_pictures" / "own_pictures.json"
SHOWN = {  # how many pictures of what, in docs/pictures.md
    "few": ("64", "parts of two photographs, and drawings"),
    "digits": ("600", "ten handwritten digits, on paper"),
    "rings": ("2,700 and 300", "parts of photographs, without and with a ring drawn on them"),
}
CHINA, FLOWER = (Image.fromarray(image) for image in load_sample_images().images)
MIDDLE = {id(CHINA): (200, 230), id(FLOWER): (320, 210)}  # of the temple, and of the flower, pixels

flags.DEFINE_list("collections", list(SHOWN), "Which ones.")
flags.DEFINE_list("seeds", ["0", "1"], "Of the runs; the pictures are the same.")
flags.DEFINE_string("folder", "", "Where everything is left; by default it is removed at the end.")


def size_of(rng: np.random.Generator) -> tuple[int, int]:
    """Width and height, pixels."""
    width = int(rng.integers(120, 320))
    return width, int(width * rng.uniform(0.65, 1.5))


def lit(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture in another light: brighter or darker, warmer or colder."""
    pixels = np.asarray(image, np.float32) * rng.uniform(0.6, 1.3) * rng.uniform(0.9, 1.1, 3)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def part(photograph: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Another part of a photograph around what it shows, at another distance, in another light."""
    width, height = size_of(rng)
    scale = rng.uniform(0.4, 1.0) * min(photograph.width / width, photograph.height / height)
    wide, high = int(width * scale), int(height * scale)
    x, y = MIDDLE[id(photograph)]
    left = int(np.clip(x - rng.uniform(0.2, 0.8) * wide, 0, photograph.width - wide))
    top = int(np.clip(y - rng.uniform(0.2, 0.8) * high, 0, photograph.height - high))
    return lit(photograph.crop((left, top, left + wide, top + high)).resize((width, height)), rng)


def paper(rng: np.random.Generator) -> Image.Image:
    """A sheet, with its grain."""
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
    """A handwritten digit in ink, somewhere on a sheet of paper."""
    image = paper(rng)
    side = int(rng.uniform(0.55, 0.85) * min(image.size))
    strength = Image.fromarray((load_digits_once().images[number] * (255 / 16)).astype(np.uint8))
    strength = strength.resize((side, side), Image.Resampling.BICUBIC).rotate(rng.uniform(-8, 8))
    ink = Image.new("RGB", (side, side), tuple(int(x) for x in rng.integers(0, 90, 3)))
    place = int(rng.integers(0, image.width - side + 1)), int(rng.integers(0, image.height - side + 1))
    image.paste(ink, place, strength)
    return lit(image, rng)


def with_ring(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture with a thick ring of one colour, somewhere on it."""
    colour = tuple(int(x) for x in rng.permutation([int(rng.integers(200, 256)), int(rng.integers(0, 60)), 40]))
    side = rng.uniform(0.3, 0.6) * min(image.size)
    x, y = rng.uniform(0, image.width - side), rng.uniform(0, image.height - side)
    ImageDraw.Draw(image).ellipse((x, y, x + side, y + side), outline=colour, width=max(4, int(side / 7)))
    return image.filter(ImageFilter.GaussianBlur(0.5))


_digits: list[Any] = []


def load_digits_once() -> Any:
    """scikit-learn's."""
    if not _digits:
        _digits.append(load_digits())
    return _digits[0]


def write(folder: Path, name: str, count: int, draw: Callable[[int], Image.Image]) -> None:
    """So many pictures of a class, JPEGs."""
    (folder / name).mkdir(parents=True)
    for number in range(count):
        draw(number).save(folder / name / f"{number:04d}.jpg", quality=90)


def few(folder: Path) -> None:
    """64 pictures in three classes."""
    rng = np.random.default_rng(1)
    write(folder, "temple", 22, lambda _: part(CHINA, rng))
    write(folder, "flower", 21, lambda _: part(FLOWER, rng))
    write(folder, "drawing", 21, lambda _: drawing(rng))


def digits(folder: Path) -> None:
    """600 in ten classes."""
    rng = np.random.default_rng(2)
    for label in range(10):
        numbers = np.flatnonzero(load_digits_once().target == label).tolist()
        write(folder, f"digit {label}", 60, partial(_one_of, numbers, rng))


def _one_of(numbers: list[int], rng: np.random.Generator, place: int) -> Image.Image:
    return digit(numbers[place], rng)


def rings(folder: Path) -> None:
    """3,000 in two classes, 2,700 and 300."""
    rng = np.random.default_rng(3)
    write(folder, "plain", 2700, lambda place: part((CHINA, FLOWER)[place % 2], rng))
    write(folder, "ring", 300, lambda place: with_ring(part((CHINA, FLOWER)[place % 2], rng), rng))


COLLECTIONS: dict[str, Callable[[Path], None]] = {"few": few, "digits": digits, "rings": rings}


def measured(folder: Path, name: str, seed: str) -> dict[str, Any]:
    """One collection learnt by the commands of docs/pictures.md; its error and its time."""
    data = (f"--config.data.manual_dir={folder / name}", f"--config.data.data_dir={folder / f'prepared-{seed}'}")
    workdir = folder / f"run-{name}-{seed}"
    start, before = time.perf_counter(), _cpu_seconds()
    _launch("--config=configs/photos.py", "--mode=prepare", *data)
    trained = _launch("--config=configs/photos.py", *data, f"--workdir={workdir}", f"--config.train.seed={seed}")
    seconds, cpu_seconds = time.perf_counter() - start, _cpu_seconds() - before
    found = _launch("--mode=evaluate", f"--workdir={workdir}")
    shares = [one["errors"] / one["examples"] for one in found["worst_classes"]]
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


def _launch(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "launch.py", *arguments], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(record: dict[str, Any]) -> str:
    """The table of docs/pictures.md, from a record."""
    lines = [
        "| pictures | classes | mean of the classes' validation errors, by seed | minutes |",
        "|---|---|---:|---:|",
    ]
    for name, (count, what) in SHOWN.items():
        found = [one for one in record["results"] if one["collection"] == name]
        errors = ", ".join(f"{one['error']:.0%}".replace("%", " %") for one in found)
        minutes = ", ".join(f"{one['seconds'] / 60:.1f}" for one in found)
        lines.append(f"| {count} | {what} | {errors} | {minutes} |")
    where = f"On {record['cores']} cores of {record['machine']}, jax {record['jax']}."
    return "\n".join([*lines, "", where])


def main(argv: list[str]) -> None:
    """Makes the collections, and learns each with each seed."""
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
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
        put_into_page("docs/pictures.md", "own pictures", table(record))
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    app.run(main)
