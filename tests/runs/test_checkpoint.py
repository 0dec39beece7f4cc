"""What stays of a run's checkpoints, and what happens to a damaged one."""

import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from alexnet_jax.devices import towers
from alexnet_jax.messages import UserError
from alexnet_jax.runs.checkpoint import Checkpoints
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


def test_the_newest_three_and_the_best_stay(tmp_path: Path, state: TrainState) -> None:
    checkpoints = Checkpoints(tmp_path)
    for number, error in enumerate([0.9, 0.2, 0.5, 0.4, 0.3, 0.6], start=1):
        checkpoints.save(number, state, metrics(error))
    checkpoints.save(7, state, None)
    checkpoints.close()
    again = Checkpoints(tmp_path)
    assert again.steps() == [2, 5, 6, 7]
    assert again.best_step() == 2
    assert again.metrics(2) == metrics(0.2)
    assert again.metrics(7) is None


def test_of_equal_errors_the_lower_loss_is_best(tmp_path: Path, state: TrainState) -> None:
    checkpoints = Checkpoints(tmp_path)
    for number, loss in enumerate([0.5, 0.3, 0.4], start=1):
        checkpoints.save(number, state, metrics(0.1, loss))
    checkpoints.close()
    assert Checkpoints(tmp_path).best_step() == 2


def test_a_checkpoint_does_not_know_how_many_devices_wrote_it(tmp_path: Path, state: TrainState) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, None)
    checkpoints.close()
    for mesh_shape in [(1, 1), (2, 2)]:
        _, restored = Checkpoints(tmp_path).restore(abstract(mesh_shape), [1])
        assert_equal(restored, state)
        assert restored.params["conv2"]["kernel"].sharding.num_devices == mesh_shape[0] * mesh_shape[1]


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


def empty_its_metrics(folder: Path) -> None:
    (folder / "metrics" / "metrics").write_text("")


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
        empty_its_metrics,
        never_end,
    ],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, state: TrainState, damage: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(tmp_path)
    for number in (1, 2):
        checkpoints.save(number, state, metrics(0.5))
    checkpoints.close()
    damage(tmp_path / "checkpoints" / "2")
    again = Checkpoints(tmp_path, set_aside=True)
    at_step, restored = again.restore(abstract(), again.steps()[::-1])
    assert at_step == 1
    assert_equal(restored, state)
    said = capsys.readouterr().err
    assert "step 2 is damaged" in said or "'2.orbax-checkpoint-tmp' was not written to its end" in said
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    again.save(2, state, None)
    again.close()
    assert Checkpoints(tmp_path).steps() == [1, 2]


def test_where_no_checkpoint_can_be_read_all_stay_where_they_are(tmp_path: Path, state: TrainState) -> None:
    checkpoints = Checkpoints(tmp_path)
    for number in (1, 2):
        checkpoints.save(number, state, None)
    checkpoints.close()
    for number in (1, 2):
        truncate(tmp_path / "checkpoints" / str(number))
    again = Checkpoints(tmp_path, set_aside=True)
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read; --restart"):
        again.restore(abstract(), [2, 1])
    assert again.steps() == [1, 2]
    assert not (tmp_path / "damaged").exists()
