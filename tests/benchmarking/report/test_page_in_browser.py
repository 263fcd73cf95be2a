"""The page as a reader has it: in Chromium, at the width of a screen and of a phone."""

import shutil
from dataclasses import replace

import pytest

from nnunetv2_unet3plus.benchmarking.report.write import write_report
from tests.benchmarking.report import synthetic

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium")
WIDTHS = (1280, 390)
SMALLEST_TEXT = 9  # CSS pixels

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")

TEXTS = """() => {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.getClientRects().length) continue;
    const scale = element.ownerSVGElement ? element.getScreenCTM().a : 1;
    found.push([parseFloat(getComputedStyle(element).fontSize) * scale, walker.currentNode.data.trim()]);
  }
  return found;
}"""

OUTSIDE = """() => {
  const found = [];
  for (const svg of document.querySelectorAll("svg")) {
    const frame = svg.getBoundingClientRect();
    if (frame.width < 100 || frame.right > innerWidth + 1) found.push("the figure itself");
    for (const each of svg.querySelectorAll("text, use, path")) {
      if (each.closest("defs, clipPath")) continue;
      const box = each.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1
          || box.bottom > frame.bottom + 1) found.push(each.textContent || each.outerHTML);
    }
  }
  for (const image of document.images) {
    const frame = image.getBoundingClientRect();
    if (!image.naturalWidth || frame.width < 100 || frame.right > innerWidth + 1) found.push(image.alt);
  }
  return found;
}"""

TABLES = """() => [...document.querySelectorAll("table")].map(table => {
  const box = table.closest(".scroll");
  box.scrollLeft = 1e6;
  const heads = [...table.querySelectorAll("tbody th[scope=row]")];
  const left = box.getBoundingClientRect().left;
  return {rows: heads.length, stuck: heads.every(each => Math.abs(each.getBoundingClientRect().left - left) < 2),
          scrolled: box.scrollLeft > 0, narrow: box.getBoundingClientRect().right <= innerWidth + 1};
})"""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Opened:
    """A report in the browser, all that can be opened opened."""

    def __init__(self, browser, file, width, scheme="light"):
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(file.as_uri())
        self.page.wait_for_load_state("networkidle")
        self.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")

    def check(self, file):
        assert {url for url in self.requests if not url.startswith("data:")} == {file.as_uri()}
        assert self.complaints == []
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        texts = self.page.evaluate(TEXTS)
        assert len(texts) > 100
        assert [text for size, text in texts if size < SMALLEST_TEXT] == []
        assert self.page.evaluate(OUTSIDE) == []
        tables = self.page.evaluate(TABLES)
        assert all(table["stuck"] and table["narrow"] for table in tables)
        return tables


@pytest.mark.parametrize("width", WIDTHS)
def test_everything_can_be_read(browser, ordinary, width):
    file = ordinary[1] / "report.html"
    opened = Opened(browser, file, width)
    tables = opened.check(file)
    assert all(table["rows"] for table in tables)
    assert any(table["scrolled"] for table in tables) == (width == 390)
    count = opened.page.locator
    for section in ("test", "validation"):
        assert count(f"#{section} table.summary tbody tr").count() == 4
        assert count(f"#{section} table.classes tbody th[scope=row]").count() == 2 * 4
        assert count(f"#{section} table.pairs").count() == 3 * 3
        assert count(f"#{section} figure.forest svg").count() == 3
        assert count(f"#{section} figure.ranks svg").count() == 3
        assert count(f"#{section} .boxes svg").count() == 2 * 3
    assert count("#cost svg").count() == 6
    assert count("#training svg").count() == 2 * 4
    assert count("#cases img").count() == 3 * (2 + 4)
    assert count("#papers table").count() == 1
    assert count("#models tbody tr").count() == 4
    assert count("header .settings dt").count() == 8


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """Many models, long names, far outliers."""
    folder = tmp_path_factory.mktemp("crowded")
    names = [f"nnUNetTrainerWithAVeryLongNameThatGoesOnAndOnWithoutASpace{index}" for index in range(12)]
    models = [synthetic.model(name, index, epochs=3) for index, name in enumerate(names)]
    cases = synthetic.case_table(names, 5, ("liver",), ("validation",))
    cases["hd95"] *= 1000
    write_report(replace(synthetic.small(), models=models, cases=cases, problems=["long" * 200]), folder)
    return folder / "report.html"


@pytest.mark.parametrize("width", WIDTHS)
def test_many_models_with_long_names(browser, crowded, width):
    Opened(browser, crowded, width).check(crowded)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dark_and_light(browser, ordinary, scheme):
    page = Opened(browser, ordinary[1] / "report.html", 1280, scheme).page
    for element, style, is_paper in (("body", "backgroundColor", True), ("text[style*='--ink']", "fill", False)):
        colour = page.evaluate(f'getComputedStyle(document.querySelector("{element}")).{style}')
        channels = [int(channel) for channel in colour.removeprefix("rgb(").removesuffix(")").split(",")]
        assert min(channels) > 200 if is_paper == (scheme == "light") else max(channels) < 60


def test_it_prints(browser, ordinary):
    page = Opened(browser, ordinary[1] / "report.html", 1280).page
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    printed = page.pdf(prefer_css_page_size=True)
    assert printed.startswith(b"%PDF")
