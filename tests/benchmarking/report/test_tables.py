import math
import re

import pytest

from nnunetv2_unet3plus.benchmarking.report.tables import (
    UNKNOWN,
    Cell,
    Column,
    Row,
    Table,
    decimal,
    latex,
    mark_best,
    markdown,
    significant,
)

NASTY = r"a_b & <c> 50% $x$ #1 {y} ~^ \n | * [z]"


@pytest.mark.parametrize(
    ("value", "digits", "signed", "text"),
    [
        (0.98765, 4, False, "0.9877"),
        (-1.5, 1, False, "−1.5"),
        (1.5, 1, True, "+1.5"),
        (-0.00004, 4, True, "0.0000"),
        (12345.6, 1, False, "12,345.6"),
        (math.nan, 4, False, UNKNOWN),
        (math.inf, 4, False, UNKNOWN),
    ],
)
def test_decimal(value, digits, signed, text):
    assert decimal(value, digits, signed) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.00"), (0.01234, "0.0123"), (1.5, "1.50"), (26.97, "27.0"), (123.4, "123"), (98765, "98,765")],
)
def test_significant(value, text):
    assert significant(value) == text


@pytest.mark.parametrize(
    ("values", "better", "best"),
    [
        ([0.1, 0.9, 0.5], "higher", [1]),
        ([0.1, 0.9, 0.5], "lower", [0]),
        ([-3.0, 0.5, -0.1], "zero", [2]),
        ([math.nan, 0.9, 0.5], "higher", [1]),
        ([0.90001, 0.9, 0.5], "higher", [0, 1]),  # reads the same
        ([0.9, 0.9], "higher", []),  # nothing is better than anything
        ([0.9], "higher", []),
        ([0.9, math.nan], "higher", []),
        ([math.nan, math.nan], "lower", []),
        ([], "lower", []),
    ],
)
def test_the_best_is_marked(values, better, best):
    cells = mark_best(values, [decimal(value, 2) for value in values], better)
    assert [index for index, cell in enumerate(cells) if cell.best] == best


@pytest.fixture
def table():
    columns = (Column("Dice", "", "A meaning."), Column("HD_95", "mm", "", "More"))
    rows = (Row(NASTY, 1, (Cell("0.9"), Cell("−1.5", True))), Row("second", 2, (Cell("0.8"), Cell(UNKNOWN))))
    return Table(columns, rows, ("A note_1.",))


def test_groups(table):
    assert table.groups == [("", 1), ("More", 1)]
    assert table.starts == {1}


def test_markdown(table):
    lines = markdown(table, "Dataset501_X").splitlines()
    assert lines[0] == r"**Dataset501\_X**"
    assert lines[2:4] == [r"| model | Dice | HD\_95 (mm) |", "|---|---:|---:|"]
    assert lines[4].endswith("| 0.9 | **−1.5** |")
    assert lines[5] == "| second | 0.8 | – |"
    assert r"A note\_1." in lines
    for line in lines[2:6]:
        assert len(re.findall(r"(?<!\\)\|", line)) == 4
    assert not re.findall(r"(?<!\\)[_<>$#\[]", lines[4])


def test_latex(table):
    text = latex(table, "50% & more", "tab:test")
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert r"\caption{50\% \& more A note\_1.}" in text
    assert r"\begin{tabular}{lrr}" in text
    body = text[text.index(r"\midrule") + len(r"\midrule") : text.index(r"\bottomrule")].strip().splitlines()
    name = r"a\_b \& \textless{}c\textgreater{} 50\% \$x\$ \#1 \{y\} \textasciitilde{}\textasciicircum{} "
    assert body[0].startswith(name + r"\textbackslash{}n \textbar{} * [z] & 0.9 & \textbf{$-$1.5} \\")
    assert body[1] == r"second & 0.8 & -- \\"
    head = text[text.index(r"\toprule") : text.index(r"\midrule")].splitlines()[1]
    assert head == r"Model & \shortstack[r]{Dice} & \shortstack[r]{HD\_95\\mm} \\"
    for line in (each for each in text.splitlines() if each.endswith(r"\\")):
        assert len(re.findall(r"(?<!\\)&", line)) == 2
    assert text.count("{") == text.count("}")


def test_empty_tables_have_their_frame():
    empty = Table((Column("Dice"),), ())
    assert markdown(empty, "nothing").splitlines()[-1] == "|---|---:|"
    assert r"\bottomrule" in latex(empty, "nothing", "tab:nothing")
