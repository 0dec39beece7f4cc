"""Figure 1 on scikit-learn's digits: README's second command of it, and with hidden biases of 0; what it gave.

    python benchmarks/figure1.py

writes docs/figure1-digits.png, and docs/figure1-digits.json with the numbers that README has. The last line is the
same JSON. 44 short runs: a quarter of an hour on two cores.
"""

import argparse
import importlib.metadata
import json
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from alexnet_jax.messages import say

ROOT = Path(__file__).resolve().parent.parent
COMMAND = (
    "--config=configs/cifar10.py --mode=figures --figure=1 --config.data.name=digits "
    "--config.evaluate.split=validation --config.train.log_every=2 --config.train.epochs=8"
)
WITHOUT_ONES = "--config.model.hidden_bias=0.0"
PACKAGES = ("jax", "flax", "optax", "numpy")


def drawn(folder: Path, *more: str) -> dict[str, Any]:
    """The JSON of the figure, whose runs lie in the folder."""
    command = [sys.executable, "launch.py", *shlex.split(COMMAND), f"--workdir={folder}", *more]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {name: value for name, value in found.items() if name != "picture"}


def main() -> None:
    """Trains, draws, and writes down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = drawn(Path(folder, "ones"))
        shutil.copy(Path(folder, "ones", "figure1.png"), ROOT / "docs" / "figure1-digits.png")
        say(json.dumps(found))
        without = drawn(Path(folder, "zeros"), WITHOUT_ONES)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    record = {
        "command": f"python launch.py {COMMAND}",
        "as_it_is": found,
        "with_hidden_biases_of_0": without,
        "versions": {"python": platform.python_version(), **versions},
    }
    (ROOT / "docs" / "figure1-digits.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
