"""The command line: help, modes, and mistakes, each answered in one sentence."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alexnet_jax import command_line, flag_definitions
from alexnet_jax.config.config import check_config, config_to_json, flatten, load_saved
from alexnet_jax.data.batches.training_statistics import training_statistics
from alexnet_jax.messages import say
from alexnet_jax.modes import MODES
from configs import alexnet, digits
from tests.conftest import ROOT, SMALL, flags_as_before, launch, launch_anew, launch_here, refusal, result


def imported_by(code: str, *blocked: str) -> set[str]:
    """The packages that the code imports in a fresh interpreter without the blocked packages."""
    return {name.partition(".")[0] for name in modules_of(code, *blocked)}


def modules_of(code: str, *blocked: str) -> set[str]:
    """The modules that the code imports in a fresh interpreter without the blocked packages."""
    absent = "".join(f"sys.modules[{name!r}] = None\n" for name in blocked)
    report = "print(*(name for name, module in sys.modules.items() if module is not None))"
    script = f"import sys\n{absent}{code}\n{report}"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_core_imports_without_tensorflow_and_ml_collections() -> None:
    rooms = ("network", "training", "devices")
    code = "".join(
        f"import alexnet_jax.{room}.{path.stem}\n"
        for room in rooms
        for path in (ROOT / "alexnet_jax" / room).glob("*.py")
    )
    blocked = ("tensorflow", "tensorflow_datasets", "tensorboard", "ml_collections", "orbax")
    imported = imported_by(code, *blocked)
    assert "jax" in imported
    assert not imported & {"tensorflow", "ml_collections"}


def test_the_table_of_layers_needs_no_jax() -> None:
    assert "jax" not in imported_by("import alexnet_jax.network.architecture", "jax", "numpy")


def test_help_has_the_modes_first_then_each_flag_in_one_line_and_imports_nothing_heavy() -> None:
    done = launch_anew("--help")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 120
    modes = [number for number, line in enumerate(lines) if re.match(rf"  ({'|'.join(MODES)}): +\S", line)]
    shown = [(number, line.split()) for number, line in enumerate(lines) if line.startswith("  --")]
    assert len(modes) == len(MODES) and max(modes) < min(number for number, _ in shown)
    names = [words[0].removeprefix("--").removeprefix("[no]") for _, words in shown]
    assert all(len(words) > 3 for _, words in shown)  # each says something
    assert sorted(names) == sorted(flag.name for flag in flag_definitions.FLAGS)
    headings = [line.partition(" (")[0].rstrip(":") for line in lines if re.match(r"\w.*:$", line)]
    assert headings[2:] == ["Every mode", *flag_definitions.GROUPS]
    assert sorted(mode for modes in flag_definitions.GROUPS.values() for mode in modes) == sorted(MODES)
    # Sub-second by importing neither: TensorFlow takes seconds, JAX more than one.
    assert not imported_by("import launch") & {"jax", "tensorflow", "sklearn", "matplotlib"}


def test_every_flag_of_the_table_is_defined_and_listed_by_helpfull() -> None:
    done = launch_anew("--helpfull")
    assert (done.returncode, done.stderr) == (0, "")
    for flag in flag_definitions.FLAGS:
        assert re.search(rf"--(\[no\])?{flag.name}: ", done.stdout), flag.name
    assert "--verbosity" in done.stdout


def test_a_first_step_and_a_first_answer_wait_for_no_needless_import() -> None:
    """Each takes from a quarter of a second to five: Keras, as TensorFlow's own, and all that Keras imports."""
    modules = modules_of("import alexnet_jax.modes.train, alexnet_jax.modes.evaluate")
    assert "tensorflow" in modules
    assert not modules & {"keras", "tf_keras", "sklearn", "scipy.stats", "matplotlib", "tensorboard"}
    light = ("modes.describe", "modes.communication", "modes.predict", "modes.table", "modes.export", "modes.import_")
    assert "jax" not in imported_by(f"import alexnet_jax.{light[0]}")
    imports = [f"import alexnet_jax.{name}\nassert 'tensorflow' not in sys.modules, '{name}'" for name in light]
    assert "tensorflow" not in imported_by("\n".join([*imports, "import alexnet_jax.inference.net"]))
    # Code that asks for Keras gets TensorFlow's own.
    assert {"keras", "keras.src.layers.core.dense"} <= modules_of(
        "from alexnet_jax.data.tensorflow import tf\nimport os\ntf.keras.layers.Dense\n"
        "assert 'TF_USE_LEGACY_KERAS' not in os.environ"
    )


def test_help_is_given_whatever_the_config_is() -> None:
    for wrong in ("--config.model.towers.x=1", "--config.=1", "--config=nowhere.py", "--mode=nosuch", "--restart=x"):
        done = launch_anew("--config=configs/digits.py", wrong, "--help")
        assert (done.returncode, "--mode" in done.stdout, done.stderr) == (0, True, "")


def test_describe_needs_no_data_and_makes_no_run(tmp_path: Path) -> None:
    done = launch_anew(
        "--config=configs/alexnet.py", "--mode=describe", f"--workdir={tmp_path / 'run'}", HOME=str(tmp_path)
    )
    found = result(done)
    assert found["parameters"] == 60_965_224
    assert found["neurons"] == 659_272
    assert found["flops_per_image"] == 1_448_813_632
    shapes = [layer["output_shape"] for layer in found["layers"] if len(layer["output_shape"]) == 3]
    assert [shape[0] for shape in shapes] == [55, 27, 27, 13, 13, 13, 13, 6]
    assert sum(layer["parameters"] for layer in found["layers"]) == 60_965_224
    assert re.search(r"conv2 +5x5x48 +1 +2,2 +own tower +27x27x256 +307,456", done.stderr)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_compiled_programs_are_kept_unless_a_flag_says_not(tmp_path: Path) -> None:
    compiled = tmp_path / "alexnet_jax" / "compiled"

    def communicate(cache: Path, *more: str) -> str:
        flags = (*SMALL, "--config.model.classes=10", "--mode=communication", f"--workdir={tmp_path / 'run'}", *more)
        done = launch_anew(*flags, XDG_CACHE_HOME=str(cache), JAX_COMPILATION_CACHE_DIR="")
        assert result(done)["bytes_per_step"] > 0
        return done.stderr

    communicate(tmp_path, "--nocompilation_cache")
    assert not compiled.exists()
    communicate(tmp_path)
    (program,) = compiled.glob("jit_train_step-*-cache")
    written = program.stat().st_mtime_ns
    assert "arning" not in communicate(tmp_path)
    assert [path.stat().st_mtime_ns for path in compiled.glob("jit_train_step-*-cache")] == [written]
    (tmp_path / "file").write_text("")
    communicate(tmp_path / "file")


def test_prepare_says_where_the_data_is(data_dir: Path) -> None:
    found = result(launch("--config=configs/digits.py", "--mode=prepare", f"--config.data.data_dir={data_dir}"))
    assert found["examples"] == 1437
    assert Path(found["data_dir"]) == data_dir / "digits_72" / "1.0.0"
    assert (Path(found["data_dir"]) / "preprocessing.npz").is_file()


def test_prepared_pictures_go_to_the_cache_where_the_data_is_read_only(data_dir: Path, tmp_path: Path) -> None:
    from alexnet_jax.data.prepared import prepare

    config = digits.get_config()
    config.data.data_dir = str(data_dir)
    config.data.resize = 70
    (data_dir / "digits_70").touch()  # stops a superuser, too, unlike a permission
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path))
        made = prepare.open_or_prepare(config)
        assert made.folder.is_relative_to(tmp_path)
        assert training_statistics(made, config).mean_image.shape == (70, 70, 3)
        assert prepare.open_or_prepare(config).folder == made.folder
    (data_dir / "digits_70").unlink()


def test_the_default_workdir_is_the_configs_name() -> None:
    from absl import flags

    with flags_as_before():
        flag_definitions.define_flags()
        flags.FLAGS(["launch.py"])
        assert command_line._workdir("configs/digits.py") == Path.cwd() / "runs" / "digits"
        assert command_line._workdir("configs/alexnet.py:one_gpu") == Path.cwd() / "runs" / "alexnet-one_gpu"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--config.train.batch_sise=3",), ("config.train.batch_sise", "--config.train.batch_size")),
        (("--config.trian.epochs=3",), ("config.trian.epochs", "--config.train.epochs")),
        (("--config.train.batch_size=many",), ("config.train.batch_size", "many")),
        (("--config.=1",), ("--config. is not a field", "the nearest is --config.")),
        (("--config.train.batch_size=0",), ("config.train.batch_size", "at least 1")),
        (("--config.model.dropout=1.5",), ("config.model.dropout", "1.5", "probability")),
        (("--config.train.epochs=inf",), ("config.train.epochs", "finite")),
        (("--config.train.seed=99999999999999999999",), ("config.train.seed", "2^31")),
        (("--config.model.kernels=(24,64,96,96,'a')",), ("config.model.kernels", "whole numbers")),
        (("--config.model.kernels=(24.0,64,96,96,64)",), ("config.model.kernels", "whole numbers")),
        (("--config.schedule.boundaries=('a','b')",), ("config.schedule.boundaries", "numbers")),
        (("--config.data.crop=80",), ("config.data.crop", "80", "config.data.resize")),
        (("--config.data.crop=20",), ("pool2", "config.data.crop")),
        (("--config.mesh.model=3",), ("config.mesh.model", "1 or 2")),
        (
            ("--config.mesh.data=3", "--config.mesh.model=1"),
            ("config.train.batch_size", "multiple of 3"),
        ),
        (("--config.model.kernels=(24,63,96,96,64)",), ("conv2 has 63", "config.model.kernels")),
        (("--config.model.dtype=int8",), ("config.model.dtype", "bfloat16")),
        (("--config.schedule.kind=cosine",), ("config.schedule.kind", "plateau")),
        (("--config.schedule.boundaries=(9.0,3.0)",), ("config.schedule.boundaries", "rising")),
        (("--config.evaluate.views=3",), ("config.evaluate.views",)),
        (("--mode=trian",), ("mode", "trian")),
        (("--nosuchflag=1",), ("nosuchflag",)),
        (("stray",), ("stray",)),
    ],
)
def test_a_mistake_is_one_sentence(flags: tuple[str, ...], words: tuple[str, ...], tmp_path: Path) -> None:
    sentence = refusal(launch_here("--config=configs/digits.py", f"--workdir={tmp_path / 'run'}", *flags))
    for word in words:
        assert word in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), ("--config", "configs/digits.py")),
        (("--config=configs/none.py",), ("configs/none.py",)),
        (("--config=configs/digits.py:nosuch",), ("nosuch", "variant")),
    ],
)
def test_a_config_that_is_not_there_is_one_sentence(flags: tuple[str, ...], words: tuple[str, ...]) -> None:
    sentence = refusal(launch(*flags))
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("def get_config(): return 3", ("get_config that returns a ConfigDict",)),
        ("x = 1", ("get_config that returns a ConfigDict",)),
        ("def get_config(:", ("cannot be used",)),
        (
            "from configs import alexnet\ndef get_config():\n  c = alexnet.get_config()\n  c.modle = 3\n  return c",
            ("modle",),
        ),
        (
            "from configs import alexnet\ndef get_config():\n  c = alexnet.get_config().unlock()\n"
            "  del c.train.log_every\n  return c",
            ("config.train.log_every is missing",),
        ),
        (
            "from configs import alexnet\nfrom ml_collections import ConfigDict\ndef get_config():\n"
            "  c = alexnet.get_config().unlock()\n  c.empty = ConfigDict()\n  return c",
            ("config.empty is not a known field",),
        ),
    ],
)
def test_a_config_of_ones_own_is_checked(lines: str, words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(lines + "\n")
    sentence = refusal(launch_here(f"--config={tmp_path / 'own.py'}", "--mode=describe"))
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    ("mode", "flag"),
    [("evaluate", "--runs"), ("figures", "--ensemble"), ("describe", "--runs"), ("train", "--ensemble")],
)
def test_run_folders_replace_a_config_only_in_modes_that_take_them(mode: str, flag: str) -> None:
    assert "--config is missing" in refusal(launch_here(f"--mode={mode}", f"{flag}=/nowhere"))


def test_two_towers_on_one_accelerator_are_refused(tmp_path: Path) -> None:
    sentence = refusal(
        launch_anew(*SMALL, f"--workdir={tmp_path / 'run'}", "--config.mesh.model=2", JAX_NUM_CPU_DEVICES="1")
    )
    assert "asks for 2 devices" in sentence and "--config.mesh.model" in sentence


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("imagenet2012", ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "--config.data.manual_dir")),
        ("cifar10", ("not prepared", "tfds build cifar10", "--config.data.data_dir")),
        ("nosuchset", ("nosuchset", "--config.data.name")),
        ("glue", ("glue", "--config.data.name")),
    ],
)
def test_a_dataset_that_is_not_there_says_how_to_get_it(name: str, words: tuple[str, ...], tmp_path: Path) -> None:
    flags = (f"--config.data.name={name}", f"--config.data.data_dir={tmp_path}", f"--workdir={tmp_path / 'run'}")
    sentence = refusal(launch_here("--config=configs/alexnet.py", *flags))
    for word in words:
        assert word in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["nosuch", "validation[:0%]"])
def test_a_split_that_is_not_there_is_one_sentence(split: str, data_dir: Path, tmp_path: Path) -> None:
    flags = (*SMALL, f"--config.data.data_dir={data_dir}", f"--workdir={tmp_path / 'run'}")
    assert split in refusal(launch(*flags, f"--config.evaluate.split={split}"))
    assert not (tmp_path / "run").exists()


def test_a_data_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", "/proc/data"):
        flags = (*SMALL, f"--workdir={tmp_path / 'run'}", f"--config.data.data_dir={folder}")
        assert "data" in refusal(launch(*flags, XDG_CACHE_HOME=str(tmp_path / "file")))


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("data.prepared_dir=/dev/null", "'/dev/null' is not a folder; set --config.data.prepared_dir"),
        ("data.name=digits:9.9.9", "which is not a dataset of TFDS, or not in that version; set --config.data.name"),
        ("mesh.data=500", "asks for 1000 devices (data 500 x model 2) and this machine has 64"),
    ],
)
def test_an_impossible_config_is_refused_before_anything_is_prepared(flag: str, words: str, tmp_path: Path) -> None:
    flags = (*SMALL, f"--config.data.data_dir={tmp_path / 'data'}", f"--workdir={tmp_path / 'run'}")
    done = launch(*flags, f"--config.{flag}", "--config.train.batch_size=500", "--config.evaluate.batch_size=500")
    assert words in refusal(done)
    assert not (tmp_path / "run").exists() and "preparing" not in done.stderr


def test_a_workdir_that_cannot_be_written_is_one_sentence(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for workdir in (tmp_path / "file" / "run", "/proc/run"):
        sentence = refusal(launch(*SMALL, f"--config.data.data_dir={data_dir}", f"--workdir={workdir}"))
        assert f"--workdir={workdir}" in sentence and "cannot be written" in sentence


def test_a_run_with_another_config_is_refused_with_the_differences(data_dir: Path, tmp_path: Path) -> None:
    flags = (*SMALL, f"--config.data.data_dir={data_dir}", f"--workdir={tmp_path / 'run'}", "--config.train.steps=2")
    first = result(launch(*flags))
    other = ("--config.optimizer.momentum=0.8", "--config.train.seed=1", "--config.model.dropout=0.4")
    sentence = refusal(launch(*flags, *other))
    for field in ("optimizer.momentum is 0.8 here and 0.9 there", "train.seed", "model.dropout"):
        assert field in sentence
    assert "dropout" in refusal(launch(*flags, "--mode=evaluate", *other))
    # What does not change the run may change: its end, the devices, the reports.
    allowed = ("--config.train.steps=3", "--config.mesh.model=1", "--config.train.log_every=1")
    done = launch(*flags, *allowed)
    assert result(done)["step"] == 3
    assert first["step"] == 2
    # config.json is what the run was last trained with, for all that reads it.
    assert "train.steps is 3 from here on and 2 until now" in done.stderr
    config = load_saved(tmp_path / "run")
    assert (config["train"]["steps"], config["mesh"]["model"]) == (3, 1)


def test_evaluating_a_folder_without_a_run_is_one_sentence(tmp_path: Path) -> None:
    sentence = refusal(launch_here(*SMALL, "--mode=evaluate", f"--workdir={tmp_path / 'none'}"))
    assert "holds no run" in sentence
    assert not (tmp_path / "none").exists()


def test_a_batch_larger_than_the_training_set_is_refused(data_dir: Path, tmp_path: Path) -> None:
    flags = (*SMALL, f"--config.data.data_dir={data_dir}", f"--workdir={tmp_path / 'run'}")
    sentence = refusal(launch_here(*flags, "--config.train.batch_size=2000"))
    assert "1437" in sentence and "--config.train.batch_size" in sentence


@pytest.mark.parametrize("get_config", [alexnet.get_config, digits.get_config])
def test_configs_are_complete_and_pass_their_own_check(get_config: Any) -> None:
    config = get_config()
    check_config(config)
    assert list(flatten(config)) == list(flatten(alexnet.get_config()))
    assert json.loads(config_to_json(config))["mesh"] == {"data": 0, "model": 0}


def test_a_file_name_with_a_line_break_stays_in_its_line(capfd: pytest.CaptureFixture[str]) -> None:
    say("a\nb \x1b[2J \udcff é 日本")
    assert capfd.readouterr().err == "a\\nb \\x1b[2J \\udcff é 日本\n"
