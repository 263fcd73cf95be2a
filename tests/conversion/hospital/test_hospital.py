"""A folder with one folder a patient: what is found, written, and told to nobody."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from pydicom.uid import generate_uid
from skimage.io import imsave

from nnunetv2_unet3plus import cli
from tests.conversion.sources import grid, read, snapshot, tree
from tests.dicom.made_up import (
    ORIGIN,
    PATIENT,
    PATIENT_ID,
    SPACING,
    mask,
    scan,
    write_segmentation,
    write_series,
    write_structures,
)

AFFINE = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1])
AFFINE[:3, 3] = (-ORIGIN[0], -ORIGIN[1], ORIGIN[2])
NAMES = "Rosalind Franklin", "MRN-4711 (d'Arc)", "Jürgen\nMüller", 'the "third"', "李雷"


@pytest.fixture
def hospital(raw, capsys):
    """Runs `convert spleen` on a folder that must stay as it is; exit code, standard output, error, dataset."""

    def run(source: Path, *options: str):
        before = snapshot(source)
        capsys.readouterr()
        code = cli.main(["convert", "spleen", str(source), "-np", "1", *options])
        said = capsys.readouterr()
        assert snapshot(source) == before
        assert code in (0, 2)
        assert said.err.count("\n") == (code == 2)
        return code, said.out, said.err, raw / "Dataset509_Spleen"

    return run


def nifti(path: Path, voxels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, AFFINE), path)
    return path


def itk(path: Path, voxels: np.ndarray, names: dict[int, str] | None = None) -> Path:
    image = sitk.GetImageFromArray(voxels.T)
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    for place, (value, name) in enumerate((names or {}).items()):
        image.SetMetaData(f"Segment{place}_Name", name)
        image.SetMetaData(f"Segment{place}_LabelValue", str(value))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def contours():
    """Of `mask()`, slice by slice: a box, and in slice 2 a voxel beside it."""
    box = np.array([(2.6, 1.6), (7.4, 1.6), (7.4, 5.4), (2.6, 5.4)])
    dot = np.array([(4.6, 5.6), (5.4, 5.6), (5.4, 6.4), (4.6, 6.4)])
    drawn = [(box, 1), (box, 2), (dot, 2), (box, 3)]
    return [np.column_stack([c, np.full(4, z)]) * SPACING + ORIGIN for c, z in drawn]


def with_segmentation(folder):
    write_segmentation(folder / "SEG.dcm", write_series(folder / "CT", scan(1), downward=True), {"Milz": mask()})


def with_structures(folder):
    write_structures(folder / "RT.dcm", write_series(folder / "CT", scan(1)), {"BODY": [], "Rate": contours()})


def with_nifti_mask(folder):
    write_series(folder / "CT", scan(1))
    nifti(folder / "anything.nii.gz", mask())


def with_flipped_mask(folder):
    write_series(folder / "CT", scan(1))
    flipped = nib.Nifti1Image(mask(), AFFINE).as_reoriented([[0, -1], [1, -1], [2, -1]])
    nib.save(flipped, folder / "mask.nii.gz")


def with_slicer(folder):
    write_series(folder / "CT", scan(1))
    itk(folder / "all.seg.nrrd", mask() * 3 + np.roll(mask(), 7, 0) * 2, {2: "liver", 3: "spleen"})


def with_value(folder):
    write_series(folder / "CT", scan(1))
    itk(folder / "roi.nrrd", mask() * 7)


def without_dicom(folder):
    nifti(folder / "scan.nii", scan(1))
    nifti(folder / "spleen.nii.gz", mask())


def only_nrrd(folder):
    itk(folder / "ct.nrrd", scan(1))
    itk(folder / "ct-label.nrrd", mask().astype(np.float32))


def with_pictures(folder):
    write_series(folder / "DICOM_anon", scan(1), downward=True)
    (folder / "Ground").mkdir()
    for index in range(6):  # as CHAOS counts: with the slices, which go down
        imsave(folder / "Ground" / f"spleen_GT_{index:03d}.png", mask()[:, :, 5 - index].T * 255, check_contrast=False)


def named_among_several(folder):
    write_series(folder / "CT", scan(1))
    nifti(folder / "liver.nii.gz", np.roll(mask(), 7, 0))
    nifti(folder / "MILZ.nii.gz", mask())


def second_series_for_segmentation(folder):
    write_series(folder / "thick", scan(5))
    with_segmentation(folder)


def second_series_for_grid(folder):
    def elsewhere(slices):
        for header in slices:
            header.ImagePositionPatient[2] += 100

    write_series(folder / "thick", scan(5), elsewhere)
    with_nifti_mask(folder)


def lone_scout(folder):
    write_series(folder / "scout", scan(5, (12, 10, 1)))
    with_nifti_mask(folder)


FORMS = [
    with_segmentation,
    with_structures,
    with_nifti_mask,
    with_flipped_mask,
    with_slicer,
    with_value,
    without_dicom,
    only_nrrd,
    with_pictures,
    named_among_several,
    second_series_for_segmentation,
    second_series_for_grid,
    lone_scout,
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form(tmp_path, hospital, form):
    form(tmp_path / "source" / NAMES[0])
    code, _, error, dataset = hospital(tmp_path / "source")
    assert (code, error) == (0, "")
    image, affine = read(dataset / "imagesTr" / "spleen_001_0000.nii.gz")
    label, label_affine = read(dataset / "labelsTr" / "spleen_001.nii.gz")
    np.testing.assert_array_equal(image, scan(1))
    np.testing.assert_array_equal(label, mask())
    np.testing.assert_allclose(affine, AFFINE, atol=1e-4)
    np.testing.assert_allclose(label_affine, AFFINE, atol=1e-4)
    assert grid(dataset / "imagesTr" / "spleen_001_0000.nii.gz") == grid(dataset / "labelsTr" / "spleen_001.nii.gz")
    verify_dataset_integrity(str(dataset), num_processes=1)
    labels = json.loads((dataset / "dataset.json").read_text())["labels"]
    assert labels == {"background": 0, "spleen": 1}


def several_series(folder):
    write_series(folder / "a", scan(1))
    write_series(folder / "b", scan(2))


def two_scans(folder):
    for name in ("a", "b", "c"):
        nifti(folder / f"{name}.nii.gz", scan(1))


def nameless_pair(folder):
    nifti(folder / "a.nii.gz", scan(1))
    nifti(folder / "b.nii.gz", mask())


def two_masks(folder):
    with_segmentation(folder)
    nifti(folder / "milz.nii.gz", mask())


def empty(folder):
    (folder / "CT").mkdir(parents=True)


def packed(folder):
    folder.mkdir(parents=True)
    (folder / "study.zip").write_bytes(b"PK")


def broken_slice(folder):
    with_segmentation(folder)
    (folder / "CT" / "IM0005.dcm").write_bytes(b"\0" * 99)


def mixed(folder):
    write_series(folder, scan(1), lambda slices: setattr(slices[2], "ImageOrientationPatient", [0, 1, 0, 0, 0, 1]))


def holes(folder):
    write_series(folder, scan(1), lambda slices: slices.pop(2))


def fewer_pictures(folder):
    with_pictures(folder)
    (folder / "Ground" / "spleen_GT_003.png").unlink()


def nameless_values(folder):
    write_series(folder, scan(1))
    nifti(folder / "seg.nii.gz", mask() * 3 + np.roll(mask(), 7, 0) * 2)


def other_organ(folder):
    write_segmentation(folder / "SEG.dcm", write_series(folder / "CT", scan(1)), {"Leber": mask()})


@pytest.mark.parametrize(
    ("form", "fault", "words"),
    [
        (several_series, "several series", "2 CT series, and no mask that says which"),
        (two_scans, "several scans", "more than one scan.*a.nii.gz"),
        (nameless_pair, "which is the mask", "nothing says which of two files is the mask"),
        (two_masks, "several masks", "2 masks for one scan.*milz.nii.gz"),
        (empty, "no scan", "no CT series and no NIfTI"),
        (packed, "no scan", "unpack what is packed.*study.zip"),
        (broken_slice, "unreadable", "1 DICOM files cannot be read.*IM0005"),
        (mixed, "mixed orientations", "several orientations"),
        (holes, "missing slices", "1 slices are missing"),
        (fewer_pictures, "different size", "5 pictures for 6 slices"),
        (nameless_values, "several masks", "holds the values 2, 3"),
        (other_organ, "no such organ", "it has 'Leber'"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_refusal(tmp_path, hospital, form, fault, words):
    source = tmp_path / "source"
    form(source / NAMES[1])
    with_segmentation(source / NAMES[0])
    code, out, error, dataset = hospital(source)
    assert code == 2
    assert re.search(words, out.replace("\n", " "))
    assert NAMES[1] in error
    code, _, _, _ = hospital(source, "--leave-out-refused")
    assert code == 0
    report = json.loads((dataset / "conversion_report.json").read_text())
    faults = [finding["fault"] for case in report["cases"].values() for finding in case["findings"]]
    assert faults == [fault]
    assert NAMES[1] not in str(tree(dataset))


def test_nobody_is_named(tmp_path, hospital):
    """Neither in what is written, nor in what an interrupted or refused conversion leaves."""
    source = tmp_path / "source"
    for name, form in zip(NAMES, FORMS, strict=False):
        form(source / name)
    holes(source / "Ada")
    key = tmp_path / "key.csv"
    code, _, _, dataset = hospital(source, "--id-map", str(key))
    assert code == 2
    first = key.read_text()  # written before anything else, so that no dataset is without its key
    _no_identifier_in(dataset, [*NAMES, "Ada"])
    code, _, _, dataset = hospital(source, "--id-map", str(key), "--leave-out-refused")
    assert code == 0
    _no_identifier_in(dataset, [*NAMES, "Ada"])
    assert key.read_text() == first
    assert key.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in (dataset / "imagesTr").iterdir()) == [
        f"spleen_{number:03d}_0000.nii.gz" for number in range(1, 7) if number != _number_of(key, "Ada")
    ]


def _no_identifier_in(dataset: Path, names):
    words = {word for name in (*names, PATIENT, PATIENT_ID) for word in re.split(r"[\s^]+", name)} - {"the"}
    for path in dataset.rglob("*"):
        assert not [word for word in words if word in str(path.relative_to(dataset))]
        content = path.read_bytes() if path.is_file() else b""
        if path.name.endswith(".gz"):
            content = bytes(nib.load(path).header.binaryblock)
        forms = {form for word in words for form in (word.encode(), json.dumps(word)[1:-1].encode())}
        assert not [form for form in forms if form in content], path


def _number_of(key: Path, folder: str) -> int:
    from nnunetv2_unet3plus.conversion.hospital.cohort import read_key

    (case,) = (case for case, name in read_key(key).items() if name == folder)
    return int(case.rpartition("_")[2])


def test_patients_keep_their_names(tmp_path, hospital, raw):
    source, key = tmp_path / "source", tmp_path / "key.csv"
    for name in NAMES[:3]:
        without_dicom(source / name)
    assert hospital(source, "--id-map", str(key))[0] == 0
    first = key.read_text()
    for name in NAMES[3:]:
        without_dicom(source / name)
    assert hospital(source, "--id-map", str(key), "-d", "510")[0] == 0
    assert key.read_text().startswith(first)
    assert {_number_of(key, name) for name in NAMES[3:]} == {4, 5}


def test_test_scans(tmp_path, hospital):
    source = tmp_path / "source"
    with_segmentation(source / "a")
    write_series(source / "b", scan(2))
    code, out, _, dataset = hospital(source)
    assert code == 0
    assert "2 patients, 1 with a mask" in out
    assert len(list((dataset / "imagesTs").iterdir())) == len(list((dataset / "imagesTr").iterdir())) == 1


def test_split(tmp_path, hospital):
    source = tmp_path / "source"
    for number in range(10):
        without_dicom(source / str(number))
    code, _, _, dataset = hospital(source, "--split", "paper")
    assert code == 0
    (fold,) = json.loads((dataset / "splits_final.json").read_text())
    assert (len(fold["train"]), len(fold["val"])) == (1, 9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--organ", "liver"], "--organ liver: give the dataset its own --name, such as Liver"),
        (["--id-map", "{source}/key.csv"], "choose another --id-map"),
        (["--id-map", "{raw}/Dataset509_Spleen/key.csv"], "choose another --id-map"),
        (["--id-map", "{other}"], "not of an earlier run"),
        (["--id-map", "{missing}/key.csv"], "there is no folder"),
    ],
)
def test_bad_options(tmp_path, hospital, raw, options, words):
    without_dicom(tmp_path / "source" / "a")
    (tmp_path / "other.csv").write_text("case,folder\nspleen_001,a\nspleen_002,a\n")
    places = {"source": tmp_path / "source", "raw": raw, "other": tmp_path / "other.csv", "missing": tmp_path / "no"}
    code, _, error, dataset = hospital(tmp_path / "source", *(option.format(**places) for option in options))
    assert code == 2
    assert words in error
    assert not dataset.exists()


def test_bad_sources(tmp_path, hospital):
    source = tmp_path / "source"
    source.mkdir()
    assert "or one folder a patient" in hospital(source)[2]
    (source / "all.tar.gz").write_bytes(b"")
    assert "unpack it into the patient's folder" in hospital(source)[2]
    (source / "all.tar.gz").unlink()
    (source / "a" / "imagesTr").mkdir(parents=True)
    assert "is a task of the Decathlon" in hospital(source, "--organ", "liver")[2]


def test_without_the_extra(tmp_path, raw):
    """NIfTI needs no DICOM library; DICOM says which extra brings it."""
    without_dicom(tmp_path / "nifti" / "a")
    with_segmentation(tmp_path / "dicom" / "a")
    start = "import sys; sys.modules['pydicom'] = sys.modules['highdicom'] = None; from nnunetv2_unet3plus import cli; "

    def run(source: str, number: str) -> subprocess.CompletedProcess[str]:
        options = ["convert", "spleen", str(tmp_path / source), "-np", "1", "-d", number]
        command = [sys.executable, "-c", f"{start}sys.exit(cli.main({options!r}))"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("nifti", "509").returncode == 0
    refused = run("dicom", "510")
    assert refused.returncode == 2
    assert refused.stderr == (
        "unet3plus: error: DICOM needs pydicom and highdicom: pip install 'nnunetv2-unet3plus[dicom]'\n"
    )


def test_same_case_by_two_names_of_series(tmp_path, hospital):
    """A study exported twice: the same slices in two folders."""
    uids = [generate_uid() for _ in range(6)]

    def same(slices):
        for header, uid in zip(slices, uids, strict=True):
            header.SeriesInstanceUID = uids[0]
            header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = uid

    write_series(tmp_path / "source" / "a" / "1", scan(1), same)
    write_series(tmp_path / "source" / "a" / "2", scan(1), same)
    code, out, _, _ = hospital(tmp_path / "source")
    assert code == 2
    assert "6 slices lie where another does" in out
