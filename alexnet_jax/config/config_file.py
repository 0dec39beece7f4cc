"""Loads a config file by its name on the command line, FILE[:VARIANT]."""

import inspect
import runpy
import sys
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.messages import UserError, say

CHECKOUT = Path(__file__).parents[2]  # the package's checkout, if it lies in one


def load(argument: str, init_from: str = "") -> ConfigDict:
    """Returns the config that the file's get_config makes.

    Args:
      argument: FILE[:VARIANT].
      init_from: the folder of a run whose layers a new run starts from. It is passed on if get_config has an argument
        with this name, as in configs/photos.py, which then trains differently.

    Raises:
      UserError: the file or variant does not exist, or the file makes no config.
    """
    path, _, variant = argument.partition(":")
    if not Path(path).is_file():
        what = "is a folder" if Path(path).is_dir() else "does not exist"
        raise UserError(f"--config names '{path}', which {what}; give a file, such as configs/digits.py")
    # So that `from configs import alexnet` works in it, wherever the program was started.
    sys.path.append(str(Path(path).resolve().parent.parent))
    try:
        get_config = runpy.run_path(path).get("get_config")
        takes = inspect.signature(get_config).parameters if get_config else {}
        given = {"init_from": init_from} if "init_from" in takes else {}
        config = get_config(*([variant] if variant else []), **given) if get_config else None
    except Exception as error:  # a user's config file may raise anything
        sentence, *rows = str(error).splitlines() or [type(error).__name__]
        if isinstance(error, ModuleNotFoundError) and error.name == "configs":
            sentence += "; configs/ is a folder of the checkout, so add the checkout to PYTHONPATH"
        for row in rows:  # the list of variants
            say(row)
        raise UserError(f"--config={argument} cannot be used: {sentence}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"--config={argument} has no get_config that returns a ConfigDict; see configs/digits.py")
    return config


def of_checkout(name: str) -> ConfigDict:
    """Loads a config that the user did not name, such as configs/alexnet.py, from here or from the package's checkout.

    Raises:
      UserError: neither has it: the package is installed without its configs, which stay in the checkout.
    """
    path = name.partition(":")[0]
    if Path(path).is_file():
        return load(name)
    if (CHECKOUT / path).is_file():
        return load(str(CHECKOUT / name))
    raise UserError(f"{path} is not in this folder; give its place in the checkout, --config=CHECKOUT/{name}")
