"""The time and the memory for listing as many pictures as ImageNet has.

    python benchmarks/listing.py [--pictures=1281167] [--kind=tars]

The pictures are empty files, either in ImageNet's two tars or in a thousand folders. The last line is JSON: pictures a
second, seconds, and the peak memory of the process, including TensorFlow's.
"""

import json
import resource
import sys
import tarfile
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import app, flags

from alexnet_jax.data import sources
from alexnet_jax.data.prepared import listing
from alexnet_jax.messages import say
from configs import alexnet

flags.DEFINE_integer("pictures", 1_281_167, "Training pictures; 50,000 more are for validation.", lower_bound=2000)
flags.DEFINE_enum("kind", "tars", ["tars", "folders"], "The kind of source.")
flags.DEFINE_string(
    "folder", None, "The folder in which they are made for the time of the run; a temporary folder by default."
)
END = bytes(1024)  # ends a tar


def header(name: str, size: int = 0) -> bytes:
    """The header of a member of a tar."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf()


def write_tars(folder: Path, synsets: list[str], counts: list[int]) -> None:
    """Writes the two official tars, with empty pictures."""
    with open(folder / "ILSVRC2012_img_train.tar", "wb") as outer:
        for synset, count in zip(synsets, counts, strict=True):
            inner = b"".join(header(f"{synset}_{number}.JPEG") for number in range(count)) + END
            outer.write(header(f"{synset}.tar", len(inner)) + inner)
        outer.write(END)
    with open(folder / "ILSVRC2012_img_val.tar", "wb") as flat:
        for number in range(1, 50_001):
            flat.write(header(f"ILSVRC2012_val_{number:08d}.JPEG"))
        flat.write(END)


def write_folders(folder: Path, synsets: list[str], counts: list[int]) -> None:
    """Writes a folder for each class, with empty files."""
    for synset, count in zip(synsets, counts, strict=True):
        (folder / "train" / synset).mkdir(parents=True)
        (folder / "val" / synset).mkdir(parents=True)
        for number in range(count):
            (folder / "train" / synset / f"{synset}_{number}.JPEG").touch()
        for number in range(50):
            (folder / "val" / synset / f"{number}.JPEG").touch()


def main(argv: list[str]) -> None:
    """Makes the pictures, lists them, and prints the time."""
    asked = flags.FLAGS
    data = alexnet.get_config().data
    with tempfile.TemporaryDirectory(dir=asked.folder) as temporary:
        folder = Path(temporary) / "given"
        folder.mkdir()
        data.update({"manual_dir": str(folder), "data_dir": str(Path(temporary) / "prepared"), "max_missing": 1.0})
        synsets = sorted(sources.class_names(data))
        counts = [asked.pictures // 1000 + (place < asked.pictures % 1000) for place in range(1000)]
        say(f"making {asked.pictures:,} pictures in {folder}")
        (write_tars if asked.kind == "tars" else write_folders)(folder, synsets, counts)
        data.name = "imagenet2012" if asked.kind == "tars" else "folder"
        start = time.perf_counter()
        found = listing.list_whole(sources.open_source(data))
        digest = found.digest
        seconds = time.perf_counter() - start
        found.save(folder)
        saved = time.perf_counter() - start - seconds
    listing.say_summary(found)
    pictures = sum(split.count for split in found.source.splits.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    line = {"pictures": pictures, "kind": asked.kind, "seconds": seconds, "seconds_to_save": saved, "digest": digest}
    print(json.dumps({**line, "pictures_per_second": pictures / seconds, "peak_bytes": peak}))


if __name__ == "__main__":
    app.run(main)
