"""Four virtual CPU devices, the digits prepared once, launch.py as a subprocess, a narrow network."""

import gc
import io
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "4"
# One compilation of each program serves the whole session, subprocesses included.
if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker has the variable from the one that started it
    compiled = tempfile.TemporaryDirectory(prefix="alexnet_jax-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"  # of subprocesses too

import jax
import jaxtyping
import numpy as np
import pytest
from absl import flags
from filelock import FileLock
from ml_collections import ConfigDict

# The shapes and types in signatures are checked at every call, in the tests alone; before the modules are imported.
CHECKED = ["alexnet_jax.network", "alexnet_jax.training", "alexnet_jax.data", "alexnet_jax.devices"]
jaxtyping.install_import_hook(CHECKED, "beartype.beartype")

from alexnet_jax import command_line, signals
from alexnet_jax.data.batches.batch import Batch
from alexnet_jax.network import architecture
from configs import digits
from tests import launched

ROOT = Path(__file__).parent.parent
# Two kinds of small network: NARROW for any of the paper's configs, SMALL for the digits.
NARROW_KERNELS, NARROW_UNITS, NARROW_CLASSES = (8, 12, 16, 16, 12), (24, 20), 7
NARROW = architecture.alexnet(
    architecture.AlexNetOptions(
        kernels=NARROW_KERNELS,
        units=NARROW_UNITS,
        classes=NARROW_CLASSES,
        input_size=64,
        weight_stddev=0.05,
        hidden_bias=0.1,
    )
)
# The digits with a network that compiles in seconds: for what is not about learning. As flags, and as a config.
SMALL_KERNELS, SMALL_UNITS = (8, 16, 16, 16, 8), (16, 16)
SMALL = (
    "--config=configs/digits.py",
    f"--config.model.kernels={SMALL_KERNELS}",
    f"--config.model.units={SMALL_UNITS}",
    "--config.model.weight_stddev=0.15",
)


def small_config(data: Path | None = None) -> ConfigDict:
    """SMALL's network as a config, with the digits' own initial weights."""
    config = digits.get_config()
    config.model.kernels, config.model.units = SMALL_KERNELS, SMALL_UNITS
    config.data.data_dir = str(data or "")
    return config


# The files that take longest, the longest first, so that two workers end at about the same time.
LONGEST = (
    *(
        "test_readme_commands",
        "modes/test_train",
        "inference/test_net",
        "devices/test_towers",
        "test_variants",
        "test_launch",
    ),
    *("data/prepared/test_resumed_preparation", "modes/test_communication", "network/test_geometries"),
    *("modes/test_ensemble", "figures/test_page", "network/test_model", "runs/test_checkpoint", "test_strangers"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first."""
    place = {str(ROOT / "tests" / f"{name}.py"): at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(str(item.path), len(place)))


def pytest_collection_finish() -> None:
    """Freezes what the tests have imported, as launched.py does."""
    gc.freeze()


def environment_of_a_user() -> dict[str, str]:
    """The tests' own, but launch.py chooses the number of devices and how loud libraries are itself."""
    of_tests = ("JAX_NUM_CPU_DEVICES", "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS")
    return {name: value for name, value in os.environ.items() if name not in of_tests}


def launch_anew(*arguments: Any, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs launch.py as a user would, in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "launch.py", *map(str, arguments)],
        cwd=ROOT,
        env={**environment_of_a_user(), **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


class Launched:
    """launch.py at work, in a process of its own that has imported TensorFlow and JAX already, which takes 7 s.

    Args:
      page: whether what is trained gets its page at the end, which takes 3 s.
    """

    def __init__(self, *arguments: Any, cwd: Path = ROOT, page: bool = False, **environment: str) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(launched.BEFORE)
        self.arguments = list(map(str, arguments))
        self._folder = tempfile.TemporaryDirectory()
        self._out, self._err = Path(self._folder.name, "out"), Path(self._folder.name, "err")
        with pytest.MonkeyPatch.context() as patch:
            # For the server, which starts with the first call, and imports TensorFlow before launch.py silences it.
            patch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
            patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
            where = (str(self._out), str(self._err), str(cwd), environment, page)
            self._process = context.Process(target=launched.run, args=(self.arguments, *where))
            self._process.start()

    @property
    def said(self) -> str:
        """What is on standard error so far."""
        return self._err.read_text() if self._err.exists() else ""

    @property
    def has_begun(self) -> bool:
        """Whether the process is launch.py by now, with its own handling of signals."""
        return self._err.exists()

    @property
    def runs(self) -> bool:
        """Whether the process has not ended."""
        return self._process.is_alive()

    def send(self, number: int) -> None:
        """A signal, unless the process has ended."""
        if self._process.is_alive():
            assert self._process.pid is not None
            os.kill(self._process.pid, number)

    def ended(self, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Waits for the end."""
        self._process.join(timeout)
        if self._process.is_alive():
            self._process.kill()
            raise TimeoutError(f"launch.py {self.arguments} took more than {timeout} s: {self.said}")
        assert self._process.exitcode is not None
        out = self._out.read_text() if self._out.exists() else ""
        done = subprocess.CompletedProcess(self.arguments, self._process.exitcode, out, self.said)
        self._folder.cleanup()
        return done


def part_of(page: str, name: str) -> str:
    """What a script has written between the page's two lines of that name."""
    return (ROOT / page).read_text().split(f"<!-- {name}: begin -->")[1].split(f"<!-- {name}: end -->")[0].strip()


def launch(
    *arguments: Any, timeout: float = 300, cwd: Path = ROOT, page: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs launch.py to its end in a process that has its imports already."""
    return Launched(*arguments, cwd=cwd, page=page, **environment).ended(timeout)


@contextmanager
def flags_as_before() -> Iterator[None]:
    """At its end the process has the flags that it had before; a flag can be defined only once."""
    before = set(flags.FLAGS)
    try:
        yield
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)


def launch_here(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """Runs launch.py in this process, which saves a start: for command lines that are refused.

    What it changes in the process (flags, environment) is set back. No signal is listened to.
    """
    environment, out, err = dict(os.environ), io.StringIO(), io.StringIO()
    try:
        with pytest.MonkeyPatch.context() as patch, flags_as_before(), redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["launch.py", *map(str, arguments)])
            patch.setattr(signals, "listen", lambda: None)
            with pytest.raises(SystemExit) as ended:
                command_line.main()
    finally:
        os.environ.clear()
        os.environ.update(environment)
    code = ended.value.code
    return subprocess.CompletedProcess(sys.argv, code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON object that ends standard output of a run that ended well."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence that ends a run refused, which has no traceback and no result."""
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    assert not done.stdout.strip(), done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: "), done.stderr
    return last


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Any]) -> Path:
    """The folder of that name, which all workers of the session share; the first worker to ask makes it.

    Tests only read it. A test that changes something takes a copy.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared-{name}"
    with FileLock(folder.with_suffix(".lock")):
        if not (done := folder.with_suffix(".done")).exists():
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the digits and their statistics, prepared by the program."""

    def prepare(folder: Path) -> None:
        result(launch("--config=configs/digits.py", "--mode=prepare", f"--config.data.data_dir={folder}"))

    return made_once(tmp_path_factory, "data", prepare)


@pytest.fixture(scope="session")
def small_run(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SMALL network after two steps on the digits. Copy it before you change something in it."""

    def train(folder: Path) -> None:
        result(launch(*SMALL, f"--config.data.data_dir={data_dir}", f"--workdir={folder}", "--config.train.steps=2"))

    return made_once(tmp_path_factory, "small", train)


def random_batch(size: int, classes: int, crop: int, resize: int, seed: int = 0) -> Batch:
    """A batch of noise as the pipeline would make it, with crops, reflections and lighting."""
    rng = np.random.default_rng(seed)
    return Batch(
        image=rng.integers(0, 256, (size, crop, crop, 3), dtype=np.uint8),
        label=rng.integers(0, classes, size, dtype=np.int32),
        lighting=rng.normal(0, 5, (size, 3)).astype(np.float32),
        offset=rng.integers(0, resize - crop + 1, (size, 2), dtype=np.int32),
        reflected=rng.integers(0, 2, size).astype(bool),
        scale=rng.uniform(0.9, 1, size).astype(np.float32),
    )


def narrowed(config: ConfigDict, data: Path | None = None) -> ConfigDict:
    """A config of the large network made small enough for a test: an eighth of the kernels, digits."""
    config.model.kernels = tuple(width // 8 for width in config.model.kernels)
    config.model.units = tuple(width // 128 for width in config.model.units)
    config.model.sixth_convolution //= 8
    config.model.bottleneck //= 128
    config.model.classes = 11 if config.model.classes % 2 else 10
    config.model.weight_stddev, config.model.hidden_bias = 0.05, 0.1
    config.data.name, config.data.data_dir = "digits", str(data or "")
    config.data.resize, config.data.crop = 80, 72
    config.evaluate.split = "validation"
    config.evaluate.batch_size = 120
    config.train.batch_size = 16
    config.train.init_after = ""
    config.mesh.data, config.mesh.model = 1, config.model.towers
    return config


@pytest.fixture
def quick_compile() -> Iterator[None]:
    """Compiles with few optimisations, where only what is computed matters and not how fast."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
