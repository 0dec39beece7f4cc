"""Which of a run's checkpoints stay, and what happens to a damaged checkpoint."""

import fcntl
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.devices import towers
from alexnet_jax.messages import UserError
from alexnet_jax.network import architecture
from alexnet_jax.runs.checkpoint import Checkpoints, Progress
from alexnet_jax.runs.checkpoint_integrity import name_run
from alexnet_jax.training.step import Recipe, TrainState, abstract_state, create_state
from tests.conftest import NARROW

RECIPE = Recipe(NARROW)


@pytest.fixture(scope="module")
def state() -> TrainState:
    return create_state(RECIPE, towers.make_mesh(1, 2))


def abstract(mesh_shape: tuple[int, int] = (1, 2)) -> TrainState:
    return abstract_state(RECIPE, towers.make_mesh(*mesh_shape))


def metrics(error: float, loss: float = 1.0) -> dict[str, float]:
    return {"top1_error": error, "top5_error": 0.0, "loss": loss}


def assert_equal(ours: Any, theirs: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), ours, theirs)


def saved(workdir: Path, steps: Mapping[int, dict[str, float] | None], state: TrainState) -> Checkpoints:
    """Saves the state at these steps, and validates those that have metrics."""
    checkpoints = Checkpoints(workdir).open_for_writing()
    for step, of_validation in steps.items():
        checkpoints.save(step, replace(state, step=jnp.int32(step)), Progress())
        if of_validation:
            checkpoints.validated(step, of_validation)
    checkpoints.close()
    return Checkpoints(workdir)


def test_the_newest_three_and_the_best_stay(tmp_path: Path, state: TrainState) -> None:
    errors = {number: metrics(error) for number, error in enumerate([0.9, 0.2, 0.5, 0.4, 0.3, 0.6], start=1)}
    again = saved(tmp_path, {**errors, 7: None}, state)
    assert again.steps() == [2, 5, 6, 7]
    assert again.best_step() == 2
    assert again.metrics(2) == metrics(0.2)
    assert again.metrics(7) is None
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"2", "5", "6", "7"}


def test_among_equal_errors_the_lower_loss_is_best(tmp_path: Path, state: TrainState) -> None:
    losses = {number: metrics(0.1, loss) for number, loss in enumerate([0.5, 0.3, 0.4], start=1)}
    assert saved(tmp_path, losses, state).best_step() == 2


def test_a_checkpoint_does_not_know_how_many_devices_wrote_it(tmp_path: Path, state: TrainState) -> None:
    checkpoints = Checkpoints(tmp_path).open_for_writing()
    checkpoints.save(0, state, Progress([[0.1, 0.5]], skipped=3, rewinds=1))
    checkpoints.save(0, state, Progress())
    checkpoints.close()
    for mesh_shape in [(1, 1), (2, 2)]:
        found = Checkpoints(tmp_path).restore(abstract(mesh_shape))
        assert (found.step, found.progress) == (0, Progress([[0.1, 0.5]], skipped=3, rewinds=1))
        assert_equal(found.state, state)
        assert found.state.params["conv2"]["kernel"].sharding.num_devices == mesh_shape[0] * mesh_shape[1]


def test_parameters_are_read_without_the_optimizer_state(tmp_path: Path, state: TrainState) -> None:
    checkpoints = saved(tmp_path, {4: None}, state)
    for mesh_shape in [(1, 1), (1, 2)]:
        whole = abstract(mesh_shape)
        found = checkpoints.restore({"step": whole.step, "params": whole.params})
        assert set(found.state) == {"step", "params"} and (found.step, int(found.state["step"])) == (4, 4)
        assert_equal(found.state["params"], state.params)
        assert found.state["params"]["conv2"]["kernel"].sharding.num_devices == mesh_shape[0] * mesh_shape[1]
    flip_a_byte(tmp_path / "checkpoints" / "4")  # wherever it is
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read"):
        checkpoints.restore({"step": whole.step, "params": whole.params})


def largest_file(folder: Path) -> Path:
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def truncate(folder: Path) -> None:
    path = largest_file(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lose_a_file(folder: Path) -> None:
    largest_file(folder).unlink()


def flip_a_byte(folder: Path) -> None:
    path = largest_file(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def lose_the_arrays(folder: Path) -> None:
    shutil.rmtree(folder / "state")


def lose_everything(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def lose_the_digests(folder: Path) -> None:
    (folder / "digests.json").unlink()


def empty_the_digests(folder: Path) -> None:
    (folder / "digests.json").write_text("{}")


def list_no_digests(folder: Path) -> None:
    (folder / "digests.json").write_text("[]")


def alter_the_progress(folder: Path) -> None:
    (folder / "progress.json").write_text(json.dumps({"step": 2, "seen": [], "skipped": 1, "rewinds": 0}))


def copy_the_checkpoint_before(folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("1"), folder)


def copy_the_checkpoint_before_and_change_its_step(folder: Path) -> None:
    copy_the_checkpoint_before(folder)
    digests = json.loads((folder / "digests.json").read_text())
    (folder / "digests.json").write_text(json.dumps({**digests, "step": 2}))


def forbid_reading(folder: Path) -> None:
    (folder / "digests.json").unlink()
    (folder / "digests.json").mkdir()  # to the superuser all else is readable


def never_end(folder: Path) -> None:
    folder.rename(folder.with_name("2.orbax-checkpoint-tmp"))


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        lose_a_file,
        flip_a_byte,
        lose_the_arrays,
        lose_everything,
        lose_the_digests,
        empty_the_digests,
        list_no_digests,
        alter_the_progress,
        copy_the_checkpoint_before,
        copy_the_checkpoint_before_and_change_its_step,
        forbid_reading,
        never_end,
    ],
)
def test_the_checkpoint_before_replaces_a_damaged_checkpoint(
    tmp_path: Path, state: TrainState, damage: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path, {1: metrics(0.5), 2: metrics(0.5)}, state)
    damage(tmp_path / "checkpoints" / "2")
    reader = Checkpoints(tmp_path)
    before = sorted((tmp_path / "checkpoints").iterdir())
    for which in ("newest", "best"):
        assert reader.restore(abstract(), which).step == 1
    assert sorted((tmp_path / "checkpoints").iterdir()) == before  # a reader moves nothing
    again = Checkpoints(tmp_path).open_for_writing()
    found = again.restore(abstract())
    assert found.step == 1
    assert_equal(found.state.params, state.params)
    said = capsys.readouterr().err
    assert "step 2 is damaged" in said or "'2.orbax-checkpoint-tmp' was not written completely" in said
    assert again.steps() == [1]
    again.save(2, replace(state, step=jnp.int32(2)), Progress())
    again.close()
    assert Checkpoints(tmp_path).restore(abstract()).step == 2


@pytest.mark.parametrize(
    "content",
    ["", "[]", "5", '{"step": 2}', '{"step": 2, "loss": 0.1, "top1_error": 0.1, "top5_error": 0.0, "digest": "0"}'],
)
def test_a_damaged_validation_counts_as_no_validation(
    tmp_path: Path, state: TrainState, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    again = saved(tmp_path, {1: metrics(0.5), 2: metrics(0.1)}, state)
    assert again.best_step() == 2
    (tmp_path / "checkpoints/2/validation.json").write_text(content)
    assert (again.best_step(), again.metrics(2)) == (1, None)
    assert "step 2 counts as not validated" in capsys.readouterr().err
    shutil.copy(tmp_path / "checkpoints/1/validation.json", tmp_path / "checkpoints/2/validation.json")
    assert again.metrics(2) is None  # that of another step


def test_if_no_checkpoint_can_be_read_none_is_moved(tmp_path: Path, state: TrainState) -> None:
    saved(tmp_path, {1: None, 2: None}, state)
    for number in (1, 2):
        truncate(tmp_path / "checkpoints" / str(number))
    again = Checkpoints(tmp_path).open_for_writing()
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read; --restart"):
        again.restore(abstract())
    assert again.steps() == [1, 2]
    assert not (tmp_path / "damaged").exists()


def test_a_checkpoint_of_another_network_is_not_called_damaged(
    tmp_path: Path, state: TrainState, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path, {1: None}, state)
    wider = replace(
        RECIPE,
        architecture=architecture.alexnet(
            architecture.AlexNetOptions(kernels=(8, 12, 16, 16, 12), units=(24, 22), classes=7, input_size=64)
        ),
    )
    with pytest.raises(
        UserError,
        match=r"classes\.txt' describes another network than .*/1', where fc7/bias is \(20,\), not \(22,\)",
    ):
        Checkpoints(tmp_path).restore(abstract_state(wider, towers.make_mesh(1, 2)))
    assert Checkpoints(tmp_path).steps() == [1]
    assert "damaged" not in capsys.readouterr().err


def test_a_checkpoint_of_another_run_counts_as_damaged(
    tmp_path: Path, state: TrainState, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        name_run(tmp_path / name, {})
        saved(tmp_path / name, {1: None, 2: None}, state)
    shutil.rmtree(tmp_path / "one/checkpoints/2")
    shutil.copytree(tmp_path / "other/checkpoints/2", tmp_path / "one/checkpoints/2")
    assert Checkpoints(tmp_path / "one").restore(abstract()).step == 1
    assert "it belongs to another run" in capsys.readouterr().err


def test_a_checkpoint_that_is_being_read_is_not_removed(tmp_path: Path, state: TrainState) -> None:
    saved(tmp_path, {1: None}, state)
    with open(tmp_path / "checkpoints/1/digests.json") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert saved(tmp_path, {2: None, 3: None, 4: None}, state).steps() == [1, 2, 3, 4]
    assert saved(tmp_path, {5: None}, state).steps() == [3, 4, 5]
