"""A run is gone on with on other devices than those that it began on."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax.loop.report import read_metrics
from tests.conftest import SMALL, launch, launch_anew, result

pytestmark = pytest.mark.faults

BEGUN, GONE_ON = 10, 10  # steps


@pytest.fixture(scope="module")
def begun_on_two(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_on(1, 2, data_dir, tmp_path_factory.mktemp("meshes") / "two", BEGUN)


def run_on(data: int, model: int, data_dir: Path, workdir: Path, steps: int) -> Path:
    mesh = (f"--config.mesh.data={data}", f"--config.mesh.model={model}", "--config.train.log_every=1")
    folders = (f"--config.data.data_dir={data_dir}", f"--workdir={workdir}")
    flags = (*SMALL, *mesh, *folders, f"--config.train.steps={steps}")
    done = launch(*flags) if data * model <= 2 else launch_anew(*flags, JAX_NUM_CPU_DEVICES=str(data * model))
    result(done)
    assert f"mesh: data {data} x model {model} " in done.stderr
    return workdir


def losses(workdir: Path) -> list[float]:
    found = {line["step"]: line["train/loss"] for line in read_metrics(workdir) if "train/loss" in line}
    assert list(found) == [*range(1, BEGUN + GONE_ON + 1)]
    return list(found.values())[BEGUN:]


@pytest.mark.parametrize(("data", "model"), [(1, 1), pytest.param(2, 2, marks=pytest.mark.slow)])
def test_a_run_of_two_devices_goes_on_on_one_and_on_four_to_the_same_losses(
    data: int, model: int, begun_on_two: Path, data_dir: Path, tmp_path: Path
) -> None:
    for name, mesh in (("same", (1, 2)), ("other", (data, model))):
        shutil.copytree(begun_on_two, tmp_path / name)
        run_on(*mesh, data_dir, tmp_path / name, BEGUN + GONE_ON)
    ours, theirs = losses(tmp_path / "other"), losses(tmp_path / "same")
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert ours[-1] < 0.999 * ours[0]  # and something was learnt meanwhile
