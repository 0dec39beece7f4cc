"""Figure 4: planted neighbours, and predictions beside the network's own outputs."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import alexnet_jax
from alexnet_jax.figures import drawing, figure4
from alexnet_jax.figures.drawing import Place
from alexnet_jax.inference import examples
from alexnet_jax.inference.examples import Examples, chosen
from alexnet_jax.inference.net import Net
from alexnet_jax.messages import UserError
from alexnet_jax.modes import FiguresInvocation, figures
from tests.conftest import launch, launch_here, refusal, result, small_config
from tests.figures.made_up import made_up


@pytest.fixture(scope="module")
def workdir(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up(tmp_path_factory.mktemp("runs") / "run", small_config(data_dir))


@pytest.fixture(scope="module")
def net(workdir: Path) -> Net:
    return alexnet_jax.load(workdir)


@pytest.fixture(scope="module")
def stored(data_dir: Path) -> dict[str, dict[str, Any]]:
    """Both splits by TFDS's own reading, by the pictures' names."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(data_dir / "digits_72" / "1.0.0")
    config = tfds.ReadConfig(interleave_cycle_length=1)
    return {
        split: {
            one["file_name"].decode(): (one["image"], int(one["label"]))
            for one in builder.as_dataset(split, read_config=config).as_numpy_iterator()
        }
        for split in ("train", "validation")
    }


class Planted:
    """Pictures of a gallery that a test made."""

    classes: Sequence[str] = ("cat", "dog")

    def names(self, rows: Sequence[int]) -> list[str]:
        """Of rows."""
        return [f"planted/{row}" for row in rows]

    def labels(self, rows: Sequence[int]) -> list[int | None]:
        """Even or odd."""
        return [row % 2 for row in rows]

    def centres(self, rows: Sequence[int]) -> list[np.ndarray | None]:
        """Of two thirds of the rows."""
        return [np.full((64, 64, 3), row, np.uint8) if row % 3 else None for row in rows]


def noise(count: int, seed: int = 0) -> Examples:
    squares = np.random.default_rng(seed).integers(0, 256, (count, 72, 72, 3), dtype=np.uint8)
    return Examples(tuple(f"noise {i}" for i in range(count)), squares, (3, *(None,) * (count - 1)))


def test_neighbours_that_were_planted_are_found_in_their_order(net: Net) -> None:
    two = noise(2)
    ours = net.features(two.squares, "fc7")
    rng = np.random.default_rng(1)
    far = rng.normal(size=(40, 16))
    far /= np.linalg.norm(far, axis=1, keepdims=True)
    distances = rng.permutation(40) + 1.0  # in no order, all different
    rows = (ours[0] + far * distances[:, None]).astype(np.float32)
    places = range(100, 140)  # of these in the gallery
    found = figure4.queries(net, two, Planted(), iter((rows[:7], rows[7:])), places)
    order = np.argsort(distances)[:6]
    assert [near.name for near in found[0].near] == [f"planted/{100 + at}" for at in order]
    assert [near.distance for near in found[0].near] == pytest.approx([1, 2, 3, 4, 5, 6], rel=1e-3)
    assert [near.of_class for near in found[0].near] == [("cat", "dog")[at % 2] for at in order]
    expected = np.linalg.norm(rows.astype(np.float64) - ours[1], axis=1)
    assert [near.distance for near in found[1].near] == pytest.approx(np.sort(expected)[:6].tolist(), rel=1e-3)
    assert (found[0].label, found[0].of_class, found[1].of_class) == (3, "3", None)
    np.testing.assert_array_equal(found[1].image, two.squares[1, 4:68, 4:68])


def drawn(workdir: Path, **more: Any) -> dict[str, Any]:
    return figures.run(None, FiguresInvocation(workdir, figure="4", **more))


def test_of_validation_eight_and_five_that_are_always_the_same(
    workdir: Path, net: Net, stored: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    found = drawn(workdir)
    validation, train = stored["validation"], stored["train"]
    names = [one["file"] for one in found["predictions"]] + [one["file"] for one in found["queries"]]
    assert len(found["predictions"]) == 8 and len(found["queries"]) == 5 and len(set(names)) == 13
    images = np.stack([validation[name][0] for name in names])
    for one, probabilities in zip(found["predictions"], net.probabilities(images[:8]), strict=True):
        order = np.argsort(-probabilities, kind="stable")[:5]
        assert (one["label"], one["class"]) == (validation[one["file"]][1], str(validation[one["file"]][1]))
        assert [entry["class"] for entry in one["top5"]] == [str(i) for i in order]
        assert [entry["probability"] for entry in one["top5"]] == pytest.approx(probabilities[order].tolist(), rel=1e-4)
    features = net.features(np.stack([image for image, _ in train.values()]), "fc7").astype(np.float64)
    listed = list(train)
    for query, ours in zip(found["queries"], net.features(images[8:], "fc7"), strict=True):
        distances = np.linalg.norm(features - ours, axis=1)
        order = np.argsort(distances, kind="stable")[:6]
        assert [near["name"] for near in query["neighbours"]] == [listed[row] for row in order]
        assert [near["label"] for near in query["neighbours"]] == [train[listed[row]][1] for row in order]
        right = pytest.approx(distances[order].tolist(), rel=1e-3, abs=1e-5)
        assert [near["distance"] for near in query["neighbours"]] == right
    rows = list(csv.DictReader((workdir / "figure4.csv").read_text().splitlines()))
    assert [row["part"] for row in rows] == ["prediction"] * 40 + ["neighbour"] * 30
    assert float(rows[41]["distance"]) == found["queries"][0]["neighbours"][1]["distance"]
    again = drawn(workdir, output=str(tmp_path / "again.png"))
    assert again["predictions"] == found["predictions"] and again["queries"] == found["queries"]
    with Image.open(again["picture"]) as picture:
        assert 1600 <= picture.width <= 1700


def test_files_as_a_user_names_them(workdir: Path, stored: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    names = list(stored["train"])[10:20]
    files = []
    for name in names:
        files.append(tmp_path / f"{name.replace('/', '-')} $x_1$ <b>.png")
        Image.fromarray(stored["train"][name][0]).save(files[-1])
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    flags = ("--mode=figures", "--figure=4", f"--workdir={workdir}")
    done = launch(*flags, tmp_path / "broken.jpg", *files)
    found = result(done)
    assert "the first 8 of 11 pictures are drawn" in done.stderr
    assert [one["file"] for one in found["predictions"]] == list(map(str, files[:8]))
    assert [one["file"] for one in found["queries"]] == list(map(str, files[:5]))
    for query, name in zip(found["queries"], names, strict=False):  # itself, from the training split
        assert query["neighbours"][0]["name"] == name and query["neighbours"][0]["distance"] < 1e-4
    assert {one["label"] for one in found["predictions"]} == {None}
    assert found["rejected"][0]["file"] == str(tmp_path / "broken.jpg")
    assert "broken.jpg cannot be used" in refusal(launch_here(*flags, tmp_path / "broken.jpg"))


@pytest.mark.slow
def test_a_validation_split_of_one_picture_and_ten_views(workdir: Path, net: Net) -> None:
    config = small_config()
    config.update(net.config)
    config.evaluate.split, config.evaluate.views = "validation[:1]", 10
    found = figures.run(config, FiguresInvocation(workdir, figure="4"))
    (one,), (query,) = found["predictions"], found["queries"]
    assert one["file"] == query["file"] == "validation/0" and len(query["neighbours"]) == 6


@pytest.mark.parametrize(("examples", "counts"), [(1, (1, 1)), (5, (5, 5)), (12, (8, 5)), (13, (8, 5)), (400, (8, 5))])
def test_what_is_chosen_of_few(examples: int, counts: tuple[int, int]) -> None:
    eight, five = chosen(examples, seed=3)
    assert (len(set(eight.tolist())), len(set(five.tolist()))) == counts
    assert examples < 13 or not set(eight.tolist()) & set(five.tolist())
    assert examples < 400 or (chosen(examples, seed=4)[0] != eight).any()


def test_names_that_a_font_or_a_formula_would_stumble_over(net: Net, tmp_path: Path) -> None:
    three = noise(3)
    odd = ["$x_$", "日本", "\udcff<b>\n", "\\frac", "a very long name of a class"]
    top = [(name, 0.2) for name in odd]
    predicted = [figure4.Answer(name, image, 0, "$x_$", top) for name, image in zip(odd, three.squares, strict=False)]
    found = figure4.make(
        "$ \udcff",
        predicted,
        figure4.queries(net, three, Planted(), blocks(), range(40)),
        {},
        Place(tmp_path / "odd.png"),
    )
    assert [entry["class"] for entry in found["predictions"][0]["top5"]] == odd
    assert (tmp_path / "odd.csv").read_text(errors="surrogateescape").count(
        "\udcff<b>"
    ) == 3 + 5  # as a class, and as a file
    assert drawing.plain("a\nb$c", 4) == "a\N{REPLACEMENT CHARACTER}\N{HORIZONTAL ELLIPSIS}c"


def blocks() -> Iterator[np.ndarray]:
    yield np.zeros((40, 16), np.float32)


def test_a_network_without_fc7_and_one_that_gives_no_numbers(data_dir: Path, tmp_path: Path) -> None:
    config = small_config(data_dir)
    config.model.removed = "fc7"
    net = alexnet_jax.load(made_up(tmp_path / "fc6", config))
    assert figure4.layer_of(net) == "fc6"
    assert len(figure4.queries(net, noise(1), Planted(), blocks(), range(40))[0].near) == 6
    broken = alexnet_jax.load(made_up(tmp_path / "nan", config, fc6={"kernel": np.full((8, 16), np.nan)}))
    with pytest.raises(UserError, match="no numbers"):
        figure4.queries(broken, noise(1), Planted(), blocks(), range(40))
    with pytest.raises(UserError, match=r"not numbers \(NaN\)"):
        figure4.answers(broken, noise(1))


def test_what_a_person_calls_the_classes(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("n1\ttabby, tabby cat\nn2\ttiger\n")
    assert examples.called(("n1", "n2", "n3"), tmp_path / "none", tmp_path) == ["tabby", "tiger", "n3"]
    assert examples.called(("n1",), tmp_path / "none") == ["n1"]
