"""DICOM-SEG and RTSTRUCT as masks on their series."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from nnunetv2_unet3plus.conversion.findings import FaultyFileError
from nnunetv2_unet3plus.dicom.files import sort_files
from nnunetv2_unet3plus.dicom.segmentation import DicomSegmentation
from nnunetv2_unet3plus.dicom.segmentation import reference as of_segmentation
from nnunetv2_unet3plus.dicom.series import DicomSeries
from nnunetv2_unet3plus.dicom.structures import Structure
from nnunetv2_unet3plus.dicom.structures import reference as of_structures
from tests.dicom.made_up import ORIGIN, SPACING, mask, scan, write_segmentation, write_series, write_structures


@pytest.fixture
def series(tmp_path: Path) -> DicomSeries:
    (found,) = sort_files(write_series(tmp_path / "ct", scan(1), downward=True)).series
    return found


def in_mm(corners, index: float) -> np.ndarray:
    """Corners in voxels of slice `index`, as a contour in LPS mm."""
    return np.array([(x, y, index) for x, y in corners]) * SPACING + ORIGIN


def box(left, right, front, back):
    return [(left, front), (right, front), (right, back), (left, back)]


@pytest.mark.parametrize("organ", ["spleen", "Milz", "RATE"])
def test_segmentation(tmp_path, series, organ):
    other = np.roll(mask(), 2, axis=0)
    path = write_segmentation(tmp_path / "seg.dcm", series.files, {"Leber": other, "Milz": mask()})
    volume = DicomSegmentation(path, series, organ)
    assert volume.geometry("label", []) == series.geometry("image", [])
    np.testing.assert_array_equal(volume.voxels("label", []), mask())
    assert of_segmentation(path) == (series.uid, series.slices[0].frame)


@pytest.mark.parametrize("kept", [1, 2])
def test_segmentation_of_few_slices(tmp_path, series, kept):
    voxels = mask()
    voxels[:, :, [1, 3] if kept == 1 else 2] = 0
    path = write_segmentation(tmp_path / "seg.dcm", series.files, {"spleen": voxels})
    np.testing.assert_array_equal(DicomSegmentation(path, series, "spleen").voxels("label", []), voxels)


def test_segmentation_of_another_series(tmp_path, series):
    def elsewhere(slices):
        for header in slices:
            header.ImagePositionPatient[0] += 0.35

    paths = write_series(tmp_path / "other", scan(2), elsewhere)
    path = write_segmentation(tmp_path / "seg.dcm", paths, {"spleen": mask()})
    with pytest.raises(FaultyFileError, match="not where those of the series are"):
        DicomSegmentation(path, series, "spleen").voxels("label", [])


def test_segmentation_reaches_out(tmp_path, series):
    path = write_segmentation(tmp_path / "seg.dcm", series.files, {"spleen": mask()})
    upper = DicomSeries(series.uid, tuple(series.in_order()[2:]))
    with pytest.raises(FaultyFileError, match="reaches out of the series"):
        DicomSegmentation(path, upper, "spleen").voxels("label", [])


def test_structure_by_hand(tmp_path, series):
    hollow = [in_mm(box(1.5, 8.5, 2.5, 7.5), 2), in_mm(box(3.5, 5.5, 3.5, 5.5), 2)]
    two_parts = [in_mm(box(0.6, 3.4, 0.6, 2.4), 3), in_mm(box(6.6, 9.4, 5.6, 8.4), 3)]
    path = write_structures(tmp_path / "rt.dcm", series.files, {"BODY": [], "Foie": hollow + two_parts})
    expected = np.zeros(series.size("label"), np.uint8)
    expected[2:9, 3:8, 2] = 1
    expected[4:6, 4:6, 2] = 0
    expected[1:4, 1:3, 3] = 1
    expected[7:10, 6:9, 3] = 1
    np.testing.assert_array_equal(Structure(path, series, "liver").voxels("label", []), expected)
    assert of_structures(path).series == series.uid


def test_structure_of_a_circle(tmp_path, series):
    """Against the definition: a voxel's centre is inside."""
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    circle = np.stack([5.2 + 3.3 * np.cos(angles), 4.4 + 3.3 * np.sin(angles)], 1)
    path = write_structures(tmp_path / "rt.dcm", series.files, {"spleen": [in_mm(circle, 3)]})
    x, y = np.mgrid[:12, :10]
    expected = (x - 5.2) ** 2 + (y - 4.4) ** 2 < 3.3**2
    np.testing.assert_array_equal(Structure(path, series, "spleen").voxels("label", [])[:, :, 3], expected)


@pytest.mark.parametrize(
    ("index", "words"), [(2.5, "does not lie in a slice"), (6, "has no slice"), (-1, "has no slice")]
)
def test_contour_without_slice(tmp_path, series, index, words):
    contours = {"spleen": [in_mm(box(1, 5, 1, 5), 2), in_mm(box(1, 5, 1, 5), index)]}
    path = write_structures(tmp_path / "rt.dcm", series.files, contours)
    with pytest.raises(FaultyFileError, match=words):
        Structure(path, series, "spleen").voxels("label", [])


@pytest.mark.parametrize("kind", [DicomSegmentation, Structure])
def test_no_such_organ(tmp_path, series, kind):
    if kind is DicomSegmentation:
        path = write_segmentation(tmp_path / "m.dcm", series.files, {"Leber": mask(), "Niere links": mask()})
    else:
        contour = [in_mm(box(1, 5, 1, 5), 2)]
        path = write_structures(tmp_path / "m.dcm", series.files, {"Leber": contour, "Niere links": contour})
    with pytest.raises(FaultyFileError, match=r"Leber.*Niere links") as caught:
        kind(path, series, "spleen").geometry("label", [])
    assert "Leber" not in caught.value.finding.text  # the report goes further than the prompt
    np.testing.assert_array_equal(
        kind(path, series, "kidney").voxels("label", []) > 0, kind(path, series, "Leber").voxels("label", []) > 0
    )


@pytest.mark.parametrize("kind", [DicomSegmentation, Structure])
@pytest.mark.parametrize("damage", ["truncated", "other", "garbage"])
def test_damaged(tmp_path, series, kind, damage):
    if kind is DicomSegmentation:
        path = write_segmentation(tmp_path / "m.dcm", series.files, {"spleen": mask()})
    else:
        path = write_structures(tmp_path / "m.dcm", series.files, {"spleen": [in_mm(box(1, 5, 1, 5), 2)]})
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "other":
        header = dcmread(path)
        for name in ("SegmentSequence", "StructureSetROISequence"):
            if name in header:
                delattr(header, name)
        header.save_as(path)
    else:
        path.write_bytes(b"\7" * 1000)
    with pytest.raises(FaultyFileError, match="cannot be read as a"):
        kind(path, series, "spleen").voxels("label", [])


def test_segmentation_by_its_coded_name(tmp_path, series):
    """Some programs number their segments and tell the organ by its code alone."""
    path = write_segmentation(tmp_path / "seg.dcm", series.files, {"Segment A": mask() * 0 + 1, "Segment B": mask()})
    header = dcmread(path)
    header.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0].CodeMeaning = "Spleen"
    header.save_as(path)
    np.testing.assert_array_equal(DicomSegmentation(path, series, "milz").voxels("label", []), mask())
