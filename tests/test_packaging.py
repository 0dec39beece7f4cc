"""Installed as a package: the wheel, and the program from any folder."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT, environment_of_a_user, launch_anew, refusal, result
from tests.test_launch import imported_by

PACKAGE = ROOT / "alexnet_jax"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built of a copy: a build leaves its folders beside its sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("alexnet_jax", "configs", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    subprocess.run([*command, "--wheel-dir", folder / "dist", folder], check=True)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_the_package_whole_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
        (points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "alexnet-jax = alexnet_jax.command_line:main" in archive.read(points).decode()
    sources = {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*.py")}
    data = ("py.typed", "weights/imagenet2012.tsv", "figures/page.html", "figures/paper.json")
    assert files == sources | {f"alexnet_jax/{name}" for name in data}


@pytest.mark.slow
def test_installed_it_runs_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)

    def run(code: str, *flags: str) -> subprocess.CompletedProcess[str]:
        environment = {**environment_of_a_user(), "PYTHONPATH": str(installed)}
        command = [sys.executable, "-c", code, *flags]
        return subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)

    assert Path(run("import alexnet_jax; print(alexnet_jax.__file__)").stdout).is_relative_to(installed)
    main = "from alexnet_jax.command_line import main; main()"
    flags = (f"--config={ROOT / 'configs' / 'digits.py'}", "--mode=describe")
    assert result(run(main, *flags)) == result(launch_anew(*flags))
    assert "such as --config=configs/digits.py" in refusal(run(main))
    assert not any(elsewhere.iterdir())


def test_the_package_alone_imports_nothing() -> None:
    assert imported_by("import alexnet_jax") - imported_by("") == {"alexnet_jax"}


def test_a_config_finds_its_neighbours_wherever_it_lies(tmp_path: Path) -> None:
    folder = tmp_path / "my_configs"
    folder.mkdir()
    (folder / "base.py").write_text("from configs.digits import get_config\n")
    (folder / "first.py").write_text("from my_configs.base import get_config\n")
    found = result(launch_anew(f"--config={folder / 'first.py'}", "--mode=describe"))
    assert found == result(launch_anew("--config=configs/digits.py", "--mode=describe"))
