"""Messages for a person: progress, JSON that every reader accepts, and mistakes on the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet_jax import command_line, messages
from alexnet_jax.files import new_file
from alexnet_jax.inference.features_folder import about
from alexnet_jax.messages import UserError
from alexnet_jax.modes import CommunicationInvocation, communication
from configs import alexnet
from tests.conftest import launch, launch_here, narrowed, refusal, result

CONFIG = "--config=configs/digits.py"


def test_a_log_gets_a_line_every_ten_seconds(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(messages.time, "monotonic", lambda: now[0])
    with messages.Advance("preparing train", 5000, "pictures", done=1000) as advance:
        for seconds in (4, 5, 2, 9, 1):
            now[0] += seconds
            advance.add(100)
    # After 11 s 300 are done, after 21 s 500.
    assert capsys.readouterr().err.splitlines() == [
        "preparing train: 1,300 of 5,000 pictures, 27.3 a second",
        "preparing train: 1,500 of 5,000 pictures, 23.8 a second",
    ]


def test_work_that_takes_less_than_ten_seconds_prints_no_progress(capsys: Any) -> None:
    with messages.Advance("evaluation", None, "pictures") as advance:
        advance.add(100)
    assert capsys.readouterr().err == ""


def test_names_that_are_not_utf_8_become_json_that_every_reader_accepts() -> None:
    text = messages.as_json({"file": "a\udcff.jpg", "among": [("é", 1.5)], "none": None})
    assert json.loads(text.encode("ascii")) == {"file": "a\\xff.jpg", "among": [["é", 1.5]], "none": None}
    json.loads(text)["file"].encode("utf-8")


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--config.train.batch_size=abc", "--config.train.batch_size is 'abc' and must be a whole number"),
        ("--config.model.weight_stddev=abc", "--config.model.weight_stddev is 'abc' and must be a number"),
        ("--config.model.lrn=abc", "--config.model.lrn is 'abc' and must be true or false"),
        ("--config.train.lr=0.1", "the nearest is --config.optimizer.learning_rate"),
        ("--config.train.wd=0.1", "the nearest is --config.optimizer.weight_decay"),
        ("--config.batch_size=8", "the nearest is --config.train.batch_size"),
        ("--config.model.kernel=8", "the nearest is --config.model.kernels"),
        ("--config.train.seed", "--config.train.seed has no value; give --config.train.seed=VALUE"),
        ("--noconfig.train.seed", "--noconfig is only for a field that is true or false"),
        ("--noconfig.model.lrn=1", "--noconfig is only for a field that is true or false, and takes no value"),
        ("--norestart=1", "norestart=1 does not take an argument"),
        ("--wrkdir=a", "--wrkdir is not a flag; the nearest is --workdir; see --help"),
    ],
)
def test_a_flag_that_is_wrong_is_a_sentence(flag: str, sentence: str) -> None:
    assert sentence in refusal(launch_here("--config=configs/digits.py", flag))


def test_places_that_cannot_be_are_sentences_without_numbers_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none was not made by --mode=features \(features.json: No such file or dir"):
        about(tmp_path / "none")
    with pytest.raises(UserError, match="is a folder; name a file in it"):
        with new_file(f"{tmp_path}/x.csv/", overwrite=False):
            pass
    assert not list(tmp_path.iterdir())


def test_communication_says_that_it_counts_one_group_of_devices(capsys: Any, quick_compile: None) -> None:
    config = narrowed(alexnet.get_config())
    config.train.batch_size = config.evaluate.batch_size = 8
    config.mesh.data, config.mesh.model = 2, 2
    found = communication.run(config, CommunicationInvocation(Path("unused")))
    assert "2 pairs of towers" in found["groups"] and "over data" in found["groups"]
    assert found["groups"] in capsys.readouterr().err
    config.mesh.data = 1
    assert "groups" not in communication.run(config, CommunicationInvocation(Path("unused")))
    assert np.prod(list(found["mesh"].values())) == 4


def test_a_field_that_is_given_twice_has_the_last_value() -> None:
    twice = ("--config.schedule.boundaries=(20,)", "--config.train.seed=1", "--config.schedule.boundaries=(10,)")
    changes, files = command_line._changes_and_files([*twice, "--", "--config.train.seed=2"])
    assert changes == {"schedule.boundaries": "(10,)", "train.seed": "1"}
    assert files == ["--config.train.seed=2"]


def test_flags_of_other_modes_and_a_missing_figure_are_refused(tmp_path: Path) -> None:
    at = f"--workdir={tmp_path / 'run'}"
    assert "--restart belongs to --mode=train" in refusal(launch_here("--mode=evaluate", "--restart", CONFIG, at))
    said = refusal(launch_here("--mode=figures", at))
    assert "if no --figure is given" in said and "choose from 3, 4, confusion, curves, page" in said
    assert "holds no run" in refusal(launch_here("--mode=figures", "--figure=curves", f"--runs={tmp_path / 'run'},"))


def test_a_fields_value_may_follow_without_an_equals_sign() -> None:
    argv = ["--config.train.seed", "3", "--config.model.lrn", "a.jpg", "-config.train.steps=4", "--", "--config.x", "1"]
    changes, files = command_line._changes_and_files(command_line._with_equals(argv))
    assert changes == {"train.seed": "3", "model.lrn": "true", "train.steps": "4"}
    assert files == ["a.jpg", "--config.x", "1"]
    assert command_line._changes_and_files(["--noconfig.model.lrn", "-"]) == ({"model.lrn": "false"}, ["-"])
    for after in ((), ("--workdir=runs/digits", "a.jpg"), ("--", "a.jpg")):  # no file becomes the field's value
        said = refusal(launch_here("--mode=predict", "--config.data.data_dir", *after))
        assert "--config.data.data_dir has no value; give --config.data.data_dir=VALUE" in said
    widths = ("--config.model.kernels=(8,16,16,16,8)", "--config.model.kernels=(4,8,8,8,4)")
    found = result(launch("--config=configs/digits.py", "--mode=describe", *widths))
    assert found["layers"][0]["output_shape"][2] == 4


def test_a_config_that_lacks_a_field_is_one_sentence_whatever_the_flags_change(tmp_path: Path) -> None:
    lacking = "from configs import digits\ndef get_config():\n  c = digits.get_config().unlock()\n  {}\n  return c\n"
    for line, field in (("del c.train.steps", "train.steps"), ("del c['data']", "data."), ("del c['name']", "name")):
        (tmp_path / "own.py").write_text(lacking.format(line))
        for flags in (("--mode=describe", "--config.train.steps=3"), ("--mode=evaluate", f"--workdir={tmp_path}")):
            said = refusal(launch_here(f"--config={tmp_path / 'own.py'}", *flags))
            assert f"config.{field}" in said and "is missing; begin your config with" in said
