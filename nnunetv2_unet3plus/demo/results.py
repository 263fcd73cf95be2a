"""The Dice table, read from what nnU-Net's own evaluation writes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Results:
    """Dice of each test scan, one value a foreground label.

    Attributes:
        labels: Names of the foreground labels.
        dice: Test scan -> Dice of each label; NaN where neither reference nor prediction has it.
        mean: nnU-Net's mean over labels and scans.
    """

    labels: list[str]
    dice: dict[str, list[float]]
    mean: float

    def table(self) -> str:
        """Lay the values out for reading, the mean of each label below."""
        columns = np.array(list(self.dice.values()))
        rows = {**self.dice, "mean": np.nanmean(columns, axis=0).tolist()}
        width = max(len(name) for name in rows)
        header = f"{'Dice':<{width}}" + "".join(f"{label:>10}" for label in self.labels)
        lines = [f"{name:<{width}}" + "".join(f"{value:>10.4f}" for value in values) for name, values in rows.items()]
        return "\n".join([header, *lines])


def read_results(summary: Path, labels: Mapping[str, int]) -> Results:
    """Read the `summary.json` that `nnUNetv2_evaluate_folder` wrote.

    Args:
        summary: The file.
        labels: `labels` of the dataset's `dataset.json`.

    Returns:
        The values in it.
    """
    content = json.loads(summary.read_text())
    foreground = {name: str(value) for name, value in labels.items() if name != "background"}
    dice = {
        Path(case["prediction_file"]).name.partition(".")[0]: [case["metrics"][v]["Dice"] for v in foreground.values()]
        for case in content["metric_per_case"]
    }
    return Results(list(foreground), dict(sorted(dice.items())), content["foreground_mean"]["Dice"])
