"""The PyTorch module in docs/weights.md gives the run's logits with an exported state dict."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet_jax.runs.folder import open_run
from configs import alexnet
from tests.conftest import ROOT
from tests.modes.test_import import agree
from tests.weights.networks import exported, probabilities, random_run, squares

# What differs in other networks' modules, as the document has it.
OF_CAFFE = (
    ("F.pad(x, (0, 3, 0, 3))", "x"),
    (
        "norm = lambda x: torch.cat([F.local_response_norm(tower, 5, 5e-4, 0.75, 2.0) for tower in x.chunk(2, 1)], 1)",
        "norm = lambda x: F.local_response_norm(x, 5, 1e-4, 0.75, 1.0)",
    ),
    (" * 0.5", ""),
)
CHANGES: dict[str, tuple[tuple[str, str], ...]] = {
    "": (),
    "caffe": OF_CAFFE,
    "caffenet": (
        *OF_CAFFE,
        ("F.max_pool2d(norm(self.conv1(x).relu()), 3, 2)", "norm(F.max_pool2d(self.conv1(x).relu(), 3, 2))"),
        ("F.max_pool2d(norm(self.conv2(x).relu()), 3, 2)", "norm(F.max_pool2d(self.conv2(x).relu(), 3, 2))"),
    ),
}


def documented_module() -> str:
    (code,) = re.findall(
        r"^class AlexNet\(nn\.Module\):\n(?:(?: .*)?\n)+", (ROOT / "docs" / "weights.md").read_text(), re.M
    )
    return code


def test_the_documented_replacements_fit_the_module() -> None:
    code, text = documented_module(), (ROOT / "docs" / "weights.md").read_text()
    for changes in CHANGES.values():
        changed = code
        for before, after in changes:
            assert before in changed
            changed = changed.replace(before, after)
    assert f"`{OF_CAFFE[1][1]}`" in text


@pytest.mark.slow
@pytest.mark.parametrize("variant", CHANGES)
def test_the_documented_module_gives_the_same_logits(tmp_path: Path, variant: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    import safetensors.torch

    config = alexnet.get_config(variant)
    config.model.classes = 1000
    run = random_run(config, tmp_path / "run")
    exported(run, format="torch", weights=str(tmp_path / "net.safetensors"))
    code = documented_module()
    for before, after in CHANGES[variant]:
        code = code.replace(before, after)
    names: dict[str, Any] = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional}
    exec(code, names)
    net = names["AlexNet"]()
    net.load_state_dict(safetensors.torch.load_file(tmp_path / "net.safetensors"))
    pictures, first = squares(2, 256), (256 - config.data.crop) // 2
    crop = slice(first, first + config.data.crop)
    x = (pictures.astype(np.float32) - open_run(run).statistics.mean_image)[:, crop, crop].transpose(0, 3, 1, 2)
    with torch.no_grad():
        theirs = net.eval()(torch.from_numpy(np.ascontiguousarray(x))).softmax(1).numpy()
    agree(probabilities(run, pictures), theirs)


@pytest.mark.slow
def test_torchvision_itself_takes_a_state_dict_of_its_geometry(tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    import safetensors.torch
    import torch

    config = alexnet.get_config("torchvision")
    config.model.classes = 11
    run = random_run(config, tmp_path / "run")
    exported(run, format="torch", weights=str(tmp_path / "net.safetensors"))
    net = models.alexnet(num_classes=11).eval()
    net.load_state_dict(safetensors.torch.load_file(tmp_path / "net.safetensors"))
    pictures = squares(2, 256)
    x = (pictures[:, 16:240, 16:240] - open_run(run).statistics.mean_image[16:240, 16:240]).transpose(0, 3, 1, 2)
    x = x / np.array(config.data.stddev_rgb).reshape(1, 3, 1, 1)
    with torch.no_grad():
        theirs = net(torch.from_numpy(x.astype(np.float32))).softmax(1).numpy()
    agree(probabilities(run, pictures), theirs)
