import json
import os
import zipfile

import pytest

from nnunetv2_unet3plus.benchmarking.fold import Fold, State, model_folder


def test_a_fold_nobody_began(tmp_path):
    assert Fold(tmp_path / "fold_3").state is State.MISSING
    assert Fold(tmp_path / "fold_3").name == "3"


def test_a_fold_that_is_done(folders):
    fold = Fold(folders.train("nnUNetTrainer", 1, seed=7, repeatable=True))
    assert fold.state is State.DONE
    assert fold.length == (2, 3)
    assert fold.record["seed"] == 7


def test_without_its_summary_it_has_to_be_validated(folders):
    fold = Fold(folders.train("nnUNetTrainer", 1))
    summary = fold.validation / "summary.json"
    summary.write_text(summary.read_text()[:-40])  # a kill while it was written
    assert fold.state is State.TRAINED


@pytest.mark.parametrize("name", ["checkpoint_latest.pth", "checkpoint_best.pth"])
def test_an_interrupted_training_goes_on_from_its_checkpoint(folders, name):
    fold = Fold(folders.train("nnUNetTrainer", 1))
    (fold.folder / "checkpoint_final.pth").rename(fold.folder / name)
    assert fold.state is State.INTERRUPTED
    assert fold.resume_from == fold.folder / name


def test_masks_of_an_earlier_training_are_none(folders):
    """As when nnUNetv2_train was started anew on a fold that was done, and stopped before its validation."""
    fold = Fold(folders.train("nnUNetTrainer", 1))
    hour = 3600 * 10**9
    validated = (fold.validation / "summary.json").stat().st_mtime_ns
    os.utime(fold.folder / "checkpoint_final.pth", ns=(validated + hour, validated + hour))
    assert fold.state is State.TRAINED
    os.utime(fold.folder / "checkpoint_final.pth", ns=(validated + hour // 60, validated + hour // 60))  # copied
    assert fold.state is State.DONE


def test_masks_whose_checkpoints_are_gone_can_be_measured(folders):
    fold = Fold(folders.train("nnUNetTrainer", 1))
    (fold.folder / "checkpoint_final.pth").unlink()
    assert fold.state is State.DONE
    assert not fold.can_predict


def test_where_nnunet_keeps_a_model(folders):
    assert model_folder("Dataset900_Phantom", "nnUNetTrainer", "nnUNetPlans", "2d") == folders.model("nnUNetTrainer")


def test_a_zip_file_that_is_no_checkpoint_has_no_plans(folders):
    fold = Fold(folders.train("nnUNetTrainer", 1))
    with zipfile.ZipFile(fold.folder / "checkpoint_final.pth", "w") as archive:
        archive.writestr("holiday.txt", "beach")
    assert fold.plans is None


def test_half_a_checkpoint_is_none(folders):
    fold = Fold(folders.train("nnUNetTrainer", 1))
    final = fold.folder / "checkpoint_final.pth"
    final.write_bytes(final.read_bytes()[:-100])
    assert fold.state is State.MISSING


def test_nnunets_own_training_has_no_record(folders):
    fold = Fold(folders.train("nnUNetTrainer", 1))
    assert fold.record is None
    (fold.folder / "benchmark.json").write_text(json.dumps([1]))
    assert fold.record is None
