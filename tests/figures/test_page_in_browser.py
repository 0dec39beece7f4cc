"""The page in a real Chromium, where the machine has one: both themes, a phone, paper, and names that are HTML."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Dialog, Page, sync_playwright

from alexnet_jax.data.prepared import prepare
from alexnet_jax.modes import FiguresInvocation, figures
from tests.conftest import small_config
from tests.figures.made_up import made_up
from tests.figures.test_page import write_metrics

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; `apt-get install chromium` installs one"),
]

CLASS, FILE = "<img src=x onerror=alert(1)>", '"><img src=x>.jpg'
LEAST = 4.5  # contrast of text, WCAG 2.2 level AA

# The least contrast of any text that is seen, by WCAG's formula, and what does not reach the bound.
CONTRAST = """least => {
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const linear = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return luminance(colour);
      if (colour[3] > 0) throw new Error("a background that shows through");
    }
    throw new Error("no background");
  };
  const hasText = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  const found = [];
  for (const element of document.body.querySelectorAll("*:not(script)")) {
    if (!hasText(element) || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const one = luminance(parts(element.closest("svg") ? style.fill : style.color)), other = behind(element);
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    found.push([ratio, element.tagName, element.textContent.trim().slice(0, 40)]);
  }
  return {texts: found.length, bad: found.filter(([ratio]) => ratio < least)};
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run on a folder of pictures, one class and some files of which are called as HTML is written."""
    folder = tmp_path_factory.mktemp("html")
    rng = np.random.default_rng(0)
    for split, count in (("train", 5), ("validation", 2)):
        for name in (CLASS, "dog"):
            (folder / "photos" / split / name).mkdir(parents=True)
            for number in range(count):
                file = FILE if number == 0 else f"{number}.jpg"
                pixels = rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "photos" / split / name / file, "JPEG")
    config = small_config(folder / "data")
    config.data.name, config.data.manual_dir = "folder", str(folder / "photos")
    prepare.open_or_prepare(config)
    workdir = made_up(folder / 'a "run" <b>', config, (CLASS, "dog"))
    write_metrics(workdir)
    return Path(figures.run(None, FiguresInvocation(workdir, figure="page"))["picture"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Within a container Chromium's own sandbox cannot be had.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Opened:
    """The page as it is opened, with all that it asked for or complained of."""

    def __init__(self, browser: Browser, report: Path, **how: Any) -> None:
        self.page: Page = browser.new_page(**how)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self._dialog)
        self.page.goto(report.as_uri())

    def _dialog(self, dialog: Dialog) -> None:
        self.complaints.append(dialog.message)
        dialog.dismiss()

    def contrast(self) -> dict[str, Any]:
        """Of all text, also of what is folded."""
        self.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        return self.page.evaluate(CONTRAST, LEAST)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_in_both_themes_nothing_is_asked_for_and_all_can_be_read(browser: Browser, report: Path, theme: Any) -> None:
    opened = Opened(browser, report, color_scheme=theme, viewport={"width": 1200, "height": 900})
    page = opened.page
    pictures = page.evaluate(
        "[...document.images].map(i => [i.complete, i.naturalWidth, i.getAttribute('src').slice(0, 5)])"
    )
    assert len(pictures) == 2 + 4 + 4 * 7  # kernels; predictions; queries with six neighbours
    assert all(complete and width > 0 and source == "data:" for complete, width, source in pictures)
    found = opened.contrast()
    assert found["texts"] > 300 and found["bad"] == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (theme == "dark")
    assert opened.requests == [report.as_uri()] and opened.complaints == []
    page.evaluate("grey => { document.querySelector('h2').style.color = grey }", "#666" if dark else "#888")
    assert [tag for _, tag, _ in opened.contrast()["bad"]] == ["H2"]  # so the measure can fail
    page.close()


def test_names_that_are_html_are_text(browser: Browser, report: Path) -> None:
    opened = Opened(browser, report)
    page = opened.page
    assert page.title() == 'a "run" <b>' == page.inner_text("h1")
    assert page.locator("#confusions .matrix th").all_inner_texts()[1:3] == [CLASS, "dog"]
    assert page.locator("#predictions").get_by_text(CLASS).count() >= 4
    assert page.locator("#predictions").get_by_text(FILE).count() == 2
    alts = page.evaluate("[...document.querySelectorAll('#predictions img')].map(image => image.alt)")
    assert sum(FILE in alt for alt in alts) == 2
    assert page.locator('img[src="x"]').count() == 0 and page.locator("h1 *").count() == 0
    assert opened.complaints == []
    page.close()


def test_links_lead_where_they_say_and_curves_can_be_hovered(browser: Browser, report: Path) -> None:
    opened = Opened(browser, report, viewport={"width": 900, "height": 700})
    page = opened.page
    links = page.locator("a")
    assert links.count() == 9
    for number in range(links.count()):
        links.nth(number).click()
        assert page.evaluate("document.querySelector(':target h2').getBoundingClientRect().top > -1")
        assert page.evaluate("document.querySelector(':target h2').getBoundingClientRect().top < innerHeight")
    charts = page.locator("svg[data-points]")
    assert charts.count() == 2
    box = charts.nth(1).bounding_box()
    assert box is not None
    charts.nth(1).hover(position={"x": box["width"] - 8, "y": box["height"] / 2})
    assert page.locator("output").nth(1).inner_text() == "epoch 3: top-1 16.67 %"
    page.mouse.move(1, 1)
    assert page.locator("output").nth(1).inner_text() == ""
    assert opened.complaints == []
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_it(browser: Browser, report: Path, theme: Any) -> None:
    opened = Opened(
        browser, report, color_scheme=theme, viewport={"width": 360, "height": 700}, is_mobile=True, has_touch=True
    )
    assert opened.contrast()["bad"] == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 360
    sizes = opened.page.evaluate(
        "[...document.querySelectorAll('svg text')].map(one => one.getBoundingClientRect().height)"
    )
    assert min(sizes) > 8  # pixels
    opened.page.close()


def test_printed_it_is_black_on_white(browser: Browser, report: Path, tmp_path: Path) -> None:
    opened = Opened(browser, report, color_scheme="dark")
    opened.page.emulate_media(media="print")
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not opened.page.locator("nav").is_visible()
    assert opened.contrast()["bad"] == []
    opened.page.pdf(path=tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").stat().st_size > 20_000
    assert json.dumps(opened.complaints) == "[]"
    opened.page.close()
