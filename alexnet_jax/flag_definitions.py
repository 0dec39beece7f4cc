"""The flags of the command line beside the fields of the config."""

from absl import flags
from ml_collections import config_flags

from alexnet_jax.modes import EXPORTED, FIGURES, IMPORTED, MODES, OF_A_CLUSTER

flags.disclaim_key_flags()  # they are those of the program that calls `main`, and its --help shows them


def define_flags() -> None:
    """Defines all, of every mode; `modes.FLAGS` says which mode has which."""
    config_flags.DEFINE_config_file(
        "config", None, "The config file, FILE[:VARIANT]; change a field with --config.KEY=VALUE."
    )
    flags.DEFINE_enum("mode", "train", list(MODES), "\n".join(f"{name}: {what}." for name, what in MODES.items()))
    flags.DEFINE_string("workdir", None, "The run's folder; runs/<config>[-<variant>] by default.")
    flags.DEFINE_bool("restart", False, "Set aside a run that is in the folder and begin anew.")
    flags.DEFINE_bool(
        "compilation_cache", True, "Keep compiled programs in the user's cache: the next start is faster."
    )
    flags.DEFINE_list("ensemble", [], "evaluate: folders of runs, with commas between; their softmax is averaged.")
    flags.DEFINE_list("runs", [], "figures, table: folders of runs, with commas between.")
    flags.DEFINE_bool("dry_run", False, "prepare: say what is there and what is left out, and decode nothing.")
    flags.DEFINE_string("figure", "1", "figures: " + "; ".join(f"{name}, {what}" for name, what in FIGURES.items()))
    flags.DEFINE_string(
        "format", "", f"import: {', '.join(IMPORTED)}; export: {', '.join(EXPORTED)}; of the file --weights."
    )
    flags.DEFINE_string("weights", "", "import: the file that is read; export: the file that is made.")
    flags.DEFINE_string("mean", "", "import of caffe: what is subtracted, a .binaryproto or three numbers B,G,R.")
    flags.DEFINE_string("classes", "", "import: a file with the name of a class a line.")
    flags.DEFINE_list("platforms", ["cpu", "cuda", "tpu"], "export of stablehlo: what the program is to run on.")
    flags.DEFINE_list("layer", [], "features: stages of the network, with commas between: conv1, conv1/pool, fc7.")
    flags.DEFINE_string(
        "output",
        None,
        "predict: FILE.csv or .jsonl; features: the folder to make; neighbours, figures: FILE.png (.html); table: .md.",
    )
    flags.DEFINE_bool("overwrite", False, "With --output: replace what is there.")
    flags.DEFINE_enum("reduce", None, ["mean"], "features: the mean over positions.")
    flags.DEFINE_enum("dtype", "float32", ["float32", "float16"], "features: of the numbers in the files.")
    flags.DEFINE_integer(
        "devices_per_host", 0, "communication: says which exchanges are between hosts of so many devices."
    )
    of_a_cluster = f"{', '.join(OF_A_CLUSTER)}: of a program of many processes, each with the same command"
    flags.DEFINE_string("coordinator", None, f"{of_a_cluster}: HOST:PORT, where process 0 is to be found.")
    flags.DEFINE_integer("processes", None, f"{of_a_cluster}: how many there are.")
    flags.DEFINE_integer("process", None, f"{of_a_cluster}: which one this is, from 0 on.")
    flags.DEFINE_string("features", None, "neighbours: the folder of features to look among.")
