"""Series and structure sets that were once converted wrongly without a word."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from nnunetv2_unet3plus.conversion.findings import FaultyFileError
from nnunetv2_unet3plus.dicom.files import sort_files
from nnunetv2_unet3plus.dicom.segmentation import DicomSegmentation
from nnunetv2_unet3plus.dicom.structures import Structure, joined
from tests.dicom.made_up import ORIGIN, SPACING, mask, scan, write_segmentation, write_series, write_structures
from tests.dicom.test_series import leaning, only_series


def other_intercept(slices):
    """Two ways of storing the same Hounsfield units, as of a scanner whose software was changed."""
    for header in slices[1:]:
        pixels = np.frombuffer(header.PixelData, "<i2").astype(int) - 24 + 1024
        header.PixelRepresentation, header.RescaleIntercept = 0, -1024
        header.PixelData = pixels.astype("<u2").tobytes()


def other_slope(slices):
    pixels = np.frombuffer(slices[2].PixelData, "<i2").astype(int) - 24
    slices[2].RescaleSlope, slices[2].RescaleIntercept = 40, 0
    slices[2].PixelData = (pixels // 40).astype("<i2").tobytes()


def test_slices_stored_differently(tmp_path):
    np.testing.assert_array_equal(only_series(tmp_path, other_intercept).voxels("image", []), scan(1))


def test_slopes_that_differ(tmp_path):
    expected = scan(1).astype(int)
    expected[:, :, 2] = expected[:, :, 2] // 40 * 40
    np.testing.assert_array_equal(only_series(tmp_path, other_slope).voxels("image", []), expected)


def cut_short(slices):
    slices[3].PixelData = slices[3].PixelData[:-40]


def test_pixels_that_are_not_there(tmp_path):
    with pytest.raises(FaultyFileError, match="200 of the 240 bytes of its pixels"):
        only_series(tmp_path, cut_short).voxels("image", [])


def set_all(**values):
    def change(slices):
        for header in slices:
            for name, value in values.items():
                setattr(header, name, value)

    return change


def two_runs(slices):
    """The second acquisition lies between the slices of the first."""
    for number, header in enumerate(slices):
        header.AcquisitionNumber = 1 + number % 2


def two_patients(slices):
    slices[4].PatientID = "another"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (set_all(PhotometricInterpretation="MONOCHROME1"), "not one volume"),
        (set_all(RescaleIntercept="nan"), "impossible header"),
        (set_all(ImageOrientationPatient=[2, 0, 0, 0, 1, 0]), "impossible header"),
        (set_all(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]), "impossible header"),
        (set_all(PixelSpacing=["nan", "nan"]), "impossible header"),
        (set_all(PixelSpacing=["inf", "1"]), "impossible header"),
        (two_runs, "several acquisitions"),
        (two_patients, "several patients"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about what is written here
def test_refused(tmp_path, change, fault):
    with pytest.raises(FaultyFileError) as caught:
        only_series(tmp_path, change).geometry("image", [])
    assert caught.value.finding.fault == fault


def test_every_other_slice_missing(tmp_path):
    def by_twos(slices):
        for header in slices:
            header.InstanceNumber = 2 * int(header.InstanceNumber)

    findings = []
    only_series(tmp_path, by_twos).geometry("image", findings)
    assert [finding.fault for finding in findings] == ["missing slices?"]


def test_files_without_preamble_and_ending(tmp_path):
    paths = write_series(tmp_path, scan(1))
    content = paths[5].read_bytes()
    paths[5].unlink()
    (tmp_path / "IM5").write_bytes(content[content.index(b"\x08\x00\x08\x00") :])  # no preamble, no meta information
    from nnunetv2_unet3plus.dicom import is_dicom

    assert is_dicom(tmp_path / "IM5")
    (tmp_path / "empty").touch()
    assert is_dicom(tmp_path / "empty")  # a copy that was stopped: to be told, not left out
    (tmp_path / "notes.txt").write_text("of no interest")
    assert not is_dicom(tmp_path / "notes.txt")


def box(left, right, front, back, z):
    """Corners in voxels."""
    return np.array([(left, front, z), (right, front, z), (right, back, z), (left, back, z)], float)


def filled(left, right, front, back):
    pixels = np.zeros((12, 10), bool)
    pixels[left:right, front:back] = True
    return pixels


class TestContoursOfASlice:
    """Hand-drawn boxes."""

    def test_hole_and_island(self):
        outer, hole, island = filled(0, 10, 0, 8), filled(2, 8, 2, 6), filled(4, 6, 3, 5)
        np.testing.assert_array_equal(joined([(c, False) for c in (island, outer, hole)]), outer & ~hole | island)

    def test_crossing(self):
        one, other = filled(0, 6, 0, 4), filled(4, 10, 2, 8)
        np.testing.assert_array_equal(joined([(one, False), (other, False)]), one | other)

    def test_twice(self):
        one = filled(0, 6, 0, 4)
        np.testing.assert_array_equal(joined([(one, False), (one.copy(), False)]), one)

    def test_exclusive_or(self):
        one, other = filled(0, 6, 0, 4), filled(4, 10, 2, 8)
        np.testing.assert_array_equal(joined([(one, True), (other, True)]), one ^ other)


@pytest.fixture
def study(tmp_path):
    return only_series(tmp_path / "ct")


def structure(study, path: Path, corners, kind="CLOSED_PLANAR") -> Structure:
    contours = [each * SPACING + ORIGIN for each in corners]
    write_structures(path, study.files, {"spleen": contours})
    header = dcmread(path)
    for contour in header.ROIContourSequence[0].ContourSequence:
        contour.ContourGeometricType = kind
    header.save_as(path)
    return Structure(path, study, "spleen")


@pytest.mark.parametrize(
    ("corners", "kind", "fault"),
    [
        ([box(1, 5, 1, 5, 0), box(1, 5, 1, 5, 2), box(1, 5, 1, 5, 4)], "CLOSED_PLANAR", "gaps"),
        ([box(-9, -5, 1, 5, 0)], "CLOSED_PLANAR", "other grid"),
        ([box(9, 15, 1, 5, 0)], "CLOSED_PLANAR", "other grid"),
        ([box(1, 5, 1, 5, 0)], "OPEN_PLANAR", "not closed"),
        ([box(1, 5, 1, 5, 0)], "POINT", "not closed"),
        ([box(np.nan, 5, 1, 5, 0)], "CLOSED_PLANAR", "unreadable"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_structures_refused(tmp_path, study, corners, kind, fault):
    with pytest.raises(FaultyFileError) as caught:
        structure(study, tmp_path / "rt.dcm", corners, kind).voxels("label", [])
    assert caught.value.finding.fault == fault


def test_one_gap_is_told(tmp_path, study):
    findings = []
    corners = [box(1, 5, 1, 5, z) for z in (0, 1, 2, 4)]
    voxels = structure(study, tmp_path / "rt.dcm", corners, "closed_planar").voxels("label", findings)
    assert [finding.fault for finding in findings] == ["gaps"]
    assert voxels.any((0, 1)).tolist() == [True, True, True, False, True, False]


@pytest.mark.parametrize("degrees", [1, 2])
def test_masks_on_a_leaning_series(tmp_path, degrees):
    """They were drawn on the slices as they are, before the grid was made straight."""
    study = only_series(tmp_path / "ct", leaning(degrees))
    assert study.geometry("image", [])
    path = write_segmentation(tmp_path / "seg.dcm", study.files, {"spleen": mask()})
    np.testing.assert_array_equal(DicomSegmentation(path, study, "spleen").voxels("label", []), mask())
    shift = np.tan(np.radians(degrees)) * SPACING[2]
    corners = []
    for index in range(6):
        each = box(2.51, 7.49, 1.51, 5.49, index)
        each[:, 1] += shift * index / SPACING[1]
        corners.append(each)
    expected = np.zeros((12, 10, 6), np.uint8)
    expected[3:8, 2:6] = 1
    found = structure(study, tmp_path / "rt.dcm", corners).voxels("label", [])
    np.testing.assert_array_equal(found, expected)


def test_other_modalities_and_single_slices_are_told(tmp_path):
    paths = write_series(tmp_path / "ct", scan(1)) + write_series(tmp_path / "one", scan(2, (12, 10, 1)))
    paths += write_series(tmp_path / "mr", scan(3), set_all(SOPClassUID="1.2.840.10008.5.1.4.1.1.4"))
    found = sort_files(paths)
    assert [len(series.slices) for series in found.series] == [6]
    assert len(found.others) == 7
    assert len(found.other_series) == 1
