"""The command line: flags -> config -> mode. See README.md, or --help."""

import difflib
import gc
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from alexnet_jax import cache, signals
from alexnet_jax.arguments import made_plain, value_of
from alexnet_jax.config import config_file
from alexnet_jax.config.config import check_config, config_of, flatten, load_saved, run_exists
from alexnet_jax.config.fields import PATH_FIELDS, PICTURE_FIELDS
from alexnet_jax.devices import cluster, launchers
from alexnet_jax.flag_definitions import define_flags
from alexnet_jax.jax_version import MOST_CPU_DEVICES, require_right_jax
from alexnet_jax.messages import UserError, as_json, say, say_error, say_of_the_end
from alexnet_jax.modes import (
    FIGURES,
    FILES,
    FLAGS,
    OF_A_CLUSTER,
    OF_A_RUN,
    OF_FILES,
    READ_DATA,
    TRAINED,
    WITHOUT_CONFIG,
    Invocation,
    require_figure,
)

flags.disclaim_key_flags()  # as defined_flags.py does
WRONG = {  # what absl's parsers say of a value, and what it must be
    r"invalid literal for int": "a whole number",
    r"could not convert string to float": "a number",
    r"Non-boolean argument": "true or false",
    r"as a ConfigDict": "one of its fields, with a dot: a group has no value of its own",
}


def main() -> None:
    """Runs the mode that the command line asks for, and ends the process.

    Its status: 0 done; 1 a mistake or a failure, said in a sentence; 75 stopped by a signal after all was saved;
    128 and a signal's number where there was nothing to save.
    """
    _make_up_for_what_is_missing()
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
    except BrokenPipeError:  # nobody reads the result
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if cluster.count() > 1:
            cluster.fail_by(error)
        raise


def _make_up_for_what_is_missing() -> None:
    """Streams that are closed, whose numbers files would get; a home, which containers may lack."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    if not sys.stderr:
        sys.stderr = open(os.devnull, "w")
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(Path(tempfile.gettempdir(), f"home-of-{os.getuid()}"))
        say(f"this user has no home folder: {os.environ['HOME']} stands for it")


def _run(argv: Sequence[str]) -> None:
    """Runs the mode and prints its result as one JSON object."""
    logging.set_verbosity(logging.FATAL)  # Orbax logs tracebacks of what is caught and said here
    require_right_jax()
    _require_right_environment()
    if argv[1:] and flags.FLAGS.mode not in OF_FILES:
        raise UserError(f"'{argv[1]}' is not expected; flags begin with --, see --help")
    for name, modes in FLAGS.items():
        if flags.FLAGS[name].present and flags.FLAGS.mode not in modes:
            raise UserError(
                f"--{name} is of --mode={' or '.join(modes)}, and the mode is {flags.FLAGS.mode}; leave one of them out"
            )
    flag = flags.FLAGS["config"]
    if flag.value is not None:
        check_config(flag.value)
        for place in PATH_FIELDS:  # a run keeps them, and is used from other folders, too
            group, field = place.split(".")
            if given := flag.value[group][field]:
                flag.value[group][field] = str(_absolute(given))
    invocation = Invocation(
        _workdir(value_of(sys.argv, "config"), flag.value),
        flags.FLAGS.restart,
        ensemble=tuple(filter(None, flags.FLAGS.ensemble)),
        runs=tuple(filter(None, flags.FLAGS.runs)),
        figure=flags.FLAGS.figure,
        dry_run=flags.FLAGS.dry_run,
        format=flags.FLAGS.format,
        weights=flags.FLAGS.weights,
        mean=flags.FLAGS.mean,
        classes=flags.FLAGS.classes,
        platforms=tuple(flags.FLAGS.platforms),
        files=tuple(argv[1:]),
        layers=tuple(name.strip() for name in flags.FLAGS.layer),
        output=flags.FLAGS.output or "",
        overwrite=flags.FLAGS.overwrite,
        reduce=flags.FLAGS.reduce or "",
        dtype=flags.FLAGS.dtype,
        features=flags.FLAGS.features or "",
        devices_per_host=flags.FLAGS.devices_per_host,
    )
    cache.keep_compiled_programs(flags.FLAGS.compilation_cache)
    _silence_libraries()
    if flags.FLAGS.mode in READ_DATA:
        say("starting TensorFlow and JAX")  # which takes seconds
    mode = _imported(f"alexnet_jax.modes.{FILES.get(flags.FLAGS.mode, flags.FLAGS.mode)}")
    _join()  # with all imported: on a slow disk that takes longer than a process may be silent
    if cluster.count() > 1:
        from alexnet_jax.runs.same_inputs import require_same_command

        require_same_command(flag.value, {"mode": flags.FLAGS.mode, **vars(invocation)})
    result = mode.run(flag.value, invocation)
    if cluster.index() == 0:
        print(as_json(result), flush=True)
    cluster.end()


def _imported(name: str) -> ModuleType:
    """The module, with no garbage collected while it is imported, nor what it made looked through afterwards.

    All of it stays, and to look through it anew again and again takes a sixth of a start.
    """
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()


def _join() -> None:
    """Joins the other processes, if the flags or a cluster's launcher say that there are some."""
    place = launchers.of_flags(flags.FLAGS.coordinator, flags.FLAGS.processes, flags.FLAGS.process)
    if flags.FLAGS.processes is None:
        place = launchers.found(os.environ)
    if place is None:
        return
    if flags.FLAGS.mode not in OF_A_CLUSTER or flags.FLAGS.ensemble:
        what = "--ensemble" if flags.FLAGS.ensemble else f"--mode={flags.FLAGS.mode}"
        raise UserError(f"{what} is of one process, and {place.processes} were started; start one")
    cluster.join(place)


def _silence_libraries() -> None:
    """Has what is written in C++ print nothing but its end; what fails is raised, and said here.

    XLA would print lines of 2,000 letters for every program that it finds in the cache, of features that it asks of
    no CPU. Before TensorFlow and JAX are imported.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def _require_right_environment() -> None:
    """Raises UserError for a variable that JAX cannot read and says little about."""
    given = os.environ.get("JAX_NUM_CPU_DEVICES", "")
    if given and not (given.isdigit() and 0 < int(given) <= MOST_CPU_DEVICES):
        raise UserError(
            f"the environment's JAX_NUM_CPU_DEVICES is '{given}' and must be from 1 to {MOST_CPU_DEVICES}; unset it, "
            "and as many are made as are needed"
        )


def _workdir(filename: str | None, config: ConfigDict | None = None) -> Path:
    """The run's folder, absolute: the flag's, or by the config's name and variant, or the mode's."""
    name, pictures = (config.name, config.data.manual_dir) if config is not None else ("", "")
    return _absolute(flags.FLAGS.workdir or f"runs/{_run_name(filename or flags.FLAGS.mode, name, pictures)}")


def _run_name(file: str, name: str, pictures: str) -> str:
    """By the config file and its variant; of configs/photos.py as the folder of the pictures is called."""
    path, _, variant = file.partition(":")
    if name == "photos" and pictures:
        return _absolute(pictures).name
    return f"{Path(path).stem}{'-' if variant else ''}{variant}"


def _absolute(folder: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(folder)))


def parse_command_line(argv: Sequence[str]) -> list[str]:
    """Parses the flags; for `absl.app.run`.

    The config file and the names of the fields are looked at first: what absl would say of them is
    a traceback.

    Raises:
      UserError: a flag, a config file, a variant or a field that does not exist, or a wrong type; or there is
        neither a config nor a run.
    """
    asks_for_help = any(argument.lstrip("-").startswith("help") for argument in argv)
    file = value_of(argv, "config")
    config = None if asks_for_help else _config_of(argv, file)
    if config is not None:
        fields = flatten(config)
        _require_known_fields(argv, sorted(fields))
        argv = made_plain(argv, fields)
    flags.FLAGS.set_gnu_getopt(True)  # files may stand between flags
    if asks_for_help:  # which does not depend on a config, whatever is wrong with it
        argv = [argument for argument in argv if not re.match(r"--?(no)?config\b", argument)]
    try:
        if config is not None:
            delattr(flags.FLAGS, "config")
            what = "The config; change a field with --config.KEY=VALUE."
            config_flags.DEFINE_config_dict("config", config, what, sys_argv=list(argv))
        rest = flags.FLAGS(list(argv))
    except SystemExit:  # absl calls help a failure
        sys.exit(0 if asks_for_help else 1)
    except flags.Error as error:
        raise UserError(_of_a_flag(str(error))) from error
    mode = flags.FLAGS.mode
    if mode == "figures":
        require_figure(flags.FLAGS.figure)
    by_runs = {"evaluate": flags.FLAGS.ensemble, "figures": flags.FLAGS.runs}.get(mode, mode in WITHOUT_CONFIG)
    if config is None and not by_runs:
        if mode == "figures" and flags.FLAGS["workdir"].present:
            others = ", ".join(name for name in FIGURES if name not in TRAINED)
            raise UserError(
                "--figure=1, which is drawn where no --figure is given, trains networks of its own by a --config; of "
                f"the run in --workdir there are {others}"
            )
        or_run = ", or --workdir=DIR, the folder of a run" if mode in OF_A_RUN else ""
        raise UserError(f"--config is missing; give one, such as --config=configs/digits.py{or_run}")
    return rest


def _of_a_flag(text: str) -> str:
    """What absl says of a flag, as a sentence in which no word of Python's stands."""
    text = text.splitlines()[0].rstrip(".")
    found = re.match(r"flag --([^=]+)=(.*?): (.*)", text)
    for said, needs in WRONG.items():
        if found and re.search(said, found[3]):
            return f"--{found[1]} is '{found[2]}' and must be {needs}"
    return f"{text}; see --help, and the config file for its fields"


def _config_of(argv: Sequence[str], file: str | None) -> ConfigDict | None:
    """The file's; or that of the run in --workdir, for a mode that uses one. Raises UserError if it cannot be read."""
    if file is not None:
        config = config_file.load(file, value_of(argv, "config.train.init_from") or "")
        return _with_data_of_the_run(argv, file, config) if value_of(argv, "mode") in OF_A_RUN else config
    workdir = value_of(argv, "workdir")
    mode, of_others = value_of(argv, "mode"), value_of(argv, "ensemble") or value_of(argv, "runs")
    if workdir is None or mode not in OF_A_RUN or of_others:
        return None
    if mode == "figures" and (value_of(argv, "figure") or flags.FLAGS["figure"].default) in TRAINED:
        return None
    return config_of(load_saved(_absolute(workdir)))


def _with_data_of_the_run(argv: Sequence[str], file: str, config: ConfigDict) -> ConfigDict:
    """The config with the data of the run that is used, if that is a run of this config: none has to be named again."""
    pictures = value_of(argv, "config.data.manual_dir") or ""
    workdir = _absolute(value_of(argv, "workdir") or f"runs/{_run_name(file, config.name, pictures)}")
    if run_exists(workdir) and value_of(argv, "ensemble") is None:
        theirs = config_of(load_saved(workdir))
        if theirs.name == config.name:
            of_data = [field for field in theirs.data if f"data.{field}" not in PICTURE_FIELDS]
            config.data.update({field: theirs.data[field] for field in of_data})
    return config


def _require_known_fields(argv: Sequence[str], known: list[str]) -> None:
    groups = {field.split(".")[0] for field in known}
    for argument in argv:
        field = re.match(r"--?(?:no)?config\.([^=]*)", argument)
        if field and field[1] not in known and field[1] not in groups:
            nearest = _nearest(field[1], known)
            raise UserError(f"--config.{field[1]} is no field of the config; the nearest is --config.{nearest}")


def _nearest(field: str, known: list[str]) -> str:
    """The field that was meant, most likely: the last word counts, and its initials, as in lr and wd."""
    word = field.rpartition(".")[2]
    last = {one: one.rpartition(".")[2] for one in known}
    by_initials = [one for one in known if "".join(part[:1] for part in last[one].split("_")) == word]
    by_word = difflib.get_close_matches(word, last.values(), 1, 0.75)
    by_word = [one for one in known if last[one] in by_word]
    return difflib.get_close_matches(field, by_initials or by_word or known, 1, 0)[0]
