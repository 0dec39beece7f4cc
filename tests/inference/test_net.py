"""A trained network used from Python: compared with the paper's formulas, on all meshes, with all kinds of pictures."""

import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import alexnet_jax
from alexnet_jax.config.config import config_of
from alexnet_jax.data.batches import pipeline
from alexnet_jax.data.prepared import prepare
from alexnet_jax.devices import towers
from alexnet_jax.inference.net import Net
from alexnet_jax.messages import UserError
from alexnet_jax.modes import TrainInvocation, evaluate, train
from alexnet_jax.network.stages import stages
from alexnet_jax.runs.folder import open_run
from configs import alexnet
from tests import reference
from tests.conftest import narrowed
from tests.test_launch import imported_by


@pytest.fixture(scope="module")
def workdir(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow run of two steps, with an odd number of classes."""
    config = narrowed(alexnet.get_config(), data_dir)
    config.train.steps, config.model.weight_stddev = 2, 0.1  # outputs that differ by picture
    config.model.classes = 11  # of which the digits name ten
    jax.config.update("jax_disable_most_optimizations", True)
    folder = tmp_path_factory.mktemp("runs") / "narrow"
    train.run(config, TrainInvocation(folder), page=False)
    jax.config.update("jax_disable_most_optimizations", False)
    return folder


@pytest.fixture(scope="module")
def net(workdir: Path) -> Net:
    return alexnet_jax.load(workdir)


def pictures(count: int, height: int = 80, width: int = 80, seed: int = 0) -> list[np.ndarray]:
    """Smooth blobs of colour, which a resize changes little."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(x).resize((width, height), Image.Resampling.BICUBIC)) for x in small]


def centred(net: Net, images: list[np.ndarray]) -> np.ndarray:
    """Squares as the network sees them, float64: the centre, less the mean image there."""
    crops = np.stack(images)[:, 4:76, 4:76].astype(np.float64)
    return crops - net.mean_image[4:76, 4:76]


def stages_of(net: Net, images: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Every stage, computed by NumPy in float64, by its full name."""
    made = reference.stages(net.recipe.architecture, net.params, centred(net, images))
    return {name: x for name, x in made.items() if "/" in name}


def test_every_stage_is_the_papers_formula(net: Net) -> None:
    images, architecture = pictures(3), net.recipe.architecture
    expected = stages_of(net, images)
    names = [stage.name for stage in stages(architecture)]
    assert names == list(expected) and len(names) == 22
    found = net.features(images, names)
    for name in names:
        right = expected[name][..., :11] if name == "fc8/sums" else expected[name]
        assert found[name].dtype == np.float32 and found[name].shape == right.shape
        np.testing.assert_allclose(found[name], right, rtol=2e-4, atol=1e-5 * np.abs(right).max(), err_msg=name)


def test_a_layers_name_alone_is_its_output(net: Net) -> None:
    expected = stages_of(net, pictures(2))
    last = {"conv1": "pool", "conv2": "pool", "conv3": "relu", "conv4": "relu", "conv5": "pool", "fc6": "relu"}
    for layer, stage in {**last, "fc7": "relu"}.items():  # before dropout's factor
        found = net.features(pictures(2), layer)
        right = expected[f"{layer}/{stage}"]
        np.testing.assert_allclose(found, right, rtol=2e-4, atol=1e-5 * np.abs(right).max())
    assert np.abs(expected["fc7/relu"]).max() > 0.1


@pytest.mark.parametrize(("data", "model"), [(1, 2), (2, 1), (2, 2)])
def test_all_meshes_give_the_same(workdir: Path, net: Net, data: int, model: int) -> None:
    other = alexnet_jax.load(workdir, mesh=towers.mesh_of(jax.devices()[: data * model], data, model))
    names = ["conv1", "conv2/sums", "conv3", "conv5/relu", "fc6", "fc7/dropout", "fc8"]
    ours, theirs = net.features(pictures(5), names), other.features(pictures(5), names)
    for name in names:
        np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-4, atol=1e-5 * np.abs(ours[name]).max())
    for views in (1, 10):
        right = net.probabilities(pictures(5), views)
        np.testing.assert_allclose(other.probabilities(pictures(5), views), right, rtol=1e-4)
        assert right.shape == (5, 11) and np.allclose(right.sum(axis=1), 1)


@pytest.mark.parametrize("views", [1, 10])
def test_probabilities_are_those_that_evaluation_counts(workdir: Path, data_dir: Path, views: int) -> None:
    run = open_run(workdir)
    config = config_of(run.config)
    config.evaluate.views = views
    config.mesh.data, config.mesh.model = 1, 2
    source = prepare.open_or_prepare(config)
    rows, _ = next(evaluate.outputs(evaluate.open_network(run, config)))
    squares = next(pipeline.squares(source, "validation"))
    found = alexnet_jax.load(workdir).probabilities(list(squares[:20]), views)
    np.testing.assert_allclose(found[:, :10], rows[:20], rtol=1e-4)
    assert np.ptp(rows, axis=0).max() > 1e-3  # they differ by picture


def test_the_gradient_of_a_class_is_finite_differences(net: Net) -> None:
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), net.params)
        pixels = jnp.asarray(net.pixels(pictures(2)), jnp.float64)

        def score(x: jax.Array) -> jax.Array:
            logits = net.apply(params, x)
            assert logits.dtype == jnp.float64
            return logits[3]

        gradients = jax.jit(jax.vmap(jax.grad(score)))(pixels)
        rng = np.random.default_rng(1)
        both = jax.jit(jax.vmap(score))
        for _ in range(3):
            direction = jnp.asarray(rng.normal(size=pixels.shape))
            step = 1e-5
            slopes = (both(pixels + step * direction) - both(pixels - step * direction)) / (2 * step)
            along = (gradients * direction).sum(axis=(1, 2, 3))
            assert np.abs(slopes).min() > 1e-6
            np.testing.assert_allclose(along, slopes, rtol=1e-5)


def test_apply_is_the_logits(net: Net) -> None:
    images = pictures(3)
    pixels = net.pixels(images)
    assert pixels.shape == (3, 72, 72, 3) and pixels.dtype == np.uint8
    logits = net.apply(net.params, pixels)
    np.testing.assert_allclose(logits, net.features(images, "fc8"), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net.apply(net.params, pixels[1].astype(np.float32)), logits[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jax.nn.softmax(logits), net.probabilities(images), rtol=1e-4)


def test_pictures_of_all_kinds_are_the_same(net: Net, tmp_path: Path) -> None:
    (image,) = pictures(1, height=90, width=131)
    Image.fromarray(image).save(tmp_path / "a.png")
    turned = Image.fromarray(image).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    right = net.pixels(image)
    # By hand: the shorter side resized to 80, the centre of 80 columns, and of these 72.
    resized = np.asarray(Image.fromarray(image).resize((116, 80), Image.Resampling.BILINEAR), int)
    assert np.abs(resized[4:76, 22:94] - right).max() <= 1
    with Image.open(tmp_path / "a.png") as opened, Image.open(tmp_path / "turned.png") as sideways:
        kinds: list[Any] = [tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(image), opened, sideways]
        for one in [*kinds, tmp_path / "turned.png", image, jnp.asarray(image)]:
            np.testing.assert_array_equal(net.pixels(one), right)
        mixed = net.pixels([kinds[0], image, kinds[2], kinds[1]])
    np.testing.assert_array_equal(mixed, np.stack([right] * 4))
    np.testing.assert_array_equal(net.pixels(np.stack([image, image])), np.stack([right] * 2))
    grey = image[..., 0]
    np.testing.assert_array_equal(net.pixels(grey), net.pixels(np.stack([grey] * 3, axis=-1)))
    assert net.probabilities([]).shape == (0, 11)


def test_predictions_are_the_likeliest_by_name(net: Net) -> None:
    images = pictures(4)
    probabilities = net.probabilities(images)
    found = net.predict(images)
    assert [len(one) for one in found] == [5] * 4
    for one, row in zip(found, probabilities, strict=True):
        assert [name for name, _ in one] == [str(i) for i in sorted(range(11), key=lambda i: (-row[i], i))[:5]]
        assert [p for _, p in one] == pytest.approx(sorted(row.tolist(), reverse=True)[:5])
    alone = net.predict(images[2], top=2)
    assert [name for name, _ in alone] == [name for name, _ in found[2][:2]]
    assert net.classes == (*"0123456789", "10")
    ties = np.array([0.2, 0.3, 0.3, 0.2] + [0.0] * 7)
    assert [name for name, _ in net.likeliest(ties, 4)] == ["1", "2", "0", "3"]
    with pytest.raises(UserError, match="NaN"):
        net.likeliest(np.array([0.5, np.nan]))


def test_a_shape_is_compiled_once(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = alexnet_jax.load(workdir)
    for count in (3, 4, 3):
        net.probabilities(pictures(count))
    programs: Any = net._programs
    assert [program._cache_size() for program in programs.values()] == [1]
    assert [net.batch_size(count) for count in (1, 2, 3, 64, 65, 120, 5000)] == [1, 2, 4, 64, 120, 120, 120]
    monkeypatch.setattr("alexnet_jax.inference.net.CAPTURED_BYTES", 10**6)  # less is taken at once where much is kept
    assert net.batch_size(5000, ["conv1/sums", "fc7"]) == 10**6 // (4 * (17 * 17 * 12 + 32))


def test_no_picture_is_lost_in_many_batches(net: Net) -> None:
    images = [np.full((80, 80, 3), i % 251, np.uint8) for i in range(125)]
    found = net.pixels(images)
    np.testing.assert_array_equal(found[:, 0, 0, 0], np.arange(125) % 251)


def test_what_is_no_picture_is_one_sentence(net: Net, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    for wrong, words in (
        (tmp_path / "none.jpg", "none.jpg cannot be used: cannot be read"),
        ([pictures(1)[0], tmp_path / "text.jpg"], "text.jpg cannot be used: not a picture: text"),
        (np.zeros((8, 8, 3), np.float32), "float32 \\[8, 8, 3\\] is not a picture"),
        (np.zeros((8, 8, 4), np.uint8), "uint8 \\[8, 8, 4\\]"),
    ):
        with pytest.raises(UserError, match=words):
            net.predict(wrong)
    with pytest.raises(UserError, match=r"'fc9' is not a stage of this network; .*conv1, conv2.*conv1/norm.*fc8/sums"):
        net.features(pictures(1), "fc9")


def test_a_run_that_lacks_something_is_one_sentence(workdir: Path, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(UserError, match="holds no run"):
        alexnet_jax.load(tmp_path)
    with pytest.raises(UserError, match="must be best or newest"):
        alexnet_jax.load(workdir, checkpoint="last")
    without = tmp_path / "without"
    shutil.copytree(workdir, without)
    (without / "classes.txt").unlink()
    assert alexnet_jax.load(without).classes == tuple(map(str, range(11)))
    assert "has names for 0 of its 11 classes" in capsys.readouterr().err
    shutil.rmtree(without / "checkpoints")
    with pytest.raises(UserError, match="there is no checkpoint in"):
        alexnet_jax.load(without)


def test_loading_needs_no_tensorflow_and_the_package_nothing(workdir: Path) -> None:
    code = f"import alexnet_jax\nnet = alexnet_jax.load({str(workdir)!r})\nnet.predict(net.mean_image.astype('uint8'))"
    assert "tensorflow" not in imported_by(code, "tensorflow")


def test_what_is_no_picture_or_of_another_size_is_refused(net: Net, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pixels must be \[72, 72, 3\] or .* not \[80, 80, 3\]; use net.pixels"):
        net.apply(net.params, np.zeros((80, 80, 3), np.float32))
    with pytest.raises(UserError, match="is a folder; give the files in it"):
        net.predict(tmp_path)
