"""The benchmark of the step, small: what it needs, what it refuses, what it says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, environment_of_a_user


def measure(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/step.py", *flags]
    return subprocess.run(command, cwd=ROOT, env=environment_of_a_user(), capture_output=True, text=True)


def test_the_step_is_measured_without_tensorflow_and_ml_collections() -> None:
    absent = ("tensorflow", "tensorflow_datasets", "ml_collections", "orbax", "sklearn", "PIL", "torch")
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import benchmarks.step, benchmarks.exact"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [(("--mesh=1x3",), ("--mesh=1x3", "1x2")), (("--mesh=2x1", "--batch=3"), ("--batch=3", "multiple of 2"))],
)
def test_a_flag_that_cannot_be_is_one_sentence(flags: tuple[str, ...], words: tuple[str, ...]) -> None:
    done = measure(*flags)
    assert done.returncode == 2 and not done.stdout
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_two_devices_need_little_more_than_half_of_ones_memory() -> None:
    done = measure("--mesh=1x2", "--batch=128", "--turns=1", "--steps=1", "--peer=one_device")
    found = json.loads(done.stdout.splitlines()[-1])
    assert 0.5 < found["peak_bytes_per_device"] / found["one_device_peak_bytes"] <= 0.6
    rates = found["images_per_second"], found["peer_images_per_second"]
    assert found["ratio"] == pytest.approx(rates[0] / rates[1])
    assert found["spread"] == [rates[0], rates[0]]  # of one turn
    assert 0 < found["flops_utilisation"] and 0 < found["compile_seconds"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["train", "ten_views"])
def test_pytorch_has_our_loss_and_takes_turns(mode: str) -> None:
    pytest.importorskip("torch")
    done = measure(f"--mode={mode}", "--mesh=1x1", "--batch=2", "--turns=1", "--steps=1", "--peer=torch")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["loss_check"]["relative_difference"] < 1e-4 and found["peer_images_per_second"] > 0


@pytest.mark.slow
def test_the_command_for_a_gpu_checks_and_measures_and_leaves_its_file(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/gpu", "--device=cpu", "--quick", f"--output={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, env=environment_of_a_user(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.json")
    exact, *rates = json.loads(path.read_text())["results"]
    assert exact["result"]["wrong"] == [] and 0 < exact["result"]["differences"]["gradients"] < 1e-3
    assert [rate["result"]["batch"] for rate in rates] == [2]
    assert "| training, float32, batch 2, mesh 1x1 |" in done.stdout


def test_without_a_gpu_the_command_for_one_says_so() -> None:
    command = [sys.executable, "benchmarks/gpu"]
    done = subprocess.run(command, cwd=ROOT, env=environment_of_a_user(), capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].endswith("or give --device=cpu")
