"""Figure 1: from made-up runs, and on real digits."""

import json
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax.config.config import network_of
from alexnet_jax.data.prepared.statistics import Statistics
from alexnet_jax.figures import figure1
from alexnet_jax.messages import UserError
from alexnet_jax.modes import FiguresInvocation, figures
from alexnet_jax.runs.folder import create_run
from configs import alexnet, cifar10
from tests.conftest import launch, launch_here, refusal, result


def made_up(folder: Path, activation: str, rate: float, errors: list[float], seed: int = 0) -> Path:
    """A run whose training error is as given, half an epoch of 1,280 pictures apart."""
    config = cifar10.get_config(activation)
    config.optimizer.learning_rate, config.train.seed = rate, seed
    create_run(folder, config, Statistics(np.zeros((32, 32, 3), np.float32), np.eye(3)), ("a", "b"))
    lines = [{"step": 10 * i + 10, "epoch": (i + 1) / 2, "train/top1_error": error} for i, error in enumerate(errors)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_fastest_rate_of_each_is_compared(tmp_path: Path) -> None:
    folders = [
        made_up(tmp_path / "a", "relu", 0.1, [0.9, 0.9, 0.9, 0.9]),
        made_up(tmp_path / "b", "relu", 0.01, [0.6, 0.25, 0.1, 0.05]),  # in the second half of epoch 1
        made_up(tmp_path / "c", "relu", 0.001, [0.9, 0.6, 0.2, 0.1]),
        made_up(tmp_path / "d", "tanh", 0.01, [0.9] * 6 + [0.251, 0.249]),  # of epoch 4
        made_up(tmp_path / "e", "tanh", 0.001, [0.9] * 9 + [0.1]),
    ]
    found = figures.run(None, FiguresInvocation(tmp_path / "out", runs=tuple(map(str, folders))))
    assert (found["relu_epochs"], found["relu_learning_rate"]) == (0.75, 0.01)
    assert (found["tanh_epochs"], found["tanh_learning_rate"]) == (3.75, 0.01)
    assert found["ratio"] == 5.0
    assert found["data"] == "cifar10"
    assert Path(found["picture"]).read_bytes().startswith(b"\x89PNG")


def test_of_several_seeds_the_median_counts_and_a_rate_of_one_seed_does_not(tmp_path: Path) -> None:
    reached = {"relu": [1, 2, 7, 3, 2], "tanh": [6, 4, 5, 99, 5]}  # reports at 0.9 before; 99: never
    folders = [made_up(tmp_path / "lucky", "relu", 0.1, [0.1])]
    for activation, reports in reached.items():
        for seed, count in enumerate(reports):
            errors = [0.9] * count + [0.1] * (count < 99)
            folders.append(made_up(tmp_path / f"{activation}{seed}", activation, 0.01, errors, seed))
    found = figures.run(None, FiguresInvocation(tmp_path / "out", runs=tuple(map(str, folders))))
    assert (found["relu_epochs"], found["tanh_epochs"]) == (1.25, 2.75)  # of 2 and of 5 reports before
    assert found["ratio"] == 2.75 / 1.25
    assert found["tanh_epochs_of_seeds"] == {0: 3.25, 1: 2.25, 2: 2.75, 3: None, 4: 2.75}
    assert found["pictures"] == 1000


def test_an_error_is_a_mean_over_a_thousand_pictures_and_counts_in_their_middle() -> None:
    """Reports of 128 and 384 pictures in turns: three make a thousand where two of them are long, or else four."""
    steps = np.cumsum([1, 3, 1, 3, 1, 3])
    errors = [0.5, 0.25, 1.0, 0.0, 0.5, 0.75]
    lines = [{"step": int(s), "epoch": s / 10, "train/top1_error": e} for s, e in zip(steps, errors, strict=True)]
    of_pictures = np.repeat(errors, np.diff(steps, prepend=0))  # of each step's
    expected = [
        ((before + after) / 20, of_pictures[before:after].mean()) for before, after in ((0, 8), (1, 9), (4, 12))
    ]
    np.testing.assert_allclose(figure1.smoothed(lines, 128), expected)


def test_a_target_never_reached_has_no_ratio(tmp_path: Path) -> None:
    folders = [made_up(tmp_path / one, one, 0.01, [0.9, 0.3 if one == "tanh" else 0.2]) for one in ("relu", "tanh")]
    found = figures.run(None, FiguresInvocation(tmp_path / "out", runs=tuple(map(str, folders))))
    assert found["tanh_epochs"] is None and found["ratio"] is None


def test_runs_that_are_not_the_figures(tmp_path: Path) -> None:
    other = tmp_path / "other"
    create_run(other, alexnet.get_config(), Statistics(np.zeros((256, 256, 3), np.float32), np.eye(3)), ("a", "b"))
    with pytest.raises(UserError, match=r"not a run of configs/cifar10\.py"):
        figures.run(None, FiguresInvocation(tmp_path, runs=(str(other),)))
    relu = made_up(tmp_path / "relu", "relu", 0.01, [0.1])
    with pytest.raises(UserError, match="no run with tanh units"):
        figures.run(None, FiguresInvocation(tmp_path, runs=(str(relu),)))
    with pytest.raises(UserError, match="--figure=2 cannot be drawn"):
        figures.run(None, FiguresInvocation(tmp_path, figure="2"))


def test_no_regularisation_of_any_kind() -> None:
    relu, tanh = cifar10.get_config("relu"), cifar10.get_config("tanh")
    assert not relu.optimizer.weight_decay and not relu.augment.crops and not relu.augment.reflections
    assert not relu.augment.lighting_stddev and not relu.model.lrn
    tanh.model.activation, tanh.name = relu.model.activation, relu.name
    assert tanh.to_dict() == relu.to_dict()


def test_its_hidden_layers_start_as_those_of_the_large_network() -> None:
    """Section 5: N(0, 0.01), and biases of 1 behind the first layer; the classes have none to give."""
    net = network_of(cifar10.get_config(), classes=10)
    assert [(layer.name, layer.bias, layer.stddev) for layer in net.layers] == [
        ("conv1", 0.0, 0.01),
        ("conv2", 1.0, 0.01),
        ("conv3", 1.0, 0.01),
        ("fc4", 0.0, 0.01),
    ]


@pytest.mark.slow
def test_relus_are_ahead_on_digits(tmp_path: Path) -> None:
    """The paper's comparison, each at the fastest learning rate of the grid, five seeds."""
    done = launch(
        "--config=configs/cifar10.py",
        "--mode=figures",
        "--figure=1",
        f"--workdir={tmp_path}",
        *("--config.data.name=digits", "--config.evaluate.split=validation"),
        *("--config.train.epochs=8", "--config.train.log_every=2"),
        timeout=1800,
    )
    found = result(done)
    assert found["data"] == "digits" and found["ratio"] > 1.0
    assert len(found["relu_epochs_of_seeds"]) == len(found["tanh_epochs_of_seeds"]) == figure1.SEEDS
    for activation in figure1.ACTIVATIONS:  # a rate at an end of the grid might not be the fastest
        assert min(figure1.RATES) < found[f"{activation}_learning_rate"] < max(figure1.RATES)
    assert (tmp_path / "figure1.png").read_bytes().startswith(b"\x89PNG")


def test_the_entry_point_takes_runs_without_a_config(tmp_path: Path) -> None:
    folders = [made_up(tmp_path / one, one, 0.01, [0.9, 0.2]) for one in ("relu", "tanh")]
    done = launch("--mode=figures", f"--runs={folders[0]},{folders[1]}", f"--workdir={tmp_path / 'out'}")
    assert result(done)["ratio"] == 1.0
    assert "holds no run" in refusal(launch_here("--mode=figures", f"--runs={tmp_path / 'nothing'}"))
