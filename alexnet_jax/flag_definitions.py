"""The flags of the command line beside the fields of the config, and the text of --help."""

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, fields, replace
from pathlib import Path
from typing import Any

from absl import flags

from alexnet_jax.modes import FIGURES, INVOCATIONS, MODES, OF_A_CLUSTER, Invocation

USAGE = "python launch.py --config=FILE[:VARIANT] [--mode=MODE] [--workdir=DIR] [--config.KEY=VALUE ...] [FILES]"
EVERY = "Every mode"
CLUSTER = "Devices and clusters"
GROUPS = {  # what one wants to do: the modes for it; a flag stands with the first of its modes
    "Train a network": ("train",),
    "Your own pictures and other data": ("prepare",),
    "Use a trained network": ("evaluate", "predict", "features", "neighbours"),
    "Look at a network or a run": ("describe", "figures", "table"),
    "Carry a network in and out": ("import", "export"),
    CLUSTER: ("communication",),
}
WIDTH = 24  # columns for a flag's name


@dataclass(frozen=True)
class Flag:
    """One flag of the command line.

    Attributes:
      group: its heading in --help.
      type: of its value; a tuple is written with commas.
      default: '', () or None for no value.
      text: its line in --help.
      modes: the modes that have it; () for all.
      choices: the values that it may have; () for any.
    """

    name: str
    group: str
    type: type
    default: Any
    text: str
    modes: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()


def _flags_of_modes() -> tuple[Flag, ...]:
    """The flags that the modes' own classes declare, each once."""
    found: dict[str, Flag] = {}
    for mode in MODES:
        for own in _own_flags(mode):
            group = next(group for group, modes in GROUPS.items() if mode in modes)
            first = found.get(own.name, Flag(own.name, group, type(own.default), own.default, **own.metadata))
            found[own.name] = replace(first, modes=(*first.modes, mode))
    return tuple(found.values())


def _own_flags(mode: str) -> list[Field[Any]]:
    return [field for field in fields(INVOCATIONS[mode]) if field.metadata]


CONFIG = "The config file, FILE[:VARIANT]; --config.KEY=VALUE changes a field."
PROCESSES = f"{', '.join(OF_A_CLUSTER)}: "
FLAGS = (
    Flag("mode", EVERY, str, "train", "What to do, one of the modes above.", choices=tuple(MODES)),
    Flag("config", EVERY, str, "", CONFIG),
    Flag("workdir", EVERY, str, "", "The run's folder; by default runs/CONFIG or runs/CONFIG-VARIANT."),
    Flag("compilation_cache", EVERY, bool, True, "Keep compiled programs in the user's cache for the next start."),
    *_flags_of_modes(),
    Flag("coordinator", CLUSTER, str, "", f"{PROCESSES}HOST:PORT where process 0 listens.", OF_A_CLUSTER),
    Flag("processes", CLUSTER, int, None, f"{PROCESSES}how many processes run this command.", OF_A_CLUSTER),
    Flag("process", CLUSTER, int, None, f"{PROCESSES}the number of this process, from 0 on.", OF_A_CLUSTER),
)


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
    """What the mode gets: the run's folder, the files, and its own flags, which absl has parsed."""
    values: dict[str, Any] = {}
    for own in _own_flags(mode):
        value = flags.FLAGS[own.name].value
        values[own.name] = tuple(filter(None, value)) if isinstance(value, list) else value or own.default
    return INVOCATIONS[mode](workdir, tuple(files), **values)


def help_text() -> str:
    """The text of --help: the modes, then each flag in one line, grouped by what one wants to do."""
    lines = ["The two-GPU AlexNet of 2012 in JAX and Flax. See README.md.", "", f"  {USAGE}", "", "Modes, --mode=MODE:"]
    lines += [f"  {f'{mode}:':<{WIDTH}}{text}" for mode, text in MODES.items()]
    lines += ["", "Figures, --mode=figures --figure=NAME:"]
    lines += [f"  {f'{name}:':<{WIDTH}}{text}" for name, text in FIGURES.items()]
    for group in (EVERY, *GROUPS):
        modes = f" ({', '.join(GROUPS[group])})" if group in GROUPS else ""
        lines += ["", f"{group}{modes}:"]
        lines += [_line(flag) for flag in FLAGS if flag.group == group]
    return "\n".join([*lines, "", "--helpfull also lists the flags of absl."])


def _line(flag: Flag) -> str:
    name = f"--[no]{flag.name}" if flag.type is bool else f"--{flag.name}"
    default = ",".join(flag.default) if isinstance(flag.default, tuple) else flag.default
    return f"  {name:<{WIDTH}}{flag.text}{f' Default: {default}.' if default and flag.type is not bool else ''}"
