"""A faulty jax is refused, and neither the lock nor the allowed range has one."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from alexnet_jax import jax_version
from alexnet_jax.messages import UserError
from tests.conftest import ROOT, launch_anew, refusal

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("package", ["jax", "jaxlib"])
def test_a_jax_that_computes_wrong_sums_is_refused(package: str, tmp_path: Path) -> None:
    wrong = tmp_path / f"{package}-0.10.2.dist-info"
    wrong.mkdir()
    (wrong / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.10.2\n")
    sentence = refusal(launch_anew("--config=configs/digits.py", "--mode=describe", PYTHONPATH=str(tmp_path)))
    for words in (f"{package} 0.10.2", "jax-ml/jax#39103", "0.10.1 is right", "-m pip install jax=="):
        assert words in sentence


def test_the_recommended_jax_is_the_locked_one_and_the_range_has_no_faulty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line[:1].isalpha()]
    locked = {
        requirement.name: str(requirement.specifier)
        for requirement in map(Requirement, lines)
        if requirement.marker is None or requirement.marker.evaluate()
    }
    assert locked["jax"] == locked["jaxlib"] == f"=={jax_version.RIGHT_JAX}"
    for requirement in map(Requirement, PROJECT["dependencies"]):
        if requirement.name in ("jax", "jaxlib"):
            assert jax_version.RIGHT_JAX in requirement.specifier
            assert not any(version in requirement.specifier for version in jax_version.WRONG_JAX)
    monkeypatch.setattr(metadata, "version", lambda package: jax_version.RIGHT_JAX)
    jax_version.require_right_jax()
    monkeypatch.setattr(metadata, "version", lambda package: next(iter(jax_version.WRONG_JAX)))
    with pytest.raises(UserError, match=jax_version.RIGHT_JAX):
        jax_version.require_right_jax()
