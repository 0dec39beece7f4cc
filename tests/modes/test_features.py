"""`--mode=features`: rows in order, equal to those from Python, in memory that does not grow with their number."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import alexnet_jax
from alexnet_jax.inference import features_folder
from alexnet_jax.messages import UserError
from alexnet_jax.modes import FeaturesInvocation, features
from alexnet_jax.network.architecture import alexnet
from alexnet_jax.network.stages import stages
from tests.conftest import ROOT, launch, refusal, result


def features_of(run: Path, *arguments: Any) -> Any:
    return launch("--mode=features", f"--workdir={run}", *arguments)


def test_rows_of_files_in_their_order(workdir: Path, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "out"
    layers = "fc7,conv1/pool,fc8"
    found = result(features_of(workdir, f"--layer={layers}", f"--output={output}", folder / "d.webp", folder))
    used = [folder / name for name in ("d.webp", "a.jpg", "b.png", "d.webp", "inside/c.JPG")]
    assert (output / "names.txt").read_text().splitlines() == list(map(str, used))
    assert sorted(path.name for path in output.iterdir()) == [
        *("conv1_pool.npy", "fc7.npy", "fc8.npy", "features.json", "names.txt")
    ]
    right = alexnet_jax.load(workdir).features(used, layers.split(","))
    for layer, shape in zip(layers.split(","), found["shape"], strict=True):
        rows = np.load(output / features_folder.file_of(layer))
        assert rows.dtype == np.float32 and list(rows.shape) == shape
        np.testing.assert_allclose(rows, right[layer], rtol=1e-4, atol=1e-5 * np.abs(rows).max())
    assert found["layer"] == layers.split(",") and found["output"] == str(output)
    assert [one["file"] for one in found["rejected"]] == [str(folder / "broken.jpg")]


def test_a_split_with_its_names_and_labels(workdir: Path, data_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    flags = ("--layer=conv2", "--reduce=mean", "--dtype=float16", "--config.evaluate.split=validation[10:300]")
    found = result(features_of(workdir, f"--output={output}", *flags))
    assert found["layer"] == "conv2" and found["shape"] == [290, 16]
    rows, labels = np.load(output / "conv2.npy"), np.load(output / "labels.npy")
    assert rows.dtype == np.float16 and labels.dtype == np.int32 and labels.shape == (290,)
    # TFDS's own reading of the prepared set, in the order of its files.
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(data_dir / "digits_72" / "1.0.0")
    config = tfds.ReadConfig(interleave_cycle_length=1)
    examples = list(builder.as_dataset("validation[10:300]", read_config=config).as_numpy_iterator())
    assert (output / "names.txt").read_text().splitlines() == [one["file_name"].decode() for one in examples]
    assert labels.tolist() == [one["label"] for one in examples]
    right = alexnet_jax.load(workdir).features([one["image"] for one in examples[::40]], "conv2")
    np.testing.assert_allclose(rows[::40], right.mean(axis=(1, 2)), rtol=2e-3, atol=1e-3 * np.abs(right).max())


def test_mistakes_are_one_sentence_and_leave_nothing(
    workdir: Path,
    folder: Path,
    tmp_path: Path,
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "letter.txt").write_text("precious")
    out = f"--output={tmp_path / 'out'}"
    for flags, words in (
        ((out,), "--layer is missing"),
        (("--layer=fc7",), "--output is missing"),
        (("--layer=fc9", out), "'fc9' is not a stage of this network"),
        (("--layer=fc7", f"--output={kept}"), "exists already"),
        (("--layer=fc7", f"--output={kept}", "--overwrite"), "holds 'letter.txt'"),
        (("--layer=fc7", "--output=/proc/none/out"), "cannot be written"),
        (("--layer=fc7", out, "--dtype=int8"), "must be one of float32, float16"),
    ):
        assert words in refusal(features_of(workdir, *flags, folder))
    assert "broken.jpg cannot be used" in refusal(features_of(workdir, "--layer=fc7", out, folder / "broken.jpg"))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"] and (kept / "letter.txt").is_file()
    result(features_of(workdir, "--layer=fc7", out, folder))
    result(features_of(workdir, "--layer=fc6", out, folder, "--overwrite"))
    assert not (tmp_path / "out" / "fc7.npy").exists() and np.load(tmp_path / "out" / "fc6.npy").shape == (4, 16)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "out"]


def test_a_growing_array_is_a_numpy_file(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(1234, 3, 5)).astype(np.float32)
    for count in (0, 1, 1234):
        array = features_folder.GrowingArray(tmp_path / "a.npy", (3, 5), "float32")
        for first in range(0, count, 100):
            array.append(rows[first : min(first + 100, count)])
        array.finish()
        np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), rows[:count])
        blocks = list(features_folder.blocks_in(tmp_path / "a.npy"))
        np.testing.assert_array_equal(np.concatenate([rows[:0], *blocks]), rows[:count])


def test_a_number_that_the_dtype_cannot_hold_is_refused(tmp_path: Path) -> None:
    with features_folder.FeaturesWriter(tmp_path, {"conv1/sums": (2,)}, "float16", labelled=False) as writer:
        writer.append(["a"], {"conv1/sums": np.full((1, 2), -65000, np.float32)}, None)
        with pytest.raises(UserError, match="conv1/sums reaches 70000, but float16 can hold at most"):
            writer.append(["b"], {"conv1/sums": np.full((1, 2), -70000, np.float32)}, None)


def test_names_stay_in_their_rows(tmp_path: Path) -> None:
    names = ["plain", "two\nlines", "back\\slash", "bytes\udcff", ""]
    with features_folder.FeaturesWriter(tmp_path, {"fc7": (2,)}, "float32", labelled=True) as writer:
        writer.append(names, {"fc7": np.zeros((5, 2), np.float32)}, np.arange(5))
        writer.finish({})
    assert list(features_folder.names_in(tmp_path)) == ["plain", "two\\nlines", "back\\slash", "bytes\udcff", ""]
    assert np.load(tmp_path / "labels.npy").tolist() == [0, 1, 2, 3, 4]


def test_a_disk_that_is_too_small_is_refused_before_anything_is_computed(
    workdir: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=100))
    asked = FeaturesInvocation(workdir, files=(str(folder),), layer=("fc7",), output=str(tmp_path / "out"))
    with pytest.raises(UserError, match=r"and its disk has 0\.0 GB"):
        features.run(None, asked)
    assert not list(tmp_path.iterdir())


ROWS = """
import json, sys
from pathlib import Path
import numpy as np
from alexnet_jax.modes import neighbours
from alexnet_jax.inference import features_folder

folder, count = sys.argv[1], int(sys.argv[2])
writer = features_folder.FeaturesWriter(Path(folder), {"fc7": (4096,)}, "float16", labelled=True)
rng = np.random.default_rng(0)
block = rng.normal(size=(128, 4096)).astype(np.float32)
for first in range(0, count, 128):
    writer.append([f"{i}" for i in range(first, first + 128)], {"fc7": block + first / 128}, np.zeros(128))
writer.finish({})
blocks = (rows.astype(np.float32) for rows in features_folder.blocks_in(Path(folder) / "fc7.npy"))
distances, rows = neighbours.nearest(block[:2] + 1, blocks, 6)
peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]  # KiB; the program's own, not its starter's
print(json.dumps([int(peak), rows[:, 0].tolist()]))
"""


@pytest.mark.parametrize("large", [40_960, pytest.param(1_024_000, marks=pytest.mark.slow)])
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="there is no /proc")
def test_memory_does_not_grow_with_the_rows(large: int, tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        done = subprocess.run(
            [sys.executable, "-c", ROWS, str(tmp_path), str(rows)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        kilobytes, nearest = json.loads(done.stdout)
        assert nearest == [128, 129]
        return kilobytes << 10

    few, many = peak(24_576), peak(large)  # three blocks of what is read at once, from where on nothing should grow
    # The rows alone are 201 and 336 MB, or 8.4 GB.
    assert many - few < 100 << 20 and many < 2 << 30


def test_the_table_of_stages_is_the_networks() -> None:
    text = (ROOT / "docs" / "stages.md").read_text()
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    named = [row[0].strip().strip("`") for row in rows]
    assert named == [stage.name for stage in stages(alexnet())]
    torchvision = [row[2].strip().strip("`") for row in rows]
    assert [name for name in torchvision if name != "-"] == [
        *(f"features.{i}" for i in range(13)),
        *(f"classifier.{i}" for i in (1, 2, 4, 5, 6)),
    ]
