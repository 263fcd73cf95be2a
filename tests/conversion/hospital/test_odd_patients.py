"""Patients that were once converted wrongly, or left out, without a word."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imsave

from tests.conversion.hospital.test_hospital import (
    AFFINE,
    hospital,  # noqa: F401 - the fixture
    itk,
    nifti,
    with_nifti_mask,
    with_segmentation,
    without_dicom,
)
from tests.conversion.sources import read
from tests.dicom.made_up import mask, scan, write_segmentation, write_series


def label_of(dataset: Path) -> np.ndarray:
    return read(next((dataset / "labelsTr").iterdir()))[0]


def pictures(folder: Path, make, name="spleen_{:03d}.png"):
    """A series, and a picture a slice made from the mask's slice (rows, columns)."""
    write_series(folder / "CT", scan(1))
    (folder / "Ground").mkdir()
    for index in range(6):
        imsave(folder / "Ground" / name.format(index), make(mask()[:, :, index].T), check_contrast=False)
    return folder


def grey_with_alpha(m):
    return np.stack([m * 255, np.full_like(m, 255)], axis=-1)


def overlay(m):
    return np.stack([m * 255, m * 0, m * 0, m * 255], axis=-1) + np.array([1, 1, 1, 0], np.uint8) * (1 - m)[..., None]


@pytest.mark.parametrize("make", [grey_with_alpha, overlay, lambda m: m, lambda m: np.stack([m * 9] * 3, axis=-1)])
def test_kinds_of_pictures(tmp_path, hospital, make):  # noqa: F811
    pictures(tmp_path / "source" / "a", make)
    code, _, _, dataset = hospital(tmp_path / "source")
    assert code == 0
    np.testing.assert_array_equal(label_of(dataset), mask())


def test_pictures_of_several_organs(tmp_path, hospital):  # noqa: F811
    pictures(tmp_path / "source" / "a", lambda m: m * 63 + np.roll(m, 3, 1) * 126)
    assert "the pictures hold the grey values 63, 126" in hospital(tmp_path / "source")[2]


def test_inverted_pictures(tmp_path, hospital):  # noqa: F811
    pictures(tmp_path / "source" / "a", lambda m: (1 - m) * 255)
    assert "look whether they are inverted" in hospital(tmp_path / "source")[1]


def test_pictures_with_a_number_behind_theirs(tmp_path, hospital):  # noqa: F811
    folder = tmp_path / "source" / "a"
    size = (12, 10, 12)
    voxels = np.zeros(size, np.uint8)
    voxels[2:4, 3:6, 8:11] = 1
    write_series(folder / "CT", scan(1, size))
    for index in range(12):
        (folder / "mask").mkdir(exist_ok=True)
        imsave(folder / "mask" / f"slice{index + 1}_v2.png", voxels[:, :, index].T * 255, check_contrast=False)
    code, _, _, dataset = hospital(tmp_path / "source")
    assert code == 0
    np.testing.assert_array_equal(label_of(dataset), voxels)


def test_pictures_of_two_organs_in_two_folders(tmp_path, hospital):  # noqa: F811
    folder = pictures(tmp_path / "source" / "a", lambda m: m)
    (folder / "Ground").rename(folder / "spleen")
    pictures(folder / "other", lambda m: np.roll(m, 3, 1))
    (folder / "other" / "Ground").rename(folder / "liver")
    shutil.rmtree(folder / "other")
    for path in (folder / "liver").iterdir():
        path.rename(path.with_name(path.name.replace("spleen", "liver")))
    code, _, _, dataset = hospital(tmp_path / "source")
    assert code == 0
    np.testing.assert_array_equal(label_of(dataset), mask())


def only_liver_file(folder):
    write_series(folder / "CT", scan(1))
    nifti(folder / "liver.nii.gz", mask())


def elsewhere(folder):
    write_series(folder / "CT", scan(1))
    path = nifti(folder / "mask.nii.gz", mask())
    from nibabel import Nifti1Image, save

    moved = AFFINE.copy()
    moved[2, 3] += 100
    save(Nifti1Image(mask(), moved), path)


def of_another_series(folder):
    write_segmentation(folder / "SEG.dcm", write_series(folder / "gone", scan(2)), {"spleen": mask()})
    shutil.rmtree(folder / "gone")
    write_series(folder / "CT", scan(1))


def two_patients(folder):
    write_series(folder / "a", scan(1), lambda slices: [setattr(each, "PatientID", "1") for each in slices])
    with_segmentation(folder)


def nameless_segments(folder):
    write_series(folder / "CT", scan(1))
    itk(folder / "a.seg.nrrd", mask(), {1: "spleen"})
    path = folder / "a.seg.nrrd"
    path.write_bytes(path.read_bytes().replace(b"Segment0_LabelValue:=1", b"Segment0_LabelValue:=x"))


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (only_liver_file, "the only mask is not named as one of the spleen"),
        (elsewhere, "it belongs to another scan, or lost its place"),
        (of_another_series, "the masks here were drawn on another series than the CT"),
        (two_patients, "CT series of several patients in one folder"),
        (nameless_segments, "the values of its segments are no whole numbers"),
    ],
)
def test_refused(tmp_path, hospital, form, words):  # noqa: F811
    form(tmp_path / "source" / "a")
    code, _, error, _ = hospital(tmp_path / "source")
    assert code == 2
    assert words in error


def test_lesion_is_not_the_organ(tmp_path, hospital):  # noqa: F811
    folder = tmp_path / "source" / "a"
    write_segmentation(folder.parent / "SEG.dcm", paths := write_series(folder, scan(1)), {"Spleen lesion": mask()})
    shutil.move(folder.parent / "SEG.dcm", folder)
    assert paths
    assert "it has 'Spleen lesion'" in hospital(tmp_path / "source")[2]


def test_organ_of_two_words(tmp_path, hospital, raw):  # noqa: F811
    folder = tmp_path / "source" / "a"
    write_series(folder / "CT", scan(1))
    nifti(folder / "right_kidney.nii.gz", np.roll(mask(), 3, 0))
    nifti(folder / "left_kidney.nii.gz", mask())
    code, _, _, _ = hospital(tmp_path / "source", "--organ", "left kidney", "--name", "LeftKidney", "-d", "510")
    assert code == 0
    dataset = raw / "Dataset510_LeftKidney"
    np.testing.assert_array_equal(label_of(dataset), mask())
    assert json.loads((dataset / "dataset.json").read_text())["labels"] == {"background": 0, "left kidney": 1}
    assert (dataset / "imagesTr" / "left_kidney_001_0000.nii.gz").exists()


@pytest.mark.parametrize("organ", ["", "  ", "12", "background", "Ignore"])
def test_no_organ(tmp_path, hospital, organ):  # noqa: F811
    without_dicom(tmp_path / "source" / "a")
    assert "not the name of an organ" in hospital(tmp_path / "source", "--organ", organ, "--name", "X")[2]


def loose_file(source):
    nifti(source / "b.nii.gz", scan(1))


def dangling(source):
    (source / "b").symlink_to(source / "gone")


def linked_twice(source):
    (source / "b").symlink_to(source / "a")


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (loose_file, "b.nii.gz lies beside the patients' folders"),
        (dangling, "b: a link that leads nowhere"),
        (linked_twice, "are the same folder"),
    ],
)
def test_sources_that_would_be_read_in_part(tmp_path, hospital, form, words):  # noqa: F811
    without_dicom(tmp_path / "source" / "a")
    form(tmp_path / "source")
    assert words in hospital(tmp_path / "source")[2]


def test_underscores_are_no_secret(tmp_path, hospital):  # noqa: F811
    without_dicom(tmp_path / "source" / "a")
    without_dicom(tmp_path / "source" / "__anon_01")
    assert "2 patients" in hospital(tmp_path / "source")[1]


def test_test_cases_are_told(tmp_path, hospital):  # noqa: F811
    with_nifti_mask(tmp_path / "source" / "a")
    write_series(tmp_path / "source" / "b", scan(1))
    (tmp_path / "source" / "b" / "mask.img").write_bytes(b"analyze")
    _, out, _, dataset = hospital(tmp_path / "source")
    assert "no mask was found: a test case; 1 files of other kinds lie there" in out
    assert "no mask" in (dataset / "conversion_report.json").read_text()


def test_nothing_to_learn_from(tmp_path, hospital):  # noqa: F811
    write_series(tmp_path / "source" / "b", scan(1))
    assert "not one scan here has a mask to learn from" in hospital(tmp_path / "source")[2]


def test_missing_voxels_of_a_detached_header(tmp_path, hospital):  # noqa: F811
    """ITK's message names the file that is missing, and with it the patient's folder."""
    folder = tmp_path / "source" / "Ada Lovelace"
    itk(folder / "ct.nhdr", scan(1))
    next(path for path in folder.iterdir() if path.suffix != ".nhdr").unlink()
    without_dicom(tmp_path / "source" / "b")
    code, _, _, dataset = hospital(tmp_path / "source", "--leave-out-refused")
    assert code == 0
    assert "Lovelace" not in (dataset / "conversion_report.json").read_text()


@pytest.mark.parametrize(
    "line", ["../../x_001,a", "Mueller_001,a", "spleen_٣,a", f"spleen_{'1' * 5000},a", "spleen_001"]
)
def test_keys_made_by_hand(tmp_path, hospital, line):  # noqa: F811
    without_dicom(tmp_path / "source" / "a")
    (tmp_path / "key.csv").write_text(f"case,folder\n{line}\n")
    code, _, error, _ = hospital(tmp_path / "source", "--id-map", str(tmp_path / "key.csv"))
    assert code == 2
    assert "not of an earlier run" in error


def test_key_saved_by_a_spreadsheet(tmp_path, hospital):  # noqa: F811
    without_dicom(tmp_path / "source" / "a")
    (tmp_path / "key.csv").write_bytes(b"\xef\xbb\xbfcase,folder\r\nspleen_007,a\r\n\r\n")
    code, _, _, dataset = hospital(tmp_path / "source", "--id-map", str(tmp_path / "key.csv"))
    assert code == 0
    assert (dataset / "imagesTr" / "spleen_007_0000.nii.gz").exists()
