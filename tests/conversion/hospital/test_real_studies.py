"""Real DICOM studies through the converter, against readers that share nothing with it."""

import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
from matplotlib.path import Path as Polygon
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from pydicom import dcmread
from skimage.io import imread

from nnunetv2_unet3plus import cli
from tests.end_to_end.nnunet import SHARED as DATA

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"real scans are not part of the project: {DATA} is absent")

NAMES_OF_DICOM = ["chaos", "three slices", "as NRRD", "23 x 38", "24 x 38", "phantom"]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory) -> Path:
    """A folder for each patient, with copies of the studies."""
    root = tmp_path_factory.mktemp("hospital")
    quantitative = DATA / "dcmqi_liver" / "segmentations"
    shutil.copytree(DATA / "chaos", root / "chaos")
    for name in ("three slices", "as NRRD"):
        shutil.copytree(quantitative / "ct-3slice", root / name / "CT")
    shutil.copy(quantitative / "liver.dcm", root / "three slices")
    shutil.copy(quantitative / "liver_seg.nrrd", root / "as NRRD")
    for name in ("23 x 38", "24 x 38"):
        for part in ("image", "seg"):
            shutil.copytree(quantitative / f"{name.replace(' ', '')}x3" / part, root / name / part)
    _copy_totalsegmentator(root / "total")
    (root / "phantom").mkdir()
    for name in ("ct_1", "ct_2", "rt"):
        shutil.copy(DATA / "rtstruct" / "mock_data" / f"{name}.dcm", root / "phantom")
    structures = dcmread(root / "phantom" / "rt.dcm", force=True)
    structures.StructureSetROISequence[0].ROIName = "Leber"  # it is called ROI-1
    (root / "phantom" / "rt.dcm").chmod(0o644)
    structures.save_as(root / "phantom" / "rt.dcm")
    return root


def _copy_totalsegmentator(folder: Path) -> None:
    """Its scan, and the liver of its mask of many organs."""
    folder.mkdir()
    shutil.copy(DATA / "totalsegmentator" / "example_ct_sm.nii.gz", folder / "ct.nii.gz")
    organs = nib.load(DATA / "totalsegmentator" / "example_seg.nii.gz")
    liver = (np.asanyarray(organs.dataobj) == 5).astype(np.uint8)
    nib.save(nib.Nifti1Image(liver, organs.affine), folder / "liver.nii.gz")


@pytest.fixture(scope="module")
def converted(hospital, tmp_path_factory) -> dict[str, tuple[sitk.Image, sitk.Image]]:
    """Patient -> image and mask as nnU-Net reads them."""
    root = tmp_path_factory.mktemp("raw")
    key = root / "key.csv"
    options = ["--organ", "liver", "-d", "510", "--name", "Liver", "--output", str(root), "--id-map", str(key)]
    assert cli.main(["convert", "spleen", str(hospital), *options, "-np", "1"]) == 0
    folder = root / "Dataset510_Liver"
    verify_dataset_integrity(str(folder), num_processes=1)
    report = json.loads((folder / "conversion_report.json").read_text())
    assert all(case["converted"] and not case["findings"] for case in report["cases"].values())
    places = "imagesTr/{}_0000.nii.gz", "labelsTr/{}.nii.gz"
    return {
        patient: tuple(sitk.ReadImage(str(folder / place.format(case))) for place in places)
        for patient, case in _cases(key).items()
    }


def _cases(key: Path) -> dict[str, str]:
    return {patient: case for case, patient in re.findall(r"(\w+),(.+?)\r?\n", key.read_text())[1:]}


def itk_series(folder: Path) -> sitk.Image:
    return sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))


def same_places(ours: sitk.Image, theirs: sitk.Image) -> None:
    assert ours.GetSize() == theirs.GetSize()
    for corner in np.ndindex(2, 2, 2):
        index = [int(end * (n - 1)) for end, n in zip(corner, ours.GetSize(), strict=True)]
        apart = np.subtract(ours.TransformIndexToPhysicalPoint(index), theirs.TransformIndexToPhysicalPoint(index))
        assert np.abs(apart).max() < 1e-3  # millimetres


def voxels(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


@pytest.mark.parametrize("name", NAMES_OF_DICOM)
def test_images(hospital, converted, name):
    folder = next(path.parent for path in sorted((hospital / name).rglob("*.dcm")) if _is_ct(path))
    theirs = itk_series(folder)
    for image in converted[name]:
        same_places(image, theirs)
    np.testing.assert_array_equal(voxels(converted[name][0]), voxels(theirs))
    assert voxels(converted[name][0]).dtype == np.int16


def _is_ct(path: Path) -> bool:
    return dcmread(path, stop_before_pixels=True, force=True).Modality == "CT"


def test_files(hospital, converted):
    for ours, name in zip(converted["total"], ("ct", "liver"), strict=True):
        theirs = sitk.ReadImage(str(hospital / "total" / f"{name}.nii.gz"))
        same_places(ours, theirs)
        np.testing.assert_array_equal(voxels(ours), voxels(theirs))
    assert 0 < np.median(voxels(converted["total"][0])[voxels(converted["total"][1]) > 0]) < 200


def test_chaos_mask(hospital, converted):
    """Slice by slice: the picture of the same number belongs to the file of that number."""
    image, mask = converted["chaos"]
    for path in (hospital / "chaos" / "DICOM_anon").iterdir():
        number = int(re.match(r"i(\d{4})", path.name)[1])
        picture = imread(hospital / "chaos" / "Ground" / f"liver_GT_{number:03d}.png")
        index = mask.TransformPhysicalPointToIndex([float(v) for v in dcmread(path).ImagePositionPatient])[2]
        np.testing.assert_array_equal(voxels(mask)[index], picture > 0)
    assert 50 < np.median(voxels(image)[voxels(mask) > 0]) < 200  # Hounsfield units of liver


@pytest.mark.parametrize(
    ("name", "nrrd"),
    [
        ("three slices", "liver_seg.nrrd"),
        ("as NRRD", "liver_seg.nrrd"),
        ("23 x 38", "23x38x3/nrrd/label.nrrd"),
        ("24 x 38", "24x38x3/nrrd/label.nrrd"),
    ],
)
def test_dicom_segmentation(converted, name, nrrd):
    """The same segmentation as an NRRD file, made by others."""
    theirs = sitk.ReadImage(str(DATA / "dcmqi_liver" / "segmentations" / nrrd))
    _, mask = converted[name]
    same_places(mask, theirs)
    np.testing.assert_array_equal(voxels(mask), voxels(theirs) > 0)


def test_structure_set(hospital, converted):
    """A square with a square hole, by matplotlib's test of points."""
    _, mask = converted["phantom"]
    contours = dcmread(hospital / "phantom" / "rt.dcm", force=True).ROIContourSequence[0].ContourSequence
    columns, rows = np.meshgrid(np.arange(512), np.arange(512))
    points = np.column_stack([columns.ravel(), rows.ravel()]) * 0.488281 - 125.0
    outer, hole = (Polygon(np.reshape(contour.ContourData, (-1, 3))[:, :2]) for contour in contours)
    expected = (outer.contains_points(points) ^ hole.contains_points(points)).reshape(512, 512)
    index = mask.TransformPhysicalPointToIndex([0.0, 0.0, 60.0])[2]
    np.testing.assert_array_equal(voxels(mask)[index] > 0, expected)
    assert not voxels(mask)[1 - index].any()


@pytest.mark.parametrize("file", ["invalid_reference_rt.dcm", "non_existent_reference_rt.dcm"])
def test_structures_on_slices_that_are_not_there(tmp_path, capsys, file):
    patient = tmp_path / "source" / "patient"
    patient.mkdir(parents=True)
    for name in ("ct_1.dcm", "ct_2.dcm", file):
        shutil.copy(DATA / "rtstruct" / "mock_data" / name, patient)
    options = ["--organ", "ROI-2", "-d", "510", "--name", "Roi", "--output", str(tmp_path)]
    assert cli.main(["convert", "spleen", str(tmp_path / "source"), *options, "-np", "1"]) == 2
    error = capsys.readouterr().err
    assert f"{file}: a contour lies where the series has no slice" in error
    assert not (tmp_path / "Dataset510_Roi" / "dataset.json").exists()


@pytest.mark.parametrize("file", ["sparse-labelmap-noppv.dcm", "sparse-labelmap-ppv5.dcm"])
def test_label_maps(tmp_path, file):
    """DICOM's newer kind of segmentation, with slices left out."""
    source = DATA / "dcmqi_liver" / "segmentations"
    patient = tmp_path / "source" / "patient"
    shutil.copytree(source / "24x38x3" / "image", patient / "image")
    shutil.copy(source / file, patient)
    options = ["--organ", "liver", "-d", "510", "--name", "Liver", "--output", str(tmp_path)]
    assert cli.main(["convert", "spleen", str(tmp_path / "source"), *options, "-np", "1"]) == 0
    mask = np.asanyarray(nib.load(tmp_path / "Dataset510_Liver" / "labelsTr" / "liver_001.nii.gz").dataobj)
    assert 0 < (mask > 0).any((0, 1)).sum() < 3
