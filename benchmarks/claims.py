"""The paper's claims on 60,000 pictures of clothes, in less than an hour on two free cores.

    python benchmarks/claims.py --data.manual_dir=DIR [--folder=DIR] [--quick]

DIR holds the four files of Fashion-MNIST (Debian's package dataset-fashion-mnist puts them into
/usr/share/datasets/fashion-mnist). The small two-tower network of configs/digits.py learns them unchanged, and then
with a single idea of the paper changed at a time, with three seeds each. Then Figure 1's four layers learn them, with
ReLUs and with tanh units, and with zeros and with ones in the biases of the hidden layers after the first. The plan
below was fixed before the first run. Finished runs in --folder (runs/claims by default) are not trained again, and an
interrupted run is resumed.

The table, with the time that it took, goes to benchmarks/results/claims/ and into docs/paper.md between the lines
<!-- claims: begin --> and <!-- claims: end -->. --quick makes a few steps of every run, which learn nothing; then the
table goes only to --folder. The last line is JSON.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ml_collections import ConfigDict

from alexnet_jax import cache
from alexnet_jax.messages import UserError, say
from benchmarks.claims_table import ACTIVATIONS, page_part, summary, table
from benchmarks.machine import CORES, cpu_model, versions
from benchmarks.machine import RESULTS as ALL_RESULTS
from benchmarks.record import write_json
from benchmarks.table import put_into_page
from configs import cifar10, digits

RESULTS = ALL_RESULTS / "claims"

RATE = 0.01  # the paper's learning rate, for all but the comparison of units
BIASES = (0.0, 1.0)  # initial biases of Figure 1's hidden layers


@dataclass(frozen=True)
class Plan:
    """Everything that decides what is run.

    Attributes:
      epochs: for the two-tower network.
      boundaries: the epochs at which its learning rate is divided by ten.
      rates: the learning rates for ReLUs and tanh units with the first seed; the best rate then runs with every seed.
      figure_epochs, figure_rates: for Figure 1's network.
      steps: steps of each run in place of its epochs; 0: by epochs.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: float = 1.8
    boundaries: tuple[float, ...] = (1.25, 1.6)
    rates: tuple[float, ...] = (0.003, 0.01, 0.03)
    figure_epochs: float = 0.35
    figure_rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1)
    steps: int = 0


WHOLE = Plan()
QUICK = Plan(seeds=(0,), boundaries=(), rates=(0.003, 0.01), figure_rates=(0.003, 0.03), steps=4)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and the change of the network that tests it.

    Attributes:
      paper: the change of the top-1 error, in the paper's words or numbers.
      changes: fields of the config.
    """

    name: str
    what: str
    where: str
    paper: str
    changes: dict[str, Any] = field(default_factory=dict)


CLAIMS = (
    Claim("no_lrn", "no response normalisation", "3.3", "+1.4", {"model.lrn": False}),
    Claim("pooling", "pooling 2/2 without overlap", "3.4", "+0.4", {"model.pool_window": 2}),
    Claim("no_dropout", "no dropout", "4.2", "+, overfitting", {"model.dropout": 0.0}),
    Claim("no_crops", "no crops", "4.1", "+, overfitting", {"augment.crops": False}),
    Claim("no_cross", "no cross connections", "run 150", "+1.2", {"model.cross_connections": False}),
    Claim(
        "one_tower",
        "one tower with half the kernels of conv1 to conv4",
        "3.2",
        "+1.7",
        {"model.towers": 1, "model.kernels": (12, 32, 48, 48, 64)},
    ),
)
TANH = Claim("tanh", "tanh units at their best rate", "3.1", "+, slower", {"model.activation": "tanh"})


def two_towers(plan: Plan, changes: dict[str, Any], rate: float, seed: int) -> ConfigDict:
    """The config of configs/digits.py with these fields changed."""
    config = digits.get_config()
    config.name = "claims"
    config.schedule.boundaries = plan.boundaries
    config.train.epochs, config.train.log_every = plan.epochs, 100
    config.train.stall_steps, config.train.checkpoint_minutes = 0, 2.0
    config.optimizer.learning_rate, config.train.seed = rate, seed
    config.evaluate.split, config.evaluate.batch_size = "test", 125
    config.update_from_flattened_dict(changes)
    return _ready(config, plan)


def four_layers(plan: Plan, activation: str, bias: float, rate: float, seed: int) -> ConfigDict:
    """The config of Figure 1's network."""
    config = cifar10.get_config(activation)
    config.model.hidden_bias = bias
    config.optimizer.learning_rate, config.train.seed = rate, seed
    config.train.epochs, config.train.log_every = plan.figure_epochs, 13
    config.evaluate.split, config.evaluate.batch_size = "test[:1000]", 125
    return _ready(config, plan)


def _ready(config: ConfigDict, plan: Plan) -> ConfigDict:
    """Sets the pictures, a single device for both towers, and evaluation only at the end."""
    config.data.name = "idx"
    config.mesh.data, config.mesh.model = 1, 1
    config.evaluate.least_steps = 1_000_000
    config.train.steps = plan.steps
    if plan.steps:
        config.train.batch_size, config.train.log_every = 300, 1
        config.evaluate.split, config.evaluate.batch_size = "test[:20]", 20
    return config


class Runs:
    """Trains each run in its own folder below `folder`, and records the seconds that each took."""

    def __init__(self, plan: Plan, manual_dir: str, folder: Path) -> None:
        self.plan, self.folder, self._manual_dir = plan, folder, manual_dir
        self._path = folder / "seconds.json"
        self.seconds: dict[str, float] = json.loads(self._path.read_text()) if self._path.exists() else {}

    def error(self, name: str, config: ConfigDict) -> float | None:
        """The test error at the run's end, in percent; None if its loss became NaN."""
        from alexnet_jax.loop.meter import NotFinite
        from alexnet_jax.modes import TrainInvocation, train

        marker, start = self.folder / name / "not_finite", time.perf_counter()
        if marker.exists():
            return None
        say(f"== {name}")
        config.data.manual_dir, config.data.data_dir = self._manual_dir, str(self.folder / "data")
        found: float | None = None
        try:
            found = 100 * train.run(config, TrainInvocation(self.folder / name), page=False)["top1_error"]
        except UserError as error:
            if not isinstance(error.__cause__, NotFinite):
                raise
            say(f"{name}: {error}")
            marker.touch()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        write_json(self._path, self.seconds)
        return found


def at_best_rate(runs: Runs, name: str, config_at: Callable[[float, int], ConfigDict]) -> tuple[float, list[float]]:
    """The learning rate with the lowest error for the first seed, and the errors of all seeds at that rate."""
    first, *more = runs.plan.seeds
    tried = {rate: runs.error(f"{name}-{rate:g}-seed{first}", config_at(rate, first)) for rate in runs.plan.rates}
    finite = {rate: error for rate, error in tried.items() if error is not None}
    if not finite:
        raise UserError(f"the loss of {name} became NaN at every learning rate")
    best = min(finite, key=lambda rate: finite[rate])
    others = (runs.error(f"{name}-{best:g}-seed{seed}", config_at(best, seed)) for seed in more)
    return best, [finite[best], *(error if error is not None else 100.0 for error in others)]


def two_tower_rows(runs: Runs) -> list[dict[str, Any]]:
    """A row for the unchanged network and for each claim: each seed's error, and its excess over the unchanged one."""

    def config_at(changes: dict[str, Any]) -> Callable[[float, int], ConfigDict]:
        return lambda rate, seed: two_towers(runs.plan, changes, rate, seed)

    def errors(name: str, changes: dict[str, Any]) -> list[float]:
        found = [runs.error(f"{name}-{RATE:g}-seed{seed}", config_at(changes)(RATE, seed)) for seed in runs.plan.seeds]
        return [100.0 if error is None else error for error in found]

    whole = errors("relu", {})
    rows = [{"what": "as it is", "where": "", "paper": "", "rate": RATE, "errors": whole}]
    rows += [_row(claim, RATE, errors(claim.name, claim.changes), whole) for claim in CLAIMS]
    rate, of_relus = at_best_rate(runs, "relu", config_at({}))
    rows.append({"what": "ReLUs at their best rate", "where": "3.1", "paper": "", "rate": rate, "errors": of_relus})
    rate, of_tanh = at_best_rate(runs, TANH.name, config_at(TANH.changes))
    return [*rows, _row(TANH, rate, of_tanh, of_relus)]


def _row(claim: Claim, rate: float, errors: Sequence[float], compared: Sequence[float]) -> dict[str, Any]:
    more = [ours - theirs for ours, theirs in zip(errors, compared, strict=True)]
    row = {"what": claim.what, "where": claim.where, "paper": claim.paper, "rate": rate, "errors": list(errors)}
    return {**row, "more": more, "verdict": verdict(more)}


def verdict(more: Sequence[float]) -> str:
    """Whether the error is higher, as in the paper: with every seed ("shows"), with no seed, or neither."""
    if all(difference > 0 for difference in more):
        return "shows"
    return "the other way" if all(difference < 0 for difference in more) else "does not show"


def figure_rows(runs: Runs) -> list[dict[str, Any]]:
    """For each bias the epochs to 25 % training error of ReLUs and of tanh units, each at its fastest rate."""
    from alexnet_jax.figures import figure1

    rows, (one_seed, *more) = [], runs.plan.seeds
    for bias in BIASES:
        row: dict[str, Any] = {"bias": bias}
        for activation in ACTIVATIONS:

            def train(rate: float, seed: int, activation: str = activation, bias: float = bias) -> Path:
                name = f"figure1-{activation}-bias{bias:g}-{rate:g}-seed{seed}"
                runs.error(name, four_layers(runs.plan, activation, bias, rate, seed))
                return runs.folder / name

            curves = [figure1.curve(train(rate, one_seed)) for rate in runs.plan.figure_rates]
            (first,) = figure1.fastest(curves, activation)
            rate = first.learning_rate
            every_seed = [first, *(figure1.curve(train(rate, seed)) for seed in more)]
            epochs = [curve.epochs_to_target for curve in every_seed]
            row[activation] = {"rate": rate, "epochs": [count if count < float("inf") else None for count in epochs]}
        rows.append(row)
    return rows


def measured(plan: Plan, manual_dir: str, folder: Path) -> dict[str, Any]:
    """Trains every run that is not finished, and returns the record."""
    folder.mkdir(parents=True, exist_ok=True)
    start, runs = time.perf_counter(), Runs(plan, manual_dir, folder)
    rows, figure = two_tower_rows(runs), figure_rows(runs)
    say(f"this command took {(time.perf_counter() - start) / 60:.1f} minutes")
    return {
        "command": "python benchmarks/claims.py --data.manual_dir=DIR",
        "machine": cpu_model(),
        "cores": CORES,
        "versions": versions(),
        "minutes": sum(runs.seconds.values()) / 60,
        "plan": asdict(plan),
        "rows": rows,
        "figure": figure,
        "seconds": runs.seconds,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains the runs that are not finished, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data.manual_dir", dest="manual_dir", required=True, help="the folder with Fashion-MNIST's four files"
    )
    parser.add_argument("--folder", default="runs/claims", help="the folder for the runs")
    parser.add_argument("--quick", action="store_true", help="a few steps of every run")
    given = parser.parse_args(arguments)
    cache.keep_compiled_programs(True)
    folder = Path(given.folder).absolute()
    try:
        record = measured(QUICK if given.quick else WHOLE, str(Path(given.manual_dir).absolute()), folder)
    except UserError as error:
        parser.exit(1, f"error: {error}\n")
    text = "\n".join([f"{record['minutes']:.0f} minutes on {record['machine']}.", "", *table(record)]) + "\n"
    say(text)
    results = folder if given.quick else RESULTS
    write_json(results / "claims.json", record)
    (results / "claims.md").write_text(f"{text}\n{summary(record)}\n")
    if not given.quick:
        put_into_page("docs/paper.md", "claims", page_part(record))
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
