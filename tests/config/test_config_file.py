"""Config files are found by their names, or the error says what to name."""

from pathlib import Path

import pytest

from alexnet_jax.config import config_file
from alexnet_jax.messages import UserError
from configs import alexnet


def test_a_config_that_nobody_named_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = alexnet.get_config("caffe").to_dict()
    assert config_file.of_checkout("configs/alexnet.py:caffe").to_dict() == expected
    monkeypatch.chdir(tmp_path)
    assert config_file.of_checkout("configs/alexnet.py:caffe").to_dict() == expected
    monkeypatch.setattr(config_file, "CHECKOUT", tmp_path)  # as if only the package were installed
    with pytest.raises(UserError, match=r"--config=CHECKOUT/configs/alexnet\.py:caffe"):
        config_file.of_checkout("configs/alexnet.py:caffe")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "alexnet.py").write_text("get_config = lambda variant: 5\n")
    with pytest.raises(UserError, match="no get_config that returns a ConfigDict"):
        config_file.of_checkout("configs/alexnet.py:caffe")
