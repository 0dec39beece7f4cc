"""A file that does not fit the network is refused in one sentence, runs no code and leaves nothing behind."""

import json
import os
import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from alexnet_jax.messages import UserError
from tests.conftest import launch_here, refusal
from tests.weights.files import caffemodel, random_layers
from tests.weights.networks import exported, imported, narrow, random_run


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A complete file of a narrow bvlc_alexnet."""
    return caffemodel(tmp_path / "net.caffemodel", random_layers(), "layers", ("LRN", "Pooling"))


def refused(workdir: Path, said: str, **flags: Any) -> None:
    """Requires that the import fails with this message and changes no file."""
    before = sorted(workdir.parent.rglob("*"))
    with pytest.raises(UserError, match=said):
        imported(narrow("caffe" if flags["format"] == "caffe" else "torchvision"), workdir, **flags)
    assert sorted(workdir.parent.rglob("*")) == before


def test_a_folder_that_holds_a_run_or_anything_is_left_alone(tmp_path: Path, weights: Path) -> None:
    flags = {"format": "caffe", "weights": str(weights)}
    (tmp_path / "run").mkdir()
    imported(narrow("caffe"), tmp_path / "run", **flags)  # an empty folder will do
    config = (tmp_path / "run" / "config.json").read_bytes()
    refused(tmp_path / "run", "holds a run already", **flags)
    assert (tmp_path / "run" / "config.json").read_bytes() == config
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    refused(tmp_path / "other", "holds files of something else", **flags)


def test_weights_of_another_network_name_the_first_layer_that_differs(tmp_path: Path, weights: Path) -> None:
    layers = random_layers()
    layers["conv4"] = (np.zeros((16, 16, 3, 3), np.float32), layers["conv4"][1])
    layers["fc7"] = (np.zeros((20, 20), np.float32), layers["fc7"][1])
    caffemodel(tmp_path / "other.caffemodel", layers, "layer")
    said = r"'conv4' has a kernel of shape \(16, 16, 3, 3\) where conv4 of alexnet:caffe has \(16, 8, 3, 3\)"
    refused(tmp_path / "run", said, format="caffe", weights=str(tmp_path / "other.caffemodel"))

    vgg = {"features.0": (64, 3, 3, 3), "features.2": (64, 64, 3, 3), "classifier.0": (10, 64)}
    tensors = {f"{name}.weight": np.zeros(shape, np.float32) for name, shape in vgg.items()}
    tensors |= {f"{name}.bias": np.zeros(shape[0], np.float32) for name, shape in vgg.items()}
    save_file(tensors, tmp_path / "vgg.safetensors")
    said = r"'features.0' has a kernel of shape \(64, 3, 3, 3\) where conv1 of alexnet:torchvision has \(8, 3, 11, 11\)"
    refused(tmp_path / "run", said, format="torchvision", weights=str(tmp_path / "vgg.safetensors"))
    save_file({"conv1.weight": tensors["features.0.weight"]}, tmp_path / "resnet.safetensors")
    said = "another network: it has no conv1.bias"
    refused(tmp_path / "run", said, format="torchvision", weights=str(tmp_path / "resnet.safetensors"))


def test_settings_in_the_file_that_are_not_the_network_s_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "net.caffemodel"
    run = random_run(narrow("caffe"), tmp_path / "run")
    exported(run, format="caffe", weights=str(file))
    imported(narrow("caffe"), tmp_path / "again", format="caffe", weights=str(file))
    k2 = r"no layer like norm1_scale \(Power|its norm1 \(LRN .* alpha 0.0001.*\) is here norm1 \(LRN .* alpha 5e-05"
    for model, said in (
        ({"lrn_k": 2.0}, k2),
        ({"lrn_alpha": 2e-4}, "its norm1 .* alpha 0.0001, .* is here norm1 .* alpha 0.0002"),
        ({"lrn_across_towers": False}, "is here|no layer like"),
        ({"dropout_scaling": "test"}, r"no layer like dropout6 \(Power scale 0.5"),
    ):
        with pytest.raises(UserError, match=said):
            imported(narrow("caffe", **model), tmp_path / "other", format="caffe", weights=str(file))


def test_damaged_files_are_refused(tmp_path: Path, weights: Path) -> None:
    whole = weights.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:length])
        refused(tmp_path / "run", "--weights=", format="caffe", weights=str(tmp_path / "cut"))
    tensors = {"features.0.weight": np.zeros((8, 3, 11, 11), np.float32)}
    save_file(tensors, tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    for content in (b"", whole[:7], whole[:100], whole[:-1], struct.pack("<Q", 2**40) + whole[8:]):
        (tmp_path / "cut.safetensors").write_bytes(content)
        for kind in ("torchvision", "safetensors"):
            said = "not a complete .safetensors file"
            refused(tmp_path / "run", said, format=kind, weights=str(tmp_path / "cut.safetensors"))
    for kind in ("caffe", "torchvision", "safetensors"):
        for path in (tmp_path / "absent.safetensors", tmp_path):
            refused(tmp_path / "run", "--weights=", format=kind, weights=str(path))
    said = "was not written by --mode=export"
    refused(tmp_path / "run", said, format="safetensors", weights=str(tmp_path / "whole.safetensors"))


def test_own_files_with_another_config_or_other_tensors_inside_are_refused(tmp_path: Path) -> None:
    run = random_run(narrow("torchvision", 72, 63), tmp_path / "run")
    file, changed = tmp_path / "net.safetensors", tmp_path / "changed.safetensors"
    exported(run, format="safetensors", weights=str(file))
    tensors = load_file(file)
    with safe_open(file, "numpy") as opened:
        said = json.loads(opened.metadata()["alexnet_jax"])

    def refuse(what: str, config: Any = said["config"], classes: Any = said["classes"], **changes: Any) -> None:
        new = {name: changes.get(name.replace("/", "_"), tensor) for name, tensor in tensors.items()}
        new = {name: np.ascontiguousarray(tensor) for name, tensor in new.items() if tensor is not None}
        save_file(new, changed, {"alexnet_jax": json.dumps({"config": config, "classes": classes})})
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(UserError, match=what):
            imported(None, tmp_path / "again", format="safetensors", weights=str(changed))
        assert sorted(tmp_path.rglob("*")) == before

    conv2 = tensors["conv2/kernel"]
    refuse(r"its conv2 has .*'kernel': \(5, 5, 8, 11\).* where alexnet:torchvision has", conv2_kernel=conv2[..., 1:])
    refuse("its fc8 has", classes=said["classes"][1:])
    refuse("not a complete .safetensors file", mean_image=None)
    refuse(r"mean image has the shape \(71, 72, 3\)", mean_image=tensors["mean_image"][1:])
    refuse("lacks a config", config=[])
    refuse("lacks a config", config={**said["config"], "data": 5})
    refuse(
        "config.model.towers is 3 and must be 1 or 2",
        config={**said["config"], "model": {**said["config"]["model"], "towers": 3}},
    )
    model = {**said["config"]["model"], "kernels": [8, 12, 16, 16]}
    refuse("config.model.kernels", config={**said["config"], "model": model})
    optimizer = {name: value for name, value in said["config"]["optimizer"].items() if name != "learning_rate"}
    refuse("config.optimizer.learning_rate is missing", config={**said["config"], "optimizer": optimizer})
    refuse("config.optimizer is not a known field", config={**said["config"], "optimizer": {}})


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, number: float) -> None:
    layers = random_layers()
    layers["fc6"][0][3, 4] = number
    caffemodel(tmp_path / "net.caffemodel", layers, "layer")
    said = "the kernel of fc6 has NaN or infinity"
    refused(tmp_path / "run", said, format="caffe", weights=str(tmp_path / "net.caffemodel"))


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_would_run_code_runs_none(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    made = tmp_path / "made"
    content = {"features.0.weight": Payload(made)}
    pickle.loads(pickle.dumps(content))
    assert made.exists()
    made.unlink()
    torch.save(content, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(content))
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("zip.pth", "plain.pth", "old.pth"):
        refused(tmp_path / "run", "would run code", format="torchvision", weights=str(tmp_path / name))
        assert not made.exists()
    torch.save({"features.0.weight": "a text"}, tmp_path / "text.pth")
    refused(tmp_path / "run", "holds no state dict", format="torchvision", weights=str(tmp_path / "text.pth"))
    (tmp_path / "cut.pth").write_bytes((tmp_path / "text.pth").read_bytes()[:-100])
    refused(tmp_path / "run", "damaged", format="torchvision", weights=str(tmp_path / "cut.pth"))


def test_without_pytorch_a_pth_names_the_extra_and_the_other_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    made = tmp_path / "made"
    (tmp_path / "net.pth").write_bytes(pickle.dumps(Payload(made)))
    said = r"alexnet_jax\[torch\].*\.safetensors"
    refused(tmp_path / "run", said, format="torchvision", weights=str(tmp_path / "net.pth"))
    assert not made.exists()


def test_a_folder_that_cannot_be_written_to_the_end_leaves_nothing(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, *_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("alexnet_jax.runs.create.Checkpoints.save", full)
    refused(tmp_path / "run", "No space left on device", format="caffe", weights=str(weights))


def test_flags_are_looked_at(tmp_path: Path, weights: Path) -> None:
    run, torch = tmp_path / "run", {"format": "torchvision"}
    refused(run, "cannot be imported; give one of caffe, torchvision, safetensors", format="onnx", weights="a")
    refused(run, "--weights is missing", **torch)
    refused(run, "--mean is only for --format=caffe", weights="a", mean="1,2,3", **torch)
    (tmp_path / "names").write_text("one\ntwo\n")
    refused(run, "2 names", format="caffe", weights=str(weights), classes=str(tmp_path / "names"))


def test_the_command_line_says_it_in_one_sentence(tmp_path: Path, weights: Path) -> None:
    flags = ("--mode=import", f"--weights={weights}", f"--workdir={tmp_path / 'run'}")
    said = refusal(launch_here(*flags, "--format=caffe"))
    assert "where conv1 of alexnet:caffe has (96, 3, 11, 11)" in said
    assert "--format is missing" in refusal(launch_here(*flags))
    assert not (tmp_path / "run").exists()
