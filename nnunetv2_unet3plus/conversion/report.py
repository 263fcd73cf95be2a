"""What a conversion has found, for the user at the prompt and for the file that goes with the dataset."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunetv2_unet3plus.conversion.case import Outcome
from nnunetv2_unet3plus.conversion.description import Case, Dataset

_ORDER = ("repaired", "warning", "refused")


def summary(outcomes: Sequence[Outcome], anonymous: bool) -> list[str]:
    """A line for each kind of fault, with the cases that have it; the text of a fault that a single case has.

    Where the cases' names do not tell the user which they are, a line for each refused case, with its file.
    """
    faults: dict[tuple[int, str, str], list[tuple[str, str]]] = {}
    for outcome in outcomes:
        for finding in outcome.findings:
            if not (anonymous and finding.kind == "refused"):
                key = (_ORDER.index(finding.kind), finding.about, finding.fault)
                faults.setdefault(key, []).append((outcome.case, finding.text + finding.shown))
    lines = []
    for (kind, about, fault), found in sorted(faults.items()):
        names = ", ".join(case for case, _ in found)
        text = found[0][1] if len(found) == 1 else f"such as: {found[0][1]}"
        lines.append(f"{_ORDER[kind]:8} {about}, {fault}: {names} ({text})")
    if anonymous:
        lines += [f"refused  {outcome.case}: {outcome.refusal}" for outcome in outcomes if outcome.refusal is not None]
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
    cases = {
        case.name: ({} if dataset.anonymous else {"source": _files_of(case, dataset.source)})
        | {
            "converted": found[case.name].refusal is None,
            "findings": [finding.reported for finding in found[case.name].findings],
        }
        for case in dataset.cases
    }
    content: dict[str, Any] = {
        "options": {key: value for key, value in dataset.options.items() if key != "source"},
        "cases": cases,
    }
    if not dataset.anonymous:
        hidden = sorted(str(path.relative_to(dataset.source)) for path in dataset.hidden)
        content["hidden files left out"] = hidden
    return json.dumps(content, indent=4, ensure_ascii=False)


def _files_of(case: Case, root: Path) -> dict[str, str]:
    files = {"image": case.image, "label": case.label}
    return {about: str(volume.path.relative_to(root)) for about, volume in files.items() if volume is not None}
