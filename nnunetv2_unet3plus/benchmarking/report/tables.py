"""The numbers as tables, and those tables as Markdown and LaTeX."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

LATEX_WIDTH = 11  # letters of a heading's line
MINUS, UNKNOWN = "\N{MINUS SIGN}", "\N{EN DASH}"


@dataclass(frozen=True)
class Column:
    """A column of figures.

    Attributes:
        title: above it.
        unit: below the title; empty for none.
        meaning: what the figures are, a sentence.
        group: the heading that it shares with its neighbours.
    """

    title: str
    unit: str = ""
    meaning: str = ""
    group: str = ""

    @property
    def heading(self) -> str:
        """Title and unit in one line."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True)
class Cell:
    """A figure as it is shown; `best` of its column, or not."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A model's figures.

    Attributes:
        model: its name.
        number: its number in the report.
        cells: one a column.
    """

    model: str
    number: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table with a row a model.

    Attributes:
        columns: all but the first, which holds the models' names.
        rows: one a model.
        notes: why figures are missing, a sentence each.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings that columns share, and how many columns."""
        return [(name, len(list(members))) for name, members in groupby(column.group for column in self.columns)]

    @property
    def is_grouped(self) -> bool:
        """Whether there is a heading above the columns'."""
        return any(column.group for column in self.columns)

    @property
    def starts(self) -> set[int]:
        """Columns with which a new group begins."""
        return {
            index for index in range(1, len(self.columns)) if self.columns[index].group != self.columns[index - 1].group
        }


def mark_best(values: Sequence[float], texts: Sequence[str], better: Literal["higher", "lower", "zero"]) -> list[Cell]:
    """A column's cells, the best of at least two models marked; so is what reads the same."""
    rank = {"higher": lambda value: -value, "lower": lambda value: value, "zero": abs}[better]
    known = [rank(value) for value in values if math.isfinite(value)]
    best = {text for value, text in zip(values, texts, strict=True) if known and rank(value) == min(known)}
    distinct = len({text for text in texts if text != UNKNOWN}) > 1
    return [Cell(text, distinct and text in best) for text in texts]


def decimal(value: float, digits: int, signed: bool = False) -> str:
    """A number with that many digits after the point, a typographic minus, and a dash for one that is not known."""
    if not math.isfinite(value):
        return UNKNOWN
    text = f"{value:+,.{digits}f}" if signed else f"{value:,.{digits}f}"
    if not text.strip("+-0.,"):  # neither -0.00 nor +0.00
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def significant(value: float, digits: int = 3) -> str:
    """A number with that many significant digits, but never fewer than it has before the point."""
    if not math.isfinite(value):
        return UNKNOWN
    before = math.floor(math.log10(abs(value))) + 1 if value else 1
    return decimal(value, max(0, digits - before))


def markdown(table: Table, caption: str) -> str:
    """The table in GitHub's Markdown, the best figures bold."""
    head = ["model", *(column.heading for column in table.columns)]
    lines = [f"**{_markdown(caption)}**", "", _markdown_row(map(_markdown, head))]
    lines.append("|---" + "|---:" * len(table.columns) + "|")
    for row in table.rows:
        cells = (f"**{cell.text}**" if cell.best else cell.text for cell in row.cells)
        lines.append(_markdown_row([_markdown(row.model), *cells]))
    notes = [_markdown(note) + "  " for note in table.notes]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    escaped = "".join(f"\\{letter}" if letter in r"\`*_{}[]<>#|~$" else letter for letter in _one_line(text))
    return escaped.replace("&", "&amp;")


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    MINUS: r"$-$",
    UNKNOWN: "--",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


def latex(table: Table, caption: str, label: str) -> str:
    """The table in LaTeX with booktabs, the best figures bold."""
    head = " & ".join(["Model", *map(_latex_heading, table.columns)])
    lines = [
        r"\begin{table}",
        r"\centering\small\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{_latex(' '.join([caption, *table.notes]))}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        rf"{head} \\",
        r"\midrule",
    ]
    for row in table.rows:
        cells = (rf"\textbf{{{_latex(cell.text)}}}" if cell.best else _latex(cell.text) for cell in row.cells)
        lines.append(rf"{' & '.join([_latex(row.model), *cells])} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _latex_heading(column: Column) -> str:
    """Title and unit in narrow lines: the table is to fit a page."""
    lines = [*textwrap.wrap(_one_line(column.title), LATEX_WIDTH, break_long_words=False), column.unit]
    stack = r"\\".join(_latex(line) for line in lines if line)
    return rf"\shortstack[r]{{{stack}}}"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())
