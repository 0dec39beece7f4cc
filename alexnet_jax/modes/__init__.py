"""What the program does, one file a mode, each with run(config, invocation) -> the JSON of its last line."""

from dataclasses import dataclass
from pathlib import Path

from alexnet_jax.messages import UserError

MODES = {  # name, which is the file's (but see FILES): what it does; README's table is this one
    "train": "a new run, or a run gone on with from its newest checkpoint",
    "prepare": "the dataset and its mean image and RGB covariance, ready for training",
    "evaluate": "loss and errors of a run's best or newest checkpoint on a whole split",
    "predict": "the likeliest classes of pictures, by a run's network",
    "features": "what layers of a run's network make of pictures, as arrays in a folder",
    "neighbours": "the training pictures that a run's network finds nearest to pictures",
    "describe": "the network layer by layer: shapes, parameters, neurons, FLOPs, memory",
    "figures": "a figure of the paper or of a run's own, or a run on one page",
    "table": "the paper's tables with published errors and those of the runs there are",
    "communication": "what crosses between the devices in one step, compiled and predicted",
    "import": "a run from weights of Caffe or torchvision, or of this program",
    "export": "a run's weights for PyTorch or Caffe, as safetensors, or as a StableHLO program",
}
FILES = {"import": "import_"}  # where the name is a word of Python's own
WITHOUT_CONFIG = ("table", "import", "export")  # modes that find theirs, or need none
OF_A_RUN = ("evaluate", "predict", "features", "neighbours", "figures", "export")  # need no config: the run's own
READ_DATA = ("train", "prepare", "evaluate")  # by TensorFlow, always
OF_FILES = ("predict", "features", "neighbours", "figures")  # have pictures named behind the flags
FIGURES = {  # name: what it shows
    "1": "training error by epoch, ReLUs against tanh units",
    "3": "the first layer's kernels of each tower, and how colourful they are",
    "4": "pictures with their five likeliest classes, and pictures with the nearest training pictures",
    "confusion": "which classes are taken for which, and the errors of each class",
    "curves": "loss and errors by epoch",
    "page": "a run on one page, report.html",
}
PAGE = "report.html"  # in the run's folder
OF_SEVERAL_RUNS = ("1", "3", "curves")  # figures that --runs is for
TRAINED = ("1",)  # figures whose runs are trained where none are named
OF_A_CLUSTER = ("train", "prepare", "evaluate")  # are done by many processes together, where there are many
FLAGS = {  # that some modes alone have, and which
    "restart": ("train",),
    "dry_run": ("prepare",),
    "format": ("import", "export"),
    "weights": ("import", "export"),
    "mean": ("import",),
    "classes": ("import",),
    "platforms": ("export",),
    "layer": ("features",),
    "output": (*OF_FILES, "table"),
    "overwrite": (*OF_FILES, "table"),
    "reduce": ("features",),
    "dtype": ("features",),
    "features": ("neighbours",),
    "devices_per_host": ("communication",),
    **dict.fromkeys(("coordinator", "processes", "process"), OF_A_CLUSTER),
}
IMPORTED = ("caffe", "torchvision", "safetensors")
EXPORTED = ("torch", "caffe", "safetensors", "stablehlo")


@dataclass(frozen=True)
class Invocation:
    """What the command line says beside the config."""

    workdir: Path  # absolute
    restart: bool  # set aside a run that is there
    ensemble: tuple[str, ...] = ()  # folders of runs whose softmax outputs are averaged
    runs: tuple[str, ...] = ()  # folders of runs that a table or a figure is made from
    figure: str = "1"  # one of FIGURES
    dry_run: bool = False  # list what would be prepared, and decode nothing
    format: str = ""  # of the weights, one of IMPORTED or EXPORTED
    weights: str = ""  # a file, to read or to make
    mean: str = ""  # a .binaryproto, or B,G,R
    classes: str = ""  # a file of names
    platforms: tuple[str, ...] = ()  # that a StableHLO program is for
    files: tuple[str, ...] = ()  # of pictures, folders of them, or - for a list on standard input
    layers: tuple[str, ...] = ()  # stages of the network
    output: str = ""  # the file or folder to write; empty: none, or the mode's own
    overwrite: bool = False  # replace what is there
    reduce: str = ""  # mean: of activations, over positions
    dtype: str = "float32"  # of activations that are written, or float16
    features: str = ""  # the folder of features to look among
    devices_per_host: int = 0  # of a mesh that is only described; 0: not said


def require_figure(name: str) -> None:
    """Raises UserError, which lists those there are, if it is none of FIGURES."""
    if name not in FIGURES:
        raise UserError(f"--figure={name} cannot be drawn; there are {', '.join(FIGURES)}")
