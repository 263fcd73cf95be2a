"""From a hospital's DICOM to DICOM-SEG with the stock commands in between."""

import shutil

import numpy as np
import pytest

from nnunetv2_unet3plus.conversion.volumes import NiftiFile
from nnunetv2_unet3plus.dicom.files import sort_files
from nnunetv2_unet3plus.dicom.segmentation import DicomSegmentation, segment_names
from tests.end_to_end.nnunet import shared_data

pytestmark = pytest.mark.slow

TRAINER = "nnUNetTrainerUNet3Plus_1epochs_2iters"


def test_dicom_in_and_dicom_out(workspace):
    studies = shared_data("dcmqi_liver") / "segmentations"
    patients = workspace.root / "patients"
    for name in ("23x38x3", "24x38x3"):  # cut-outs of a few voxels: a training of seconds
        shutil.copytree(studies / name / "image", patients / name / "CT")
        shutil.copy(studies / name / "seg" / "label.seg", patients / name)
    workspace.run(
        "unet3plus", "convert", "spleen", patients, "--organ", "liver", "-d", 510, "--name", "Liver",
        "--id-map", workspace.root / "key.csv",
    )  # fmt: skip
    workspace.run("nnUNetv2_plan_and_preprocess", "-d", 510, "-c", "2d", "--verify_dataset_integrity", "-np", 2)
    workspace.edit_plans("Dataset510_Liver", "2d", batch_size=2)
    workspace.run("nnUNetv2_train", 510, "2d", "all", "-tr", TRAINER, "-device", "cpu")

    scans, prepared, masks, restored = (workspace.root / n for n in ("scans", "prepared", "masks", "restored"))
    shutil.copytree(studies / "ct-3slice", scans / "Mustermann^Erika" / "CT")
    workspace.run("unet3plus", "prepare-scans", scans, "-o", prepared)
    workspace.run(
        "nnUNetv2_predict", "-d", 510, "-c", "2d", "-f", "all", "-tr", TRAINER, "-i", prepared, "-o", masks,
        "-device", "cpu", "--disable_tta",
    )  # fmt: skip
    workspace.run("unet3plus", "restore-masks", masks, "--scans", prepared, "-o", restored)

    path = restored / "Mustermann^Erika" / "CT" / "segmentation.dcm"
    assert segment_names(path) == {1: "liver"}
    (series,) = sort_files((scans / "Mustermann^Erika" / "CT").iterdir()).series
    ours = DicomSegmentation(path, series, "liver").voxels("label", [])
    predicted = NiftiFile(masks / "scan_001.nii.gz").voxels("label", [])
    np.testing.assert_array_equal(ours, predicted)
