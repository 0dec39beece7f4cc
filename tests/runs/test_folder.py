"""The files of a run's folder beside checkpoints and metrics: which may change, and how."""

import json
import os
from pathlib import Path

import pytest

from alexnet_jax.config.config import load_saved
from alexnet_jax.messages import UserError
from alexnet_jax.runs.checkpoint_integrity import changed_files, let_change
from alexnet_jax.runs.folder import Run, open_run, set_run_aside, update_config
from tests.conftest import small_config
from tests.figures.made_up import made_up


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(made_up(tmp_path / "run", small_config()))


def test_config_json_becomes_the_resumed_config(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    config = small_config()
    update_config(run, config)
    assert not capfd.readouterr().err
    config.train.steps, config.data.manual_dir, config.train.init_from = 44, "/moved", "/elsewhere"
    update_config(run, config)
    assert capfd.readouterr().err == "train.steps is 44 from here on and 0 until now\n"
    now = load_saved(run.workdir)
    assert (now["train"]["steps"], now["data"]["manual_dir"]) == (44, "/moved")
    assert now["train"]["init_from"] == ""  # what it started from stays
    assert changed_files(run.workdir) == []
    (run.workdir / "config.json").write_text(json.dumps({**now, "name": "other"}))
    assert changed_files(run.workdir) == ["config.json"]


def test_a_process_killed_during_the_update_leaves_no_file_that_seems_damaged(run: Run, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    let_change(run.workdir, "config.json", tmp_path / "new")
    assert changed_files(run.workdir) == []
    os.replace(tmp_path / "new", run.workdir / "config.json")
    assert changed_files(run.workdir) == []
    (run.workdir / "classes.txt").write_text("a\nb\n")
    assert changed_files(run.workdir) == ["classes.txt"]


def test_setting_aside_a_linked_run_moves_the_run_and_keeps_the_link(run: Run, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(run.workdir)
    set_run_aside(link)
    assert link.is_symlink() and os.listdir(link) == []
    assert open_run(tmp_path / "run.1").classes == run.classes


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "classes.txt", "run.txt"])
def test_a_pipe_among_the_files_is_named_and_not_read(run: Run, name: str) -> None:
    (run.workdir / name).unlink(missing_ok=True)
    os.mkfifo(run.workdir / name)
    with pytest.raises(UserError, match=rf"{name}' is neither a file nor a folder; move it away"):
        open_run(run.workdir)
