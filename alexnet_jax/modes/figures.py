"""`--mode=figures`: the figures of the paper, drawn from runs."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.figures import figure1
from alexnet_jax.messages import UserError, say
from alexnet_jax.modes import Invocation


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
    """Trains Figure 1's networks at every rate of its grid, each in a folder of `workdir`; finished ones stay."""
    from alexnet_jax.modes import train  # TensorFlow takes seconds to import, and drawing needs none

    folders = []
    for activation in figure1.ACTIVATIONS:
        for rate in figure1.RATES:
            one = config.copy_and_resolve_references()
            one.model.activation, one.optimizer.learning_rate = activation, rate
            folders.append(workdir / f"{activation}-{rate:g}")
            try:
                train.run(one, Invocation(folders[-1], restart=False))
            except UserError as error:  # a rate that is too high ends in NaN, and is not the fastest
                if not isinstance(error.__cause__, FloatingPointError):
                    raise
                say(f"{activation} at {rate:g}: {error}")
    return folders
