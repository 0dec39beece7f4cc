"""Facts about versions of jax, without importing it: the refused ones, oneDNN, and a limit on devices."""

import sys
from importlib import metadata

from alexnet_jax.messages import UserError

WRONG_JAX = {  # release of jax and jaxlib: its fault; pyproject.toml excludes the same releases
    "0.10.2": "wrong sums on CPU, jax-ml/jax#39103",
    # Nobody has tested which of these has which fault; no Python needs any of them.
    **dict.fromkeys(("0.11.0", "0.11.1", "0.11.2"), "crashes on CPU and NaNs on GPUs, jax-ml/jax#39257 and #40633"),
}
RIGHT_JAX = "0.10.1" if sys.version_info < (3, 12) else "0.12.0.1"  # the version in requirements.txt for this Python
ONEDNN_SINCE = (0, 12)  # earlier versions accept the option for oneDNN's convolutions and ignore it
MOST_CPU_DEVICES = 64  # virtual devices; XLA aborts at a few hundred


def require_right_jax() -> None:
    """Raises UserError if the installed jax or jaxlib is in WRONG_JAX.

    Raises:
      UserError: it names the installed version, the right one, and the command that installs it.
    """
    for package in ("jax", "jaxlib"):
        try:
            installed = metadata.version(package)
        except metadata.PackageNotFoundError:  # on the path, but not installed
            continue
        if installed in WRONG_JAX:
            raise UserError(
                f"the installed {package} {installed} is faulty ({WRONG_JAX[installed]}); 0.10.1 is right, and 0.12 on "
                "Python 3.12 and later: "
                f"{sys.executable} -m pip install jax=={RIGHT_JAX} jaxlib=={RIGHT_JAX} "
                f"(on a GPU 'jax[cuda12]=={RIGHT_JAX}')"
            )
