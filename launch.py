"""The one entry point: flags -> config -> mode. See README.md, or --help."""

import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from alexnet_jax import cache
from alexnet_jax import config as configs
from alexnet_jax.messages import UserError, say

MODES = {  # name: (module that owns it, what it does); README's table is this one
    "train": ("train", "a new run, or a run gone on with from its newest checkpoint"),
    "prepare": ("data.prepare", "the dataset and its mean image and RGB covariance, ready for training"),
    "evaluate": ("evaluate", "loss and errors of a run's best or newest checkpoint on a whole split"),
    "describe": ("describe", "the network layer by layer: shapes, parameters, neurons, FLOPs, memory"),
    "figures": ("figures", "a figure of the paper, drawn from runs"),
    "table": ("paper_table", "the paper's tables with published errors and those of the runs there are"),
    "communication": ("communication", "what crosses between the devices in one step, compiled and predicted"),
}

config_flags.DEFINE_config_file(
    "config", None, "The config file, FILE[:VARIANT]; change a field with --config.KEY=VALUE."
)
flags.DEFINE_enum("mode", "train", list(MODES), "\n".join(f"{name}: {what}." for name, (_, what) in MODES.items()))
flags.DEFINE_string("workdir", None, "The run's folder; runs/<config>[-<variant>] by default.")
flags.DEFINE_bool("restart", False, "Set aside a run that is in the folder and begin anew.")
flags.DEFINE_bool("compilation_cache", True, "Keep compiled programs in the user's cache: the next start is faster.")
flags.DEFINE_list("ensemble", [], "evaluate: folders of runs, with commas between; their softmax is averaged.")
flags.DEFINE_list("runs", [], "figures, table: folders of runs, with commas between.")
flags.DEFINE_integer("figure", 1, "figures: which one of the paper.")


def workdir(filename: str | None) -> Path:
    """The run's folder, absolute: the flag's, or by the config's name and variant, or the mode's."""
    path, _, variant = (filename or flags.FLAGS.mode).partition(":")
    default = f"runs/{Path(path).stem}{'-' if variant else ''}{variant}"
    return Path(os.path.abspath(os.path.expanduser(flags.FLAGS.workdir or default)))


def main(argv: Sequence[str]) -> None:
    """Runs the mode and prints its result as one JSON object."""
    logging.set_verbosity(logging.ERROR)
    if argv[1:]:
        raise UserError(f"'{argv[1]}' is not expected; flags begin with --, see --help")
    flag = flags.FLAGS["config"]
    if flag.value is not None:
        configs.check(flag.value)
    invocation = configs.Invocation(
        workdir(config_flags.get_config_filename(flag) if flag.value is not None else None),
        flags.FLAGS.restart,
        ensemble=tuple(flags.FLAGS.ensemble),
        runs=tuple(flags.FLAGS.runs),
        figure=flags.FLAGS.figure,
    )
    cache.keep_compiled_programs(flags.FLAGS.compilation_cache)
    mode = importlib.import_module(f"alexnet_jax.{MODES[flags.FLAGS.mode][0]}")
    print(json.dumps(mode.run(flag.value, invocation)), flush=True)


if __name__ == "__main__":
    try:
        app.run(main, flags_parser=configs.parse_command_line)
    except UserError as error:
        say(f"error: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        say("error: stopped by SIGINT")
        sys.exit(130)
