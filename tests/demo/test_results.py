import json
import math

import pytest

from nnunetv2_unet3plus.demo.results import read_results

LABELS = {"background": 0, "liver": 1, "tumour": 2}


@pytest.fixture
def summary(tmp_path):
    dice = {"liver_test_011": (0.9, math.nan), "liver_test_004": (0.8, 0.5)}
    cases = [
        {"prediction_file": f"/masks/{name}.nii.gz", "metrics": {str(i + 1): {"Dice": d} for i, d in enumerate(values)}}
        for name, values in dice.items()
    ]
    path = tmp_path / "summary.json"
    path.write_text(json.dumps({"metric_per_case": cases, "foreground_mean": {"Dice": 0.675}}))
    return path


def test_read_results(summary):
    results = read_results(summary, LABELS)
    assert results.labels == ["liver", "tumour"]
    assert list(results.dice) == ["liver_test_004", "liver_test_011"]
    assert results.dice["liver_test_004"] == [0.8, 0.5]
    assert results.mean == 0.675


def test_table(summary):
    assert read_results(summary, LABELS).table().splitlines() == [
        "Dice               liver    tumour",
        "liver_test_004    0.8000    0.5000",
        "liver_test_011    0.9000       nan",
        "mean              0.8500    0.5000",
    ]
