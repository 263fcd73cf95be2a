"""The page: what it shows, section by section, handed to the template."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nnunetv2_unet3plus.benchmarking.counted import counted
from nnunetv2_unet3plus.benchmarking.report import names, pictures, published, summary, svg
from nnunetv2_unet3plus.benchmarking.report.comparisons import COMPARED, PRIMARY, Statistics, answer, statistics
from nnunetv2_unet3plus.benchmarking.report.drawings import Drawing, boxes, curves, scatters
from nnunetv2_unet3plus.benchmarking.report.tables import Table
from nnunetv2_unet3plus.benchmarking.results import MEASURES, Benchmark
from nnunetv2_unet3plus.benchmarking.statistics.gaps import gaps
from nnunetv2_unet3plus.overlay import COLOURS

MOST_CLASSES = 8
"""Of more, only these many are drawn and compared one by one: the page stays readable, and below its 10 MB."""

MOST_PROBLEMS = 300


@dataclass(frozen=True)
class Split:
    """A split's sections.

    Attributes:
        name: `test` or `validation`.
        count: of cases.
        folds: where they come from, a sentence.
        summary: accuracy and cost.
        classes: class -> accuracy; empty if there is one class.
        statistics: one a measure that is compared.
        forests: measure -> its figure.
        stabilities: measure -> its figure.
        boxes: a figure a class and measure.
        drawn: the classes that are drawn and compared.
    """

    name: str
    count: int
    folds: str
    summary: Table
    classes: dict[str, Table]
    statistics: list[Statistics]
    forests: dict[str, Markup]
    stabilities: dict[str, Markup]
    boxes: list[Drawing]
    drawn: list[str]


@dataclass(frozen=True)
class BesidePapers:
    """The papers' tables beside ours.

    Attributes:
        data: whose data it is.
        caveat: what differs.
        organ: our class that is compared; empty if there is none.
        organ_note: how it differs from the papers'.
        lines: published figures and ours.
    """

    data: str
    caveat: str
    organ: str
    organ_note: str
    lines: list[published.Beside]


def render(benchmark: Benchmark, trainers: dict[str, str]) -> str:
    """The page of a benchmark.

    Args:
        benchmark: its models by the names that are shown, as `names.renamed` makes it.
        trainers: shown name -> full name.
    """
    numbers = {model.name: 1 + index for index, model in enumerate(benchmark.models)}
    parts = [_split(benchmark, split, numbers) for split in summary.splits_of(benchmark.cases)]
    problems = [*benchmark.problems, *_gaps(benchmark)]
    first = parts[0] if parts else None
    environment = Environment(
        loader=PackageLoader(__package__, "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = names.breakable
    return environment.get_template("page.html").render(
        benchmark=benchmark,
        headline=_headline(benchmark),
        trainers=trainers,
        numbers=numbers,
        answer=_answer(benchmark, first),
        problems=problems[:MOST_PROBLEMS],
        more_problems=max(0, len(problems) - MOST_PROBLEMS),
        splits=parts,
        costs=None if first else summary.costs(benchmark.models),
        scatters=scatters(benchmark, first.name, numbers) if first else [],
        curves=curves(benchmark.models, numbers),
        settings=benchmark.settings | {"Classes": ", ".join(benchmark.labels.values)},
        cases=pictures.show(benchmark, first.name) if first else [],
        papers=_papers(benchmark, first.name if first else ""),
        measures=MEASURES,
        cost_meanings=summary.COSTS,
        colours=COLOURS,
        palette=svg.MODELS,
        most_classes=MOST_CLASSES,
    )


def _split(benchmark: Benchmark, split: str, numbers: dict[str, int]) -> Split:
    cases = benchmark.cases[benchmark.cases["split"] == split]
    labels = [label for label in benchmark.labels.values if (cases["label"] == label).any()]
    drawn = _hardest(cases, labels)
    models = [model.name for model in benchmark.models]
    compared = [statistics(cases, models, measure, labels) for measure in COMPARED]
    key = f"{split}-{{}}-{{}}".format
    ranked = {each.measure: each.stability(numbers, key("ranks", each.measure)) for each in compared}
    return Split(
        name=split,
        count=cases["case"].nunique(),
        folds=summary.folds_of(benchmark, split),
        summary=summary.summary(benchmark, split),
        classes={
            label: summary.accuracy(cases[cases["label"] == label], benchmark.models)
            for label in (labels if len(labels) > 1 else ())
        },
        statistics=[each.of_classes(drawn) for each in compared],
        forests={each.measure: each.forest(key("forest", each.measure)) for each in compared if each.against_first},
        stabilities={measure: figure for measure, figure in ranked.items() if figure is not None},
        boxes=[boxes(cases, models, label, measure, numbers, split) for label in drawn for measure in COMPARED],
        drawn=drawn,
    )


def _hardest(cases: pd.DataFrame, labels: Sequence[str]) -> list[str]:
    """The classes with the lowest mean Dice, in their own order; all if they are few."""
    if len(labels) <= MOST_CLASSES:
        return list(labels)
    means = counted(cases).groupby("label")[PRIMARY].mean().reindex(list(labels))
    lowest = set(means.sort_values(kind="stable").index[:MOST_CLASSES])
    return [label for label in labels if label in lowest]


def _gaps(benchmark: Benchmark) -> list[str]:
    """What the comparisons have to do without, each split's."""
    lines = []
    for split in summary.splits_of(benchmark.cases):
        cases = benchmark.cases[benchmark.cases["split"] == split]
        try:
            found = gaps(cases, [model.name for model in benchmark.models])
        except ValueError as error:
            found = [f"{error}."]
        lines += [f"{split.capitalize()}: {line}" for line in found]
    return lines


def _headline(benchmark: Benchmark) -> str:
    models = [model.name for model in benchmark.models]
    if not models:
        return "No model to compare"
    if len(models) == 1:
        return f"{models[0]}, measured"
    return f"{models[1]} against {models[0]}" if len(models) == 2 else f"{len(models) - 1} models against {models[0]}"


def _answer(benchmark: Benchmark, first: Split | None) -> str:
    if not benchmark.models:
        return "There is no model."
    if first is None:
        return "No case has been measured: there is nothing to compare yet."
    primary = first.statistics[0]
    if primary.against_first:
        return answer(primary.against_first, first.name)
    dice = list(MEASURES).index(PRIMARY) + 1
    model = first.summary.rows[0]
    cases = benchmark.cases[benchmark.cases["split"] == first.name]
    values = summary.per_case(cases, PRIMARY).reindex(columns=[model.model])
    number = int(values.count().iloc[0])
    found = f"{model.model} reaches a mean Dice of {model.cells[dice].text} on {number} {first.name} cases."
    return f"{found} {primary.problem}"


def _papers(benchmark: Benchmark, split: str) -> BesidePapers | None:
    data = published.data_of(benchmark)
    if data is None:
        return None
    organ = published.organ_of(benchmark, data) or ""
    note = published.organ_note(benchmark, data, organ) if organ else ""
    return BesidePapers(data, published.CAVEATS[data], organ, note, published.beside(benchmark, data, split, organ))
