"""Which models differ, as the page says it: answer, sentences, table, forest plot and ranks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
from markupsafe import Markup

from nnunetv2_unet3plus.benchmarking.report import rows
from nnunetv2_unet3plus.benchmarking.report.tables import UNKNOWN, decimal
from nnunetv2_unet3plus.benchmarking.results import MEASURES
from nnunetv2_unet3plus.benchmarking.statistics.paired import FEWEST_CASES, MEAN, Comparison, compare
from nnunetv2_unet3plus.benchmarking.statistics.ranking import Ranking, rank
from nnunetv2_unet3plus.benchmarking.statistics.wording import Verdict

PRIMARY = "dice"
COMPARED = (PRIMARY, "hd95", "surface_dice")


@dataclass(frozen=True)
class Pair:
    """A comparison of two models, as it is shown.

    Attributes:
        comparison: its figures.
    """

    comparison: Comparison

    @property
    def verdict(self) -> Verdict:
        """The comparison's."""
        return self.comparison.verdict

    @property
    def name(self) -> str:
        """Which difference it is."""
        return f"{self.comparison.first} less {self.comparison.second}"

    @property
    def texts(self) -> tuple[str, str, str, str, str]:
        """Difference, interval, wins / ties / losses, p, cases."""
        c = self.comparison
        low, high = (decimal(end, _digits(c.measure), signed=True) for end in (c.low, c.high))
        return (
            decimal(c.difference, _digits(c.measure), signed=True),
            f"{low} to {high}" if math.isfinite(c.low) else UNKNOWN,
            f"{c.wins} / {c.ties} / {c.losses}",
            UNKNOWN if math.isnan(c.p_holm) else "< 0.001" if c.p_holm < 0.001 else f"{c.p_holm:.3f}",
            str(c.cases),
        )


@dataclass(frozen=True)
class Statistics:
    """The comparisons of one measure.

    Attributes:
        measure: a key of `MEASURES`.
        against_first: every model less the first, means over the classes.
        others: the other pairs.
        by_class: every model less the first, class by class; empty if there is one class.
        ranking: the models' ranks; None if there is none.
        problem: why there are no comparisons; empty if there are.
    """

    measure: str
    against_first: tuple[Pair, ...] = ()
    others: tuple[Pair, ...] = ()
    by_class: tuple[Pair, ...] = ()
    ranking: Ranking | None = None
    problem: str = ""

    @property
    def title(self) -> str:
        """The measure's."""
        return MEASURES[self.measure].title

    @property
    def unit(self) -> str:
        """The measure's."""
        return MEASURES[self.measure].unit

    @property
    def higher_is_better(self) -> bool:
        """Whether a difference above zero speaks for a model."""
        return MEASURES[self.measure].better == "higher"

    def of_classes(self, labels: Sequence[str]) -> "Statistics":
        """Without the comparisons of other classes."""
        return replace(self, by_class=tuple(pair for pair in self.by_class if pair.comparison.label in labels))

    def forest(self, key: str) -> Markup:
        """Differences from the first model."""
        intervals = [
            rows.Interval(
                f"{c.first} less {c.second}", c.difference, c.low, c.high, pair.verdict in ("better", "worse")
            )
            for pair in self.against_first
            for c in (pair.comparison,)
        ]
        texts = "; ".join(f"{pair.name} {pair.texts[0]} ({pair.texts[1]})" for pair in self.against_first)
        return rows.intervals(intervals, key, f"Differences of {self.title} with 95 % intervals: {texts}")

    def stability(self, numbers: dict[str, int], key: str) -> Markup | None:
        """How sure the ranks are; None if there is nothing to rank."""
        if self.ranking is None or len(self.ranking.models) < 2:
            return None
        return rows.ranks(self.ranking.models, self.ranking.share, numbers, key)

    @property
    def agreement(self) -> str:
        """Ranks in words."""
        ranking = self.ranking
        if ranking is None or not ranking.models:
            return ""
        spans = zip(ranking.models, ranking.rank, ranking.low, ranking.high, strict=True)
        listed = "; ".join(f"{name} {place:g} ({low:g} to {high:g})" for name, place, low, high in spans)
        tau = "" if math.isnan(ranking.kendall_tau) else f" Median Kendall's tau {decimal(ranking.kendall_tau, 2)}."
        return f"Rank with 95 % interval: {listed}.{tau}"


def statistics(cases: pd.DataFrame, models: Sequence[str], measure: str, labels: Sequence[str]) -> Statistics:
    """Compare every two models and rank all.

    Args:
        cases: rows of one split.
        models: names; the first is what the others are compared with.
        measure: a key of `MEASURES`.
        labels: classes.
    """
    if len(models) < 2:
        return Statistics(measure, problem="There is one model: nothing to compare it with.")
    try:
        # From the last to the first: a difference above zero then speaks for a model against the one before it.
        found = compare(cases, list(reversed(models)), measure, labels)
        enough = any(c.label == MEAN and c.cases >= FEWEST_CASES for c in found)
        ranking = rank(cases, models, measure, labels) if enough else None  # of two cases' ranks nothing can be said
    except ValueError as error:
        return Statistics(measure, problem=f"{MEASURES[measure].title} cannot be compared: {error}.")
    place = {name: index for index, name in enumerate(models)}
    pairs = sorted(map(Pair, found), key=lambda pair: (place[pair.comparison.second], place[pair.comparison.first]))
    over_classes = [pair for pair in pairs if pair.comparison.label == MEAN]
    first = [pair for pair in pairs if pair.comparison.second == models[0]]
    return Statistics(
        measure,
        against_first=tuple(pair for pair in first if pair.comparison.label == MEAN),
        others=tuple(pair for pair in over_classes if pair.comparison.second != models[0]),
        by_class=tuple(pair for pair in first if pair.comparison.label != MEAN) if len(labels) > 1 else (),
        ranking=ranking,
    )


_CLAIMS = (
    ("better", "{} {reach} a higher Dice than {first}"),
    ("worse", "{} {reach} a lower Dice than {first}"),
    ("no evidence", "there is no evidence of a difference from {first} for {}"),
    ("unclear", "it stays unclear whether {} {differ} from {first}"),
    ("too few cases", "there are too few cases to tell {} from {first}"),
)


def answer(pairs: Sequence[Pair], split: str) -> str:
    """One sentence: every model's Dice against the first model's."""
    counts = {pair.comparison.cases for pair in pairs}
    least, most = min(counts), max(counts)
    number = f"{most}" if least == most else f"{least} to {most}"
    first = pairs[0].comparison.second
    claims: list[str] = []
    for verdict, words in _CLAIMS:
        names = [_with_difference(pair) for pair in pairs if pair.verdict == verdict]
        if names:
            verbs = (
                {"reach": "reaches", "differ": "differs"} if len(names) == 1 else {"reach": "reach", "differ": "differ"}
            )
            claims.append(words.format(_listed(names), first="it" if claims else first, **verbs))
    return f"On {number} {split} case{'s' if most != 1 else ''}, {'; '.join(claims)}."


def _with_difference(pair: Pair) -> str:
    c = pair.comparison
    return c.first if math.isnan(c.difference) else f"{c.first} ({pair.texts[0]})"


def _digits(measure: str) -> int:
    return 2 if MEASURES[measure].unit else 4


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + f" and {words[-1]}" if len(words) > 1 else "".join(words)
