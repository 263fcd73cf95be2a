import os

import pytest

from nnunetv2_unet3plus.benchmarking.predict_test import (
    checkpoints_of,
    is_predicted,
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


def predict(output, model, folds):
    work = work_folder(output, checkpoints_of(model, folds))
    write_mask(work / "case.nii.gz", reference(0))
    work.rename(output)


def test_masks_belong_to_the_checkpoints_that_made_them(model, tmp_path):
    output = tmp_path / "masks"
    assert not is_predicted(output, model, ["0", "1"])
    predict(output, model, ["0", "1"])
    assert is_predicted(output, model, ["0", "1"])
    assert not is_predicted(output, model, ["0"])
    os.utime(model / "fold_1" / "checkpoint_final.pth", ns=(1, 1))  # trained anew
    assert not is_predicted(output, model, ["0", "1"])


def test_a_prediction_that_was_stopped_goes_on(model, tmp_path):
    output = tmp_path / "masks"
    checkpoints = checkpoints_of(model, ["0"])
    work = work_folder(output, checkpoints)
    write_mask(work / "case.nii.gz", reference(0))
    assert work_folder(output, checkpoints) == work
    assert (work / "case.nii.gz").exists()


def test_masks_of_an_earlier_training_are_moved_away_not_lost(model, tmp_path):
    output = tmp_path / "masks"
    for time in (1, 2):
        predict(output, model, ["0"])
        os.utime(model / "fold_0" / "checkpoint_final.pth", ns=(time, time))
        work = work_folder(output, checkpoints_of(model, ["0"]))
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
