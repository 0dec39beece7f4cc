"""`--mode=figures`: the figures of the paper, drawn from runs."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.figures import figure1
from alexnet_jax.messages import UserError, say
from alexnet_jax.modes import Invocation
from alexnet_jax.runs.meter import NotFinite


def run(config: ConfigDict | None, invocation: Invocation) -> dict[str, Any]:
    """Draws the figure that `--figure` names, of the runs of `--runs` or of runs that it trains.

    Args:
      config: of the runs to train, each with its own activation and learning rate; None with `--runs`.

    Raises:
      UserError: there is no such figure, or as the figure.
    """
    if invocation.figure != 1:
        raise UserError(f"--figure={invocation.figure} cannot be drawn; there is --figure=1")
    folders = [Path(folder).expanduser().absolute() for folder in invocation.runs]
    if not folders:
        assert config is not None
        folders = search(config, invocation.workdir)
    return figure1.compare(folders, invocation.workdir / "figure1.png")


def search(config: ConfigDict, workdir: Path) -> list[Path]:
    """Trains Figure 1's networks, each in a folder of `workdir`; finished ones stay.

    Both kinds of unit at every rate of the grid with the config's seed, and the fastest rate of each with more seeds.
    """
    folders = []
    for activation in figure1.ACTIVATIONS:
        seed = config.train.seed
        at = {rate: workdir / f"{activation}-{rate:g}" for rate in figure1.RATES}
        for rate, folder in at.items():
            _train(config, folder, activation, rate, seed)
        (fastest,) = figure1.fastest([figure1.curve(folder) for folder in at.values()], activation)
        folders.append(at[fastest.learning_rate])
        for other in range(seed + 1, seed + figure1.SEEDS):
            folders.append(workdir / f"{activation}-{fastest.learning_rate:g}-seed-{other}")
            _train(config, folders[-1], activation, fastest.learning_rate, other)
    return folders


def _train(config: ConfigDict, folder: Path, activation: str, rate: float, seed: int) -> None:
    from alexnet_jax.modes import train  # TensorFlow takes seconds to import, and drawing needs none

    one = config.copy_and_resolve_references()
    one.model.activation, one.optimizer.learning_rate, one.train.seed = activation, rate, seed
    try:
        train.run(one, Invocation(folder, restart=False))
    except UserError as error:  # a rate that is too high ends in NaN, and is not the fastest
        if not isinstance(error.__cause__, NotFinite):
            raise
        say(f"{activation} at {rate:g}: {error}")
