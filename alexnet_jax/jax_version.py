"""Of jax without its import: which versions compute wrong numbers and are refused; what others have; a limit."""

import sys
from importlib import metadata

from alexnet_jax.messages import UserError

WRONG_JAX = {  # a release of jax and jaxlib: what is wrong with it; pyproject.toml leaves it out too
    "0.10.2": "wrong sums on CPU, jax-ml/jax#39103",
    # Which of the three has which fault is not known here, and no Python needs any of them.
    **dict.fromkeys(("0.11.0", "0.11.1", "0.11.2"), "crashes on CPU and NaNs on GPUs, jax-ml/jax#39257 and #40633"),
}
RIGHT_JAX = "0.10.1" if sys.version_info < (3, 12) else "0.12.0.1"  # requirements.txt's for this Python
ONEDNN_SINCE = (0, 12)  # before, XLA takes the option for oneDNN's convolutions and goes on without
MOST_CPU_DEVICES = 64  # virtual ones; XLA aborts at some hundreds


def require_right_jax() -> None:
    """Refuses an installed jax or jaxlib that is in the table.

    Raises:
      UserError: naming what is installed, what is right, and the command that installs that.
    """
    for package in ("jax", "jaxlib"):
        try:
            installed = metadata.version(package)
        except metadata.PackageNotFoundError:  # on the path without having been installed
            continue
        if installed in WRONG_JAX:
            raise UserError(
                f"{package} {installed} is installed, which is known to be wrong ({WRONG_JAX[installed]}); 0.10.1 is "
                "right, and on Python 3.12 and later 0.12: "
                f"{sys.executable} -m pip install jax=={RIGHT_JAX} jaxlib=={RIGHT_JAX} "
                f"(on a GPU 'jax[cuda12]=={RIGHT_JAX}')"
            )
