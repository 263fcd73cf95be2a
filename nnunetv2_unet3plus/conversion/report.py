"""What a conversion has found, for the user at the prompt and for the file that goes with the dataset."""

import json
from collections.abc import Sequence

from nnunetv2_unet3plus.conversion.case import Outcome
from nnunetv2_unet3plus.conversion.description import Dataset

_SHOWN = 8
_ORDER = ("repaired", "warning", "refused")


def summary(outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each kind of fault, with the cases that have it; the text of a fault that a single case has."""
    faults: dict[tuple[int, str, str], list[tuple[str, str]]] = {}
    for outcome in outcomes:
        for finding in outcome.findings:
            key = (_ORDER.index(finding.kind), finding.about, finding.fault)
            faults.setdefault(key, []).append((outcome.case, finding.text))
    lines = []
    for (kind, about, fault), found in sorted(faults.items()):
        names = ", ".join(case for case, _ in found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
        text = found[0][1] if len(found) == 1 else f"such as: {found[0][1]}"
        lines.append(f"{_ORDER[kind]:8} {about}, {fault}: {names} ({text})")
    return lines


def refusal(outcomes: Sequence[Outcome], total: int) -> str | None:
    """Why a conversion stops, in one line; None if nothing was refused."""
    refused = [outcome.refusal for outcome in outcomes if outcome.refusal is not None]
    if not refused:
        return None
    if len(refused) == 1:
        return f"{refused[0]}, or convert the others with --leave-out-refused"
    return (
        f"{len(refused)} of {total} cases cannot be converted, the first: {refused[0]}. The others are listed above; "
        "correct or remove them, or leave them out with --leave-out-refused"
    )


def report(dataset: Dataset, outcomes: Sequence[Outcome]) -> str:
    """The report's JSON: every case with its source files and findings; equal conversions give equal reports."""
    found = {outcome.case: outcome for outcome in outcomes}
    root = dataset.source
    cases = {}
    for case in dataset.cases:
        outcome = found[case.name]
        files = {"image": case.image, "label": case.label}
        cases[case.name] = {
            "source": {about: str(path.relative_to(root)) for about, path in files.items() if path is not None},
            "converted": outcome.refusal is None,
            "findings": [vars(finding) for finding in outcome.findings],
        }
    content = {
        "options": dict(dataset.options),
        "hidden files left out": sorted(str(path.relative_to(root)) for path in dataset.hidden),
        "cases": cases,
    }
    return json.dumps(content, indent=4, ensure_ascii=False)
