"""The flags of the command line beside the fields of the config, and the text of --help."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from absl import flags

from alexnet_jax.modes import FIGURES, INVOCATIONS, MODES, OF_A_CLUSTER, Invocation

USAGE = "python launch.py --config=FILE[:VARIANT] [--mode=MODE] [--workdir=DIR] [--config.KEY=VALUE ...] [FILES]"
GROUPS = {  # what one wants to do: the modes for it; a flag stands with the first of its modes
    "Train a network": ("train",),
    "Your own pictures and other data": ("prepare",),
    "Use a trained network": ("evaluate", "predict", "features", "neighbours"),
    "Look at a network or a run": ("describe", "figures", "table"),
    "Carry a network in and out": ("import", "export"),
    "Devices and clusters": ("communication",),
}
WIDTH = 24  # columns for a flag's name


@dataclass(frozen=True)
class Flag:
    """One flag of the command line.

    Attributes:
      type: of its value; a tuple is given as one word with commas.
      default: '', () or None where there is none.
      text: its line in --help.
      modes: that have it; () for all.
      choices: the only values, if there are any.
      group: its heading in --help.
    """

    name: str
    type: type
    default: Any
    text: str
    modes: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    group: str = ""


def _flags() -> tuple[Flag, ...]:
    """All flags: those of every mode, those that the modes declare, and those of a cluster."""
    everywhere, cluster = "Every mode", "Devices and clusters"
    found = [
        Flag("mode", str, "train", "What to do, one of the modes above.", choices=tuple(MODES), group=everywhere),
        Flag(
            "config", str, "", "The config file, FILE[:VARIANT]; --config.KEY=VALUE changes a field.", group=everywhere
        ),
        Flag("workdir", str, "", "The run's folder; by default runs/CONFIG or runs/CONFIG-VARIANT.", group=everywhere),
        Flag("compilation_cache", bool, True, "Keep compiled programs for the next start.", group=everywhere),
    ]
    own = {one.name: one for invocation in INVOCATIONS.values() for one in fields(invocation) if one.metadata}
    for name, one in own.items():
        modes = tuple(mode for mode in MODES if name in {each.name for each in fields(INVOCATIONS[mode])})
        group = next(group for group, members in GROUPS.items() if modes[0] in members)
        meta = one.metadata
        found.append(Flag(name, type(one.default), one.default, meta["help"], modes, meta["choices"], group))
    return (
        *found,
        Flag("coordinator", str, "", "HOST:PORT where process 0 listens.", OF_A_CLUSTER, group=cluster),
        Flag("processes", int, None, "The number of processes, each with the same command.", OF_A_CLUSTER, (), cluster),
        Flag("process", int, None, "The number of this process, from 0 on.", OF_A_CLUSTER, (), cluster),
    )


FLAGS = _flags()


def define_flags() -> None:
    """Defines all flags for absl."""
    for flag in FLAGS:
        default = None if flag.default == "" else flag.default
        if flag.choices:
            flags.DEFINE_enum(flag.name, default, list(flag.choices), flag.text)
        elif flag.type is bool:
            flags.DEFINE_bool(flag.name, default, flag.text)
        elif flag.type is int:
            flags.DEFINE_integer(flag.name, default, flag.text)
        elif flag.type is tuple:
            flags.DEFINE_list(flag.name, list(flag.default), flag.text)
        else:
            flags.DEFINE_string(flag.name, default, flag.text)


def foreign_flag(mode: str, given: Mapping[str, flags.Flag]) -> Flag | None:
    """A flag that the command line gives and that the mode does not have, or None."""
    return next((flag for flag in FLAGS if flag.modes and given[flag.name].present and mode not in flag.modes), None)


def invocation(mode: str, workdir: Path, files: Sequence[str]) -> Invocation:
    """What the mode gets: the run's folder, the files, and the flags that are its own, as absl has parsed them."""
    values: dict[str, Any] = {}
    for one in fields(INVOCATIONS[mode]):
        if one.metadata:
            value = flags.FLAGS[one.name].value
            values[one.name] = tuple(filter(None, value)) if isinstance(value, list) else value or one.default
    return INVOCATIONS[mode](workdir, tuple(files), **values)


def help_text() -> str:
    """The text of --help: the modes, then each flag in one line, grouped by what one wants to do."""
    lines = ["The two-GPU AlexNet of 2012 in JAX and Flax. See README.md.", "", f"  {USAGE}", "", "Modes, --mode=MODE:"]
    lines += [f"  {f'{mode}:':<{WIDTH}}{text}" for mode, text in MODES.items()]
    lines += ["", "Figures, --mode=figures --figure=NAME:"]
    lines += [f"  {f'{name}:':<{WIDTH}}{text}" for name, text in FIGURES.items()]
    for group in ("Every mode", *GROUPS):
        modes = f" ({', '.join(GROUPS[group])})" if group in GROUPS else ""
        lines += ["", f"{group}{modes}:"]
        lines += [_line(flag) for flag in FLAGS if flag.group == group]
    return "\n".join([*lines, "", "--helpfull also lists the flags of absl."])


def _line(flag: Flag) -> str:
    name = f"--[no]{flag.name}" if flag.type is bool else f"--{flag.name}"
    default = ",".join(flag.default) if isinstance(flag.default, tuple) else flag.default
    return f"  {name:<{WIDTH}}{flag.text}{f' Default: {default}.' if default and flag.type is not bool else ''}"
