"""`unet3plus benchmark` and `unet3plus report`."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results

from nnunetv2_unet3plus.benchmarking.asked import understand
from nnunetv2_unet3plus.benchmarking.collect import Candidate, benchmark_of, of_folders, of_request
from nnunetv2_unet3plus.benchmarking.fold import read_or_none
from nnunetv2_unet3plus.benchmarking.jobs import carry_out
from nnunetv2_unet3plus.benchmarking.model_folder import ModelFolder
from nnunetv2_unet3plus.benchmarking.report.write import write_report
from nnunetv2_unet3plus.benchmarking.request import FILE, Request
from nnunetv2_unet3plus.benchmarking.splits import read_splits
from nnunetv2_unet3plus.benchmarking.statistics.gaps import gaps
from nnunetv2_unet3plus.errors import UserError
from nnunetv2_unet3plus.nnunet_folders import require_set
from nnunetv2_unet3plus.trainers.training_length import LENGTH_SUFFIX

INCOMPLETE = 2


def run_benchmark(args: argparse.Namespace) -> int:
    """Train, predict, measure, report.

    Returns:
        0; 2 if anything that was asked for is missing from the report.

    Raises:
        UserError: if there is nothing that could be reported.
    """
    _require_extra()
    asked = understand(args)
    output: Path = args.output or default_output(asked.request)
    output.mkdir(parents=True, exist_ok=True)
    asked.request.write(output)
    problems = list(asked.problems)
    _say(problems)  # before hours of training
    failed = carry_out(args, asked, output)
    problems += failed
    chosen = of_request(asked.request, asked.plans, asked.splits, output, problems)
    if failed and not chosen:  # why nothing is there says more than that it is not
        _say(failed[:-1])
        raise UserError(failed[-1])
    return _report(chosen, output, args, problems, [], said=len(asked.problems))


def default_output(request: Request) -> Path:
    """Beside the dataset's model folders; requests of other lengths, plans or configurations do not share it."""
    length = f"{request.epochs}x{request.iterations}"
    return Path(nnUNet_results) / request.dataset / f"benchmark_{request.plans}_{request.configuration}_{length}"


def run_report(args: argparse.Namespace) -> int:
    """Report on folders that are there.

    Returns:
        0; 2 if anything that was asked for is missing from the report.

    Raises:
        UserError: if there is nothing that could be reported.
    """
    _require_extra()
    problems: list[str] = []
    remarks: list[str] = []
    if len(args.results) == 1 and (args.results[0] / FILE).exists():
        return _report_again(args.results[0], args, problems)
    if args.output is None:
        raise UserError("-o is missing: name a new or empty folder for report.html and the tables")
    models = []
    named = [model.resolve() for results in args.results for model in _model_folders(results)]
    for folder in dict.fromkeys(named):
        try:
            models.append(ModelFolder.read(folder))
        except UserError as error:
            problems.append(str(error))
    return _report(of_folders(models, args.folds, problems, remarks), args.output, args, problems, remarks)


def _report_again(output: Path, args: argparse.Namespace, problems: list[str]) -> int:
    require_set(nnUNet_results)
    request = Request.read(output)
    if args.folds:
        request = replace(request, folds=tuple(args.folds))
    preprocessed = Path(nnUNet_preprocessed) / request.dataset if nnUNet_preprocessed.get() else None
    plans, splits = None, []
    if preprocessed is not None:
        plans = read_or_none(preprocessed / f"{request.plans}.json")
        if (preprocessed / "splits_final.json").exists() and "all" not in request.folds:
            splits = read_splits(preprocessed, preprocessed)
    chosen = of_request(request, plans, splits, output, problems)
    return _report(chosen, args.output or output, args, problems, [])


def _model_folders(results: Path) -> Sequence[Path]:
    """A model folder itself, or those in a dataset's folder."""
    if not results.is_dir():
        raise UserError(
            f"{results}: no such folder; name model folders, a dataset's folder in nnUNet_results, or the "
            "output of unet3plus benchmark"
        )
    inside = [folder for folder in results.glob("*__*__*") if (folder / "plans.json").exists()]
    return sorted(inside, key=_without_length) or [results]


def _without_length(model_folder: Path) -> tuple[str, str]:
    """Sorts by trainer: nnU-Net's own, whose name is the beginning of all others, comes first."""
    trainer = model_folder.name.split("__")[0]
    suffix = LENGTH_SUFFIX.fullmatch(trainer)
    return (suffix["base"] if suffix else trainer), model_folder.name


def _report(
    chosen: list[Candidate],
    output: Path,
    args: argparse.Namespace,
    problems: list[str],
    remarks: list[str],
    said: int = 0,
) -> int:
    if not chosen:
        _say(problems[said:-1])
        raise UserError(problems[-1] if problems else "nothing is trained that could be reported")
    output.mkdir(parents=True, exist_ok=True)
    benchmark = benchmark_of(chosen, problems, remarks, output, args.processes)
    names = [model.name for model in benchmark.models]
    _say(problems[said:] + remarks)
    for split, cases in benchmark.cases.groupby("split"):
        _say(f"{split}: {line}" for line in gaps(cases, names))
    write_report(benchmark, output)
    print(f"\n{output / 'report.html'}\n{(output / 'table.md').read_text()}")
    return INCOMPLETE if problems else 0


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"unet3plus: {line}", file=sys.stderr, flush=True)


def _require_extra() -> None:
    if missing := [name for name in ("jinja2", "pandas") if find_spec(name) is None]:
        raise UserError(f"{', '.join(missing)} not installed: pip install 'nnunetv2-unet3plus[benchmark]'")
