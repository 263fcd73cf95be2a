"""All measures of all scans."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm

from nnunetv2_unet3plus.benchmarking.measures.cache import Cache, Figures, Stamp, stamp_of
from nnunetv2_unet3plus.benchmarking.measures.workers import outcomes
from nnunetv2_unet3plus.benchmarking.results import CASE_COLUMNS, MEASURES, SPLITS, CasePair, Labels
from nnunetv2_unet3plus.errors import UserError


class _Job(NamedTuple):
    pair: CasePair
    stamps: tuple[Stamp, Stamp]
    labels: Labels


def measure_cases(
    pairs: Sequence[CasePair], labels: Labels, cache: Path, processes: int
) -> tuple[pd.DataFrame, list[str]]:
    """Measures what has not been measured before, or has changed since.

    Args:
        pairs: the scans.
        labels: the classes.
        cache: folder of what has been measured: a file a model, written now and then, so that little is lost when the
            process is killed.
        processes: how many scans are measured at a time. With more than one, a scan whose process is killed, for lack
            of memory mostly, is a problem like others; with one, everything happens in this process.

    Returns:
        One row a scan and class with the columns `CASE_COLUMNS`, sorted by model (in the order of `pairs`), split, case
        and label (in the order of `labels`); and a line for each scan that could not be measured and has no rows.
    """
    caches = {model: Cache(cache, model, labels) for model in dict.fromkeys(pair.model for pair in pairs)}
    found: dict[CasePair, Figures] = {}
    problems: dict[CasePair, str] = {}
    jobs = []
    stamp = lru_cache(maxsize=None)(stamp_of)  # many models share a reference
    for pair in pairs:
        try:
            stamps = stamp(pair.truth), stamp(pair.prediction)
        except OSError as error:
            problems[pair] = f"{error.filename}: {error.strerror}"
            continue
        if (figures := caches[pair.model].get(pair, stamps)) is None:
            jobs.append(_Job(pair, stamps, labels))
        else:
            found[pair] = figures
    try:
        with closing(outcomes(_measure, jobs, processes)) as results:
            bar = tqdm(results, "measuring", len(jobs), unit="scan", disable=None if jobs else True)
            for (pair, stamps, _), outcome in bar:
                if isinstance(outcome, dict):
                    found[pair] = outcome
                    caches[pair.model].add(pair, stamps, outcome)
                else:
                    problems[pair] = outcome or _killed(pair)
    finally:
        for each in caches.values():
            each.write()
    lines = [f"{problems[pair]}; left out: {_about(pair)}" for pair in pairs if pair in problems]
    lines += [each.problem for each in caches.values() if each.problem]
    return _table(found, list(caches), list(labels.values)), lines


def _measure(job: _Job) -> Figures | str:
    """The measures of a scan, or why there are none."""
    # imported in the processes that measure: a report of what is known does not wait for it
    from nnunetv2_unet3plus.benchmarking.measures.case import measure_case
    from nnunetv2_unet3plus.benchmarking.measures.reading import read_pair

    pair = job.pair
    try:
        masks = read_pair(pair.truth, pair.prediction)
        return measure_case(masks.truth, masks.prediction, masks.spacing_mm, job.labels, masks.axial_axis)
    except UserError as error:
        return str(error)
    except MemoryError:
        return f"{pair.prediction}: too large for this machine's memory, run the same command with fewer processes"
    except Exception as error:  # one odd scan must not cost the others their report
        return " ".join(f"{pair.prediction}: cannot be measured, {type(error).__name__}: {error}".split())


def _killed(pair: CasePair) -> str:
    return (
        f"{pair.prediction}: the process that measured it was killed, probably for lack of memory, "
        "run the same command with fewer processes"
    )


def _about(pair: CasePair) -> str:
    return f"{pair.case} of {pair.model}, {pair.split}, fold {pair.fold}"


def _table(found: Mapping[CasePair, Figures], models: list[str], labels: list[str]) -> pd.DataFrame:
    def place(pair: CasePair) -> tuple[int, int, str, str]:
        return models.index(pair.model), SPLITS.index(pair.split), pair.case, pair.fold

    rows = [
        (pair.model, pair.fold, pair.split, pair.case, label, *(found[pair][label][measure] for measure in MEASURES))
        for pair in sorted(found, key=place)
        for label in labels
    ]
    return pd.DataFrame(rows, columns=list(CASE_COLUMNS)).astype(dict.fromkeys(MEASURES, float))
