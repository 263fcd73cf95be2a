import json

import numpy as np
import pytest
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from dataset_conversion import Dataset501_LiTS
from nnunetv2_unet3plus.conversion.description import Case
from nnunetv2_unet3plus.errors import UserError
from tests.conversion import sources


@pytest.fixture
def source(tmp_path):
    return sources.challenge(tmp_path / "source", (3, 12))


@pytest.fixture
def full_source(tmp_path):
    """131 cases, of which only the names matter."""
    source = tmp_path / "full"
    image = sources.write(source / "image.nii", np.zeros((2, 2, 2), np.int16))
    for number in range(131):
        (source / f"volume-{number}.nii").write_bytes(image.read_bytes())
        (source / f"segmentation-{number}.nii").write_bytes(image.read_bytes())
    image.unlink()
    return source


def labels(folder):
    return json.loads((folder / "dataset.json").read_text())["labels"]


def test_organ_merges_the_tumour_into_the_liver(source, convert):
    folder = convert(source, "--organ")
    assert labels(folder) == {"background": 0, "liver": 1}
    for number in (3, 12):
        found, _ = sources.read(folder / "labelsTr" / f"liver_{number:03d}.nii.gz")
        np.testing.assert_array_equal(found, sources.mask(number) > 0)
    verify_dataset_integrity(str(folder), num_processes=1)


def test_regions_keep_the_values_and_describe_nested_regions(source, convert):
    folder = convert(source, "--regions")
    assert labels(folder) == {"background": 0, "liver": [1, 2], "tumour": 2}
    assert json.loads((folder / "dataset.json").read_text())["regions_class_order"] == [1, 2]
    found, _ = sources.read(folder / "labelsTr" / "liver_012.nii.gz")
    np.testing.assert_array_equal(found, sources.mask(12))
    verify_dataset_integrity(str(folder), num_processes=1)


def test_number_and_name(source, convert):
    folder = convert(source, "-d", "7", "--name", "Liver_2-a", folder="Dataset007_Liver_2-a")
    assert json.loads((folder / "dataset.json").read_text())["name"] == "Liver_2-a"


def test_output_stands_in_for_the_variable(source, tmp_path, convert, monkeypatch):
    monkeypatch.delenv("nnUNet_raw")
    convert(source, "--output", str(tmp_path / "new" / "raw"))
    assert (tmp_path / "new" / "raw" / "Dataset501_LiTS" / "dataset.json").exists()


def test_without_variable_and_output_it_says_so(source, refuse, monkeypatch):
    monkeypatch.delenv("nnUNet_raw")
    error = refuse(source)
    assert "nnUNet_raw" in error
    assert "--output" in error


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--organ", "--regions"], "--regions"),
        (["-d", "0"], "--dataset-id"),
        (["-d", "1000"], "--dataset-id"),
        (["-d", "x"], "--dataset-id"),
        (["--name", "a/b"], "--name"),
        (["--name", ""], "--name"),
        (["-np", "0"], "-np"),
        (["--split", "mine"], "--split"),
    ],
)
def test_senseless_options_are_named(options, named, source, refuse):
    assert named in refuse(source, *options)


def test_paper_split_reaches_the_folder_training_reads_it_from(full_source, convert, raw):
    folder = convert(full_source, "--split", "paper")
    preprocessed = raw.parent / "nnUNet_preprocessed" / folder.name
    preprocessed.mkdir()
    (preprocessed / "dataset_fingerprint.json").write_text("{}")
    ExperimentPlanner(501)
    (fold,) = json.loads((preprocessed / "splits_final.json").read_text())
    assert (len(fold["train"]), len(fold["val"])) == (103, 28)
    assert sorted(fold["train"] + fold["val"]) == [f"liver_{number:03d}" for number in range(131)]
    names = {path.name.removesuffix(".nii.gz") for path in (folder / "labelsTr").iterdir()}
    assert names == {*fold["train"], *fold["val"]}


def test_paper_split_is_fixed_and_takes_from_every_source():
    cases = Dataset501_LiTS.paper_split([Case(f"liver_{n:03d}", None, "label") for n in range(131)])
    held_out = [int(name[-3:]) for name in cases[0]["val"]]
    assert held_out[:4] == [4, 9, 14, 18]
    assert held_out[-1] == 130
    gaps = np.diff([-1, *held_out])
    assert set(gaps) == {4, 5}
    from_ircad = sum(28 <= number <= 47 for number in held_out)
    assert abs(from_ircad - 20 * 28 / 131) < 1


def test_paper_split_needs_all_cases(source, refuse):
    error = refuse(source, "--split", "paper")
    assert "131" in error
    assert "found 2" in error


def test_paper_split_counts_training_cases_only():
    cases = [Case(str(n), None, "label") for n in range(130)]
    with pytest.raises(UserError, match="found 130"):
        Dataset501_LiTS.paper_split([*cases, Case("test", None)])


def test_another_split_in_the_preprocessed_folder_is_refused(full_source, refuse, raw):
    existing = raw.parent / "nnUNet_preprocessed" / "Dataset501_LiTS" / "splits_final.json"
    existing.parent.mkdir()
    existing.write_text("[]")
    assert str(existing) in refuse(full_source, "--split", "paper")


def test_the_script_takes_the_same_options(source, raw):
    assert Dataset501_LiTS.main([str(source), "--organ", "-np", "1"]) == 0
    assert labels(raw / "Dataset501_LiTS") == {"background": 0, "liver": 1}
