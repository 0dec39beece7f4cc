"""An imported run is like any other: it can be evaluated, and a new run can start from it."""

from pathlib import Path

import numpy as np

from tests.conftest import SMALL, launch, result
from tests.modes.test_export import same
from tests.weights.networks import parameters


def test_a_trained_run_goes_out_comes_in_evaluates_and_is_started_from(data_dir: Path, tmp_path: Path) -> None:
    flags = (*SMALL, f"--config.data.data_dir={data_dir}", "--config.train.checkpoint_every=1")
    trained, again, file = tmp_path / "run", tmp_path / "again", tmp_path / "net.safetensors"
    result(launch(*flags, "--config.train.steps=3", f"--workdir={trained}"))
    out = result(launch("--mode=export", "--format=safetensors", f"--weights={file}", f"--workdir={trained}"))
    assert out == {"weights": str(file), "bytes": file.stat().st_size}
    come_in = ("--mode=import", "--format=safetensors", f"--weights={file}", f"--workdir={again}")
    assert result(launch(*come_in))["workdir"] == str(again)
    same(trained, again)
    assert not list(tmp_path.glob(".*"))

    errors = [result(launch(*flags, "--mode=evaluate", f"--workdir={folder}")) for folder in (trained, again)]
    assert [found.pop("step") for found in errors] == [3, 0]
    assert [Path(found.pop("workdir")) for found in errors] == [trained, again]
    assert errors[0] == errors[1] and errors[0]["examples"] == 360

    start = ("--config.train.steps=1", f"--config.train.init_from={again}", "--config.optimizer.learning_rate=1e-12")
    done = launch(*flags, *start, f"--workdir={tmp_path / 'fine'}")
    assert result(done)["step"] == 1
    assert f"from step 0 of {again}: conv1, conv2, conv3, conv4, conv5, fc6, fc7, fc8" in done.stderr
    ours, theirs = parameters(tmp_path / "fine"), parameters(trained)
    for layer in ours:
        np.testing.assert_allclose(ours[layer]["kernel"], theirs[layer]["kernel"], rtol=0, atol=1e-6)
