"""Figure 1 on scikit-learn's digits, by the command that docs/paper.md gives for it.

    python benchmarks/figure1.py [--folder=DIR]

It trains 22 short runs, which takes some minutes on two cores, and writes docs/figure1-digits.png, and
docs/figure1-digits.json with the numbers in docs/paper.md. Finished runs in DIR are not trained again. The last line is
the same JSON.
"""

import argparse
import json
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine import ROOT, versions
from benchmarks.record import result_of, write_json

COMMAND = (
    "--config=configs/cifar10.py --mode=figures --figure=1 --config.data.name=digits "
    "--config.evaluate.split=validation --config.train.log_every=2 --config.train.epochs=8"
)


def main() -> None:
    """Trains, draws, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="the folder for the runs; by default a temporary one")
    named = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(named or temporary).absolute()
        found = result_of("launch.py", *shlex.split(COMMAND), f"--workdir={folder}")
        shutil.copy(folder / "figure1.png", ROOT / "docs" / "figure1-digits.png")
    record = {
        "command": f"python launch.py {COMMAND}",
        **{name: value for name, value in found.items() if name != "picture"},
        "versions": versions(),
    }
    write_json(ROOT / "docs" / "figure1-digits.json", record)
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
