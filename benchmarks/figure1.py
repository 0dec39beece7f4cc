"""Figure 1 on scikit-learn's digits: the second command of docs/paper.md for it, and what it gave.

    python benchmarks/figure1.py [--folder=DIR]

writes docs/figure1-digits.png, and docs/figure1-digits.json with the numbers of docs/paper.md. The last line is the
same JSON. 22 short runs, some minutes on two cores; those that are finished in DIR are not trained again.
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

ROOT = Path(__file__).resolve().parent.parent
COMMAND = (
    "--config=configs/cifar10.py --mode=figures --figure=1 --config.data.name=digits "
    "--config.evaluate.split=validation --config.train.log_every=2 --config.train.epochs=8"
)
PACKAGES = ("jax", "flax", "optax", "numpy")


def main() -> None:
    """Trains, draws, and writes down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="where the runs are left; by default they are removed")
    named = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(named or temporary).absolute()
        command = [sys.executable, "launch.py", *shlex.split(COMMAND), f"--workdir={folder}"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
        shutil.copy(folder / "figure1.png", ROOT / "docs" / "figure1-digits.png")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    record = {
        "command": f"python launch.py {COMMAND}",
        **{name: value for name, value in found.items() if name != "picture"},
        "versions": {"python": platform.python_version(), **versions},
    }
    (ROOT / "docs" / "figure1-digits.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
