"""Checks that another checkout gives the same results as this one, in every mode on a small run.

    git worktree add ../before COMMIT
    python benchmarks/same_results.py ../before

Each checkout prepares the digits, trains a small network and uses it in every mode, in its own folder. The JSON on each
command's last line and the files with numbers must be equal. The comparison leaves out speeds, times, random names,
and the size of a StableHLO program, which holds the names of source files. The last line is JSON: `compared`, a count,
and `different`, a list of sentences. The exit status is 1 if anything differs.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine import ROOT

MEASURED = re.compile(r"second|time|date|commit|version|memory|compile")  # fields that a clock or a machine decides
SMALL = (
    "--config=configs/digits.py",
    "--config.model.kernels=(8,16,16,16,8)",
    "--config.model.units=(16,16)",
    "--config.model.weight_stddev=0.15",
)
NUMBERS = ("*.npy", "*.csv", "*.txt", "metrics.jsonl", "config.json", "*.safetensors", "*.caffemodel", "*.prototxt")
# A run's random name; Orbax's time of a save; the digest of a listing, which TFDS orders in one of two ways.
RANDOM = ("run.txt", "commit_success.txt", "pictures.txt")
SIZE_VARIES = ("prepare", "figure page", "export stablehlo")  # results whose `bytes` hold such names and times
PICTURES = 3  # digits that are predicted


def commands(place: Path) -> dict[str, list[str]]:
    """The command lines for all modes by name, in their order; they read and write only in `place`."""
    data, run, other = f"--config.data.data_dir={place / 'data'}", place / "run", place / "other"
    files = [str(place / "digits" / f"{number}.png") for number in range(PICTURES)]
    trained = (*SMALL, data, "--config.train.steps=44", "--config.train.log_every=11")
    of_run = f"--workdir={run}"
    found = {
        "prepare": ["--mode=prepare", "--config=configs/digits.py", data],
        "train": [*trained, of_run],
        "train, finished": [*trained, of_run],
        "train, another seed": [*trained, "--config.train.seed=1", f"--workdir={other}"],
        "evaluate": ["--mode=evaluate", of_run],
        "evaluate, ten views": ["--mode=evaluate", of_run, "--config.evaluate.views=10"],
        "evaluate, ensemble": ["--mode=evaluate", *SMALL, data, f"--ensemble={run},{other}"],
        "predict": ["--mode=predict", of_run, f"--output={place / 'predictions.csv'}", *files],
        "features": ["--mode=features", of_run, "--layer=conv1/pool,fc7", f"--output={place / 'features'}"],
        "neighbours": ["--mode=neighbours", of_run, f"--features={place / 'features'}", files[0]],
        "neighbours, computed": ["--mode=neighbours", of_run, files[1]],
        "communication": ["--mode=communication", *SMALL, "--config.model.classes=10"],
        "table": ["--mode=table", f"--runs={run},{other}"],
    }
    for config in ("alexnet", "alexnet_2012", "cifar10", "digits", "photos", "alexnet:star", "alexnet:caffe"):
        found[f"describe {config}"] = ["--mode=describe", f"--config=configs/{config.replace(':', '.py:')}"]
        if ":" not in config:
            found[f"describe {config}"][-1] += ".py"
    for figure in ("3", "4", "confusion", "curves", "page"):
        found[f"figure {figure}"] = ["--mode=figures", f"--figure={figure}", of_run]
    for form, name in (("torch", "out.safetensors"), ("caffe", "out.caffemodel"), ("safetensors", "own.safetensors")):
        found[f"export {form}"] = ["--mode=export", f"--format={form}", f"--weights={place / name}", of_run]
    found["export stablehlo"] = ["--mode=export", "--format=stablehlo", f"--weights={place / 'program'}", of_run]
    found["import"] = ["--mode=import", "--format=safetensors", f"--weights={place / 'own.safetensors'}"]
    found["import"].append(f"--workdir={place / 'imported'}")
    found["predict, imported"] = ["--mode=predict", f"--workdir={place / 'imported'}", *files]
    return found


def draw_digits(folder: Path) -> None:
    """Writes some of scikit-learn's digits as PNGs."""
    from PIL import Image
    from sklearn.datasets import load_digits

    folder.mkdir()
    for number, image in enumerate(load_digits().images[:PICTURES]):
        Image.fromarray((image * 15).astype("uint8")).resize((72, 72), Image.Resampling.BICUBIC).save(
            folder / f"{number}.png"
        )


def results_of(checkout: Path, place: Path) -> dict[str, Any]:
    """The JSON of each command, and digests of the files with numbers."""
    draw_digits(place / "digits")
    found: dict[str, Any] = {}
    environment = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    for name, arguments in commands(place).items():
        done = subprocess.run(
            [sys.executable, "launch.py", *arguments], cwd=checkout, env=environment, capture_output=True, text=True
        )
        last = (done.stdout.splitlines() or ["null"])[-1]
        found[name] = {"status": done.returncode, "result": without_measured(json.loads(last), place, checkout)}
        if name in SIZE_VARIES and not done.returncode:
            del found[name]["result"]["bytes"]
        if done.returncode:
            found[name]["error"] = done.stderr.splitlines()[-1:]
        print(f"{checkout.name}: {name}: {done.returncode}", file=sys.stderr, flush=True)
    for pattern in NUMBERS:
        for path in sorted(path for path in place.rglob(pattern) if path.name not in RANDOM):
            found[f"file {path.relative_to(place)}"] = digest(path, place)
    return found


def digest(path: Path, place: Path) -> str:
    """The digest of a file, without the folder's name and without measured fields."""
    content = path.read_bytes().replace(str(place).encode(), b"PLACE")
    if path.name == "metrics.jsonl":
        lines = [without_measured(json.loads(line), place, place) for line in content.splitlines()]
        content = json.dumps(lines).encode()
    return hashlib.sha256(content).hexdigest()


def without_measured(value: Any, place: Path, checkout: Path) -> Any:
    """The value without measured fields, and with fixed names for the folders."""
    if isinstance(value, dict):
        return {
            name: without_measured(inner, place, checkout) for name, inner in value.items() if not MEASURED.search(name)
        }
    if isinstance(value, list):
        return [without_measured(inner, place, checkout) for inner in value]
    return value.replace(str(place), "PLACE").replace(str(checkout), "CHECKOUT") if isinstance(value, str) else value


def differences(before: Any, after: Any, where: str) -> list[str]:
    """A sentence for each number or word that differs."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            line
            for name in sorted(before.keys() | after.keys())
            for line in differences(before.get(name, "absent"), after.get(name, "absent"), f"{where} {name}".strip())
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [line for at, (old, new) in pairs for line in differences(old, new, f"{where}[{at}]")]
    return [] if before == after else [f"{where}: {before!r} in the other checkout and {after!r} in this one"]


def main() -> None:
    """Compares the two checkouts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the other checkout's folder")
    other = parser.parse_args().other.resolve()
    with tempfile.TemporaryDirectory() as there, tempfile.TemporaryDirectory() as here:
        before = results_of(other, Path(there).resolve())
        after = results_of(ROOT, Path(here).resolve())
    different = differences(before, after, "")
    for line in different:
        print(line, file=sys.stderr)
    names = before.keys() & after.keys()
    print(json.dumps({"compared": len(names), "different": different}))
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
