"""`--mode=figures --figure=1`, which trains the runs that it draws."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from alexnet_jax.loop.meter import NotFinite
from alexnet_jax.messages import UserError
from alexnet_jax.modes import Invocation, figures, train
from configs import cifar10


def test_a_rate_that_ends_in_nan_is_left_behind_and_any_other_failure_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[str, float, int, bool]] = []

    def run(config: ConfigDict, invocation: Invocation, page: bool = True) -> None:
        assert invocation.workdir == tmp_path
        trained.append((config.model.activation, config.optimizer.learning_rate, config.train.seed, page))
        if config.optimizer.learning_rate > 0.05:
            raise UserError("stopped") from NotFinite(3, "the loss of step 3 is nan")
        if config.model.activation == "tanh":
            raise UserError("no room")

    monkeypatch.setattr(train, "run", run)
    for rate in (0.01, 0.1):
        figures._train(cifar10.get_config(), tmp_path, "relu", rate, 4)
    with pytest.raises(UserError, match="no room"):
        figures._train(cifar10.get_config(), tmp_path, "tanh", 0.01, 4)
    # Twenty pages would be too many.
    assert trained == [("relu", 0.01, 4, False), ("relu", 0.1, 4, False), ("tanh", 0.01, 4, False)]
