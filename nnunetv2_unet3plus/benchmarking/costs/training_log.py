"""What nnU-Net has noted down of one fold's training: curves, and how long things took."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch

from nnunetv2_unet3plus.benchmarking.fold import FINAL, Fold
from nnunetv2_unet3plus.benchmarking.results import Curves

_EVENT = re.compile(
    r"^(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?): (?P<event>predicting |Validation complete)", re.M
)


@dataclass(frozen=True)
class Training:
    """One fold's training; None, or no values, where there is nothing to read.

    Attributes:
        curves: one value an epoch.
        seconds_per_iteration: median over the epochs of an epoch's time over its training iterations. A pause between
            two epochs, where a training was stopped and resumed, is no part of it.
        seconds_per_case: from the first validation scan to the end of the validation over their number: prediction,
            files written, nnU-Net's evaluation.
    """

    curves: Curves = field(default_factory=lambda: Curves([], [], []))
    seconds_per_iteration: float | None = None
    seconds_per_case: float | None = None


def read_training(fold: Path) -> Training:
    """Read a fold's folder, as nnU-Net writes it; what lacks in it or cannot be read is None.

    Args:
        fold: `.../nnUNetTrainer__nnUNetPlans__2d/fold_0`. Its checkpoint is unpickled, as nnU-Net does to predict.
    """
    logged = _logged(fold / FINAL)
    _, iterations = Fold(fold).length or (None, None)
    seconds = _epoch_seconds(logged)
    return Training(
        Curves(*(_numbers(logged, name) for name in ("train_losses", "val_losses", "mean_fg_dice"))),
        median(seconds) / iterations if seconds and iterations else None,
        _seconds_per_case(sorted(fold.glob("training_log_*.txt"))),
    )


def _logged(checkpoint: Path) -> dict[str, Any]:
    """What nnU-Net's logger has put into a checkpoint; the weights stay on disk."""
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=False, mmap=True)["logging"]
    except Exception:  # a damaged pickle may raise anything
        return {}
    return content if isinstance(content, dict) else {}


def _numbers(logged: dict[str, Any], name: str) -> list[float]:
    try:
        return [float(value) for value in logged.get(name, [])]
    except (TypeError, ValueError):
        return []


def _epoch_seconds(logged: dict[str, Any]) -> list[float]:
    starts, ends = (_numbers(logged, f"epoch_{moment}_timestamps") for moment in ("start", "end"))
    return [end - start for start, end in zip(starts, ends, strict=False)]  # stopped in an epoch: it has no end


def _seconds_per_case(logs: Sequence[Path]) -> float | None:
    """Of the last validation that came to its end; each run of nnU-Net has a log of its own."""
    validations = [validation for log in logs for validation in _validations(log)]
    if not validations:
        return None
    end, start, cases = max(validations)
    seconds = (end - start).total_seconds() / cases
    return seconds if seconds > 0 else None  # clocks are set back


def _validations(log: Path) -> list[tuple[datetime, datetime, int]]:
    """End, start and number of scans of every complete validation in a log."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found: list[tuple[datetime, datetime, int]] = []
    starts: list[datetime] = []
    for match in _EVENT.finditer(text):
        time = datetime.fromisoformat(match["time"])
        if match["event"] == "predicting ":
            starts.append(time)
        elif starts:
            found.append((time, starts[0], len(starts)))
            starts = []
    return found
