"""Names short enough for tables and figures."""

import re
from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from nnunetv2_unet3plus.benchmarking.results import CASE_COLUMNS, MEASURES, Benchmark

_TRAINER = "nnUNetTrainer"
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=_)(?=[^_])")
_LENGTH = re.compile(r"_[1-9]\d*epochs?(_[1-9]\d*iters?)?$")


def short_names(models: Sequence[str]) -> dict[str, str]:
    """Models' names without what all trainers' names begin with, and without the length if it is everybody's.

    nnU-Net's own trainer becomes `nnU-Net`. Where two would be the same, all stay as they are.
    """
    lengths = {match[0] if (match := _LENGTH.search(name)) else "" for name in models}
    short = {}
    for name in models:
        bare = _LENGTH.sub("", name) if len(lengths) == 1 else name
        rest = bare.removeprefix(_TRAINER)
        short[name] = rest if rest[:1].isalpha() else f"nnU-Net{rest}" if bare != rest else bare
    return short if len(set(short.values())) == len(set(models)) else {name: name for name in models}


def breakable(name: str) -> Markup:
    """A name for a page, which may be broken where one of its words begins."""
    return Markup("<wbr>").join(_WORD.split(name))


def renamed(benchmark: Benchmark, names: dict[str, str]) -> Benchmark:
    """The same benchmark with other names for its models; rows and files of models it does not list are left out.

    Its case table has all columns, figures as floating point, names as text.
    """
    cases = benchmark.cases.reindex(columns=list(CASE_COLUMNS))
    types = {column: float if column in MEASURES else str for column in CASE_COLUMNS}
    known = cases[cases["model"].isin(list(names))].astype(types)
    return replace(
        benchmark,
        models=[replace(model, name=names[model.name]) for model in benchmark.models],
        cases=known.assign(model=known["model"].map(names)),
        pairs=[replace(pair, model=names[pair.model]) for pair in benchmark.pairs if pair.model in names],
    )
