"""The benchmarks at small size: requirements, refused flags, results and tables."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import table
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
def test_an_invalid_flag_is_refused_in_one_sentence(flags: tuple[str, ...], words: tuple[str, ...]) -> None:
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
@pytest.mark.parametrize("mode", ["train", "inference", "ten_views"])
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
    assert 1e-3 < exact["result"]["differences"]["bfloat16_stages"] < 0.05
    assert [rate["result"]["batch"] for rate in rates] == [2]
    assert "| training, float32, batch 2, mesh 1x1 |" in done.stdout


@pytest.mark.slow
def test_one_picture_is_measured_beside_pytorch_which_has_our_probabilities() -> None:
    pytest.importorskip("torch")
    command = [sys.executable, "benchmarks/latency.py", "--pictures=2", "--turns=1"]
    done = subprocess.run(command, cwd=ROOT, env=environment_of_a_user(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found["peer"]) == {"band", "LocalResponseNorm"} and found["pictures"] == 2
    assert found["ratio"] == pytest.approx(found["ours"] / min(found["peer"].values()))


def test_predictions_have_a_table_of_their_own_with_both_types_in_a_row(tmp_path: Path) -> None:
    def run(mode: str, batch: int, dtype: str, rate: float, peer: float | None) -> dict[str, Any]:
        result = {"mode": mode, "mesh": "1x1", "batch": batch, "dtype": dtype, "peer": "torch" if peer else "none"}
        result |= {"images_per_second": rate, "peer_images_per_second": peer, "ratio": peer and rate / peer}
        result |= {"device": {"platform": "cpu", "cpu": "A Processor", "cores": 2, "kind": "cpu"}}
        result |= {"versions": {"jax": "0.12"}, "ratio_eager": None, "spread": [rate, rate], "compile_seconds": 1.0}
        result |= {"flops_utilisation": 0.5, "peak_bytes_per_device": 10**9}
        return {"arguments": ["benchmarks/step.py", f"--mode={mode}"], "result": result}

    starts: dict[str, float] = {
        "cold_seconds": 9,
        "warm_seconds": 6,
        "jpeg_ratio": 1,
        "raw_ratio": 1,
        "tensorflow_seconds": 5,
    }
    starts |= {"describe_seconds": 0.2, "answer_seconds": 4}
    answers = {"ours": 25.0, "peer": {"band": 30.0, "LocalResponseNorm": 34.6}}
    results = [
        run("train", 128, "float32", 30, 24),
        run("inference", 1, "float32", 50, 40),
        run("inference", 1, "bfloat16", 90, None),
        run("ten_views", 8, "float32", 9, 7.2),
        {"arguments": ["benchmarks/program.py"], "result": starts},
        {"arguments": ["benchmarks/latency.py"], "result": answers},
    ]
    (tmp_path / "one.json").write_text(json.dumps({"date": "2026-11-28", "results": results}))
    lines = table.markdown(tmp_path).splitlines()
    assert [line for line in lines if line.startswith("| training")] == [
        "| training, float32, batch 128, mesh 1x1 | 30.0 (30.0-30.0) | 24.0 |  | 1.25 | 50 % | 1.0 | 1.00 |"
    ]
    assert "| one view, 1 at a time | 50.0 | 40.0 | 1.25 | 90.0 |  |  |" in lines
    assert "| ten views, 8 at a time | 9.00 | 7.20 | 1.25 |  |  |  |" in lines
    assert not any(line.startswith(("| inference", "| one view, float32")) for line in lines)
    assert any("with Keras, takes 5.0 s; the whole start with compiled programs 6.0 s;" in line for line in lines)
    assert any(
        "classes, after the first picture: 25 ms." in line and "35 ms (LocalResponseNorm)" in line for line in lines
    )


def test_without_a_gpu_the_command_for_one_says_so() -> None:
    command = [sys.executable, "benchmarks/gpu"]
    done = subprocess.run(command, cwd=ROOT, env=environment_of_a_user(), capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].endswith("or give --device=cpu")
