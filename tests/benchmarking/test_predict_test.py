import os

import pytest

from nnunetv2_unet3plus.benchmarking.predict_test import (
    is_predicted,
    made_from,
    remove_half_written,
    work_folder,
)
from tests.benchmarking.folders import reference, write_mask

TRAINER = "nnUNetTrainer"


@pytest.fixture
def model(folders):
    for fold in (0, 1):
        folders.train(TRAINER, fold)
    return folders.model(TRAINER)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "imagesTs"
    folder.mkdir()
    (folder / "case_0000.nii.gz").write_text("scan")
    return folder


def predict(output, model, folds, images):
    work = work_folder(output, made_from(model, folds, images))
    write_mask(work / "case.nii.gz", reference(0))
    work.rename(output)


def test_masks_belong_to_the_checkpoints_that_made_them(model, images, tmp_path):
    output = tmp_path / "masks"
    assert not is_predicted(output, model, ["0", "1"], images)
    predict(output, model, ["0", "1"], images)
    assert is_predicted(output, model, ["0", "1"], images)
    assert not is_predicted(output, model, ["0"], images)
    os.utime(model / "fold_1" / "checkpoint_final.pth", ns=(1, 1))  # trained anew
    assert not is_predicted(output, model, ["0", "1"], images)


@pytest.mark.parametrize("change", ["another", "one more", "exported anew"])
def test_masks_belong_to_the_scans_they_are_of(model, images, tmp_path, change):
    output = tmp_path / "masks"
    predict(output, model, ["0"], images)
    scan = images / "case_0000.nii.gz"
    if change == "another":
        scan.rename(images / "other_0000.nii.gz")
    elif change == "one more":
        (images / "more_0000.nii.gz").touch()
    else:
        scan.write_text("another scan")
    assert not is_predicted(output, model, ["0"], images)


def test_a_prediction_that_was_stopped_goes_on(model, images, tmp_path):
    output = tmp_path / "masks"
    origin = made_from(model, ["0"], images)
    work = work_folder(output, origin)
    write_mask(work / "case.nii.gz", reference(0))
    assert work_folder(output, origin) == work
    assert (work / "case.nii.gz").exists()


def test_masks_of_an_earlier_training_are_moved_away_not_lost(model, images, tmp_path):
    output = tmp_path / "masks"
    for time in (1, 2):
        predict(output, model, ["0"], images)
        os.utime(model / "fold_0" / "checkpoint_final.pth", ns=(time, time))
        work = work_folder(output, made_from(model, ["0"], images))
        assert not output.exists()
        assert not (work / "case.nii.gz").exists()
        assert (tmp_path / f"masks.outdated{time}" / "case.nii.gz").exists()
        work.rename(tmp_path / f"done{time}")


def test_half_a_mask_is_predicted_again(tmp_path):
    write_mask(tmp_path / "whole.nii.gz", reference(0))
    whole = (tmp_path / "whole.nii.gz").read_bytes()
    (tmp_path / "half.nii.gz").write_bytes(whole[:50])
    (tmp_path / "nearly.nii.gz").write_bytes(whole[:-20])  # ITK reads such a file without a word
    remove_half_written(tmp_path, ".nii.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["whole.nii.gz"]
