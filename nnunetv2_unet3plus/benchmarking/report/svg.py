"""matplotlib's figures as SVG that takes fonts, colours and width from the page it stands in.

Colours that follow the page, in dark mode as in print, are drawn in stand-in colours here and become CSS variables.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
import matplotlib.style
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 350
"""In CSS pixels, the width at which text has its nominal size: that of a phone's column."""

TEXT, SMALL_TEXT = 11.5, 10.5  # CSS pixels at that width
LONGEST_NAME = 44  # letters that fit into it

INK, MUTED, RULE, PAPER = "#fe0001", "#fe0002", "#fe0003", "#fe0004"
MODELS = 12
_VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", PAPER: "paper"} | {
    f"#fd00{index:02x}": f"model-{index}" for index in range(MODELS)
}
_STYLE = {
    "svg.fonttype": "none",
    "font.size": TEXT,
    "text.parse_math": False,  # names may hold dollars
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
}


def model_colour(index: int) -> str:
    """The stand-in for a model's colour; beyond `MODELS` they repeat, and its number tells it from the others."""
    return f"#fd00{index % MODELS:02x}"


def shorten(name: str, longest: int = LONGEST_NAME) -> str:
    """Cut a name that does not fit."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


@contextmanager
def panel(height: float, left: float = 10, right: float = 10, top: float = 6, bottom: float = 22) -> Iterator[Axes]:
    """Axes with one rule below and light lines across, in the page's style as long as the context lasts.

    Args:
        height: of the whole figure, CSS pixels.
        left: margin, CSS pixels; so are `right`, `top` and `bottom`.
        right: see left.
        top: see left.
        bottom: see left.
    """
    with matplotlib.style.context(["default", _STYLE], after_reset=True):  # not the user's matplotlibrc
        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor="none")
        axes = figure.add_axes((left / WIDTH, bottom / height, 1 - (left + right) / WIDTH, 1 - (top + bottom) / height))
        axes.spines[["left", "right", "top"]].set_visible(False)
        axes.spines["bottom"].set(color=RULE, linewidth=1)
        axes.tick_params(length=0, pad=5, labelsize=SMALL_TEXT, labelcolor=MUTED)
        axes.grid(color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        yield axes


def to_svg(axes: Axes, description: str, key: str) -> Markup:
    """Write a figure for a page.

    Args:
        axes: of `panel`, inside its context.
        description: what is seen, for those who cannot see it.
        key: unique in the page; its ids depend on it alone.
    """
    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": key}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the page's font draws it
        axes.get_figure(root=True).savefig(  # type: ignore[union-attr]
            stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<g id=\"[^\"]*\"", "<g", text)
    text = re.sub(r" font-family: [^;\"]*;?", "", text)
    text = re.sub(r" transform=\"rotate\(-0 [^\"]*\)\"", "", text)
    text = re.sub(r"<[^>]*>", _shorten_coordinates, text)
    text = re.sub(r"\s*\n\s*", " ", text)
    text = re.sub("#f[de]00[0-9a-f]{2}", lambda match: f"var(--{_VARIABLES[match[0]]})", text)
    head = f'<svg viewBox="0 0 {WIDTH} {axes.figure.bbox.height:g}" role="img" aria-label="{escape(description)}">'
    return Markup(re.sub(r"<svg[^>]*>", lambda _: head, text, count=1))


def _shorten_coordinates(tag: re.Match[str]) -> str:
    """A hundredth of a pixel will do; what stands between the tags are numbers to be read."""
    return re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0])
