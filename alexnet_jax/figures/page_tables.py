"""The page's tables: the config beside the paper's, the network, the speed, the versions and the commands."""

import importlib.metadata
import json
import platform
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.config import config_file
from alexnet_jax.config.config import config_to_json
from alexnet_jax.config.fields import PATH_FIELDS, flatten
from alexnet_jax.loop.report import Line
from alexnet_jax.messages import UserError
from alexnet_jax.network import architecture
from alexnet_jax.network.architecture import Architecture, Conv, MaxPool
from alexnet_jax.network.stages import NAMES

PAPER = Path(__file__).with_name("paper.json")  # configs/alexnet.py's values, which a test compares with it
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-cpu", "tensorflow")
NAME = re.compile(r"[A-Za-z0-9_]+(:[A-Za-z0-9_]+)?")  # the name of a config in configs/
READS = {"image": "the picture", "own": "its own tower", "both": "all towers"}


@dataclass(frozen=True)
class Setting:
    """A field of the config."""

    name: str
    value: str
    paper: str
    differs: bool


def settings(config: ConfigDict) -> list[Setting]:
    """All fields of the config but the paths and the config's name."""
    ours = flatten(json.loads(config_to_json(config)))
    paper = flatten(json.loads(PAPER.read_text()))
    return [
        Setting(name, _said(value), _said(paper.get(name, "")), value != paper.get(name))
        for name, value in ours.items()
        if name not in (*PATH_FIELDS, "name")
    ]


def _said(value: Any) -> str:
    if isinstance(value, list):
        return f"({', '.join(map(_said, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value) if value != "" else "none"


def layers(net: Architecture) -> list[dict[str, str]]:
    """The network's table, a row for each layer; the last row is the sum."""
    rows = architecture.table(net)
    lines = []
    for row in rows:
        layer, window = row.layer, ""
        if isinstance(layer, Conv):
            window = f"{layer.size}x{layer.size}x{row.input_shape[-1]}, stride {layer.stride}"
        elif isinstance(layer, MaxPool):
            window = f"{layer.window}x{layer.window}, stride {layer.stride}"
        lines.append(
            {
                "name": row.name,
                "window": window,
                "reads": READS["own" if isinstance(layer, MaxPool) else layer.reads],
                "output": "x".join(map(str, row.output_shape)),
                "parameters": f"{row.parameters:,}" if row.parameters else "",
                "flops": f"{row.flops / 1e6:,.1f}" if row.flops else "",
                "then": ", ".join(NAMES[type(operation)].replace("_", " ") for operation in row.then),
            }
        )
    total = {"parameters": f"{sum(row.parameters for row in rows):,}"}
    total["flops"] = f"{sum(row.flops for row in rows) / 1e6:,.1f}"
    return [*lines, {"name": "sum", "window": "", "reads": "", "output": "", "then": "", **total}]


def commands(config: ConfigDict, workdir: Path) -> list[tuple[str, str]]:
    """What each is for, and the command, from the checkout's folder."""
    run, start = f"--workdir={shlex.quote(str(workdir))}", "python launch.py"
    known, options = _options(config)
    to_go_on = "Go on"
    if config.train.steps:
        to_go_on += ", or train longer with another --config.train.steps"
    elif not (config.train.least_steps or config.train.most_steps):  # which fix the epochs
        to_go_on += ", or train longer with another --config.train.epochs"
    if not known:
        to_go_on += "; name the config file with which the run began"
    return [
        (to_go_on, " ".join([start, f"--config={_file(config.name)}", run, *options])),
        ("Predict", f"{start} --mode=predict {run} PICTURES"),
        ("Evaluate on ten views", f"{start} --mode=evaluate {run} --config.evaluate.views=10"),
        ("Make this page again", f"{start} --mode=figures --figure=page {run}"),
        ("In Python", f"import alexnet_jax; net = alexnet_jax.load({str(workdir)!r})"),
    ]


def _file(name: str) -> str:
    base, colon, variant = name.partition(":")
    return shlex.quote(f"configs/{base}.py{colon}{variant}")


def _options(config: ConfigDict) -> tuple[bool, list[str]]:
    """Whether the config's file is found, and flags for the fields in which the run differs from it."""
    if not NAME.fullmatch(config.name):
        return False, []
    base, colon, variant = config.name.partition(":")
    try:
        theirs = flatten(config_file.of_checkout(f"configs/{base}.py{colon}{variant}"))
    except UserError:
        return False, []
    ours = flatten(config)
    differing = [name for name in ours if json.dumps(ours[name]) != json.dumps(theirs.get(name))]
    return True, [f"--config.{name}={shlex.quote(str(ours[name]))}" for name in differing]


def speed(lines: list[Line]) -> dict[str, str] | None:
    """Images per second in the log; None without lines. The first line is left out, as it includes the start."""
    rates = [line["images_per_second"] for line in lines if line.get("images_per_second")]
    rates = rates[1:] or rates
    if not rates:
        return None
    return {"median": f"{median(rates):,.0f}", "lowest": f"{min(rates):,.0f}", "highest": f"{max(rates):,.0f}"}


def versions() -> list[tuple[str, str]]:
    """The versions of Python and of the installed packages."""
    found = [("python", platform.python_version())]
    for name in PACKAGES:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
