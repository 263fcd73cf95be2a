"""The page as a reader has it: in Chromium, at the width of a screen and of a phone."""

from dataclasses import replace

import pytest

from nnunetv2_unet3plus.benchmarking.report.write import write_report
from tests.benchmarking.report import synthetic
from tests.benchmarking.report.browser import WIDTHS, Opened, chromium


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


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
