"""From a benchmark to files."""

from pathlib import Path

from nnunetv2_unet3plus.benchmarking.report import names, summary
from nnunetv2_unet3plus.benchmarking.report.page import render
from nnunetv2_unet3plus.benchmarking.report.tables import latex, markdown
from nnunetv2_unet3plus.benchmarking.results import CASE_COLUMNS, Benchmark
from nnunetv2_unet3plus.conversion.atomic import write_text
from nnunetv2_unet3plus.errors import explain

_LATEX_HEAD = r"""% Needs \usepackage{booktabs}, and \usepackage[T1]{fontenc} for some names."""


def write_report(benchmark: Benchmark, output: Path) -> None:
    """Write `report.html`, `results.csv`, `table.md` and `table.tex`, each of them complete or not at all.

    Args:
        benchmark: what to show. What is missing in it is said on the page.
        output: a folder; made if it is not there. Files of these names in it are replaced.

    Raises:
        UserError: If a file cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, output) from error
    columns = [*CASE_COLUMNS, *(column for column in benchmark.cases.columns if column not in CASE_COLUMNS)]
    csv = benchmark.cases.reindex(columns=columns).to_csv(index=False, lineterminator="\n")
    write_text(output / "results.csv", output, csv)
    short = names.short_names([model.name for model in benchmark.models])
    shown = names.renamed(benchmark, short)
    write_text(output / "table.md", output, _markdown(shown))
    write_text(output / "table.tex", output, _latex(shown))
    write_text(output / "report.html", output, render(shown, {name: full for full, name in short.items()}))


def _markdown(benchmark: Benchmark) -> str:
    tables = [
        markdown(summary.summary(benchmark, split), _caption(benchmark, split))
        for split in summary.splits_of(benchmark.cases)
    ]
    return "\n".join(tables or [markdown(summary.costs(benchmark.models), _nothing(benchmark))])


def _latex(benchmark: Benchmark) -> str:
    tables = [
        latex(
            summary.accuracy(benchmark.cases[benchmark.cases["split"] == split], benchmark.models),
            _caption(benchmark, split),
            f"tab:{split}",
        )
        for split in summary.splits_of(benchmark.cases)
    ]
    caption = f"{benchmark.dataset}: costs." if tables else _nothing(benchmark)
    return "\n".join([_LATEX_HEAD, *tables, latex(summary.costs(benchmark.models), caption, "tab:costs")])


def _caption(benchmark: Benchmark, split: str) -> str:
    return f"{benchmark.dataset}, {split}: means over cases, best in bold. {summary.folds_of(benchmark, split)}"


def _nothing(benchmark: Benchmark) -> str:
    return f"{benchmark.dataset}: no case has been measured; costs."
