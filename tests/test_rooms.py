"""Imports run downwards only, and no file or function is longer than a person reads at once."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "alexnet_jax"
FLOORS = (  # from the top down; a file beside the rooms is named as itself
    ("command_line", "flag_definitions"),
    ("modes",),
    ("figures",),
    ("loop",),
    ("inference",),
    ("runs",),
    ("config",),
    ("weights",),
    ("training",),
    ("network",),
    ("data/batches",),
    ("data/prepared",),
    ("data/sources",),
    ("data/decode",),
    ("data", "data/tensorflow"),
    ("devices",),
    ("cache", "files", "jax_version", "locks", "messages", "signals"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MOST_FILES, MOST_LINES, MOST_LINES_OF_A_FUNCTION = 16, 500, 60


def room_of(parts: tuple[str, ...]) -> str:
    """The room of a module, by the parts of its name: `data` has rooms of its own."""
    two = "/".join(parts[:2])
    return two if two in FLOOR else parts[0]


def imports_of(path: Path, package: Path) -> Iterator[str]:
    """The modules of the package that a file imports anywhere in it, by their dotted names in the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by a relative name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] == package.name:
                yield name.removeprefix(f"{package.name}.")


def upward(package: Path) -> list[str]:
    """One line for each import that runs up, naming both files."""
    found = []
    for path in sorted(package.rglob("*.py")):
        room = room_of(path.relative_to(package).with_suffix("").parts)
        for name in imports_of(path, package) if room != "__init__" else ():
            assert name != package.name, f"{path} imports the package itself"
            assert room in FLOOR, f"{path}: '{room}' is not in FLOORS; add it there"
            if FLOOR.get(room_of(tuple(name.split("."))), len(FLOORS)) < FLOOR[room]:
                target = package.joinpath(*name.split("."))
                while not (target.is_dir() or target.with_suffix(".py").is_file()):  # a name within a module
                    target = target.parent
                there = target if target.is_dir() else target.with_suffix(".py")
                found.append(f"{path.relative_to(package.parent)} imports {there.relative_to(package.parent)}")
    return found


def test_imports_run_downwards() -> None:
    assert upward(PACKAGE) == []


def test_an_import_that_runs_up_is_named_with_both_files(tmp_path: Path) -> None:
    package = tmp_path / "alexnet_jax"
    for room in ("modes", "network"):
        (package / room).mkdir(parents=True)
    (package / "modes" / "train.py").write_text("from alexnet_jax.network.ops import convolve\n")
    inside = "def late():\n    from alexnet_jax.modes.train import run\n    return run\n"
    (package / "network" / "ops.py").write_text(inside)
    assert upward(package) == ["alexnet_jax/network/ops.py imports alexnet_jax/modes/train.py"]


def test_every_program_that_may_hold_a_convolution_takes_the_compiler_options() -> None:
    without = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "jax.jit":
                if "compiler_options" not in {keyword.arg for keyword in node.keywords}:
                    without.append(ast.unparse(node.args[0]))
            assert "jax.jit" not in map(ast.unparse, getattr(node, "decorator_list", ())), path
    # Elementwise; draws; compiled where it is loaded.
    assert sorted(without) == [
        "finite_layers",
        "partial(_new_state, recipe)",
        "partial(probabilities, recipe, params, mean_image)",
    ]


def functions_with(holds: Callable[[ast.AST], bool]) -> set[str]:
    """FILE:FUNCTION for each function of the package with such a node in it; FILE: alone for one outside functions."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for node in filter(holds, ast.walk(tree)):
            names = [one.name for one in functions if any(node is inner for inner in ast.walk(one))]
            found.add(f"{path.relative_to(PACKAGE)}:{'.'.join(names)}")
    return found


def reads_model_classes(node: ast.AST) -> bool:
    """`model.classes`, or the same of a dictionary: `["model"]["classes"]`, `.get("classes")`."""
    if isinstance(node, ast.Attribute) and node.attr == "classes":
        return ast.unparse(node.value).split(".")[-1] == "model"
    if isinstance(node, ast.Subscript):
        return ast.unparse(node).endswith("['model']['classes']")
    return isinstance(node, ast.Call) and ast.unparse(node).endswith(".get('classes')")


def halves_the_room(node: ast.AST) -> bool:
    """`(a - b) // 2` of two sizes, or `room // 2`."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv) and ast.unparse(node.right) == "2"):
        return False
    left = node.left
    if isinstance(left, ast.BinOp) and isinstance(left.op, ast.Sub):
        return not isinstance(left.right, ast.Constant)
    return ast.unparse(left) == "room"


def test_the_number_of_classes_is_decided_in_one_function() -> None:
    assert functions_with(reads_model_classes) == {"config/config.py:number_of_classes"}


def test_where_the_centre_of_a_square_begins_is_computed_in_one_function() -> None:
    assert functions_with(halves_the_room) == {"data/__init__.py:centre_offset"}


def test_nothing_in_the_package_imports_the_checkout() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] not in ("configs", "benchmarks", "tests", "launch"), f"{path} imports {name}"


@pytest.mark.parametrize("folder", ["alexnet_jax", "benchmarks", "tests"])
def test_no_file_and_no_function_is_long(folder: str) -> None:
    long = {}
    for path in (ROOT / folder).rglob("*.py"):
        text = path.read_text()
        if (lines := text.count("\n")) > MOST_LINES:
            long[str(path)] = lines
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.FunctionDef)
                and (lines := 1 + (node.end_lineno or 0) - node.lineno) > MOST_LINES_OF_A_FUNCTION
            ):
                long[f"{path}: {node.name}"] = lines
    assert long == {}


def test_no_room_holds_many_files() -> None:
    rooms = {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE}
    assert {str(room): count for room in rooms if (count := len(list(room.glob("*.py")))) > MOST_FILES} == {}
