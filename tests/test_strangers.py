"""Standard error holds nothing but what the program says: of no library a warning, a bar or a line of its log."""

import re
from pathlib import Path

import pytest

from tests.conftest import SMALL, launch_anew, result

# What has been seen there, or is known to come: absl's and glog's lines, XLA's, TensorFlow's, TFDS's, Python's.
STRANGERS = {
    "a line of absl or glog": r"^[IWEF]\d{4} \d\d:\d\d:\d\d",
    "a line of TensorFlow's log": r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
    "absl before it begins": r"before absl::InitializeLog",
    "oneDNN": r"(?i)onednn|MKLDNN",
    "XLA": r"cpu_aot_loader|xla/|XLA:CPU",
    "TensorFlow": r"tensorflow/(core|compiler|tsl)|TF_ENABLE|computation_placer|cuInit|cuda",
    "TFDS": r"Downloading and preparing|Generating \w+ (splits|examples)|Shuffling |subsequent calls will reuse",
    "Orbax": r"orbax|checkpoint_manager",
    "a warning of Python's": r"Warning\b|warnings\.warn",
    "a bar in a log": "\r|\x1b",
    "a line break that was escaped": r"\\n",
}


def strangers(text: str) -> dict[str, str]:
    """Of each kind that is there, the first line."""
    found: dict[str, str] = {}
    for line in re.split(r"(?<=\n)", text):
        for kind, pattern in STRANGERS.items():
            if re.search(pattern, line):
                found.setdefault(kind, line[:200])
    return found


def test_strangers_are_known_when_they_come() -> None:
    seen = (
        "E1126 22:09:08.848668   14396 cpu_aot_loader.cc:195] Loading XLA:CPU AOT result. Target machine feature\n",
        "2026-11-26 21:00:00.0: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.\n",
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n",
        "\rGenerating splits...:   0%|          | 0/2 [00:00<?, ? splits/s]\n",
    )
    assert all(strangers(line) for line in seen)
    assert not strangers("step 22  validation: loss 2.1  top-1 error 49.72%\nWARNING: a stall. After 500 steps\n")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a user who has nothing yet: no data, and no program compiled."""
    return tmp_path_factory.mktemp("home")


def said(home: Path, *flags: str) -> str:
    own = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "JAX_COMPILATION_CACHE_DIR": ""}
    done = launch_anew(f"--workdir={home / 'run'}", *flags, **own, timeout=600)
    result(done)
    return done.stderr


def test_training_says_nothing_but_its_own(home: Path) -> None:
    """Twice, as what is found compiled says other things than what is compiled."""
    for more in ((), ("--restart",)):
        assert strangers(said(home, *SMALL, "--config.train.steps=4", *more)) == {}, more


@pytest.mark.slow
def test_no_other_mode_says_anything_but_its_own(home: Path) -> None:
    if not (home / "run").exists():
        said(home, *SMALL, "--config.train.steps=4")
    figures = ("--config=configs/cifar10.py", "--mode=figures", "--config.data.name=digits", "--config.train.steps=2")
    for flags in (
        ("--mode=evaluate",),
        (*SMALL, "--mode=prepare"),
        (*SMALL, "--mode=describe"),
        (*SMALL, "--mode=communication"),
        ("--mode=table", f"--runs={home / 'run'}"),
        ("--mode=features", "--layer=fc7", f"--output={home / 'fc7'}"),
        ("--mode=neighbours", f"--features={home / 'fc7'}", "docs/digits.png"),
        ("--mode=predict", "docs/digits.png"),
        ("--mode=export", "--format=safetensors", f"--weights={home / 'run.safetensors'}"),
        ("--mode=export", "--format=stablehlo", f"--weights={home / 'run.stablehlo'}"),
        (
            *figures,
            "--config.evaluate.split=validation",
            "--config.train.batch_size=1000",
            "--config.train.log_every=1",
        ),
    ):
        assert strangers(said(home, *flags)) == {}, flags
    imported = ("--mode=import", "--format=safetensors", f"--weights={home / 'run.safetensors'}")
    assert strangers(said(home, *imported, f"--workdir={home / 'imported'}")) == {}
