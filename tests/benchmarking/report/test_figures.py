import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest

from nnunetv2_unet3plus.benchmarking.report import plots, rows, svg
from nnunetv2_unet3plus.benchmarking.results import MEASURES

NUMBERS = {"first": 1, "second": 2}


def boxes(count=20, key="key", measure="dice", **changes):
    values = {name: np.linspace(0.5, 0.9, count) - 0.1 * index for index, name in enumerate(NUMBERS)}
    return rows.boxes(values | changes, NUMBERS | dict.fromkeys(changes, 3), MEASURES[measure], key)


FIGURES = {
    "boxes": boxes,
    "intervals": lambda key="key": rows.intervals([rows.Interval("a less b", 0.1, -0.1, 0.3, False)], key, "words"),
    "ranks": lambda key="key": rows.ranks(["first", "second"], np.array([[0.7, 0.3], [0.3, 0.7]]), NUMBERS, key),
    "scatter": lambda key="key": plots.scatter({"first": (1, 0.9), "second": (50, 0.8)}, NUMBERS, "s", key),
    "curves": lambda key="key": plots.curves([[1, 2], [2, 1]], [[3, 4]], [[0, 1]], 1, "words", key),
}


def parse(figure):
    return ET.fromstring(f'<x xmlns:xlink="xlink">{figure}</x>')  # the prefix is known in HTML


@pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES.keys())
def test_every_figure(make):
    figure = make()
    root = parse(figure)[0]
    assert root.attrib["viewBox"].startswith(f"0 0 {svg.WIDTH} ")
    assert root.attrib["aria-label"]
    assert "width" not in root.attrib
    assert not re.search(r"#f[de]00|style>|DOCTYPE|metadata|font-family", figure)
    sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", figure)]
    assert sizes
    assert min(sizes) >= 10
    assert len(figure) < 30_000


@pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES.keys())
def test_ids_depend_on_the_key_alone(make):
    assert make() == make()
    found, other = (set(re.findall(r' id="([^"]*)"', make(key=key))) for key in ("one", "another"))
    assert not found & other


def test_the_users_matplotlibrc_does_not_matter():
    expected = boxes()
    with mpl.rc_context({"font.size": 30, "axes.grid": False, "figure.dpi": 200, "svg.fonttype": "path"}):
        assert boxes() == expected


def dots(figure):
    """Pairs of equal points one after the other."""
    return re.findall(r"M (\S+ \S+) L \1 ", figure)


def test_cases_are_dots_as_long_as_they_are_few():
    assert len(dots(boxes(60))) == 120
    assert len(dots(boxes(61))) == 4


def test_the_box_is_where_the_quartiles_are():
    """Values 0 to 100 on an axis from -5 to 105, 17 to 333 pixels: quartiles at 25 and 75."""
    figure = rows.boxes({"first": np.arange(101.0)}, NUMBERS, MEASURES["dice"], "key")

    def pixel(value):
        return 17 + 316 * (value + 5) / 110

    corners = re.search(r"M (\S+) \S+ L (\S+) \S+ L \S+ \S+ L \S+ \S+ z", figure[figure.index("opacity: 0.22") - 300 :])
    np.testing.assert_allclose([float(corners[1]), float(corners[2])], [pixel(25), pixel(75)], atol=0.02)


@pytest.mark.parametrize("values", [[], [np.nan], [0.5], [0.5, 0.5], [0.0]])
@pytest.mark.parametrize("measure", ["dice", "hd95", "volume_error"])
def test_odd_values(values, measure):
    figure = boxes(measure=measure, odd=np.array(values, float))
    assert ("no case has a value" in figure) == (not np.isfinite(values).any())
    parse(figure)


def test_distances_are_drawn_logarithmically():
    figure = rows.boxes({"first": np.array([0.0, 3.0, 400.0])}, NUMBERS, MEASURES["hd95"], "key")
    assert [tick for tick in ("0", "1", "10", "200") if f">{tick}</text>" in figure] == ["0", "1", "10", "200"]


def test_names_are_escaped_cut_and_not_read_as_formulas():
    name = "<$x^2$ & " + "long" * 30
    figure = rows.intervals([rows.Interval(name, 0, 0, 0, True)], "key", name)
    texts = [each.text for each in parse(figure).iter("text")]
    assert svg.shorten(name) in texts
    assert len(svg.shorten(name)) == svg.LONGEST_NAME
    assert parse(figure)[0].attrib["aria-label"] == name


def test_an_unknown_interval():
    assert "not known" in rows.intervals([rows.Interval("a", *[float("nan")] * 3, False)], "key", "words")
    parse(rows.intervals([rows.Interval("a", 0.1, float("nan"), float("nan"), False)], "key", "words"))


def test_long_curves_stay_small():
    generator = np.random.default_rng(0)
    folds = [generator.normal(size=1000).tolist() for _ in range(5)]
    assert len(plots.curves(folds, folds, [], 1, "words", "key")) < 120_000


def test_mean_curve():
    nan = float("nan")
    found = plots.mean_curve([[1, 2, 3], [3, nan], [nan, nan, nan, nan, float("inf")]])
    np.testing.assert_equal(found, [2, 2, 3, nan, nan])


@pytest.mark.parametrize("curve", [[0.5], [float("nan")] * 3, list(range(251))])
def test_odd_curves(curve):
    parse(plots.curves([curve], [], [], 1, "words", "key"))


def test_costs_far_apart_are_drawn_logarithmically():
    for largest, ticks in ((500.0, {"10", "100"}), (3.0, {"1.0", "2.0"})):
        figure = plots.scatter({"first": (1.0, 0.9), "second": (largest, 0.8)}, NUMBERS, "s", "key")
        assert ticks <= {each.text for each in parse(figure).iter("text")}


@pytest.mark.parametrize(
    ("figure", "ticks"),
    [
        (plots.scatter({"first": (1.0, 0.9412), "second": (1.004, 0.9424)}, NUMBERS, "s", "key"), {"0.9420", "1.002"}),
        (rows.intervals([rows.Interval("a", 0.002, 0.001, 0.004, True)], "key", "words"), {"0.000", "0.002", "0.004"}),
        (rows.boxes({"first": np.array([0.9412, 0.9424])}, NUMBERS, MEASURES["dice"], "key"), {"0.9415", "0.9420"}),
    ],
    ids=["scatter", "intervals", "boxes"],
)
def test_numbers_on_axes_keep_their_digits(figure, ticks):
    shown = [each.text for each in parse(figure).iter("text")]
    assert ticks <= set(shown)
    assert len(set(shown)) == len(shown)
