"""Runs imported from Caffe and torchvision compute the same as OpenCV and NumPy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from alexnet_jax.devices import towers
from alexnet_jax.messages import UserError
from alexnet_jax.network.model import AlexNet
from alexnet_jax.network.stages import stages
from alexnet_jax.runs.folder import open_run, own_recipe, restore_params
from alexnet_jax.weights.class_names import imagenet
from tests.conftest import launch, result
from tests.weights.files import Layers, binaryproto, caffemodel, prototxt, random_layers
from tests.weights.networks import CROP, SIDE, imported, narrow, probabilities, squares


def of_opencv(file: Path, text: str, pictures: np.ndarray, mean: np.ndarray, crop: int) -> np.ndarray:
    """Caffe's network by OpenCV, for the centres of squares minus their mean image."""
    (file.parent / "net.prototxt").write_text(text)
    net = cv2.dnn.readNetFromCaffe(str(file.parent / "net.prototxt"), str(file))
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    first = (pictures.shape[1] - crop) // 2
    centred = (pictures.astype(np.float32) - mean)[:, first : first + crop, first : first + crop, ::-1]
    net.setInput(np.ascontiguousarray(centred.transpose(0, 3, 1, 2)))
    return net.forward()


def agree(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Requires rows that differ, the same top five, and differences below 1e-3 of the largest value."""
    assert theirs.max() > 1.1 / theirs.shape[1] and np.std(theirs, axis=0).max() > 5e-3 * theirs.max()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3 * theirs.max())
    assert np.array_equal(np.argsort(-ours)[:, :5], np.argsort(-theirs)[:, :5])


@pytest.mark.parametrize("form", ["layers", "layer"])
@pytest.mark.parametrize(("variant", "first"), [("caffe", "LRN"), ("caffenet", "Pooling")])
def test_caffe_s_networks_give_opencv_s_probabilities(tmp_path: Path, form: str, variant: str, first: str) -> None:
    layers = random_layers(1)
    file = caffemodel(tmp_path / "net.caffemodel", layers, form)
    image = np.random.default_rng(3).uniform(90, 130, (SIDE, SIDE, 3)).astype(np.float32)
    mean = binaryproto(tmp_path / "mean.binaryproto", image)
    flags = {"format": "caffe", "weights": str(file), "mean": str(mean)}
    found = imported(narrow(variant), tmp_path / "run", **flags)
    assert found["parameters"] == sum(kernel.size + bias.size for kernel, bias in layers.values())
    assert [layer["name"] for layer in found["layers"]] == list(layers)
    pictures = squares(6)
    theirs = of_opencv(file, prototxt(layers, CROP, first), pictures, image, CROP)
    other = of_opencv(file, prototxt(layers, CROP, "Pooling" if first == "LRN" else "LRN"), pictures, image, CROP)
    assert np.abs(theirs - other).max() > 3e-3 * theirs.max()  # the two networks differ measurably
    for shards in (1, 2):
        agree(probabilities(tmp_path / "run", pictures, shards), theirs)


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "first", "form"), [("caffe", "LRN", "layers"), ("caffenet", "Pooling", "layer")])
def test_the_full_networks_need_no_config(tmp_path: Path, variant: str, first: str, form: str) -> None:
    widths = {"kernels": (96, 256, 384, 384, 256), "units": (4096, 4096), "classes": 1000}
    layers = random_layers(2, **widths)  # type: ignore[arg-type]
    order = ("LRN", "Pooling") if first == "LRN" else ("Pooling", "LRN")
    file = caffemodel(tmp_path / "net.caffemodel", layers, form, order)
    found = result(
        launch(
            "--mode=import",
            "--format=caffe",
            f"--weights={file}",
            f"--workdir={tmp_path / 'run'}",
            "--mean=104,117,123",
        )
    )
    assert found["parameters"] == 60_965_224
    run = open_run(tmp_path / "run")
    assert run.config["name"] == f"alexnet:{variant}"
    assert run.classes == imagenet()[0]
    assert (tmp_path / "run" / "words.txt").read_text().splitlines()[1] == "n01443537\tgoldfish, Carassius auratus"
    pictures = squares(2, 256)
    theirs = of_opencv(file, prototxt(layers, 227, first), pictures, np.array([123, 117, 104], np.float32), 227)
    for shards in (1, 2):
        agree(probabilities(tmp_path / "run", pictures, shards), theirs)


def test_the_file_s_order_of_layers_decides_and_a_contradicting_config_is_refused(tmp_path: Path) -> None:
    file = caffemodel(tmp_path / "net.caffemodel", random_layers(), "layers", ("Pooling", "LRN"))
    flags = {"format": "caffe", "weights": str(file)}
    with pytest.raises(UserError, match="Pooling first where alexnet:caffe has LRN"):
        imported(narrow("caffe"), tmp_path / "run", **flags)
    imported(narrow("caffenet"), tmp_path / "run", **flags)
    with pytest.raises(
        UserError, match=r"'conv1' has a kernel of shape \(8, 3, 11, 11\) where conv1 of alexnet:caffenet"
    ):
        imported(None, tmp_path / "other", **flags)


def test_without_an_order_bvlc_alexnet_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = caffemodel(tmp_path / "net.caffemodel", random_layers(), "layer")
    with pytest.raises(UserError, match="where conv1 of alexnet:caffe has"):
        imported(None, tmp_path / "run", format="caffe", weights=str(file))
    assert "the order of bvlc_alexnet is assumed" in capsys.readouterr().err


def test_the_mean_is_three_numbers_b_g_r_or_caffe_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = {"format": "caffe", "weights": str(caffemodel(tmp_path / "net.caffemodel", random_layers(), "layer"))}
    for name, mean, rgb in (("a", "1,2.5,3", (3, 2.5, 1)), ("b", "", (123, 117, 104))):
        imported(narrow("caffe"), tmp_path / name, mean=mean, **flags)
        assert (open_run(tmp_path / name).statistics.mean_image == np.array(rgb, np.float32)).all()
    assert "no --mean is given: subtracting 104, 117 and 123 from B, G and R" in capsys.readouterr().err
    for mean, said in (("1,2", "has 2 numbers"), ("absent", "cannot be read")):
        with pytest.raises(UserError, match=said):
            imported(narrow("caffe"), tmp_path / "c", mean=mean, **flags)
    small = binaryproto(tmp_path / "mean.binaryproto", np.zeros((9, 9, 3), np.float32))
    with pytest.raises(UserError, match=r"mean image has the shape \(9, 9, 3\)"):
        imported(narrow("caffe"), tmp_path / "c", mean=str(small), **flags)
    assert not (tmp_path / "c").exists() and not list(tmp_path.glob(".c*"))


TORCHVISION = (*(f"features.{i}" for i in (0, 3, 6, 8, 10)), *(f"classifier.{i}" for i in (1, 4, 6)))


def torchvision_layers(kernels: tuple[int, ...], units: tuple[int, ...], classes: int, side: int) -> Layers:
    """Random weights under torchvision's names; classifier.1 reads `side` x `side` positions."""
    outputs, size = (*kernels, *units, classes), (11, 5, 3, 3, 3)
    rng, layers = np.random.default_rng(5), {}
    for place, name in enumerate(TORCHVISION):
        inputs = (3, *kernels[:4], kernels[4] * side**2, *units)[place]
        shape = (outputs[place], inputs, *(size[place : place + 1] * 2))
        kernel = (0.3 if place == 7 else 1.5) * rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        layers[name] = (kernel.astype(np.float32), rng.uniform(-0.2, 0.2, outputs[place]).astype(np.float32))
    return layers


def state_dict(layers: Layers) -> dict[str, np.ndarray]:
    kinds = ("weight", "bias")
    return {f"{name}.{kind}": array for name, both in layers.items() for kind, array in zip(kinds, both, strict=True)}


def of_torchvision(layers: Layers, x: np.ndarray) -> dict[str, np.ndarray]:
    """conv1's sums, fc7 after its ReLU, and the logits, in float64, for normalised pictures [b, 3, h, w]."""
    kept, x = {}, x.astype(np.float64)
    for name, (kernel, bias) in layers.items():
        if name.startswith("features"):
            stride, pad = {11: (4, 2), 5: (1, 2), 3: (1, 1)}[kernel.shape[-1]]
            padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2:], (2, 3))
            windows = windows[:, :, ::stride, ::stride]
            x = np.einsum("bchwij,ocij->bohw", windows, kernel, optimize=True) + bias[:, None, None]
        else:
            x = x.reshape(len(x), -1) @ kernel.astype(np.float64).T + bias
        kept[name] = x
        if name != "classifier.6":
            x = np.maximum(x, 0)
        if name in ("features.0", "features.3", "features.10"):
            pools = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
            x = pools[:, :, ::2, ::2].max((4, 5))
    return {"conv1": kept["features.0"], "fc7": np.maximum(kept["classifier.4"], 0), "logits": kept["classifier.6"]}


def stages_of(workdir: Path, pictures: np.ndarray) -> dict[str, np.ndarray]:
    """The same stages of an imported run, for the centres of squares."""
    run = open_run(workdir)
    recipe = own_recipe(run)
    _, params = restore_params(run, towers.mesh_of(jax.devices()[:1], 1, 1), "newest")
    first = (pictures.shape[1] - recipe.architecture.input_size) // 2
    crop = slice(first, first + recipe.architecture.input_size)
    assert recipe.channel_scale is not None
    x = (pictures.astype(np.float32) - run.statistics.mean_image)[:, crop, crop] * np.array(
        recipe.channel_scale, np.float32
    )
    net, every = AlexNet(recipe.architecture), stages(recipe.architecture)
    names = [stage.name for stage in every]

    def until(name: str) -> np.ndarray:
        last = names.index(name) + 1
        made = net.apply({"params": params}, every[:last], [jax.numpy.asarray(x)], method=AlexNet.through)
        assert isinstance(made, list)
        return np.asarray(made[0])

    logits = until("fc8/sums")[:, : recipe.architecture.classes]
    return {"conv1": until("conv1/sums").transpose(0, 3, 1, 2), "fc7": until("fc7/relu"), "logits": logits}


MEAN, STDDEV = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of torchvision's weights


def normalised(pictures: np.ndarray, crop: int) -> np.ndarray:
    first = (pictures.shape[1] - crop) // 2
    cut = pictures[:, first : first + crop, first : first + crop]
    return ((cut / 255 - MEAN) / STDDEV).transpose(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("widths", "side", "crop"),
    [
        (((8, 12, 16, 16, 12), (24, 20), 7, 2), 105, 99),
        pytest.param(((64, 192, 384, 256, 256), (4096, 4096), 1000, 6), 256, 224, marks=pytest.mark.slow),
    ],
    ids=["narrow", "full"],
)
def test_torchvision_s_network_gives_numpy_s_activations(tmp_path: Path, widths: Any, side: int, crop: int) -> None:
    layers = torchvision_layers(*widths)
    save_file(state_dict(layers), tmp_path / "alexnet.safetensors")
    config = narrow("torchvision", side, crop) if side < 256 else None
    imported(config, tmp_path / "run", format="torchvision", weights=str(tmp_path / "alexnet.safetensors"))
    pictures = squares(3, side)
    theirs = of_torchvision(layers, normalised(pictures, crop))
    for name, ours in stages_of(tmp_path / "run", pictures).items():
        assert np.std(theirs[name]) > 0.05
        np.testing.assert_allclose(ours, theirs[name], rtol=0, atol=1e-4 * np.abs(theirs[name]).max(), err_msg=name)


def torchvision_imported(tmp_path: Path, save: Callable[[Any, Path], None], name: str) -> tuple[Any, np.ndarray]:
    """Imports torchvision's own network with random weights; returns it and pictures."""
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    import torch

    torch.manual_seed(0)
    net = models.alexnet().eval()
    save(net, tmp_path / name)
    imported(None, tmp_path / "run", format="torchvision", weights=str(tmp_path / name))
    return net, squares(2, 256)


def compare_with_torchvision(net: Any, workdir: Path, pictures: np.ndarray) -> None:
    import torch

    with torch.no_grad():
        x = torch.from_numpy(normalised(pictures, 224)).float()
        theirs = {"conv1": net.features[0](x), "logits": net(x)}
        theirs["fc7"] = net.classifier[:6](torch.flatten(net.avgpool(net.features(x)), 1))
    ours = stages_of(workdir, pictures)
    for name, array in theirs.items():
        largest = float(array.abs().max())
        np.testing.assert_allclose(ours[name], array.numpy(), rtol=0, atol=1e-4 * largest, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("nested", [False, True])
def test_torchvision_s_own_pth_gives_its_own_outputs(tmp_path: Path, nested: bool) -> None:
    def save(net: Any, path: Path) -> None:
        import torch

        torch.save({"model": net.state_dict(), "epoch": 3} if nested else net.state_dict(), path)

    net, pictures = torchvision_imported(tmp_path, save, "alexnet.pth")
    compare_with_torchvision(net, tmp_path / "run", pictures)


@pytest.mark.slow
def test_torchvision_s_own_weights_as_safetensors_give_its_own_outputs(tmp_path: Path) -> None:
    def save(net: Any, path: Path) -> None:
        save_file({name: tensor.numpy() for name, tensor in net.state_dict().items()}, path)

    net, pictures = torchvision_imported(tmp_path, save, "alexnet.safetensors")
    compare_with_torchvision(net, tmp_path / "run", pictures)
