"""Continuous integration, with a `make` and Pythons that only say what they are."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from tests.conftest import ROOT


def test_every_promised_python_is_tested_whole(tmp_path: Path) -> None:
    def python(version: str, where: Path) -> Path:  # one that says of itself only which it is
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(
            f'#!/bin/sh\n{sys.executable} -c "import sys; sys.version_info = ({version.replace(".", ", ")}); $2"\n'
        )
        where.chmod(0o755)
        return where

    python("3.11", tmp_path / ".venv" / "bin" / "python")
    versions = ("3.10", "3.11", "3.12", "3.13")
    pyenv = {v: python(v, tmp_path / "pyenv" / "versions" / f"{v}.1" / "bin" / "python") for v in versions}
    make = tmp_path / "bin" / "make"
    make.parent.mkdir()
    make.write_text('#!/bin/sh\necho "$@"\n')
    make.chmod(0o755)
    apt = make.with_name("apt-get")  # of a machine where nothing can be installed, which costs no more than a browser
    apt.write_text("#!/bin/sh\nexit 1\n")
    apt.chmod(0o755)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")

    def tested(script: str) -> list[str]:
        environment = {"PATH": f"{make.parent}:{os.defpath}", "PYENV_ROOT": str(tmp_path / "pyenv")}
        done = subprocess.run([tmp_path / ".ci" / script], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [line for line in done.stdout.splitlines() if line.startswith("test")]

    whole = {v: f"test test-faults PYTHON={pyenv[v]} VENV=.venv/{v}" for v in versions}
    assert tested("other-pythons") == [whole["3.13"], whole["3.12"]]
    assert tested("run") == ["test test-faults", whole["3.13"]]
    python("3.13", tmp_path / ".venv" / "bin" / "python")
    assert tested("run")[1].endswith("VENV=.venv/3.12")


def test_the_hooks_before_a_commit_run_the_pinned_versions() -> None:
    pinned = dict(re.findall(r"^(ruff|mypy)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    ruff, local = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert ruff["rev"] == f"v{pinned['ruff']}"
    assert local["hooks"][0]["name"] == f"mypy {pinned['mypy']}"


def test_the_workflow_runs_what_is_run_here() -> None:
    (job,) = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"].values()
    assert job["steps"][-1] == {"run": "bash .ci/run"}


def test_one_version_stands_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert (ROOT / "CHANGELOG.md").read_text().split("\n## ")[1].startswith(version)
