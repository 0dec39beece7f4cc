"""The page of a run: what stands in it, and that whatever goes wrong with it costs no training."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import alexnet_jax
from alexnet_jax.config.fields import flatten
from alexnet_jax.data.prepared import prepare
from alexnet_jax.figures import charts, page, page_tables
from alexnet_jax.figures.drawing import Place
from alexnet_jax.inference.neighbour_sources import StoredSplit
from alexnet_jax.messages import UserError
from alexnet_jax.modes import FiguresInvocation, figures
from configs import alexnet
from tests.conftest import ROOT, SMALL, environment_of_a_user, launch, result, small_config
from tests.figures.made_up import made_up


class Tables(HTMLParser):
    """The cells of every table, by the section that it stands in; and where pictures and links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[list[str]]]] = {}
        self.ids: set[str] = set()
        self.leads: list[str] = []
        self._section, self._in_cell = "", False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes where a section, a table, a row or a cell begins."""
        given = dict(attrs)
        self.ids |= {given["id"] or ""} if "id" in given else set()
        self.leads += [given[name] or "" for name in ("src", "href") if name in given]
        if tag == "section":
            self._section = given["id"] or ""
        if tag == "table":
            self.tables.setdefault(self._section, []).append([])
        if tag == "tr":
            self.tables[self._section][-1].append([])
        if tag in ("td", "th"):
            self.tables[self._section][-1][-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        """Notes where a cell ends."""
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        """Keeps what stands in a cell."""
        if self._in_cell:
            self.tables[self._section][-1][-1][-1] += data


@pytest.fixture(scope="module")
def workdir(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up run with made-up curves."""
    config = small_config(data_dir)
    config.optimizer.momentum = 0.5
    folder = made_up(tmp_path_factory.mktemp("runs") / "a run", config)
    write_metrics(folder)
    return folder


def write_metrics(folder: Path) -> None:
    """Three epochs of ten steps; the last validation is that of the checkpoint, step 0."""
    lines: list[dict[str, float]] = []
    for epoch in (1, 2, 3):
        training = {"epoch": epoch, "train/loss": 2.0 / epoch, "images_per_second": 1000.0 * epoch}
        validation = {"validation/loss": 1.0, "validation/top1_error": 0.5 / epoch, "validation/top5_error": 0.01}
        lines += [{"step": 10 * epoch, **training}, {"step": 10 * epoch, **validation}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="module")
def made(workdir: Path) -> tuple[dict[str, Any], str]:
    found = figures.run(None, FiguresInvocation(workdir, figure="page"))
    return found, (workdir / "report.html").read_text()


def test_one_small_file_that_leads_nowhere(made: tuple[dict[str, Any], str], workdir: Path) -> None:
    found, text = made
    assert found["picture"] == str(workdir / "report.html")
    assert found["bytes"] == len(text.encode()) < 5e6
    parsed = Tables(text)
    assert len(parsed.leads) > 40
    for lead in parsed.leads:
        assert lead.startswith("data:") or (lead.startswith("#") and lead[1:] in parsed.ids), lead[:80]
    assert not re.search(r"https?://|@import|url\(", text)


def test_what_it_says_is_so(made: tuple[dict[str, Any], str], workdir: Path) -> None:
    found, text = made
    tables = Tables(text).tables
    ours = {**flatten(small_config()), "optimizer.momentum": 0.5}
    paper = flatten(alexnet.get_config())
    differing = {name for name in paper if paper[name] != ours[name] and not name.startswith("data.data_dir")} - {
        "name"
    }
    first, every = tables["config"]
    assert {row[0] for row in first[1:]} == differing and ["optimizer.momentum", "0.5 ≠", "0.9"] in first
    assert {row[0] for row in every[1:] if "≠" in row[1]} == differing
    assert f"{len(differing)} of {len(every) - 1} fields differ" in text

    (layers,) = tables["network"]
    assert layers[1] == ["conv1", "11x11x3, stride 4", "the picture", "15x15x8", "2,912", "1.3", "relu, norm"]
    params = alexnet_jax.load(workdir).params
    assert layers[-1][4] == f"{sum(x.size for layer in params.values() for x in layer.values()):,}"

    confusions = figures.run(None, FiguresInvocation(workdir, figure="confusion"))
    matrix, pairs, worst = tables["confusions"]
    assert [[int(cell or 0) for cell in row[1:]] for row in matrix[1:]] == confusions["matrix"]
    assert found["errors"] == confusions["errors"]
    most = confusions["pairs"][0]
    assert pairs[1][:2] == [most["true"], most["guessed"]] and pairs[1][2].startswith(f"{most['count']} of ")
    assert worst[1][0] == confusions["errors_by_class"][0]["class"]

    drawn = figures.run(None, FiguresInvocation(workdir, figure="4"))
    for one in drawn["predictions"] + drawn["queries"]:
        assert f'alt="{one["file"]}"' in text
    for query in drawn["queries"]:
        for near in query["neighbours"]:
            assert f'alt="{near["name"]}"' in text and f"{near['distance']:.3g}" in text
    kernels = figures.run(None, FiguresInvocation(workdir, figure="3"))
    for tower in kernels["towers"]:
        assert f"mean saturation {tower['saturation']:.3f}, {100 * tower['opponent_share']:.1f} %" in text
    assert "Training: 2,500 images a second (median of the log's lines, 2,000 to 3,000)" in text
    sums = sum(int(row[3].replace(",", "")) for row in tables["devices"][0][1:])
    assert f"{sums:,} bytes cross between the devices in each step of 64 pictures" in text


def test_the_commands_are_those_that_go_on_with_the_run(workdir: Path, made: tuple[dict[str, Any], str]) -> None:
    import shlex

    from alexnet_jax.config.config import config_of, load_saved

    config = config_of(load_saved(workdir))
    (_, go_on), (_, predict), *_ = page_tables.commands(config, workdir)
    parts = shlex.split(go_on)
    assert parts[:2] == ["python", "launch.py"] and f"--workdir={workdir}" in parts
    assert "--config=configs/digits.py" in parts and "--config.optimizer.momentum=0.5" in parts
    assert "--config.model.kernels=(8, 16, 16, 16, 8)" in parts
    done = launch(*parts[2:], "--mode=describe")
    assert result(done)["layers"][0]["output_shape"] == [15, 15, 8]
    assert shlex.split(predict)[2:] == ["--mode=predict", f"--workdir={workdir}", "PICTURES"]
    config = small_config()
    config.name = "../elsewhere"
    assert page_tables.commands(config, workdir)[0][1].endswith(f"--workdir={shlex.quote(str(workdir))}")


def test_the_papers_values_are_those_of_its_config() -> None:
    """Where this fails, write json.dumps(alexnet.get_config().to_dict(), indent=2) to figures/paper.json."""
    assert json.loads(page_tables.PAPER.read_text()) == json.loads(json.dumps(alexnet.get_config().to_dict()))


@pytest.mark.parametrize(
    ("most", "steps"),
    [
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (30, [0, 5, 10, 15, 20, 25, 30]),
        (51.1, [0, 10, 20, 30, 40, 50]),
        (0.0043, [0, 0.001, 0.002, 0.003, 0.004]),
        (9e6, [0, 2e6, 4e6, 6e6, 8e6]),
    ],
)
def test_ticks_are_round(most: float, steps: list[float]) -> None:
    assert charts.round_steps(most) == pytest.approx(steps)


def test_where_points_lie() -> None:
    nan = float("nan")
    found = charts.chart("loss", "nats", [("training", "a", [(0, 5.0), (1, nan), (2, 0.0)]), ("none", "b", [])])
    assert found is not None
    (only,) = found.series
    top = charts.HEIGHT - charts.BOTTOM - (charts.HEIGHT - charts.TOP - charts.BOTTOM) * 5 / 5.2
    assert only.line == f"{charts.LEFT},{round(top, 1):g} {charts.WIDTH - charts.RIGHT},{charts.HEIGHT - charts.BOTTOM}"
    assert json.loads(found.hover) == [["training", [[46.0, 0, 5.0], [428.0, 2, 0.0]]]]
    many = [(float(epoch), 1.0) for epoch in range(10_001)]
    thin = charts.thinned(many)
    assert len(thin) <= charts.MOST + 1 and (thin[0], thin[-1]) == (many[0], many[-1])
    assert charts.chart("none", "", [("a", "a", [])]) is None


def test_where_the_pictures_cannot_be_had_the_rest_is_there(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    config.data.name, config.model.towers, config.mesh.data = "imagenet2012", 1, 1
    workdir = made_up(tmp_path / "imported", config, tuple("0123456789"))
    found = figures.run(None, FiguresInvocation(workdir, figure="page"))
    text = Path(found["picture"]).read_text()
    assert "errors" not in found
    assert text.count("pictures are not available") == 3 and "The run has no record of its training" in text
    assert "nothing is exchanged" in text and "8 kernels, mean saturation" in text and "Tower 1" not in text


def test_of_five_classes_there_is_no_top_5_error_and_what_fixes_the_epochs_is_not_advised(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    config.data.name, config.train.least_steps, config.train.epochs = "imagenet2012", 1500, 30
    for classes in (5, 6):
        workdir = made_up(tmp_path / str(classes), config, tuple("012345"[:classes]))
        write_metrics(workdir)
        at_start = {"step": 0, "validation/loss": 1.0, "validation/top1_error": 0.5, "validation/top5_error": 0.1}
        (metrics := workdir / "metrics.jsonl").write_text(f"{json.dumps(at_start)}\n{metrics.read_text()}")
        found = figures.run(None, FiguresInvocation(workdir, figure="page"))
        text = Path(found["picture"]).read_text()
        assert "50.00 %</b> top-1 error" in text
        assert ("top-5" in text) == (classes == 6)
    to_go_on = page_tables.commands(config, tmp_path)[0][0]
    assert to_go_on == "Go on"
    config.train.least_steps = 0
    assert page_tables.commands(config, tmp_path)[0][0].endswith("another --config.train.epochs")


@pytest.mark.slow
def test_one_picture_in_validation_and_22_000_classes(data_dir: Path, tmp_path: Path) -> None:
    config = small_config(data_dir)
    config.evaluate.split, config.model.classes = "validation[:1]", 22_000
    workdir = made_up(tmp_path / "run", config)
    found = figures.run(None, FiguresInvocation(workdir, figure="page"))
    text = Path(found["picture"]).read_text()
    assert found["examples"] == 1 and len(text) < 1e6
    assert "<b>22000</b> classes" in text and 'class="matrix"' not in text
    assert text.count('class="near"') == 1 and text.count("<li><span>") + text.count('<li class="true">') == 5


def test_of_many_training_pictures_some_files_are_gone_through(data_dir: Path) -> None:
    config = small_config(data_dir)
    gallery = StoredSplit(config, prepare.open_or_prepare(config), "train")
    assert gallery.some(10_000) == list(range(1437))
    lengths = gallery._squares.lengths
    few = gallery.some(100)
    assert len(few) == len(set(few)) == 100 and few[0] == 0
    assert few[-1] == sum(lengths[: next(i for i in range(1, 99) if sum(lengths[:i]) >= 100)]) - 1


def test_a_place_that_cannot_be_written_and_a_run_without_checkpoint(workdir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be written .* --output=FILE\.html"):
        page.make(alexnet_jax.load(workdir), None, "why", Place(Path("/proc/none/report.html")))
    with pytest.raises(UserError, match=r"is not FILE\.html"):
        figures.run(None, FiguresInvocation(workdir, figure="page", output=str(tmp_path / "page.png")))
    bare = made_up(tmp_path / "bare", small_config())
    for path in (bare / "checkpoints").iterdir():
        path.rename(tmp_path / path.name)
    with pytest.raises(UserError, match="checkpoint"):
        figures.run(None, FiguresInvocation(bare, figure="page"))
    assert not (bare / "report.html").exists()


def test_training_ends_with_a_page_and_well_where_there_can_be_none(data_dir: Path, tmp_path: Path) -> None:
    flags = (*SMALL, f"--config.data.data_dir={data_dir}", "--config.train.steps=2")
    (tmp_path / "bad" / "report.html").mkdir(parents=True)
    failed = launch(*flags, f"--workdir={tmp_path / 'bad'}", page=True)
    assert result(failed)["step"] == 2
    assert "the run has no page (" in failed.stderr and "--figure=page" in failed.stderr
    workdir = tmp_path / "good"
    done = launch(*flags, f"--workdir={workdir}", page=True)
    assert done.stderr.splitlines()[-1] == f"the run on one page: {workdir / 'report.html'}"
    assert result(done)["step"] == 2
    before = (workdir / "report.html").stat().st_mtime_ns
    again = launch(*flags, f"--workdir={workdir}", page=True)
    assert "is finished at step 2" in again.stderr and "one page" not in again.stderr
    assert (workdir / "report.html").stat().st_mtime_ns == before


WATCHED = """
import sys
from alexnet_jax import command_line
from alexnet_jax.modes import train

def loaded(*_):
    there = [name for name in sys.modules if name.startswith(("jinja2", "alexnet_jax.figures", "sklearn.neighbors"))]
    print("before the end:", there, file=sys.stderr)

train._leave_page = loaded
sys.argv = ["launch.py", *sys.argv[1:]]
command_line.main()
"""


def test_training_imports_nothing_of_it_before_its_end(data_dir: Path, tmp_path: Path) -> None:
    flags = (*SMALL, f"--config.data.data_dir={data_dir}", "--config.train.steps=1", f"--workdir={tmp_path / 'run'}")
    command = [sys.executable, "-c", WATCHED, *flags]
    done = subprocess.run(command, cwd=ROOT, env=environment_of_a_user(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "before the end: []"


def test_pictures_are_kept_as_they_are() -> None:
    rng = np.random.default_rng(0)
    for shape, kind in (((64, 64, 3), "png"), ((224, 224, 3), "jpeg"), ((35, 191, 3), "png")):
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        assert page._as_uri(image).startswith(f"data:image/{kind};base64,")
