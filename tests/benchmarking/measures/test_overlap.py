"""Dice and IoU against nnU-Net's own evaluation of the same files."""

import json
import multiprocessing.dummy
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
from nnunetv2.evaluation import evaluate_predictions
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunetv2_unet3plus.benchmarking.measures.cohort import measure_cases
from nnunetv2_unet3plus.benchmarking.results import CasePair, Labels

CASES = 6


def write(path, voxels, spacing=(1.0, 1.0, 1.0)):
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing[::-1])
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(image, str(path))


@pytest.mark.parametrize(
    "labels",
    [
        Labels({"one": (1,), "two": (2,), "three": (3,)}),
        Labels({"one": (1,), "two": (2,)}, ignore=3),
        Labels({"all": (1, 2, 3), "core": (2, 3), "inner": (3,)}),
        Labels({"all": (1, 2), "core": (2,)}, ignore=3),
    ],
    ids=["labels", "ignore", "regions", "regions and ignore"],
)
def test_agrees_with_summary_json(labels, tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    pairs = []
    for k in range(CASES):
        highest = (3, 3, 2, 3, 1, 0)[k]  # in some scans classes lack in both, or in one
        truth = random.integers(0, 4 if k != 5 else 1, (4, 9, 8), np.uint8)
        prediction = np.where(random.random(truth.shape) < 0.6, truth, random.integers(0, 3, truth.shape, np.uint8))
        paths = [tmp_path / folder / f"case_{k}.nii.gz" for folder in ("truth", "prediction")]
        write(paths[0], np.minimum(truth, highest))
        write(paths[1], np.minimum(prediction, highest) if k < 4 else prediction * 0)
        pairs.append(CasePair("model", "0", "validation", f"case_{k}", *paths))
    # threads for processes: nnU-Net's code is the same and need not be imported again
    threads = SimpleNamespace(Pool=multiprocessing.dummy.Pool)
    monkeypatch.setattr(evaluate_predictions, "multiprocessing", SimpleNamespace(get_context=lambda _: threads))
    regions = [values if len(values) > 1 else values[0] for values in labels.values.values()]
    evaluate_predictions.compute_metrics_on_folder(
        str(tmp_path / "truth"),
        str(tmp_path / "prediction"),
        str(tmp_path / "summary.json"),
        SimpleITKIO(),
        ".nii.gz",
        regions,
        labels.ignore,
        num_processes=1,
    )
    summary = json.loads((tmp_path / "summary.json").read_text())["metric_per_case"]
    expected = [case["metrics"][str(region)] for case in summary for region in regions]

    table, problems = measure_cases(pairs, labels, tmp_path / "cache", 1)

    assert problems == []
    assert len(table) == CASES * len(regions)
    for column, metric in (("dice", "Dice"), ("iou", "IoU")):
        found = table[column].to_numpy()
        np.testing.assert_allclose(found, [float(each[metric]) for each in expected], atol=1e-6, rtol=0)
        assert np.isnan(found).any()
        assert (found == 0).any()
        assert np.unique(found).size > CASES
