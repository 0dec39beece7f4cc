"""`--mode=figures` where it trains what it draws."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from alexnet_jax.figures import figure1
from alexnet_jax.messages import UserError
from alexnet_jax.modes import Invocation, figures, train
from alexnet_jax.runs.meter import NotFinite
from configs import cifar10


def test_a_rate_that_ends_in_nan_is_left_behind_and_any_other_failure_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[str, bool]] = []

    def run(config: ConfigDict, invocation: Invocation, page: bool = True) -> None:
        trained.append((invocation.workdir.name, page))
        if config.optimizer.learning_rate > 0.05:
            raise UserError("stopped") from NotFinite(3, "the loss of step 3 is nan")
        if config.model.activation == "tanh" and not rest_is_fine:
            raise UserError("no room")

    monkeypatch.setattr(train, "run", run)
    rest_is_fine = True
    folders = figures.search(cifar10.get_config(), tmp_path)
    assert len(folders) == len(figure1.RATES) * len(figure1.ACTIVATIONS) == 14
    assert trained == [(folder.name, False) for folder in folders]  # fourteen pages would be too many
    rest_is_fine = False
    with pytest.raises(UserError, match="no room"):
        figures.search(cifar10.get_config(), tmp_path)
