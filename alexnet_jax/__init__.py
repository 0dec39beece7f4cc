"""The two-GPU network of Krizhevsky, Sutskever and Hinton (2012), in JAX and Flax.

`load` opens a trained network for use from Python.
"""

import os

TYPE_CHECKING = False  # True for type checkers, like typing's own, whose import takes longer than this file
if TYPE_CHECKING:
    from jax.sharding import Mesh

    from alexnet_jax.inference.net import Net


def load(workdir: "str | os.PathLike[str]", checkpoint: str = "best", mesh: "Mesh | None" = None) -> "Net":
    """A run's trained network, ready for use: see `alexnet_jax.inference.net.Net`.

        net = alexnet_jax.load("runs/digits")
        net.predict("seven.png")

    Args:
      workdir: the run's folder, made by training or by an import.
      checkpoint: "best", with the lowest validation error, or "newest"; without a validation, best means newest.
      mesh: the devices, from `alexnet_jax.devices.towers.mesh_of`; None for JAX's first device, which then holds both
        towers.

    Raises:
      alexnet_jax.messages.UserError: the folder holds no run, or no checkpoint that can be read.
    """
    from alexnet_jax.inference import net  # JAX takes seconds to import

    return net.load(workdir, checkpoint, mesh)
