"""Every command of README and docs runs, in a form that finishes: small networks, files and steps, by these tables."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

from benchmarks import own_pictures
from tests.conftest import ROOT, Launched, launch, result
from tests.data.sources.test_idx import made as write_idx
from tests.modes.test_import import state_dict, torchvision_layers
from tests.photographs import write_folder, write_imagenet
from tests.processes import free_port
from tests.weights.files import binaryproto, caffemodel, random_layers

PAGES = [
    *("README.md", "docs/pictures.md", "docs/training.md", "docs/use.md", "docs/figures.md", "docs/paper.md"),
    *("docs/speed.md", "docs/architecture.md", "CONTRIBUTING.md", "tests/README.md"),
]
TEXT = "\n".join((ROOT / page).read_text() for page in PAGES)
PROGRAMS = "python|pip|tfds|make|tensorboard|export|alexnet-jax"
TINY = (
    *("--config.model.kernels=(8,16,16,16,8)", "--config.model.units=(16,16)", "--config.data.resize=72"),
    *("--config.data.crop=64", "--config.train.batch_size=8", "--config.train.steps=3", "--config.mesh.data=1"),
)
DIGITS = ("--config.model.kernels=(8,16,16,16,8)", "--config.model.units=(16,16)", "--config.train.steps=22")
CAFFE = (
    *("--config=configs/alexnet.py:caffe", "--config.model.kernels=(8,12,16,16,12)", "--config.model.units=(24,20)"),
    *("--config.data.resize=72", "--config.data.crop=67"),
)
TORCHVISION = (
    *("--weights=torchvision.safetensors", "--config=configs/alexnet.py:torchvision", *CAFFE[1:3]),
    *("--config.data.resize=105", "--config.data.crop=99"),
)
FIGURE = ("--config.train.steps=3", "--config.train.log_every=1", "--config.train.batch_size=1000")
LAUNCH = "python launch.py "
QUICK = {  # the command without `python launch.py`: flags to add to it; in an order in which they can run
    "--config=configs/digits.py": DIGITS,
    "--mode=predict --workdir=runs/digits digits": (),
    "--mode=features --workdir=runs/digits --layer=fc7,conv1/pool --output=fc7 --config.evaluate.split=train": (),
    "--mode=neighbours --workdir=runs/digits --features=fc7 digits/7-7.png": (),
    "--config=configs/alexnet.py --mode=describe": (),
    "--mode=table --runs=runs/digits --output=table.md": (),
    "--mode=export --format=safetensors --weights=digits.safetensors --workdir=runs/digits": (),
    "--mode=figures --figure=3 --workdir=runs/digits": (),
    "--mode=figures --figure=curves --runs=runs/a,runs/b": ("--runs=runs/digits",),
}
SLOW = {
    "--mode=figures --figure=4 --workdir=runs/digits": (),
    "--mode=figures --figure=confusion --workdir=runs/digits": (),
    "--mode=figures --figure=page --workdir=runs/digits": (),
    "--mode=export --format=stablehlo --weights=digits.stablehlo --workdir=runs/digits": ("--platforms=cpu",),
    "--config=configs/alexnet.py --mode=communication": TINY,
    (
        "--config=configs/alexnet.py --mode=communication --config.mesh.data=512 --config.mesh.model=2 "
        "--config.train.batch_size=65536 --config.evaluate.batch_size=65536 --devices_per_host=8"
    ): (),
    "--config=configs/alexnet.py --mode=prepare --config.data.manual_dir=FOLDER": (
        *("--config.data.resize=72", "--config.data.crop=64", "--config.data.max_missing=1.0"),
    ),
    "--config=configs/alexnet.py --config.data.manual_dir=FOLDER": (*TINY, "--config.data.max_missing=1.0"),
    "--config=configs/alexnet.py --mode=evaluate --config.evaluate.views=10": TINY[:4],
    "--config=configs/alexnet.py:no_lrn --config.data.manual_dir=FOLDER": (*TINY, "--config.data.max_missing=1.0"),
    "--config=configs/alexnet.py:no_lrn --mode=evaluate --config.evaluate.views=10 "
    "--config.evaluate.checkpoint=newest": TINY[:4],
    "--config=configs/alexnet.py --config.data.name=cifar10 --config.evaluate.split=test --workdir=runs/cifar10": (
        *(*TINY, "--config.data.name=digits", "--config.evaluate.split=validation"),  # the digits need no download
        "--config.data.encoding=raw",
    ),
    (
        "--config=configs/digits.py --config.data.name=idx "
        "--config.data.manual_dir=/usr/share/datasets/fashion-mnist --config.evaluate.split=test --workdir=runs/fashion"
    ): ("--config.data.manual_dir=fashion", "--config.train.batch_size=8", "--config.train.steps=4"),
    "--config=configs/photos.py --mode=prepare --dry_run --config.data.manual_dir=photos": (),
    "--config=configs/photos.py --mode=prepare --config.data.manual_dir=photos": (),
    "--config=configs/photos.py --config.data.manual_dir=photos": (*TINY[:2], "--config.train.steps=6"),
    "--mode=evaluate --workdir=runs/photos": (),
    "--mode=predict --workdir=runs/photos some.jpg others/": (),
    (
        "--config=configs/photos.py --config.data.manual_dir=photos --config.train.init_from=runs/alexnet "
        "--workdir=runs/tuned"
    ): ("--config.train.steps=3",),
    (
        "--mode=import --format=caffe --weights=bvlc_alexnet.caffemodel --mean=imagenet_mean.binaryproto "
        "--workdir=runs/bvlc"
    ): CAFFE,
    "--mode=import --format=torchvision --weights=alexnet.pth --workdir=runs/torchvision": TORCHVISION,
    "--mode=export --format=torch --weights=alexnet.safetensors --workdir=runs/alexnet": (),
    "--config=configs/cifar10.py --mode=figures --figure=1": (
        *FIGURE,
        *("--config.data.name=digits", "--config.evaluate.split=validation", "--workdir=runs/figure1-cifar10"),
    ),
    (
        "--config=configs/cifar10.py --mode=figures --figure=1 --config.data.name=digits "
        "--config.evaluate.split=validation --config.train.log_every=2 --config.train.epochs=8 --workdir=runs/figure1"
    ): FIGURE,
}
TOGETHER = (  # two processes of one program
    "--config=configs/digits.py --coordinator=127.0.0.1:8476 --processes=2 --process=0 &",
    "--config=configs/digits.py --coordinator=127.0.0.1:8476 --processes=2 --process=1",
)
FORMS = ("--config=FILE --mode=MODE",)  # stands for many commands


def commands() -> list[str]:
    """All that the pages say to type, in their order, each once."""
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))
    lines = [line.partition("  #")[0].partition(" # ")[0].strip() for line in blocks.splitlines()]
    inline = [one.replace("\n", " ") for one in re.findall(rf"`((?:{PROGRAMS}) [^`]+)`", TEXT)]
    return list(dict.fromkeys([line for line in lines if line] + inline))


def launched() -> list[str]:
    return [one.removeprefix(LAUNCH) for one in commands() if one.startswith(LAUNCH)]


def test_every_command_is_one_that_is_run() -> None:
    assert sorted(launched()) == sorted((*QUICK, *SLOW, *TOGETHER, *FORMS))


def test_no_command_is_broken_over_lines_and_all_are_in_blocks_of_the_shell() -> None:
    assert "\\\n" not in TEXT
    outside = re.sub(r"^```sh\n.*?^```", "", TEXT, flags=re.DOTALL | re.MULTILINE)
    assert not re.findall(rf"^(?:{PROGRAMS}) .*", outside, re.MULTILINE)


def test_every_other_command_names_what_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in commands():
        program, *words = shlex.split(command)
        if program == "make":
            assert words[0] in targets
        elif program == "pip":
            (place,) = [word for word in words if word.startswith(".")]
            assert place == "." or place[2:-1] in project["optional-dependencies"]
        elif program == "alexnet-jax":
            assert program in project["scripts"] and (ROOT / words[0].partition("CHECKOUT/")[2]).is_file()
        elif program in ("tfds", "tensorboard"):
            assert shutil.which(program, path=str(Path(sys.executable).parent))
        elif words[:2] == ["-m", "pytest"]:
            assert all((ROOT / word).exists() for word in words if word.startswith("tests"))
        elif program == "python" and words[0] != "launch.py":
            assert (ROOT / words[0]).is_file()
        else:
            assert program in ("python", "export")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the checkout, with some digits and no run."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "configs").symlink_to(ROOT / "configs")
    digits = load_digits()
    (folder / "digits").mkdir()
    for label in (2, 7, 8):
        pixels = digits.images[np.flatnonzero(digits.target == label)[0]] * 255 / 16
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"digits/{label}-{label}.png")
    (folder / "digits/notes.jpg").write_text("no picture")
    return folder


def run(place: Path, command: str, more: Sequence[str]) -> dict[str, Any]:
    """Runs the command with more flags; of equal flags the last counts."""
    return result(
        launch(*shlex.split(command), *more, cwd=place, page=True, TFDS_DATA_DIR=str(place / "data"), timeout=900)
    )


def test_the_commands_on_digits_run_and_so_does_the_python_beside_them(place: Path) -> None:
    found = {command: run(place, command, more) for command, more in QUICK.items()}
    predicted = found["--mode=predict --workdir=runs/digits digits"]
    assert [one["file"] for one in predicted["rejected"]] == ["digits/notes.jpg"]
    short, code = [
        block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "alexnet_jax.load" in block
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    agree = """
assert saliency.any()
file = "digits/7-7.png"
again = jax.nn.softmax(net.apply(net.params, pixels))
assert abs(again - net.probabilities(file)).max() < 1e-5
assert [round(p, 4) for _, p in net.predict(file, top=2)] == [round(float(p), 4) for p in sorted(again)[:-3:-1]]
"""
    subprocess.run([sys.executable, "-c", f"{short}{code}{agree}"], cwd=place, env=environment, check=True)
    for needed in ("table.md", "digits.safetensors", "fc7/features.json", "runs/digits/neighbours.png"):
        assert (place / needed).is_file()


@pytest.mark.slow
def test_the_other_commands_run(place: Path) -> None:
    if not (place / "runs/digits").exists():
        run(place, *next(iter(QUICK.items())))
    write_imagenet(place / "FOLDER", ["n01440764", "n01443537"], each=12, validation=4)
    own_pictures.few(place / "photos")
    write_folder(place / "others", {"a": 2})
    write_idx(place / "fashion")
    shutil.copy(place / "others/a/0000.jpeg", place / "some.jpg")
    caffemodel(place / "bvlc_alexnet.caffemodel", random_layers(1), "layer")
    binaryproto(place / "imagenet_mean.binaryproto", np.full((72, 72, 3), 110, np.float32))
    layers = torchvision_layers((8, 12, 16, 16, 12), (24, 20), 7, 2)
    save_file(state_dict(layers), place / "torchvision.safetensors")
    for command, more in SLOW.items():
        run(place, command, more)


@pytest.mark.slow
def test_two_processes_of_one_program_run(place: Path) -> None:
    more = (*DIGITS, f"--coordinator=127.0.0.1:{free_port()}", f"--workdir={place / 'pair'}")
    started = [
        Launched(*shlex.split(one.removesuffix("&")), *more, cwd=place, TFDS_DATA_DIR=str(place / "data"))
        for one in TOGETHER
    ]
    first, second = (one.ended() for one in started)
    assert result(first)["step"] == 22 and (second.returncode, second.stdout) == (0, "")
