"""Whatever chance makes of command lines, configs, pictures, indexes and files: a sentence, or it is taken."""

import io
import os
import pickle
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from absl import flags
from hypothesis import given, seed
from hypothesis import strategies as st
from PIL import Image

from alexnet_jax import command_line, flag_definitions
from alexnet_jax.config.config import check_config
from alexnet_jax.config.fields import FIELDS
from alexnet_jax.data.batches.training_statistics import training_statistics
from alexnet_jax.data.decode import squares
from alexnet_jax.data.decode.decoder import Rules
from alexnet_jax.data.prepared import prepare
from alexnet_jax.data.prepared.prepared_set import DIGESTS, labels_of_split, open_set
from alexnet_jax.loop.report import read_metrics
from alexnet_jax.messages import UserError
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.folder import open_run, own_recipe
from alexnet_jax.training.step import abstract_state
from configs import digits
from tests.conftest import flags_as_before
from tests.fuzz.chance import BYTES, examples, peak_bytes, put

NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(-5, 20),
    st.floats(),
    st.sampled_from(["1e400", "0x10", "-0", "1_0", "", "None", "True", "False", "nan"]),
)
WORDS = st.one_of(
    st.text(max_size=12), st.sampled_from(["train", "best", "relu", "steps", "listed", "down", "/dev/null"])
)
VALUES = st.recursive(
    st.one_of(NUMBERS, WORDS, st.none(), st.booleans()),
    lambda inner: st.lists(inner, max_size=5).map(tuple),
    max_leaves=8,
)
NAMES = st.one_of(
    st.sampled_from([field.name for field in FIELDS]),
    st.sampled_from(["", "model", "model.", ".", "model.towers.x", "train[0]", "model.kernels[0]", "nosuch"]),
)
FLAGS = st.one_of(
    st.builds("--config.{}={}".format, NAMES, VALUES),
    st.builds("--config.{}".format, NAMES),
    st.builds("--noconfig.{}".format, NAMES),
    st.builds("--{}={}".format, st.sampled_from(["mode", "workdir", "figure", "runs", "restart", "config"]), VALUES),
    st.text(max_size=10),
)


SECONDS = 10  # of the processor's, for one example


@pytest.fixture(scope="module", autouse=True)
def defined() -> Iterator[None]:
    with flags_as_before():
        flag_definitions.define_flags()
        before = peak_bytes()
        yield
    assert peak_bytes() - before < BYTES


@contextmanager
def not_long() -> Iterator[None]:
    """What is done within hangs nowhere."""
    before = time.process_time()
    yield
    assert time.process_time() - before < SECONDS


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # what reads config files calls it
@seed(1)
@examples(150)
@given(st.lists(FLAGS, min_size=1, max_size=4))
def test_every_command_line_is_taken_or_refused_in_a_sentence(arguments: list[str]) -> None:
    if any("help" in argument for argument in arguments):
        return
    flags.FLAGS.unparse_flags()
    try:
        with not_long():
            config, _ = command_line.parse_command_line(["launch.py", "--config=configs/digits.py", *arguments])
            if config is not None:
                check_config(config)
    except UserError as error:
        assert str(error).strip()


@seed(2)
@examples(150)
@given(st.lists(st.tuples(st.sampled_from(FIELDS), VALUES), min_size=1, max_size=3))
def test_every_config_is_taken_or_refused_in_a_sentence(changes: list[tuple[Any, Any]]) -> None:
    config = digits.get_config()
    for field, value in changes:
        put(config, field.name, value)
    try:
        with not_long():
            check_config(config)
    except UserError as error:
        assert "config." in str(error)


def picture(kind: str, mode: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 4), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise, "RGBA").convert(mode).save(file, kind)
    return file.getvalue()


PICTURES = [
    picture(*one) for one in (("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "P"), ("WEBP", "RGBA"))
]


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, cut out or put in."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(changed) + 1)
        what = chance.randrange(4)
        if what == 0:
            changed[at:at] = chance.randbytes(chance.randint(1, 16))
        elif what == 1:
            del changed[at : at + chance.randint(1, 64)]
        elif what == 2:
            del changed[at + chance.randint(0, 200) :]
        else:
            changed[at : at + 1] = chance.randbytes(1)
    return bytes(changed)


@seed(3)
@examples(300)
@given(st.sampled_from(PICTURES), st.randoms(use_true_random=False))
def test_every_picture_is_a_square_or_has_a_reason(content: bytes, chance: random.Random) -> None:
    one = squares.Picture("a", 0, data=mutated(content, chance))
    with not_long():
        made = squares.make_squares([one], 32, 95, Rules(1_000_000, chance.random() < 0.5), summed=True)
    assert (made.stored[0] is None) == bool(made.reasons[0])


@pytest.fixture(scope="module")
def trained(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(small_run, tmp_path_factory.mktemp("fuzz") / "run")


@seed(4)
@examples(15, most=2_000)
@given(st.randoms(use_true_random=False))
def test_every_file_of_a_run_is_read_or_refused(trained: Path, chance: random.Random) -> None:
    files = sorted(path for path in trained.rglob("*") if path.is_file() and path.name != ".lock")
    path = chance.choice(files)
    before = path.read_bytes()
    path.write_bytes(mutated(before, chance))
    try:
        with not_long():
            run = open_run(trained)
            read_metrics(trained)
            one = jax.sharding.Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1), ("data", "model"))
            Checkpoints(trained).restore(abstract_state(own_recipe(run), one))
    except UserError as error:
        assert str(error).strip()
    finally:
        path.write_bytes(before)


# Nothing is computed by them; or, of the last, what reads it sees to it.
BESIDE = (DIGESTS, "rejected.jsonl", "sheet.png", "label.labels.txt", "listing.jsonl.gz", "preprocessing.npz")


@seed(5)
@examples(15, most=2_000)
@given(st.randoms(use_true_random=False))
def test_every_file_of_a_prepared_set_is_read_or_refused(data_dir: Path, chance: random.Random) -> None:
    config = digits.get_config()
    config.data.data_dir = str(data_dir)
    folder = data_dir / "digits_72/1.0.0"
    files = sorted(path for path in folder.iterdir() if path.is_file() and "tfrecord" not in path.name)
    path = chance.choice(files)
    before = path.read_bytes()
    path.write_bytes(after := mutated(before, chance))
    try:
        with not_long():
            made = open_set(folder, config.data)
            training_statistics(made, config)
            for split in ("train", "validation"):
                labels_of_split(made, split)
        assert after == before or path.name in BESIDE
    except UserError as error:
        assert str(folder) in str(error)
    finally:
        path.write_bytes(before)


class Executed:
    """Makes a folder where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_loading_executes_nothing(trained: Path, data_dir: Path, tmp_path: Path) -> None:
    workdir, data, marker = tmp_path / "run", tmp_path / "data", tmp_path / "executed"
    shutil.copytree(trained, workdir)
    shutil.copytree(data_dir, data)
    pickled = pickle.dumps(Executed(marker))
    config = digits.get_config()
    config.data.data_dir = str(data)
    one = jax.sharding.Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1), ("data", "model"))
    state = abstract_state(own_recipe(open_run(workdir)), one)
    objects = np.asarray([Executed(marker)], object)
    for folder in (workdir, data):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            before = path.read_bytes()
            if path.suffix == ".npz":
                np.savez(path, mean_image=objects, rgb_covariance=objects)
            else:
                path.write_bytes(pickled)
            with suppress(UserError):
                if folder == workdir:
                    open_run(workdir)
                    read_metrics(workdir)
                    Checkpoints(workdir).restore(state)
                else:
                    training_statistics(prepare.open_or_prepare(config), config)
            assert not marker.exists(), path
            path.write_bytes(before)
    pickle.loads(pickled)
    assert marker.exists()  # it would have shown
