"""The benchmark of the paper's claims: its tables, and, slowly, a few steps of every run."""

import gzip
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet_jax.config.config import check_config, flatten
from alexnet_jax.data.sources.idx import FILES
from benchmarks import claims, claims_table
from tests.conftest import ROOT, environment_of_a_user, part_of

RECORD: dict[str, Any] = {
    "machine": "a machine",
    "cores": 2,
    "minutes": 51.2,
    "versions": {"jax": "0.0"},
    "plan": {"epochs": 2.0},
    "rows": [
        {"what": "as it is", "where": "", "paper": "", "rate": 0.01, "errors": [12.0, 13.0, 14.0]},
        claims._row(claims.CLAIMS[0], 0.01, [12.5, 13.25, 14.75], [12.0, 13.0, 14.0]),
        claims._row(claims.CLAIMS[1], 0.01, [12.5, 12.0, 14.75], [12.0, 13.0, 14.0]),
        claims._row(claims.CLAIMS[2], 0.01, [11.0, 12.0, 13.0], [12.0, 13.0, 14.0]),
    ],
    "figure": [
        {"bias": 0.0, "relu": {"rate": 0.003, "epochs": [0.1, 0.2, 0.3]}, "tanh": {"rate": 0.03, "epochs": [0.4] * 3}},
        {"bias": 1.0, "relu": {"rate": 0.003, "epochs": [0.1] * 3}, "tanh": {"rate": 0.03, "epochs": [0.3, None, 0.3]}},
    ],
}


def test_a_sign_is_seen_when_every_seed_has_it() -> None:
    verdicts = [row.get("verdict") for row in RECORD["rows"]]
    assert verdicts == [None, "shows", "does not show", "the other way"]
    assert RECORD["rows"][1]["more"] == [0.5, 0.25, 0.75]
    assert claims.verdict([0.1, 0.0, 0.1]) == "does not show"


def test_the_table_has_means_and_spreads() -> None:
    lines = claims_table.table(RECORD)
    assert "| as it is |  |  | 0.01 | 13.00 (12.00 to 14.00) |  |  |" in lines
    assert "+0.50 (+0.25 to +0.75) | shows |" in lines[3] and "| 3.3 | +1.4 |" in lines[3]
    assert "| 0 | 0.20 (0.10 to 0.30) at 0.003 | 0.40 (0.40 to 0.40) at 0.03 | 2.0 |" in lines
    assert "| 0.30 (0.30 to 0.30), 1 never at 0.03 |  |" in lines[-1]


def test_the_summary_says_what_does_not_show_too() -> None:
    said = claims_table.summary(RECORD)
    assert "- A higher error for every seed, as in the paper: no response normalisation." in said
    assert "- Not told apart by three seeds: pooling 2/2 without overlap." in said
    assert "- A lower error for every seed: no dropout." in said
    lines = claims_table.page_part(RECORD).splitlines()
    assert "51 minutes" in lines[0] and "2.0 with biases of 0 (paper: 6)" in lines[-1]


def test_what_is_run_is_what_the_docstring_says() -> None:
    base = flatten(claims.two_towers(claims.WHOLE, {}, 0.01, 0))
    for claim in (*claims.CLAIMS, claims.TANH):
        config = claims.two_towers(claims.WHOLE, claim.changes, 0.01, 0)
        check_config(config)
        assert {name for name, value in flatten(config).items() if value != base[name]} == set(claim.changes)
    for activation in claims.ACTIVATIONS:
        check_config(claims.four_layers(claims.WHOLE, activation, 1.0, 0.003, 0))
    assert len(claims.WHOLE.seeds) == 3 and base["train.steps"] == 0


def test_the_page_has_what_was_measured() -> None:
    path = claims.RESULTS / "claims.json"
    record = json.loads(path.read_text()) if path.exists() else None
    assert part_of("docs/paper.md", "claims") == claims_table.page_part(record)
    if record:
        assert record["minutes"] < 60 and record["plan"]["seeds"] == list(claims.WHOLE.seeds)


def test_a_folder_without_the_files_is_a_sentence(tmp_path: Path) -> None:
    done = claim(tmp_path, tmp_path / "runs")
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.splitlines()[-1].startswith("error: ") and f"lacks {FILES['train'][0]}" in done.stderr
    assert "Traceback" not in done.stderr


def claim(manual_dir: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "benchmarks/claims.py",
        f"--data.manual_dir={manual_dir}",
        f"--folder={folder}",
        "--quick",
    ]
    environment = {**environment_of_a_user(), "JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}  # compiles faster
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_a_few_steps_of_everything_and_again_from_what_is_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 600), ("test", 100)):
        labels = np.arange(count, dtype=np.uint8) % 10
        pixels = rng.integers(0, 100, (count, 28, 28), dtype=np.uint8) + 15 * labels[:, None, None]
        for name, magic, array in zip(FILES[split], (0x803, 0x801), (pixels, labels), strict=True):
            head = struct.pack(f">{1 + array.ndim}I", magic, *array.shape)
            (tmp_path / name).write_bytes(gzip.compress(head + array.tobytes(), 1))
    done = claim(tmp_path, tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout.splitlines()[-1])
    assert len(record["rows"]) == len(claims.CLAIMS) + 3 and len(record["figure"]) == 2
    assert (tmp_path / "runs" / "claims.md").read_text().count("\n|") > 10
    again = claim(tmp_path, tmp_path / "runs")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[-1])["rows"] == record["rows"]
    assert "compiling the training step" not in again.stderr
