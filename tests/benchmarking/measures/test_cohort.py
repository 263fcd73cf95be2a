import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name

from nnunetv2_unet3plus.benchmarking.measures import cache as caching
from nnunetv2_unet3plus.benchmarking.measures import cohort
from nnunetv2_unet3plus.benchmarking.measures.cohort import measure_cases
from nnunetv2_unet3plus.benchmarking.results import CASE_COLUMNS, MEASURES, CasePair, Labels
from tests.benchmarking.measures.masks import blob
from tests.benchmarking.measures.test_surface import pairwise_hd95
from tests.end_to_end.nnunet import shared_data
from tests.signals import default_signals

LABELS = Labels({"tumour": (2,), "liver": (1, 2)})
MODELS = ("nnUNetTrainer", "Net (plans/2)")


def write(path, seed, shape=(4, 9, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = blob(seed, shape).astype(np.uint8) + blob(seed + 1, shape)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path))
    return path


def make_pairs(folder, cases=3, models=MODELS):
    pairs = []
    for k, model in enumerate(models):
        for case in reversed(range(cases)):
            truth = folder / "truth" / f"case_{case}.nii.gz"
            if not truth.exists():
                write(truth, 10 * case)
            prediction = write(folder / f"model_{k}" / f"case_{case}.nii.gz", 10 * case + k + 1)
            split, fold = ("test", "0+1") if case == 1 else ("validation", str(case % 2))
            pairs.append(CasePair(model, fold, split, f"case_{case}", truth, prediction))
    return pairs


@pytest.fixture
def pairs(tmp_path):
    return make_pairs(tmp_path)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def measured(monkeypatch):
    """The scans that were measured in this process, in order."""
    done, measure = [], cohort._measure

    def record(job):
        done.append((job.pair.model, job.pair.case))
        return measure(job)

    monkeypatch.setattr(cohort, "_measure", record)
    return done


def table(pairs, cache, labels=LABELS, processes=1):
    frame, problems = measure_cases(pairs, labels, cache, processes)
    assert problems == []
    return frame


def test_rows_and_columns(pairs, cache):
    frame = table(pairs, cache)
    assert tuple(frame.columns) == CASE_COLUMNS
    places = list(frame[["model", "split", "fold", "case", "label"]].itertuples(index=False, name=None))
    assert places == [
        (model, split, fold, case, label)
        for model in MODELS
        for split, fold, case in (
            ("test", "0+1", "case_1"),
            ("validation", "0", "case_0"),
            ("validation", "0", "case_2"),
        )
        for label in LABELS.values
    ]
    assert list(frame.index) == list(range(len(frame)))
    assert all(frame[measure].dtype == float for measure in MEASURES)
    assert frame["dice"].nunique() > 6


def test_nothing_to_measure(cache):
    frame = table([], cache)
    assert tuple(frame.columns) == CASE_COLUMNS
    assert frame.empty
    assert all(frame[measure].dtype == float for measure in MEASURES)
    assert not cache.exists()


def test_what_is_measured_is_not_measured_again(pairs, cache, measured):
    first = table(pairs, cache)
    assert len(measured) == len(pairs)
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(before) == len(MODELS)
    measured.clear()
    pd.testing.assert_frame_equal(table(pairs, cache), first, check_exact=True)
    assert measured == []
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == before


def test_a_changed_prediction_is_measured_again(pairs, cache, measured):
    first = table(pairs, cache)
    measured.clear()
    write(pairs[0].prediction, 77)
    second = table(pairs, cache)
    assert measured == [(pairs[0].model, pairs[0].case)]
    changed = (first["model"] == pairs[0].model) & (first["case"] == pairs[0].case)
    assert (first["dice"] != second["dice"])[changed].all()
    pd.testing.assert_frame_equal(first[~changed], second[~changed])


def test_a_file_of_the_same_size_and_another_time(pairs, cache, measured):
    table(pairs, cache)
    measured.clear()
    status = pairs[0].prediction.stat()
    os.utime(pairs[0].prediction, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    table(pairs, cache)
    assert measured == [(pairs[0].model, pairs[0].case)]


def test_a_changed_reference_is_measured_again_in_all_models(pairs, cache, measured):
    table(pairs, cache)
    measured.clear()
    write(pairs[0].truth, 77)
    table(pairs, cache)
    assert measured == [(model, pairs[0].case) for model in MODELS]


@pytest.mark.parametrize(
    "labels",
    [Labels({"liver": (1, 2)}), Labels({"tumour": (1,), "liver": (1, 2)}), replace(LABELS, ignore=3)],
    ids=["fewer", "other values", "ignore"],
)
def test_other_classes_are_measured_again(pairs, cache, measured, labels):
    table(pairs, cache)
    measured.clear()
    table(pairs, cache, labels)
    assert len(measured) == len(pairs)


def test_classes_in_another_order_are_not(pairs, cache, measured):
    first = table(pairs, cache)
    measured.clear()
    second = table(pairs, cache, Labels(dict(reversed(LABELS.values.items()))))
    assert measured == []
    assert list(second["label"][:2]) == ["liver", "tumour"]
    keys = ["model", "split", "fold", "case", "label"]
    pd.testing.assert_frame_equal(
        second.sort_values(keys).reset_index(drop=True), first.sort_values(keys).reset_index(drop=True)
    )


def test_another_version_measures_again(pairs, cache, measured, monkeypatch):
    table(pairs, cache)
    measured.clear()
    monkeypatch.setattr(caching, "VERSION", caching.VERSION + 1)
    table(pairs, cache)
    assert len(measured) == len(pairs)


def test_results_may_be_moved(pairs, cache, measured, tmp_path):
    first = table(pairs, cache)
    measured.clear()
    (tmp_path / "model_0").rename(tmp_path / "elsewhere")
    moved = [
        replace(pair, prediction=tmp_path / "elsewhere" / pair.prediction.name) if pair.model == MODELS[0] else pair
        for pair in pairs
    ]
    pd.testing.assert_frame_equal(table(moved, cache), first)
    assert measured == []


def damaged(content):
    """Ways in which a cache can be damaged."""
    scan = next(iter(content["scans"]))
    without_label = json.loads(json.dumps(content))
    without_label["scans"][scan]["figures"].popitem()
    short = json.loads(json.dumps(content))
    short["scans"][scan]["figures"]["liver"].pop()
    words = json.loads(json.dumps(content))
    words["scans"][scan]["figures"]["liver"][0] = "high"
    return {
        "cut": json.dumps(content)[:-40].encode(),
        "empty": b"",
        "bytes": bytes(range(256)),
        "a list": b"[1, 2]",
        "no scans": json.dumps({**content, "scans": None}).encode(),
        "a number for a scan": json.dumps({**content, "scans": {scan: 3}}).encode(),
        "label lacks": json.dumps(without_label).encode(),
        "figure lacks": json.dumps(short).encode(),
        "no figure": json.dumps(words).encode(),
    }


def test_a_damaged_cache_is_ignored(pairs, cache, measured):
    first = table(pairs, cache)
    path = cache / "nnUNetTrainer.json"
    whole = path.read_bytes()
    for name, content in damaged(json.loads(whole)).items():
        path.write_bytes(content)
        measured.clear()
        pd.testing.assert_frame_equal(table(pairs, cache), first)
        assert {model for model, _ in measured} == {MODELS[0]}, name
        assert json.loads(path.read_bytes()) == json.loads(whole), name


def test_a_cache_that_cannot_be_written(pairs, cache):
    cache.write_text("a file where the folder should be")
    frame, problems = measure_cases(pairs, LABELS, cache, 1)
    assert len(frame) == len(pairs) * 2
    assert len(problems) == len(MODELS)
    assert all(str(cache) in line and "\n" not in line for line in problems)


def test_scans_that_cannot_be_measured(pairs, cache):
    pairs[0].prediction.unlink()
    pairs[1].prediction.write_text("no image")
    write(pairs[2].prediction, 1, shape=(4, 9, 11))
    pairs.append(replace(pairs[3], case="case_9", truth=pairs[3].truth.with_name("nowhere.nii.gz")))
    for _ in range(2):  # they are not taken for measured
        frame, problems = measure_cases(pairs, LABELS, cache, 1)
        assert set(frame["model"]) == {MODELS[1]}
        assert len(frame) == 3 * 2
        assert len(problems) == 4
        expected = [pairs[0].prediction, pairs[1].prediction, pairs[2].prediction, pairs[6].truth]
        for line, path, reason in zip(problems, expected, ("No such", "read", "11 x 9 x 4", "No such"), strict=True):
            assert line.startswith(f"{path}: ")
            assert reason in line
            assert "\n" not in line
        assert "case_2 of nnUNetTrainer, validation, fold 0" in problems[0]


def test_an_odd_scan_does_not_cost_the_others(pairs, cache, monkeypatch):
    from nnunetv2_unet3plus.benchmarking.measures import reading

    read = reading.read_pair

    def fail(truth, prediction):
        if prediction == pairs[0].prediction:
            raise ZeroDivisionError("very\nodd")
        if prediction == pairs[1].prediction:
            raise MemoryError
        return read(truth, prediction)

    monkeypatch.setattr(reading, "read_pair", fail)
    frame, problems = measure_cases(pairs, LABELS, cache, 1)
    assert len(frame) == (len(pairs) - 2) * 2
    assert "ZeroDivisionError: very odd" in problems[0]
    assert "memory" in problems[1]


def test_several_processes_find_the_same(pairs, cache, tmp_path):
    pairs[0].prediction.write_text("no image")
    frame, problems = measure_cases(pairs, LABELS, cache, 2)
    assert len(problems) == 1
    pd.testing.assert_frame_equal(frame, measure_cases(pairs, LABELS, tmp_path / "other", 1)[0])


SCRIPT = """
import sys, time
from pathlib import Path
from nnunetv2_unet3plus.benchmarking.measures import cache, cohort
from tests.benchmarking.measures.test_cohort import LABELS, make_pairs

measure = cohort._measure
def slowly(job):
    time.sleep(0.05)
    return measure(job)
cohort._measure = slowly
cache.KEEP_EVERY = 0.1
folder = Path(sys.argv[1])
cohort.measure_cases(make_pairs(folder, 40, ["net"]), LABELS, folder / "cache", 1)
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_stopped_in_between(sent, cache, measured, tmp_path):
    run = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        preexec_fn=default_signals,
    )
    kept = cache / "net.json"
    start = time.monotonic()
    while not (kept.exists() and len(json.loads(kept.read_text())["scans"]) >= 3):
        assert run.poll() is None, run.stderr.read().decode()
        assert time.monotonic() < start + 120
        time.sleep(0.01)
    run.send_signal(sent)
    run.communicate(timeout=60)
    assert run.returncode != 0
    already = len(json.loads(kept.read_text())["scans"])
    assert 3 <= already < 40
    pairs = [
        CasePair("net", *("0+1", "test") if case == 1 else (str(case % 2), "validation"), f"case_{case}",
                 tmp_path / "truth" / f"case_{case}.nii.gz", tmp_path / "model_0" / f"case_{case}.nii.gz")
        for case in range(40)
    ]  # fmt: skip
    resumed = table(pairs, cache)
    assert len(measured) == 40 - already
    pd.testing.assert_frame_equal(resumed, table(pairs, tmp_path / "undisturbed"))


def test_six_thousand_scans_already_measured(tmp_path, cache, measured):
    """Bounds far above what it takes (under two seconds), below what any cost that grows with the square would."""
    labels = Labels({"a": (1,), "b": (2,), "c": (3,)})
    figures = {label: dict.fromkeys(MEASURES, 1 / 3) for label in labels.values}
    pairs = []
    for number in range(6):
        model = f"nnUNetTrainer{number}"
        kept = caching.Cache(cache, model, labels)
        for case in range(1000):
            pair = CasePair(model, str(case % 5), "validation", f"case_{case:04}", *[tmp_path / f"{case}.nii.gz"] * 2)
            if number == 0:
                pair.truth.touch()
            pairs.append(pair)
            stamp = caching.stamp_of(pair.truth)
            kept.add(pair, (stamp, stamp), figures)
        kept.write()
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    frame = table(pairs, cache, labels)
    assert time.process_time() - start < 15
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024
    assert measured == []
    assert frame.shape == (18000, len(CASE_COLUMNS))
    assert (frame["dice"] == 1 / 3).all()


def test_real_labels(tmp_path, cache):
    """Hippocampi, with themselves moved by a voxel as prediction."""
    folder = shared_data("Task04_Hippocampus") / "labelsTr"
    labels = Labels({"anterior": (1,), "posterior": (2,), "hippocampus": (1, 2)})
    pairs = []
    for truth in sorted(path for path in folder.glob("*.nii.gz") if not path.name.startswith("."))[:5]:
        image = sitk.ReadImage(str(truth))
        moved = sitk.GetImageFromArray(np.roll(sitk.GetArrayFromImage(image), (1, -1), (0, 2)))
        moved.CopyInformation(image)
        sitk.WriteImage(moved, str(tmp_path / truth.name))
        pairs.append(CasePair("moved", "0", "validation", truth.name, truth, tmp_path / truth.name))
    frame = table(pairs, cache, labels)
    assert len(frame) == 15
    for row in frame.itertuples():
        masks = [
            np.isin(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), labels.values[row.label])
            for path in (folder / row.case, tmp_path / row.case)
        ]
        spacing = sitk.ReadImage(str(folder / row.case)).GetSpacing()[::-1]
        assert row.hd95 == pytest.approx(pairwise_hd95(*masks, spacing), rel=1e-6)
        assert row.surface_dice == 1  # sqrt(2) mm
        assert 0.4 < row.dice < 0.95
        assert row.volume_error == pytest.approx(0, abs=1e-9)
