"""`--mode=figures`: draws the paper's figures and others from runs, and makes the page of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.figures import curves, drawing, figure1
from alexnet_jax.figures.drawing import Place
from alexnet_jax.files import require_free
from alexnet_jax.loop.meter import NotFinite
from alexnet_jax.messages import UserError, say
from alexnet_jax.modes import OF_SEVERAL_RUNS, PAGE, FiguresInvocation, TrainInvocation, require_figure
from alexnet_jax.runs.folder import open_run, require_same_classes, require_same_pictures, warn_of_other_pictures

NAMES = {
    "confusion": "confusion.png",
    "curves": "curves-by-epoch.png",
    "page": PAGE,
}  # the paper's figures: figureN.png


def run(config: ConfigDict | None, invocation: FiguresInvocation) -> dict[str, Any]:
    """Draws the figure that `--figure` names, from the runs of `--runs` or the run in `--workdir`.

    Figure 1 without `--runs` trains its runs first.

    Args:
      config: the run's config with the changes of the command line, for Figure 1 the config to train; None with
        `--runs`.

    Raises:
      UserError: the figure is unknown, has no run to draw, or cannot be written; or as the figure's own function.
    """
    name = str(invocation.figure)
    require_figure(name)
    if invocation.files and name != "4":
        raise UserError(
            f"'{invocation.files[0]}': only --figure=4 takes files, and the figure is {name}; leave the files out"
        )
    if invocation.runs and name not in OF_SEVERAL_RUNS:
        raise UserError(
            f"--runs is only for --figure={', '.join(OF_SEVERAL_RUNS)}; name one run with --workdir=DIR instead"
        )
    place = _place(invocation, NAMES.get(name, f"figure{name}.png"))
    drawing.require_writable(place)
    folders = [Path(folder).expanduser().absolute() for folder in invocation.runs]
    match name:
        case "1":
            return _figure1(config, folders, invocation.workdir, place)
        case "3":
            return _figure3(config, folders, invocation.workdir, place)
        case "4":
            return _figure4(config, invocation.workdir, invocation.files, place)
        case "curves":
            return curves.make([curves.of_run(open_run(folder)) for folder in folders or [invocation.workdir]], place)
        case "page":
            return _page(config, invocation.workdir, place)
        case "confusion":
            return _confusion(config, invocation.workdir, place)
    raise AssertionError(f"'{name}' is in FIGURES and has no case")


def _place(invocation: FiguresInvocation, name: str) -> Place:
    """Where the figure goes: the path of --output, or else the run's folder, where it replaces an older figure."""
    if not invocation.output:
        return Place(invocation.workdir / name)
    suffix = Path(name).suffix
    path = require_free(invocation.output, invocation.overwrite)
    if path.suffix.lower() != suffix:
        raise UserError(f"--output={invocation.output} is not FILE{suffix}; give it that ending")
    return Place(path, invocation.output)


def _figure1(config: ConfigDict | None, folders: list[Path], workdir: Path, place: Place) -> dict[str, Any]:
    if folders:
        return figure1.compare([figure1.curve(folder) for folder in folders], place.picture)
    assert config is not None
    return figure1.compare(search(config, workdir), place.picture)


def _figure3(config: ConfigDict | None, folders: list[Path], workdir: Path, place: Place) -> dict[str, Any]:
    from alexnet_jax.figures import figure3
    from alexnet_jax.inference.net import open_net

    if not folders:
        return figure3.make(figure3.kernels_of(open_net(workdir, config, "drawn")), place)
    return figure3.compare([figure3.kernels_of(open_net(folder, None, "drawn")) for folder in folders], place)


def _figure4(config: ConfigDict | None, workdir: Path, named: Sequence[str], place: Place) -> dict[str, Any]:
    from alexnet_jax.data.prepared import prepare
    from alexnet_jax.figures import figure4
    from alexnet_jax.inference import examples, inputs
    from alexnet_jax.inference.decode_pool import Rejected
    from alexnet_jax.inference.nearest import features_of_split
    from alexnet_jax.inference.neighbour_sources import StoredSplit
    from alexnet_jax.inference.net import open_net
    from alexnet_jax.modes.predict import require_some

    files = inputs.pictures_of(named) if named else []
    net = open_net(workdir, config, "drawn")
    rejected: list[Rejected] = []
    if files:
        left, rejected = examples.from_files(net.config.data, files, examples.PREDICTED)
        require_some(len(left.names), rejected)
        right = left.first(examples.QUERIED)
        if len(files) > len(left.names) + len(rejected):
            say(f"the first {len(left.names)} of {len(files)} pictures are drawn")
    source = prepare.open_or_prepare(net.config)
    warn_of_other_pictures(net.run, source.listing, source.folder)
    split, train = net.config.evaluate.split, net.config.data.train_split
    if not files:
        rows = examples.chosen(source.examples(split), net.config.train.seed)
        left, right = (examples.from_split(net.config, source, split, some) for some in rows)
    gallery = StoredSplit(net.config, source, train)
    blocks = features_of_split(net, source, train, figure4.layer_of(net))
    predicted = figure4.answers(net, left)
    queried = figure4.queries(net, right, gallery, blocks, range(source.examples(train)))
    called = dict(zip(net.classes, examples.called(net.classes, net.workdir, source.folder), strict=True))
    title = f"{net.workdir.name}, step {net.step}: {'files' if files else split}, neighbours by {figure4.layer_of(net)}"
    result = figure4.make(title, predicted, queried, called, place)
    return {**result, "rejected": [one._asdict() for one in rejected], "step": net.step, "workdir": str(net.workdir)}


def _confusion(config: ConfigDict | None, workdir: Path, place: Place) -> dict[str, Any]:
    from alexnet_jax.data.prepared import prepare
    from alexnet_jax.figures import confusion
    from alexnet_jax.inference import examples
    from alexnet_jax.inference.net import open_net

    net = open_net(workdir, config, "drawn")
    source, split = prepare.open_or_prepare(net.config), net.config.evaluate.split
    require_same_classes(net.run, source.classes, source.name)
    warn_of_other_pictures(net.run, source.listing, source.folder)
    found = confusion.of_split(net, source, split)
    called = examples.called(net.classes, net.workdir, source.folder)
    title = f"{net.workdir.name}, step {net.step}: {split}, {int(found.examples.sum())} pictures"
    result = confusion.make(title, found, called, place)
    return {**result, "views": net.config.evaluate.views, "step": net.step, "workdir": str(net.workdir)}


def _page(config: ConfigDict | None, workdir: Path, place: Place) -> dict[str, Any]:
    from alexnet_jax.data.prepared import prepare
    from alexnet_jax.figures import page
    from alexnet_jax.inference.net import open_net

    net = open_net(workdir, config, "drawn")
    source, why_not = None, ""
    try:
        source = prepare.open_or_prepare(net.config)
        require_same_classes(net.run, source.classes, source.name)
        require_same_pictures(net.run, source.listing, source.folder)
    except UserError as error:
        source, why_not = None, f"The run's pictures are not available: {error}."
        say(why_not)
    return page.make(net, source, why_not, place)


def search(config: ConfigDict, workdir: Path) -> list[figure1.Curve]:
    """Trains Figure 1's networks, each in a folder of `workdir`, and reads their curves; finished runs are kept.

    Trains each activation at every rate of the grid with the config's seed, then at its fastest rate with more seeds.

    Raises:
      UserError: the config has another network.
    """
    if config.model.network != "four_layers":
        raise UserError(
            f"--figure=1 needs the network of four layers, and config.model.network is '{config.model.network}'; give "
            "--config=configs/cifar10.py"
        )
    curves_of_seeds = []
    for activation in figure1.ACTIVATIONS:
        seed = config.train.seed
        of_rates = [
            _train(config, workdir / f"{activation}-{rate:g}", activation, rate, seed) for rate in figure1.RATES
        ]
        (fastest,) = figure1.fastest(of_rates, activation)
        curves_of_seeds.append(fastest)
        rate = fastest.learning_rate
        for other in range(seed + 1, seed + figure1.SEEDS):
            folder = workdir / f"{activation}-{rate:g}-seed-{other}"
            curves_of_seeds.append(_train(config, folder, activation, rate, other))
    return curves_of_seeds


def _train(config: ConfigDict, folder: Path, activation: str, rate: float, seed: int) -> figure1.Curve:
    from alexnet_jax.modes import train  # TensorFlow takes seconds to import, and drawing needs none

    one = config.copy_and_resolve_references()
    one.model.activation, one.optimizer.learning_rate, one.train.seed = activation, rate, seed
    try:
        train.run(one, TrainInvocation(folder), page=False)
    except UserError as error:  # too high a rate ends in NaN, so it is not the fastest
        if not isinstance(error.__cause__, NotFinite):
            raise
        say(f"{activation} at {rate:g}: {error}")
    return figure1.curve_of(folder, one)  # config.json is the same, so the run need not be opened again
