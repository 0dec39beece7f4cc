"""Exported weights compute the same in other programs as in the run, and come back bit for bit."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict
from safetensors.numpy import load_file

from alexnet_jax.messages import UserError
from alexnet_jax.runs.folder import open_run, own_recipe
from alexnet_jax.weights.axis_order import MapsFirstLayer
from configs import alexnet_2012
from tests.conftest import NARROW_KERNELS, NARROW_UNITS
from tests.modes.test_import import agree, of_opencv
from tests.weights.maps_first import maps_first
from tests.weights.networks import exported, imported, narrow, parameters, probabilities, random_run, squares


def same(one: Path, other: Path) -> None:
    """Requires that two runs have the same weights, bit for bit."""
    ours, theirs = parameters(one), parameters(other)
    assert ours.keys() == theirs.keys()
    for layer in ours:
        for kind in ("kernel", "bias"):
            assert np.array_equal(ours[layer][kind], theirs[layer][kind]), layer


def same_preprocessing(one: Path, other: Path) -> None:
    ours, theirs = open_run(one).statistics, open_run(other).statistics
    assert np.array_equal(ours.mean_image, theirs.mean_image)
    assert np.array_equal(ours.rgb_covariance, theirs.rgb_covariance)


PAPER: dict[str, Any] = {"side": 72, "crop": 64}  # 15, 7, 3 and 1 positions; no pooling window reaches over the edge


def of_2012(variant: str = "", crop: int = 64) -> ConfigDict:
    config = alexnet_2012.get_config(variant)
    config.model.kernels, config.model.units = NARROW_KERNELS, NARROW_UNITS
    config.data.resize, config.data.crop = crop + 8, crop
    return config


CONFIGS = {
    "paper": lambda: narrow(**PAPER),
    "source": of_2012,  # normalises before it activates, and within maps
    # The last pooling window reaches over the edge.
    "source without overlap": lambda: of_2012("nonoverlapping_pooling", 96),
    "caffe": lambda: narrow("caffe"),
    "caffenet": lambda: narrow("caffenet"),
    "torchvision": lambda: narrow("torchvision", 72, 63),
    "one GPU": lambda: narrow("one_gpu", **PAPER),
    "rest": lambda: narrow(side=80, crop=72),  # 17, 8, 8 and 3 positions: the second pooling leaves one out
    "tanh": lambda: narrow("tanh", **PAPER),
    "sixth": lambda: narrow(**PAPER, sixth_convolution=8, removed="conv3"),
}


QUICK = ("paper", "source", "torchvision", "rest")


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in sorted({*CONFIGS} - {*QUICK}))]
)
def test_a_caffemodel_gives_the_same_probabilities_in_opencv_and_comes_back_to_the_bit(
    tmp_path: Path, name: str
) -> None:
    config = CONFIGS[name]()
    run = random_run(config, tmp_path / "run")
    file = tmp_path / "net.caffemodel"
    found = exported(run, format="caffe", weights=str(file))
    assert found == {"weights": str(file), "bytes": file.stat().st_size}
    pictures, text = squares(4, config.data.resize), (tmp_path / "net.prototxt").read_text()
    scale = np.asarray(own_recipe(open_run(run)).channel_scale or (1, 1, 1), np.float32)
    theirs = of_opencv(file, text, pictures * scale, open_run(run).statistics.mean_image * scale, config.data.crop)
    agree(probabilities(run, pictures), theirs)
    assert text.startswith("# data: ") and ("then over 57.375, 57.12, 58.395" in text) == (name == "torchvision")
    flags = {"format": "caffe", "weights": str(file), "mean": str(tmp_path / "net.binaryproto")}
    imported(config, tmp_path / "again", **flags)
    same(run, tmp_path / "again")
    assert np.array_equal(open_run(run).statistics.mean_image, open_run(tmp_path / "again").statistics.mean_image)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            lambda: narrow("no_cross", **PAPER),
            "fc6 of this network reads only its own tower, and Caffe's InnerProduct",
        ),
    ],
)
def test_a_network_that_caffe_cannot_express_is_refused(tmp_path: Path, config: Any, said: str) -> None:
    run = random_run(config(), tmp_path / "run")
    with pytest.raises(UserError, match=said):
        exported(run, format="caffe", weights=str(tmp_path / "net.caffemodel"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("name", ["paper", "torchvision", "no_cross"])
def test_own_weights_come_back_whole_and_need_no_config(tmp_path: Path, name: str) -> None:
    config = CONFIGS[name]() if name in CONFIGS else narrow(name, **PAPER)
    run = random_run(config, tmp_path / "run")
    file = tmp_path / "net.safetensors"
    exported(run, format="safetensors", weights=str(file))
    found = imported(None, tmp_path / "again", format="safetensors", weights=str(file))
    assert found["parameters"] == sum(tensor.size for key, tensor in load_file(file).items() if "/" in key)
    same(run, tmp_path / "again")
    same_preprocessing(run, tmp_path / "again")
    assert open_run(tmp_path / "again").config == open_run(run).config
    assert open_run(tmp_path / "again").classes == open_run(run).classes
    exported(tmp_path / "again", format="safetensors", weights=str(tmp_path / "again.safetensors"))
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def test_own_weights_with_another_config_or_other_names(tmp_path: Path) -> None:
    run = random_run(narrow(**PAPER), tmp_path / "run")
    flags = {"format": "safetensors", "weights": str(tmp_path / "net.safetensors")}
    exported(run, **flags)
    with pytest.raises(UserError, match=r"model.lrn_k is 1.5 in --config and 2.0 in the file"):
        imported(narrow(**PAPER, lrn_k=1.5), tmp_path / "again", **flags)
    (tmp_path / "names").write_text("".join(f"{i}\n" for i in range(7)))
    imported(narrow(**PAPER), tmp_path / "again", classes=str(tmp_path / "names"), **flags)
    assert open_run(tmp_path / "again").classes == tuple("0123456")


@pytest.mark.parametrize("name", ["paper", "caffenet", "torchvision"])
def test_a_state_dict_computes_the_same_in_numpy_and_comes_back_to_the_bit(tmp_path: Path, name: str) -> None:
    config = CONFIGS[name]()
    run = random_run(config, tmp_path / "run")
    file = tmp_path / "net.safetensors"
    exported(run, format="torch", weights=str(file))
    tensors, recipe = load_file(file), own_recipe(open_run(run))
    names = dict.fromkeys(key.rpartition(".")[0] for key in tensors)
    order = sorted(names, key=lambda one: int(one.rpartition(".")[2])) if name == "torchvision" else sorted(names)
    order.sort(key=lambda one: not one.startswith(("conv", "features")))
    assert order[0] == ("features.0" if name == "torchvision" else "conv1") and len(order) == 8
    layers = [MapsFirstLayer(one, tensors[f"{one}.weight"], tensors[f"{one}.bias"]) for one in order]
    pictures, crop = squares(2, config.data.resize), config.data.crop
    first = (config.data.resize - crop) // 2
    x = (pictures.astype(np.float64) - open_run(run).statistics.mean_image) * (recipe.channel_scale or 1)
    cut = x[:, first : first + crop, first : first + crop].transpose(0, 3, 1, 2)
    logits = maps_first(recipe.architecture, layers, cut)
    theirs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    agree(probabilities(run, pictures), theirs)
    config.data.mean_rgb = config.data.mean_rgb or (1.0, 2.0, 3.0)  # a state dict has no mean
    imported(config, tmp_path / "again", format="torchvision", weights=str(file))
    same(run, tmp_path / "again")


PROGRAM = """
import sys
import numpy, jax
from jax import export
program = export.deserialize(bytearray(open({file!r}, "rb").read()))
for pictures, path in (({one!r}, {one!r} + ".out"), ({seven!r}, {seven!r} + ".out")):
    numpy.save(open(path, "wb"), program.call(numpy.load(pictures)))
assert not {{"alexnet_jax", "flax", "tensorflow", "orbax"}} & set(sys.modules)
print(program.platforms, program.in_avals[0].str_short(), program.out_avals[0].str_short())
"""


@pytest.mark.parametrize(
    "name", ["paper", *(pytest.param(x, marks=pytest.mark.slow) for x in ("caffenet", "torchvision"))]
)
def test_stablehlo_runs_with_jax_alone_for_any_batch(tmp_path: Path, name: str) -> None:
    config = CONFIGS[name]()
    side = config.data.resize
    run = random_run(config, tmp_path / "run")
    file = tmp_path / "net.stablehlo"
    exported(run, format="stablehlo", weights=str(file), platforms=("cpu", "tpu"))
    files = {"file": str(file), "one": str(tmp_path / "one.npy"), "seven": str(tmp_path / "seven.npy")}
    for count, path in ((1, files["one"]), (7, files["seven"])):
        np.save(path, squares(count, side))
    command = [sys.executable, "-c", PROGRAM.format(**files)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"('cpu', 'tpu') u8[batch,{side},{side},3] f32[batch,7]".replace(
        "u8", "uint8"
    ).replace("f32", "float32")
    for count, path in ((1, files["one"]), (7, files["seven"])):
        ours = probabilities(run, squares(count, side))
        assert np.std(ours) > 0.01
        np.testing.assert_allclose(np.load(path + ".out"), ours, rtol=0, atol=1e-6)


def test_nothing_is_overwritten_and_mistakes_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = random_run(narrow(**PAPER), tmp_path / "run")
    (tmp_path / "there.prototxt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    for said, flags in (
        ("would replace an existing file", {"format": "caffe", "weights": str(tmp_path / "there.caffemodel")}),
        ("would replace an existing file", {"format": "torch", "weights": str(tmp_path / "there.prototxt")}),
        ("would replace an existing file", {"format": "torch", "weights": str(tmp_path)}),
        ("ends? in .caffemodel", {"format": "caffe", "weights": str(tmp_path / "a.prototxt")}),
        ("is not a writable folder", {"format": "torch", "weights": str(tmp_path / "absent" / "a")}),
        ("--weights is missing", {"format": "torch"}),
        ("--format is missing", {}),
        ("cannot be exported; give one of torch, caffe", {"format": "onnx", "weights": "a"}),
        (
            "--platforms names 'abacus'",
            {"format": "stablehlo", "weights": str(tmp_path / "a"), "platforms": ("abacus",)},
        ),
    ):
        with pytest.raises(UserError, match=said):
            exported(run, **flags)
    with pytest.raises(UserError, match="holds no run"):
        exported(tmp_path / "absent", format="torch", weights=str(tmp_path / "a"))
    assert sorted(tmp_path.rglob("*")) == before

    def full(self: object, *_: object) -> None:
        raise OSError(28, "No space left on device", "the disk")

    monkeypatch.setattr("alexnet_jax.modes.export.os.replace", full)
    with pytest.raises(UserError, match="No space left on device"):
        exported(run, format="caffe", weights=str(tmp_path / "a.caffemodel"))
    assert sorted(tmp_path.rglob("*")) == before
