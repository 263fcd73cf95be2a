"""A series as a volume, and everything that can be wrong with it."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
from pydicom.uid import generate_uid

from nnunetv2_unet3plus.conversion.findings import FaultyFileError
from nnunetv2_unet3plus.dicom.files import sort_files
from nnunetv2_unet3plus.dicom.series import DicomSeries
from tests.dicom.made_up import ORIGIN, SPACING, scan, write_series


def only_series(folder: Path, change=None, **options) -> DicomSeries:
    (series,) = sort_files(write_series(folder, scan(1), change, **options)).series
    return series


@pytest.mark.parametrize("downward", [False, True])
def test_grid_and_voxels(tmp_path, downward):
    series = only_series(tmp_path, downward=downward)
    geometry, findings = series.geometry("image", []), []
    assert geometry.size == (12, 10, 6)
    np.testing.assert_allclose(geometry.spacing, SPACING)  # not the 3.2 mm of SliceThickness
    np.testing.assert_allclose(geometry.origin, ORIGIN)
    assert geometry.axes == "LPS"
    voxels = series.voxels("image", findings)
    np.testing.assert_array_equal(voxels, scan(1))  # in Hounsfield units: stored with an intercept
    assert voxels.dtype == np.int16
    assert not findings


def test_the_same_places_as_itk_gives_them(tmp_path):
    turn = nib.eulerangles.euler2mat(0.2, 0.1, -0.3)

    def oblique(slices):
        for index, header in enumerate(slices):
            header.ImageOrientationPatient = [float(f"{v:.10f}") for v in (*turn[:, 0], *turn[:, 1])]
            header.ImagePositionPatient = [float(f"{v:.8f}") for v in turn @ (3, 4, 5 + SPACING[2] * index)]

    series = only_series(tmp_path, oblique)
    ours = series.geometry("image", [])
    theirs = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path)))
    np.testing.assert_allclose(ours.spacing, theirs.GetSpacing(), atol=1e-5)
    np.testing.assert_allclose(ours.origin, theirs.GetOrigin(), atol=1e-5)
    np.testing.assert_allclose(ours.direction, theirs.GetDirection(), atol=1e-6)


def leaning(degrees: float):
    """A tilted gantry: every slice is shifted along y by the same step."""

    def change(slices):
        for index, header in enumerate(slices):
            header.ImagePositionPatient[1] += np.tan(np.radians(degrees)) * SPACING[2] * index

    return change


def test_slight_tilt_is_repaired(tmp_path):
    findings = []
    geometry = only_series(tmp_path, leaning(1)).geometry("image", findings)
    assert [(finding.kind, finding.fault) for finding in findings] == [("repaired", "shear")]
    axes = np.reshape(geometry.direction, (3, 3))
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)


def drop(*indices):
    def change(slices):
        for index in sorted(indices, reverse=True):
            del slices[index]

    return change


def on_slice(index, **values):
    def change(slices):
        for name, value in values.items():
            setattr(slices[index], name, value)

    return change


def twice(slices):
    slices[3].ImagePositionPatient = slices[2].ImagePositionPatient


def nudge(slices):
    slices[3].ImagePositionPatient[2] += 0.9


def aside(slices):
    slices[3].ImagePositionPatient[0] += 0.4


def without_position(slices):
    del slices[2].ImagePositionPatient


def colour(slices):
    slices[0].SamplesPerPixel = 3


@pytest.mark.parametrize(
    ("change", "fault", "words"),
    [
        (leaning(15), "shear", "tilted gantry"),
        (drop(3), "missing slices", "1 slices are missing, the first behind slice 3 of 5"),
        (drop(1, 2), "missing slices", "2 slices are missing"),
        (drop(1, 2, 3, 4, 5), "missing slices", "a single slice is no volume"),
        (nudge, "uneven slices", "goes from 1.6 to 3.4 mm"),
        (aside, "uneven slices", "do not lie on one line"),
        (twice, "slices twice", "1 slices lie where another does"),
        (on_slice(2, ImageOrientationPatient=[0, 1, 0, 0, 0, 1]), "mixed orientations", "several orientations"),
        (on_slice(2, PixelSpacing=[1.5, 1.5]), "mixed sizes", "several pixel spacings"),
        (on_slice(2, Rows=5), "mixed sizes", "12 x 10 and 12 x 5 pixels"),
        (on_slice(2, ImagePositionPatient=None), "no position", "1 of 6 slices do not say where they lie"),
        (without_position, "no position", "1 of 6 slices do not say where they lie"),
        (colour, "not one volume", "colour or inverted pictures"),
    ],
)
def test_refused(tmp_path, change, fault, words):
    with pytest.raises(FaultyFileError, match=words) as caught:
        only_series(tmp_path, change).geometry("image", [])
    assert caught.value.finding.fault == fault
    assert str(tmp_path) in str(caught.value)
    assert str(tmp_path) not in caught.value.finding.text


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_truncated_slice(tmp_path, kept):
    paths = write_series(tmp_path, scan(1))
    (series,) = sort_files(paths).series
    content = paths[2].read_bytes()
    paths[2].write_bytes(content[: -int(240 * (1 - kept))])
    with pytest.raises(FaultyFileError, match="a slice cannot be read") as caught:
        series.voxels("image", [])
    assert "0x" not in str(caught.value)


def test_other_kinds_of_files(tmp_path):
    paths = write_series(tmp_path / "a", scan(1))
    paths += write_series(tmp_path / "scout", scan(2), on_slice(0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))[:1]
    paths += write_series(tmp_path / "mr", scan(2), on_slice(0, SOPClassUID="1.2.840.10008.5.1.4.1.1.4"))[:1]
    paths.append(tmp_path / "broken.dcm")
    paths[-1].write_bytes(b"\0" * 100)
    found = sort_files(paths)
    assert [len(series.slices) for series in found.series] == [6]
    assert len(found.others) == 2
    assert found.unreadable == [tmp_path / "broken.dcm"]


def test_a_series_in_two_folders_is_one(tmp_path):
    uid = generate_uid()

    def same(slices):
        for header in slices:
            header.SeriesInstanceUID = uid

    def second(slices):
        same(slices)
        for header in slices:
            header.ImagePositionPatient[2] += 6 * SPACING[2]

    paths = write_series(tmp_path / "a", scan(1), same) + write_series(tmp_path / "b", scan(2), second)
    (series,) = sort_files(paths).series
    assert series.geometry("image", []).size == (12, 10, 12)
