"""A config file, by its name on the command line: FILE[:VARIANT]."""

import inspect
import runpy
import sys
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.messages import UserError, say

CHECKOUT = Path(__file__).parents[2]  # where the package lies in one


def load(argument: str, init_from: str = "") -> ConfigDict:
    """What the file's get_config returns.

    Args:
      argument: FILE[:VARIANT].
      init_from: the folder of a run whose layers a new one starts from, for a get_config with an argument of that
        name, as that of configs/photos.py, which learns in another way then.

    Raises:
      UserError: there is no such file or variant, or it is no config.
    """
    path, _, variant = argument.partition(":")
    if not Path(path).is_file():
        what = "is a folder" if Path(path).is_dir() else "is not there"
        raise UserError(f"--config names '{path}', which {what}; give a file, such as configs/digits.py")
    # Its neighbours are found wherever the program was started: `from configs import alexnet`.
    sys.path.append(str(Path(path).resolve().parent.parent))
    try:
        get_config = runpy.run_path(path).get("get_config")
        takes = inspect.signature(get_config).parameters if get_config else {}
        given = {"init_from": init_from} if "init_from" in takes else {}
        config = get_config(*([variant] if variant else []), **given) if get_config else None
    except Exception as error:  # whatever a config file of the user's may raise
        sentence, *rows = str(error).splitlines() or [type(error).__name__]
        if isinstance(error, ModuleNotFoundError) and error.name == "configs":
            sentence += "; it is a folder of the checkout, which PYTHONPATH has to name"
        for row in rows:  # the variants there are
            say(row)
        raise UserError(f"--config={argument} cannot be used: {sentence}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"--config={argument} has no get_config that returns a ConfigDict; see configs/digits.py")
    return config


def of_checkout(name: str) -> ConfigDict:
    """A config by its name from the root, here or, failing that, beside the package; for one that nobody named.

    Raises:
      UserError: neither has it: the package is installed, and its configs stay in the checkout.
    """
    path = name.partition(":")[0]
    if Path(path).is_file():
        return load(name)
    if (CHECKOUT / path).is_file():
        return load(str(CHECKOUT / name))
    raise UserError(f"{path} is not here; name it where it lies, --config=CHECKOUT/{name}")
