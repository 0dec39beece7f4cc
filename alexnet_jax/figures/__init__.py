"""`--mode=figures`: the figures of the paper, one module each."""

from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.config import Invocation
from alexnet_jax.figures import figure1
from alexnet_jax.messages import UserError


def run(config: ConfigDict | None, invocation: Invocation) -> dict[str, Any]:
    """Draws the figure that `--figure` names. Raises UserError if there is none such."""
    if invocation.figure != 1:
        raise UserError(f"--figure={invocation.figure} cannot be drawn; there is --figure=1")
    return figure1.run(config, invocation)
