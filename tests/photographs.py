"""Small pictures on disk for tests: parts of scikit-learn's two photographs, as files and as tars."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images


def photograph(number: int, width: int = 60, height: int = 48) -> Image.Image:
    """A part of a photograph, another for each number."""
    rng = np.random.default_rng(number)
    image = Image.fromarray(load_sample_images().images[number % 2])
    wide, high = min(2 * width, 500), min(2 * height, 375)
    left, top = int(rng.integers(0, 641 - wide)), int(rng.integers(0, 428 - high))
    return image.crop((left, top, left + wide, top + high)).resize((width, height))


def encoded(image: Image.Image, form: str = "JPEG") -> bytes:
    """The bytes of a picture file."""
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def write_folder(folder: Path, classes: dict[str, int], form: str = "JPEG", **size: int) -> None:
    """Writes a folder of pictures for each class.

    Args:
      classes: the number of pictures, by class.
    """
    number = 0
    for name, count in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            (folder / name / f"{number:04d}.{form.lower()}").write_bytes(encoded(photograph(number, **size), form))
            number += 1


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    """Writes a tar of the files, in the given order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def write_imagenet(folder: Path, synsets: list[str], each: int, validation: int) -> None:
    """Writes small versions of the two official tars: a tar of tars, one for each synset, and a flat tar."""
    number, inner = 0, {}
    for synset in synsets:
        files = {}
        for _ in range(each):
            files[f"{synset}_{number}.JPEG"] = encoded(photograph(number))
            number += 1
        write_tar(folder / "inner.tar", files)
        inner[f"{synset}.tar"] = (folder / "inner.tar").read_bytes()
        (folder / "inner.tar").unlink()
    write_tar(folder / "ILSVRC2012_img_train.tar", inner)
    names = [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, validation + 1)]
    # Out of order, as the real one is: labels go by the sorted names.
    flat = {name: encoded(photograph(1000 + i)) for i, name in enumerate(reversed(names))}
    write_tar(folder / "ILSVRC2012_img_val.tar", flat)
