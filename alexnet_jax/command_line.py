"""The command line: flags -> config -> mode. See README.md, or --help."""

import difflib
import gc
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from alexnet_jax import cache, signals
from alexnet_jax.config import config_file
from alexnet_jax.config.config import check_config, config_of, load_saved, run_exists
from alexnet_jax.config.fields import FIELDS, PATH_FIELDS, PICTURE_FIELDS, require_all_fields
from alexnet_jax.devices import cluster, launchers
from alexnet_jax.flag_definitions import define_flags, foreign_flag, help_text, invocation
from alexnet_jax.jax_version import MOST_CPU_DEVICES, require_right_jax
from alexnet_jax.messages import UserError, as_json, say, say_error, say_of_the_end
from alexnet_jax.modes import (
    FIGURES,
    MODULES,
    OF_A_CLUSTER,
    OF_A_RUN,
    READ_DATA,
    TAKE_FILES,
    TRAINED,
    WITHOUT_CONFIG,
    require_figure,
)

HELP = {"--help", "-help", "--helpshort", "-helpshort", "-?", "--?"}
TYPES = {field.name: field.type for field in FIELDS}
WRONG = {  # a pattern of absl's parsers, and what the value must be
    r"invalid literal for int": "a whole number",
    r"could not convert string to float": "a number",
    r"Non-boolean argument": "true or false",
    r"as a ConfigDict": "one of its fields, with a dot: a group has no value of its own",
}


def main() -> None:
    """Runs the mode that the command line asks for, and ends the process.

    Exit status: 0 done; 1 a mistake or a failure, with one sentence; 75 stopped by a signal after saving; 128 plus the
    signal's number if there was nothing to save.
    """
    _provide_streams_and_home()
    signals.listen()
    define_flags()
    try:
        app.run(_run, flags_parser=parse_command_line)
    except signals.Stopped as error:
        say_of_the_end(str(error))
        cluster.end(signals.STATUS)
        sys.exit(signals.STATUS)
    except UserError as error:
        say_error(str(error))
        cluster.fail(str(error))
        sys.exit(1)
    except BrokenPipeError:  # the reader of the result has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if cluster.count() > 1:
            cluster.fail_by(error)
        raise


def _provide_streams_and_home() -> None:
    """Opens closed standard streams, or files would get their numbers; names a home folder if the user has none."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if not sys.stderr:
        sys.stderr = open(os.devnull, "w")
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(Path(tempfile.gettempdir(), f"home-of-{os.getuid()}"))
        say(f"this user has no home folder: {os.environ['HOME']} is used instead")


def _run(command_line: tuple[ConfigDict | None, list[str]]) -> None:
    """Runs the mode and prints its result as one JSON object."""
    config, files = command_line
    mode = flags.FLAGS.mode
    logging.set_verbosity(logging.FATAL)  # Orbax logs tracebacks of errors that are caught and reported here
    require_right_jax()
    _require_right_environment()
    if files and mode not in TAKE_FILES:
        raise UserError(f"'{files[0]}' is not expected; flags begin with --, see --help")
    if foreign := foreign_flag(mode, flags.FLAGS):
        modes = " or ".join(foreign.modes)
        raise UserError(f"--{foreign.name} belongs to --mode={modes}, and the mode is {mode}; leave one of them out")
    if config is not None:
        check_config(config)
        for place in PATH_FIELDS:  # config.json keeps them, and the run is used from other folders, too
            group, field = place.split(".")
            if given := config[group][field]:
                config[group][field] = str(_absolute(given))
    asked = invocation(mode, _workdir(flags.FLAGS.config, config), files)
    cache.keep_compiled_programs(flags.FLAGS.compilation_cache)
    _silence_libraries()
    if mode in READ_DATA:
        say("starting TensorFlow and JAX")  # which takes seconds
    module = _imported(f"alexnet_jax.modes.{MODULES.get(mode, mode)}")
    _join(mode)  # after the imports: on a slow disk they take longer than a process may be silent
    if cluster.count() > 1:
        from alexnet_jax.runs.same_inputs import require_same_command

        require_same_command(config, {"mode": mode, **vars(asked)})
    result = module.run(config, asked)
    if cluster.index() == 0:
        print(as_json(result), flush=True)
    cluster.end()


def _imported(name: str) -> ModuleType:
    """The module, imported without garbage collection.

    All that an import makes stays, and looking through it again and again would take a sixth of a start.
    """
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()


def _join(mode: str) -> None:
    """Joins the other processes, if the flags or a cluster's launcher tell of any."""
    given = flags.FLAGS
    place = launchers.of_flags(given.coordinator, given.processes, given.process)
    if given.processes is None:
        place = launchers.found(os.environ)
    if place is None:
        return
    if mode not in OF_A_CLUSTER or given.ensemble:
        what = "--ensemble" if given.ensemble else f"--mode={mode}"
        raise UserError(f"{what} runs in one process, but {place.processes} were started; start only one")
    cluster.join(place)


def _silence_libraries() -> None:
    """Keeps the C++ of TensorFlow and JAX from printing; call it before they are imported.

    Their failures are raised and reported here. XLA would print lines of 2,000 letters for every cached program.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def _require_right_environment() -> None:
    """Raises UserError for a variable that JAX cannot read and says little about."""
    given = os.environ.get("JAX_NUM_CPU_DEVICES", "")
    if given and not (given.isdigit() and 0 < int(given) <= MOST_CPU_DEVICES):
        raise UserError(
            f"the environment variable JAX_NUM_CPU_DEVICES is '{given}' and must be from 1 to {MOST_CPU_DEVICES}; "
            "unset it, and JAX makes as many CPU devices as the mesh needs"
        )


def _workdir(file: str | None, config: ConfigDict | None = None) -> Path:
    """The run's folder, absolute: --workdir, or else by the config's name and variant, or by the mode."""
    name, pictures = (config.name, config.data.manual_dir) if config is not None else ("", "")
    return _absolute(flags.FLAGS.workdir or f"runs/{_run_name(file or flags.FLAGS.mode, name, pictures)}")


def _run_name(file: str, name: str, pictures: str) -> str:
    """The config file's name and its variant; for configs/photos.py, the name of the pictures' folder."""
    path, _, variant = file.partition(":")
    if name == "photos" and pictures:
        return _absolute(pictures).name
    return f"{Path(path).stem}{'-' if variant else ''}{variant}"


def _absolute(folder: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(folder)))


def parse_command_line(argv: Sequence[str]) -> tuple[ConfigDict | None, list[str]]:
    """Parses the flags into absl's FLAGS, then loads the config, then changes its fields; for `absl.app.run`.

    Returns:
      The config, or None for a mode that needs none; and the files that follow the flags.

    Raises:
      UserError: a flag, a config file, a variant or a field does not exist, or a value has the wrong type; or there is
        neither a config nor a run.
    """
    before_files = argv[: argv.index("--")] if "--" in argv else argv
    if HELP.intersection(before_files):
        print(help_text())
        sys.exit(0)
    flags.FLAGS.set_gnu_getopt(True)  # files may stand between flags
    try:
        rest = flags.FLAGS(_with_equals(argv), known_only=True)[1:]
    except SystemExit:  # after --helpfull, which absl ends as a failure
        sys.exit(0)
    except (flags.Error, ValueError) as error:
        raise UserError(_of_a_flag(str(error))) from error
    changes, files = _changes_and_files(rest)
    if flags.FLAGS.mode == "figures":
        require_figure(flags.FLAGS.figure)
    config = _config(changes)
    if config is not None:
        return _changed(config, changes), files
    _require_no_config_is_needed()
    if changes:
        raise UserError(
            f"--config.{next(iter(changes))} changes a config, but no config is given; give a config file with --config"
        )
    return None, files


def _with_equals(argv: Sequence[str]) -> list[str]:
    """The command line with `--config.KEY=VALUE` for `--config.KEY VALUE`, before absl takes its flags out of it.

    A field that is true or false may stand without a value. After `--` there are files, which stay as they are.

    Raises:
      UserError: a field has no value.
    """
    joined: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            return [*joined, word, *words]
        found = re.fullmatch(r"--?config\.([^=]*)", word)
        if found and TYPES.get(found[1], bool) is not bool:
            value = next(words, "--")
            if value.startswith("--"):
                raise UserError(f"--config.{found[1]} has no value; give --config.{found[1]}=VALUE")
            word = f"{word}={value}"
        joined.append(word)
    return joined


def _changes_and_files(rest: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """What absl has left of the command line: the fields' new values, by their names, and the files.

    A field that is given twice has the last value. A field that is true or false may stand without a value.
    """
    changes: dict[str, str] = {}
    files: list[str] = []
    words = iter(rest)
    for word in words:
        if word == "--":
            return changes, [*files, *words]
        found = re.fullmatch(r"--?(no)?config\.([^=]*)(=.*)?", word, re.DOTALL)
        if found:
            negated, name, value = found.groups()
            _require_field(name)
            is_bool = TYPES.get(name) is bool
            if negated and (value or not is_bool):
                raise UserError(
                    f"{word} is not a valid flag; --noconfig is only for a field that is true or false, and takes no "
                    "value"
                )
            changes[name] = value[1:] if value else "false" if negated else "true"
        elif word.startswith("-") and word.strip("-"):
            name = word.partition("=")[0]
            nearest = difflib.get_close_matches(name.lstrip("-"), list(flags.FLAGS), 1)
            hint = f"; the nearest is --{nearest[0]}" if nearest else ""
            raise UserError(f"{name} is not a flag{hint}; see --help for the flags, and the config file for its fields")
        else:
            files.append(word)
    return changes, files


def _require_field(name: str) -> None:
    """Raises UserError, which names the nearest field, if the config has no field or group with this name."""
    if name not in TYPES and name not in {field.partition(".")[0] for field in TYPES}:
        raise UserError(f"--config.{name} is not a field of the config; the nearest is --config.{_nearest(name)}")


def _nearest(name: str) -> str:
    """The field that was meant, most likely: the last word counts, and its initials, as in lr and wd."""
    word = name.rpartition(".")[2]
    last = {field: field.rpartition(".")[2] for field in sorted(TYPES)}
    by_initials = [field for field in last if "".join(part[:1] for part in last[field].split("_")) == word]
    close = difflib.get_close_matches(word, last.values(), 1, 0.75)
    by_word = [field for field in last if last[field] in close]
    return difflib.get_close_matches(name, by_initials or by_word or list(last), 1, 0)[0]


def _config(changes: Mapping[str, str]) -> ConfigDict | None:
    """The config before its fields are changed: the file's, or that of the run in --workdir, or None.

    Raises:
      UserError: it cannot be read.
    """
    given = flags.FLAGS
    if given.config is not None:
        config = config_file.load(given.config, changes.get("train.init_from", ""))
        require_all_fields(config)
        return _with_data_of_the_run(config, changes) if given.mode in OF_A_RUN else config
    if given.workdir is None or given.mode not in OF_A_RUN or given.ensemble or given.runs:
        return None
    if given.mode == "figures" and given.figure in TRAINED:
        return None
    return config_of(load_saved(_absolute(given.workdir)))


def _with_data_of_the_run(config: ConfigDict, changes: Mapping[str, str]) -> ConfigDict:
    """The config with the data of the run that is used, if the run has this config; so no data need be named again."""
    given = flags.FLAGS
    name = _run_name(given.config, config.name, changes.get("data.manual_dir", ""))
    workdir = _absolute(given.workdir or f"runs/{name}")
    if run_exists(workdir) and not given.ensemble:
        theirs = config_of(load_saved(workdir))
        if theirs.name == config.name:
            config.data.update({field: theirs.data[field] for field in theirs.data if field not in PICTURE_FIELDS})
    return config


def _changed(config: ConfigDict, changes: Mapping[str, str]) -> ConfigDict:
    """The config with the fields' new values, which ml_collections parses by the fields' types.

    Raises:
      UserError: a value has the wrong type.
    """
    fields = flags.FlagValues()
    argv = ["launch.py", *(f"--config.{name}={value}" for name, value in changes.items())]
    try:
        holder = config_flags.DEFINE_config_dict("config", config, flag_values=fields, sys_argv=argv)
        fields(argv)
    except flags.Error as error:
        raise UserError(_of_a_flag(str(error))) from error
    return holder.value


def _require_no_config_is_needed() -> None:
    """Raises UserError, which names what to give, for a mode that needs a config or a run."""
    given, mode = flags.FLAGS, flags.FLAGS.mode
    if {"evaluate": given.ensemble, "figures": given.runs}.get(mode, mode in WITHOUT_CONFIG):
        return
    if mode == "figures" and given["workdir"].present:
        others = ", ".join(name for name in FIGURES if name not in TRAINED)
        raise UserError(
            "--figure=1, which is drawn if no --figure is given, trains its own networks and needs a --config; for a "
            f"figure of the run in --workdir choose from {others}"
        )
    or_run = ", or --workdir=DIR, the folder of a run" if mode in OF_A_RUN else ""
    raise UserError(f"--config is missing; give a config file, such as --config=configs/digits.py{or_run}")


def _of_a_flag(text: str) -> str:
    """The sentence for what absl says about a flag, without words from Python."""
    text = text.splitlines()[0].rstrip(".").removeprefix("ERROR:: ")
    if missing := re.fullmatch(r"Missing value for flag (.*)", text):
        return f"{missing[1]} has no value; give {missing[1]}=VALUE"
    if found := re.match(r"flag --([^=]+)=(.*?): (.*)", text):
        if choices := re.search(r"value should be one of <(.*)>", found[3]):
            return f"--{found[1]} is '{found[2]}' and must be one of {choices[1].replace('|', ', ')}"
        for said, needs in WRONG.items():
            if re.search(said, found[3]):
                return f"--{found[1]} is '{found[2]}' and must be {needs}"
    return f"{text}; see --help, and the config file for its fields"
