"""The modes and their flags. A mode is a file here with run(config, invocation), which returns its JSON."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alexnet_jax.messages import UserError

MODES = {  # what each mode does; README has the same table
    "train": "a new run, or a run resumed from its newest checkpoint",
    "prepare": "the dataset made ready for training, with its mean image and RGB covariance",
    "evaluate": "loss and errors of a run's best or newest checkpoint on a whole split",
    "predict": "the likeliest classes of pictures, by a run's network",
    "features": "the outputs of a run's layers for pictures, as arrays in a folder",
    "neighbours": "the training pictures nearest to given pictures, by a run's features",
    "describe": "the network layer by layer: shapes, parameters, neurons, FLOPs, memory",
    "figures": "a figure of the paper or of a run, or a run on one page",
    "table": "the paper's tables, with published errors and the errors of your runs",
    "communication": "what crosses between the devices in one step, compiled and predicted",
    "import": "a run made from weights of Caffe, torchvision or this program",
    "export": "a run's weights for PyTorch or Caffe, as safetensors, or as a StableHLO program",
}
MODULES = {"import": "import_"}  # modes whose module has another name: `import` is a keyword
WITHOUT_CONFIG = ("table", "import", "export")  # modes that need no config
OF_A_RUN = ("evaluate", "predict", "features", "neighbours", "figures", "export")  # take the config from the run
READ_DATA = ("train", "prepare", "evaluate")  # always by TensorFlow
TAKE_FILES = ("predict", "features", "neighbours", "figures")  # take pictures' names after the flags
OF_A_CLUSTER = ("train", "prepare", "evaluate")  # may run on several processes
FIGURES = {  # what each figure shows
    "1": "training error by epoch, ReLUs against tanh units",
    "3": "the first layer's kernels in each tower, and how colourful they are",
    "4": "pictures with their five likeliest classes, and pictures with their nearest training pictures",
    "confusion": "which classes the network takes for which, and the errors of each class",
    "curves": "loss and errors by epoch",
    "page": "a run on one page, report.html",
}
PAGE = "report.html"  # in the run's folder
OF_SEVERAL_RUNS = ("1", "3", "curves")  # figures that take --runs
TRAINED = ("1",)  # figures that train their runs if none are named
IMPORTED = ("caffe", "torchvision", "safetensors")
EXPORTED = ("torch", "caffe", "safetensors", "stablehlo")


def flag(default: Any, text: str, choices: tuple[str, ...] = ()) -> Any:
    """A field that is also a flag of the command line, with its line in --help; '' is the default of no value."""
    return field(default=default, metadata={"text": text, "choices": choices})


@dataclass(frozen=True)
class Invocation:
    """What the command line gives every mode beside the config; each mode's own class adds its flags."""

    workdir: Path  # absolute
    files: tuple[str, ...] = ()  # pictures, folders of pictures, or - for a list on standard input


@dataclass(frozen=True)
class TrainInvocation(Invocation):
    """--mode=train."""

    restart: bool = flag(False, "Set aside the run that is in --workdir, and begin a new one.")


@dataclass(frozen=True)
class PrepareInvocation(Invocation):
    """--mode=prepare."""

    dry_run: bool = flag(False, "List the pictures and what is left out; decode and write nothing.")


@dataclass(frozen=True)
class EvaluateInvocation(Invocation):
    """--mode=evaluate."""

    ensemble: tuple[str, ...] = flag((), "evaluate: run folders, separated by commas, whose softmax is averaged.")


@dataclass(frozen=True)
class OutputInvocation(Invocation):
    """The modes that write where --output says."""

    output: str = flag(
        "", "predict: .csv or .jsonl; features: a folder; neighbours, figures: .png or .html; table: .md."
    )
    overwrite: bool = flag(False, "Replace what --output names.")


@dataclass(frozen=True)
class PredictInvocation(OutputInvocation):
    """--mode=predict."""


@dataclass(frozen=True)
class FeaturesInvocation(OutputInvocation):
    """--mode=features."""

    layer: tuple[str, ...] = flag((), "features: stages of the network, separated by commas: conv1, conv1/pool, fc7.")
    reduce: str = flag("", "features: mean averages each map over its positions.", ("mean",))
    dtype: str = flag("float32", "features: the type of the numbers in the files.", ("float32", "float16"))


@dataclass(frozen=True)
class NeighboursInvocation(OutputInvocation):
    """--mode=neighbours."""

    features: str = flag("", "neighbours: the folder of features to search; by default the training pictures.")


@dataclass(frozen=True)
class TableInvocation(OutputInvocation):
    """--mode=table."""

    runs: tuple[str, ...] = flag((), "figures, table: run folders, separated by commas.")


@dataclass(frozen=True)
class FiguresInvocation(TableInvocation):
    """--mode=figures."""

    figure: str = flag("1", "figures: which to draw, one of the figures above.")


@dataclass(frozen=True)
class CommunicationInvocation(Invocation):
    """--mode=communication."""

    devices_per_host: int = flag(0, "communication: devices in a host; reports which exchanges cross hosts.")


@dataclass(frozen=True)
class WeightsInvocation(Invocation):
    """The modes that carry weights in and out."""

    format: str = flag("", f"import: {', '.join(IMPORTED)}; export: {', '.join(EXPORTED)}.")
    weights: str = flag("", "import: the file to read; export: the file to make.")


@dataclass(frozen=True)
class ImportInvocation(WeightsInvocation):
    """--mode=import."""

    mean: str = flag("", "import from caffe: the mean that is subtracted, a .binaryproto or three numbers B,G,R.")
    classes: str = flag("", "import: a file with the name of one class on each line.")


@dataclass(frozen=True)
class ExportInvocation(WeightsInvocation):
    """--mode=export."""

    platforms: tuple[str, ...] = flag(("cpu", "cuda", "tpu"), "export to stablehlo: where the program is to run.")


INVOCATIONS: dict[str, type[Invocation]] = {
    "train": TrainInvocation,
    "prepare": PrepareInvocation,
    "evaluate": EvaluateInvocation,
    "predict": PredictInvocation,
    "features": FeaturesInvocation,
    "neighbours": NeighboursInvocation,
    "describe": Invocation,
    "figures": FiguresInvocation,
    "table": TableInvocation,
    "communication": CommunicationInvocation,
    "import": ImportInvocation,
    "export": ExportInvocation,
}


def require_figure(name: str) -> None:
    """Raises UserError, which lists the figures, if there is no such figure."""
    if name not in FIGURES:
        raise UserError(f"--figure={name} cannot be drawn; choose from {', '.join(FIGURES)}")
