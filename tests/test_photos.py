"""Few pictures from the layers of a network that has learnt others: from a folder to an error a class."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from configs import photos
from tests.conftest import launch, refusal, result

# The network of configs/digits.py, which learns in seconds.
NARROW = (
    *("--config.model.kernels=(24,64,96,96,64)", "--config.model.units=(256,256)", "--config.data.resize=72"),
    *("--config.data.crop=64", "--config.model.weight_stddev=0.05", "--config.model.hidden_bias=0.1"),
    *("--config.augment.reflections=False", "--config.data.encoding=raw"),
)


def write_digits(folder: Path, numbers: np.ndarray) -> None:
    """Digits as pictures in the folders of their classes."""
    digits = load_digits()
    for number in numbers.tolist():
        name = folder / f"class {digits.target[number]}"
        name.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.round(digits.images[number] * 255 / 16).astype(np.uint8))
        image.resize((72, 72), Image.Resampling.BICUBIC).save(name / f"{number:04d}.png")


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("halves")
    order = np.random.default_rng(0).permutation(len(load_digits().target))
    write_digits(folder / "first", order[::2])
    write_digits(folder / "photos", order[1::2])
    return folder


def trained(folder: Path, half: str, run: str, *flags: str) -> tuple[dict[str, Any], str]:
    where = (f"--config.data.manual_dir={folder / half}", f"--config.data.data_dir={folder / 'data' / half}")
    done = launch("--config=configs/photos.py", *NARROW, *where, f"--workdir={folder / run}", *flags)
    return result(done), done.stderr


def test_one_epoch_from_another_half_beats_one_from_nothing(halves: Path) -> None:
    anew = ("--config.train.init_after=", "--config.schedule.kind=constant")
    trained(halves, "first", "donor", *anew, "--config.train.epochs=8")
    one_epoch = "--config.train.epochs=1"
    tuned, said = trained(halves, "photos", "tuned", f"--config.train.init_from={halves / 'donor'}", one_epoch)
    from_nothing, _ = trained(halves, "photos", "anew", *anew, one_epoch)
    assert "conv1, conv2, conv3, conv4, conv5, fc6, fc7; started anew: fc8" in said
    assert "WARNING" not in said
    assert tuned["top1_error"] < 0.5 * from_nothing["top1_error"]

    done = launch("--mode=evaluate", f"--workdir={halves / 'tuned'}")
    found = result(done)
    assert found["top1_error"] == tuned["top1_error"]
    assert sum(one["errors"] for one in found["worst_classes"]) == round(found["top1_error"] * found["examples"])
    assert sum(one["examples"] for one in found["worst_classes"]) == found["examples"]
    shares = [one["errors"] / one["examples"] for one in found["worst_classes"]]
    assert shares == sorted(shares, reverse=True) and len(shares) == 10
    assert done.stderr.count(" of ") >= 10 and "errors a class, the worst first:" in done.stderr

    _, said = trained(
        halves,
        "photos",
        "other",
        f"--config.train.init_from={halves / 'donor'}",
        "--config.train.steps=1",
        "--config.model.lrn_k=1.0",
    )
    assert "WARNING: the network of" in said and "model.lrn_k is 1.0 here and 2.0 there" in said


def test_a_run_of_photos_is_called_as_their_folder_and_asks_for_a_donor(halves: Path, monkeypatch: Any) -> None:
    sentence = refusal(launch("--config=configs/photos.py", f"--config.data.manual_dir={halves / 'photos'}"))
    assert "first run python launch.py --config=configs/alexnet.py" in sentence
    assert not (Path("runs") / "photos").exists()


@pytest.mark.parametrize("variant", ["", *photos.VARIANTS])
def test_every_layer_has_a_rate_and_the_base_s_network(variant: str) -> None:
    from alexnet_jax.runs.config import check_config, network_of
    from configs import alexnet

    ours, base = photos.get_config(variant), alexnet.get_config(variant)
    check_config(ours)
    assert network_of(ours, 1000) == network_of(base, 1000)
    for field in ("square", "mean_rgb", "stddev_rgb", "crop", "resize"):
        assert ours.data[field] == base.data[field]
