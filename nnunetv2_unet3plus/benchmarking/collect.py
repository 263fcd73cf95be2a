"""Existing result folders -> `Benchmark`; what cannot be used is named, never mixed in silently."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

from nnunetv2_unet3plus.benchmarking.costs.network import network_costs
from nnunetv2_unet3plus.benchmarking.costs.training_log import read_training
from nnunetv2_unet3plus.benchmarking.files import test_pairs, validation_pairs
from nnunetv2_unet3plus.benchmarking.fit import why_unfit
from nnunetv2_unet3plus.benchmarking.fold import Fold, State, read_or_none
from nnunetv2_unet3plus.benchmarking.measures.cohort import measure_cases
from nnunetv2_unet3plus.benchmarking.model_folder import ModelFolder, differences
from nnunetv2_unet3plus.benchmarking.predict_test import is_predicted
from nnunetv2_unet3plus.benchmarking.request import Request
from nnunetv2_unet3plus.benchmarking.results import Benchmark, CasePair, Costs, Model
from nnunetv2_unet3plus.benchmarking.settings import settings_of, spell_lengths
from nnunetv2_unet3plus.errors import UserError

MEASURES_FOLDER = "measures"


@dataclass
class Candidate:
    """A model folder on its way into a benchmark.

    Attributes:
        model: the folder.
        name: in the benchmark.
        folds: those that are done and fit.
        tests: masks of test scans.
    """

    model: ModelFolder
    name: str
    folds: list[Fold]
    tests: list[CasePair] = field(default_factory=list)

    @property
    def trained_on_all(self) -> bool:
        """Whether there is no fold whose validation scans were held out."""
        return any(fold.name == "all" for fold in self.folds)

    @property
    def pairs(self) -> list[CasePair]:
        """All its masks."""
        return self.tests + [pair for fold in self.folds for pair in validation_pairs(self.name, self.model, fold)]


def of_folders(
    models: Sequence[ModelFolder], folds: Sequence[str] | None, problems: list[str], remarks: list[str]
) -> list[Candidate]:
    """Whatever is done in the folders; where they were not trained alike, that is said.

    Args:
        models: in the order in which they are shown.
        folds: those asked for; None for all that were begun.
        problems: gains a line for every fold that is not done.
        remarks: gains a line for every difference.
    """
    chosen = []
    for model, name in zip(models, names(models), strict=True):
        wanted = model.folds if folds is None else [Fold(model.path / f"fold_{fold}") for fold in folds]
        if folds is None and len(wanted) > 1 and any(fold.name == "all" for fold in wanted):
            problems.append(f"{name}: fold all is left out, its scans are those of the other folds")
            wanted = [fold for fold in wanted if fold.name != "all"]
        if not wanted:
            problems.append(f"{name}: no fold_0 or the like in {model.path}")
        chosen.append(Candidate(model, name, _done(wanted, name, problems)))
    chosen = comparable([candidate for candidate in chosen if candidate.folds], problems)
    say_differences(chosen, remarks)
    return chosen


def of_request(
    request: Request,
    plans: dict[str, Any] | None,
    splits: list[dict[str, list[str]]],
    output: Path,
    problems: list[str],
) -> list[Candidate]:
    """What is done of a request; what was trained otherwise is left out.

    Args:
        request: trainers and folds.
        plans: on which they were to be trained; None for those of the first trainer.
        splits: the folds' cases; empty if they are not known.
        output: where the test scans' masks are.
        problems: gains a line for every fold that is left out or not done.
    """
    chosen = []
    for trainer in request.trainers:
        folds = [request.fold(trainer, fold) for fold in request.folds]
        plans = plans or (read_or_none(request.model_folder(trainer) / "plans.json"))
        unfit = {fold.name: why_unfit(fold, request, plans or {}, splits) for fold in folds}
        problems += [f"{trainer}: fold {fold} is left out: {reason}" for fold, reason in unfit.items() if reason]
        done = _done([fold for fold in folds if not unfit[fold.name]], trainer, problems)
        if done:
            try:
                model = ModelFolder.read(request.model_folder(trainer))
            except UserError as error:
                problems.append(f"{trainer} is left out: {error}")
                continue
            chosen.append(Candidate(model, trainer, done, _tested(request, model, trainer, done, output, problems)))
    return comparable(chosen, problems)


def _done(folds: Sequence[Fold], name: str, problems: list[str]) -> list[Fold]:
    problems += [
        f"{name}: fold {fold.name} is missing: {fold.state.value} ({fold.folder})"
        for fold in folds
        if fold.state is not State.DONE
    ]
    return [fold for fold in folds if fold.state is State.DONE]


def _tested(
    request: Request, model: ModelFolder, name: str, folds: list[Fold], output: Path, problems: list[str]
) -> list[CasePair]:
    if request.test_images is None or request.test_labels is None:
        return []
    images, labels = Path(request.test_images), Path(request.test_labels)
    if missing := [str(folder) for folder in (images, labels) if not folder.is_dir()]:
        problems.append(f"{name}: the test scans are left out, {' and '.join(missing)}: no such folder")
        return []
    predicted_by = [fold.name for fold in folds if fold.can_predict]
    masks = test_masks(output, model, predicted_by)
    if not is_predicted(masks, model.path, predicted_by, images):
        problems.append(f"{name}: the test scans are not predicted by the checkpoints that are there now ({masks})")
        return []
    return test_pairs(name, model, predicted_by, masks, labels, images)


def test_masks(output: Path, model: ModelFolder, folds: Sequence[str]) -> Path:
    """Where the masks of the test scans go."""
    return output / "test" / f"{model.path.name}__{'+'.join(folds)}"


def names(models: Sequence[ModelFolder]) -> list[str]:
    """The trainers' names, with plans and configuration where these differ, with the folder where all that is alike."""
    several: list[tuple[Callable[[ModelFolder], str], bool]] = [
        (get, len({get(model) for model in models}) > 1)
        for get in (lambda m: m.dataset, lambda m: m.plans_name, lambda m: m.configuration)
    ]
    chosen = []
    for model in models:
        extra = ", ".join(get(model) for get, differ in several if differ)
        chosen.append(f"{model.trainer} ({extra})" if extra else model.trainer)
    return [
        name if chosen.count(name) == 1 else f"{name} in {model.path.parent}"
        for name, model in zip(chosen, models, strict=True)
    ]


def say_differences(chosen: Sequence[Candidate], remarks: list[str]) -> None:
    """Say where models were not trained alike: on other plans, for longer."""
    lengths = {c.name: {fold.length for fold in c.folds} for c in chosen}
    for candidate in chosen:
        first = chosen[0]
        plans = (candidate.model.plans, first.model.plans)
        differ = differences(*plans, candidate.model.configuration, first.model.configuration)
        if differ:
            remarks.append(
                f"{candidate.name} and {first.name} were trained on different plans ({differ}): "
                "what differs between them may be the plans' doing"
            )
        if lengths[candidate.name] | lengths[first.name] != lengths[first.name] or len(lengths[candidate.name]) > 1:
            spelled = [spell_lengths(lengths[name]) for name in (candidate.name, first.name)]
            remarks.append(f"{candidate.name} was trained for {spelled[0]}, {first.name} for {spelled[1]}")


def comparable(chosen: list[Candidate], problems: list[str]) -> list[Candidate]:
    """Those whose dataset and classes are the first's; the others cannot be compared with it."""
    kept = []
    for candidate in chosen:
        model, first = candidate.model, chosen[0].model
        if model.dataset != first.dataset:
            problems.append(f"{candidate.name} is left out: it was trained on {model.dataset}, not on {first.dataset}")
        elif model.labels != first.labels:
            problems.append(
                f"{candidate.name} is left out: its classes ({', '.join(model.labels.values)}) are not "
                f"those of {chosen[0].name} ({', '.join(first.labels.values)})"
            )
        else:
            kept.append(candidate)
    return kept


def benchmark_of(
    chosen: Sequence[Candidate], problems: list[str], remarks: list[str], output: Path, processes: int
) -> Benchmark:
    """Measure, count, put together.

    Args:
        chosen: models with their masks; at least one.
        problems: what is known to be missing so far; gains what turns out to be missing.
        remarks: what else a reader has to know; gains what turns out.
        output: where measures are kept for the next time.
        processes: masks measured at a time.
    """
    first = chosen[0].model
    pairs = [pair for candidate in chosen for pair in candidate.pairs]
    cases, unmeasured = measure_cases(pairs, first.labels, output / MEASURES_FOLDER, processes)
    problems += unmeasured
    remarks += [f"{c.name}: fold all was validated on the scans it was trained on" for c in chosen if c.trained_on_all]
    duplicated = cases.duplicated(["model", "split", "case", "label"])
    if duplicated.any():
        twice = cases[duplicated]
        problems.append(
            f"{', '.join(sorted(twice['model'].unique()))}: {twice['case'].nunique()} scans are in several folds' "
            "validation; the first counts"
        )
        cases = cases[~duplicated]
    models = [model_of(candidate, remarks) for candidate in chosen]
    settings = settings_of([(c.name, c.model, c.folds) for c in chosen])
    return Benchmark(first.dataset, models, first.labels, cases, pairs, settings, [*problems, *remarks], first.is_ct)


def model_of(candidate: Candidate, remarks: list[str]) -> Model:
    """A model with its costs and curves."""
    model = candidate.model
    network = network_costs(model.trainer, model.plans, model.configuration, model.dataset_json)
    if network.problem:
        remarks.append(network.problem)
    trainings = {fold.name: read_training(fold.folder) for fold in candidate.folds}
    records = [fold.record or {} for fold in candidate.folds]
    costs = Costs(
        parameters=network.parameters,
        gflop=network.gflop,
        saved_bytes=network.saved_bytes,
        peak_gpu_bytes=_over(max, (record.get("peak_gpu_bytes") for record in records)),
        seconds_per_iteration=_over(median, (t.seconds_per_iteration for t in trainings.values())),
        seconds_per_case=_over(median, (t.seconds_per_case for t in trainings.values())),
        watt_hours=_over(mean, (record.get("watt_hours") for record in records)),
    )
    curves = {fold: training.curves for fold, training in trainings.items() if training.curves.train_loss}
    return Model(candidate.name, model.path, tuple(trainings), costs, curves)


def _over(summarise: Callable[[list[Any]], Any], values: Iterable[Any]) -> Any:
    known = [value for value in values if value is not None]
    return summarise(known) if known else None
