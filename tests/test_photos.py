"""Pictures of one's own: from a folder to an error a class, from nothing and from another network's layers."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from alexnet_jax.config.config import check_config, flatten, last_step_of, network_of, recipe_of
from alexnet_jax.config.fields import PICTURE_FIELDS
from benchmarks import own_pictures
from configs import alexnet, photos
from tests.conftest import launch, launch_here, refusal, result

# A network that compiles in seconds.
NARROW = (
    *("--config.model.kernels=(8,16,16,16,8)", "--config.model.units=(16,16)", "--config.data.resize=72"),
    *("--config.data.crop=64", "--config.model.dropout=0.0", "--config.model.weight_stddev=0.15"),
)


def write_digits(folder: Path, numbers: np.ndarray) -> None:
    """Digits as pictures in the folders of their classes."""
    digits = load_digits()
    for number in numbers.tolist():
        name = folder / f"class {digits.target[number]}"
        name.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.round(digits.images[number] * 255 / 16).astype(np.uint8))
        image.resize((72, 72), Image.Resampling.BICUBIC).save(name / f"{number:04d}.png")


def mean_of_classes(found: dict[str, Any]) -> float:
    """The mean of the classes' own errors."""
    return float(np.mean([one["errors"] / one["examples"] for one in found["worst_classes"]]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    own_pictures.few(folder / "photos")
    broken = folder / "photos/drawing/0003.jpg"
    broken.write_bytes(broken.read_bytes()[:2000])
    return folder


def trained(folder: Path, run: str, *flags: str) -> tuple[dict[str, Any], str]:
    where = (f"--config.data.manual_dir={folder / 'photos'}", f"--config.data.data_dir={folder / 'data'}")
    done = launch("--config=configs/photos.py", *where, f"--workdir={folder / run}", *flags)
    return result(done), done.stderr


@pytest.fixture(scope="module")
def from_nothing(folder: Path) -> tuple[dict[str, Any], str]:
    return trained(folder, "first", *NARROW, "--config.train.steps=120", "--config.evaluate.least_steps=40")


def test_three_classes_are_learnt_from_nothing(folder: Path, from_nothing: tuple[dict[str, Any], str]) -> None:
    learnt, said = from_nothing
    assert "1 picture could not be used" in said  # one broken file of 64 ends nothing
    assert said.count("validation: loss") == 3  # 42, 84 and the last: at ends of epochs, of 7 steps each
    assert "top-5" not in said  # of three classes all are among five
    found = result(launch("--mode=evaluate", f"--workdir={folder / 'first'}"))
    assert found["top1_error"] == learnt["top1_error"]
    assert sum(one["examples"] for one in found["worst_classes"]) == found["examples"] == 6
    assert mean_of_classes(found) <= 0.34  # of guessing it is 0.67


def test_fine_tuning_takes_the_network_of_the_run_that_it_starts_from(
    folder: Path, from_nothing: tuple[dict[str, Any], str]
) -> None:
    given = f"--config.train.init_from={folder / 'first'}"
    _, said = trained(folder, "tuned", given, "--config.train.steps=2")
    assert "conv1, conv2, conv3, conv4, conv5, fc6, fc7; started anew: fc8" in said
    assert "WARNING" not in said
    _, said = trained(folder, "other", given, "--config.train.steps=1", "--config.model.lrn_k=1.0")
    assert "WARNING: the network of" in said and "model.lrn_k is 1.0 here and 2.0 there" in said
    wide = ("--config.model.kernels=(12,24,24,24,12)", "--config.model.units=(24,24)")
    config = ("--config=configs/photos.py", f"--config.data.manual_dir={folder / 'photos'}", *wide)
    sentence = refusal(launch_here(*config, given, f"--workdir={folder / 'none'}"))
    assert "shares no layer shape with this net" in sentence and not (folder / "none").exists()


def test_a_run_of_photos_is_called_as_their_folder_and_a_variant_asks_for_a_donor(folder: Path) -> None:
    sentence = refusal(launch_here("--config=configs/photos.py:caffe", f"--config.data.manual_dir={folder / 'photos'}"))
    assert "first run python launch.py --config=configs/alexnet.py:caffe" in sentence
    assert not (Path("runs") / "photos").exists()


@pytest.mark.parametrize("variant", photos.VARIANTS)
def test_every_layer_has_a_rate_and_the_base_s_network(variant: str) -> None:
    ours, base = photos.get_config(variant), alexnet.get_config(variant)
    check_config(ours)
    assert network_of(ours, 1000) == network_of(base, 1000)
    for field in PICTURE_FIELDS:
        assert flatten(ours)[field] == flatten(base)[field]


@pytest.mark.parametrize(
    ("pictures", "steps"), [(10, 6000), (58, 6000), (540, 6000), (2700, 20_220), (90_000, 200_000)]
)
def test_how_long_is_trained_by_the_number_of_pictures(pictures: int, steps: int) -> None:
    config = photos.get_config()
    check_config(config)
    an_epoch = pictures // config.train.batch_size
    assert last_step_of(config, an_epoch) == steps
    drops = recipe_of(config, 3, an_epoch).schedule.boundaries
    np.testing.assert_allclose(drops, (2 * steps / 3, 7 * steps / 8), atol=1)  # shares of the whole, whatever it is


@pytest.mark.slow
def test_one_epoch_from_another_half_beats_one_from_nothing(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(len(load_digits().target))
    digits = (*("--config.data.resize=72", "--config.data.crop=64"), "--config.augment.reflections=False")
    write_digits(tmp_path / "photos", order[::2])
    trained(tmp_path, "donor", *digits, "--config.train.steps=2000")
    shutil.move(tmp_path / "photos", tmp_path / "first")
    write_digits(tmp_path / "photos", order[1::2])
    another = ("--config.train.steps=101", f"--config.data.prepared_dir={tmp_path / 'second'}")
    flag = f"--config.train.init_from={tmp_path / 'donor'}"
    tuned, _ = trained(tmp_path, "tuned", flag, "--config.augment.reflections=False", *another)
    anew, _ = trained(tmp_path, "anew", *digits, *another)
    assert tuned["top1_error"] < 0.5 * anew["top1_error"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most"), [("few", 0.05), ("digits", 0.25), ("rings", 0.15)])
def test_the_three_collections_are_learnt_by_the_commands_of_readme(tmp_path: Path, name: str, most: float) -> None:
    """In under 3, 10 and 15 minutes on two cores; how long depends on the machine, and is not asked here."""
    own_pictures.COLLECTIONS[name](tmp_path / name)
    for seed in ("1", "2"):
        assert own_pictures.measured(tmp_path, name, seed)["error"] <= most, seed
