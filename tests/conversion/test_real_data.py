"""Real abdominal CT in the challenge's layout."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from tests.conversion import sources
from tests.end_to_end.nnunet import SHARED

ASSEMBLE = SHARED / "assemble_lits.py"

with_real_scans = pytest.mark.skipif(
    not ASSEMBLE.exists(), reason=f"real scans are not part of the project: {ASSEMBLE} is absent"
)


@with_real_scans
def test_real_scans(tmp_path, convert, capsys):
    source = tmp_path / "LiTS"
    command = [sys.executable, str(ASSEMBLE), str(source), "--inplane", "64", "--cases", "chaos", "e09"]
    subprocess.run(command, check=True, capture_output=True)
    folder = convert(source)
    for number in range(2):
        batch = source / "Training Batch 1"
        compare(batch / f"volume-{number}.nii", folder / "imagesTr" / f"liver_{number:03d}_0000.nii.gz")
        compare(batch / f"segmentation-{number}.nii", folder / "labelsTr" / f"liver_{number:03d}.nii.gz")
    verify_dataset_integrity(str(folder), num_processes=1)
    assert "Warning" not in capsys.readouterr().out


@pytest.mark.slow
@with_real_scans
def test_labels_of_the_challenge(tmp_path, convert):
    """Six of the challenge's own labels, of several orientations; the images are made up on their grids."""
    source = tmp_path / "LiTS"
    source.mkdir()
    labels = sorted((ASSEMBLE.parent / "lits_labels").glob("segmentation-*.nii.gz"))
    for path in labels:
        label = nib.load(path)
        image = nib.Nifti1Image(np.broadcast_to(np.int16(0), label.shape), label.affine)
        nib.save(image, source / path.name.replace("segmentation", "volume"))
        (source / path.name).write_bytes(path.read_bytes())
    folder = convert(source)
    assert len(labels) == 6
    for path in labels:
        number = int(path.name.removesuffix(".nii.gz").partition("-")[2])
        compare(path, folder / "labelsTr" / f"liver_{number:03d}.nii.gz", np.uint8)
        volume = source / path.name.replace("segmentation", "volume")
        compare(volume, folder / "imagesTr" / f"liver_{number:03d}_0000.nii.gz")
    verify_dataset_integrity(str(folder), num_processes=2)


@pytest.mark.slow
@with_real_scans
def test_real_scans_whole(tmp_path, convert):
    """All six, 512 x 512."""
    source = tmp_path / "LiTS"
    subprocess.run([sys.executable, str(ASSEMBLE), str(source)], check=True, capture_output=True)
    folder = convert(source)
    for number in range(6):
        batch = source / "Training Batch 1"
        compare(batch / f"volume-{number}.nii", folder / "imagesTr" / f"liver_{number:03d}_0000.nii.gz")
        compare(batch / f"segmentation-{number}.nii", folder / "labelsTr" / f"liver_{number:03d}.nii.gz")


def compare(original: Path, converted: Path, dtype: type | None = None) -> None:
    voxels, affine = sources.read(converted)
    expected, expected_affine = sources.read(original)
    assert voxels.dtype == (dtype or expected.dtype)
    np.testing.assert_array_equal(voxels, expected)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in expected.shape])).reshape(3, -1).T
    apart = nib.affines.apply_affine(affine, corners) - nib.affines.apply_affine(expected_affine, corners)
    assert np.abs(apart).max() < 1e-3  # millimetres
