"""A report in Chromium: what a reader's browser asks for, shows and cuts off."""

import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium")
WIDTHS = (1280, 390)
SMALLEST_TEXT = 9  # CSS pixels

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


@contextmanager
def chromium():
    """The browser of the system, or a skip that says what is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


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


def check_page(file):
    """Nothing fetched, nothing cut off, nothing too small, at either width; pictures of it lie beside it."""
    with chromium() as browser:
        for width in WIDTHS:
            opened = Opened(browser, file, width)
            assert all(table["rows"] for table in opened.check(file))
            opened.page.screenshot(path=file.with_name(f"report_{width}.png"), full_page=True)
