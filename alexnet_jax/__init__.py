"""The two-GPU network of Krizhevsky, Sutskever and Hinton (2012), in JAX and Flax.

`load` opens a trained network for use from Python.
"""

import os

TYPE_CHECKING = False  # True to type checkers, as typing's own; importing that takes longer than all of this
if TYPE_CHECKING:
    from jax.sharding import Mesh

    from alexnet_jax.inference.net import Net


def load(workdir: "str | os.PathLike[str]", checkpoint: str = "best", mesh: "Mesh | None" = None) -> "Net":
    """The trained network of a run, for use: see `alexnet_jax.inference.net.Net`.

        net = alexnet_jax.load("runs/digits")
        net.predict("seven.png")

    Args:
      workdir: the run's folder, as training or an import left it.
      checkpoint: best (of lowest validation error) or newest; best is newest where nothing was validated.
      mesh: of devices, as `alexnet_jax.devices.towers.mesh_of` makes it; None: one device, JAX's first, which holds
        both towers.

    Raises:
      alexnet_jax.messages.UserError: there is no run, or no checkpoint that can be read.
    """
    from alexnet_jax.inference import net  # JAX takes seconds to import

    return net.load(workdir, checkpoint, mesh)
