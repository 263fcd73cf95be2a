"""Scans prepared for prediction, masks restored to them."""

import json
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
from pydicom import dcmread

from nnunetv2_unet3plus import cli
from nnunetv2_unet3plus.dicom.files import sort_files
from nnunetv2_unet3plus.dicom.segmentation import DicomSegmentation, segment_names
from tests.conversion import sources
from tests.conversion.sources import snapshot, tree
from tests.dicom.made_up import SPACING, scan, write_series

LABELS = {"background": 0, "liver": 1, "Tumour": 2}
SHEARED = sources.AFFINE @ np.array([[1, 0.004, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder with everything in it."""
    folder = tmp_path / "new scans"
    sources.write(folder / "b" / "thorax & liver.nii.gz", sources.scan(1))
    sources.write(folder / "plain.nii", sources.scan(2))
    sources.write(folder / "leaning.nii.gz", sources.scan(3), SHEARED)
    image = sitk.GetImageFromArray(sources.scan(4).T)
    image.SetSpacing((0.7, 0.8, 2.0))
    image.SetOrigin((1, 2, 3))
    sitk.WriteImage(image, str(folder / "李.nrrd"))
    sitk.WriteImage(image, str(folder / "meta.mha"))
    write_series(folder / "Anna^B" / "CT", scan(5), downward=True)
    return folder


def run(capsys, *arguments) -> tuple[int, str, str]:
    capsys.readouterr()
    once = [] if "-np" in arguments else ["-np", "1"]
    code = cli.main([str(argument) for argument in (*arguments, *once)])
    said = capsys.readouterr()
    assert said.err.count("\n") == (code == 2)
    return code, said.out, said.err


def predict(prepared: Path, masks: Path, labels=LABELS) -> dict[str, np.ndarray]:
    """Stands in for nnU-Net: a mask for each scan, on its grid, in its order of voxels."""
    masks.mkdir()
    (masks / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))
    made = {}
    for path in sorted(prepared.glob("*_0000.nii.gz")):
        name = path.name.removesuffix("_0000.nii.gz")
        image = sitk.ReadImage(str(path))
        voxels = sitk.GetArrayFromImage(image)
        mask = sitk.GetImageFromArray((voxels > 0).astype(np.uint8) + (voxels > 500))
        mask.CopyInformation(image)
        sitk.WriteImage(mask, str(masks / f"{name}.nii.gz"))
        made[name] = sitk.GetArrayFromImage(mask).T
    return made


def expected(voxels: np.ndarray) -> np.ndarray:
    return (voxels > 0).astype(np.uint8) + (voxels > 500)


@pytest.mark.parametrize("axes", [None, "RAS", "PIL"])
def test_there_and_back(scans, tmp_path, capsys, axes):
    before = snapshot(scans)
    prepared, masks, restored = tmp_path / "prepared", tmp_path / "masks", tmp_path / "restored"
    code, out, _ = run(capsys, "prepare-scans", scans, "-o", prepared, *(["--orientation", axes] if axes else []))
    assert code == 0
    assert "repaired image, shear" in out
    assert sorted(path.name for path in prepared.iterdir()) == [
        *(f"scan_{number:03d}_0000.nii.gz" for number in range(1, 7)),
        "scans.json",
    ]
    if axes:
        for path in prepared.glob("*.nii.gz"):
            assert "".join(nib.aff2axcodes(nib.load(path).affine)) == axes
    predict(prepared, masks)
    assert run(capsys, "restore-masks", masks, "--scans", prepared, "-o", restored)[0] == 0
    assert snapshot(scans) == before
    assert sorted(str(path.relative_to(restored)) for path in restored.rglob("*") if path.is_file()) == [
        "Anna^B/CT/segmentation.dcm",
        "b/thorax & liver.nii.gz",
        "leaning.nii.gz",
        "meta.mha",
        "plain.nii",
        "李.nrrd",
    ]
    for name in ("b/thorax & liver.nii.gz", "leaning.nii.gz", "plain.nii"):
        theirs, ours = nib.load(scans / name), nib.load(restored / name)
        np.testing.assert_array_equal(ours.affine, theirs.affine)
        assert ours.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(np.asanyarray(ours.dataobj), expected(np.asanyarray(theirs.dataobj)))
    for name in ("李.nrrd", "meta.mha"):
        theirs, ours = sitk.ReadImage(str(scans / name)), sitk.ReadImage(str(restored / name))
        assert (ours.GetSpacing(), ours.GetOrigin(), ours.GetDirection()) == (
            theirs.GetSpacing(),
            theirs.GetOrigin(),
            theirs.GetDirection(),
        )
        np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), expected(sitk.GetArrayFromImage(theirs)))


def test_dicom_segmentation(tmp_path, capsys):
    paths = write_series(tmp_path / "scans", scan(5), downward=True)
    prepared, masks, restored = tmp_path / "prepared", tmp_path / "masks", tmp_path / "restored"
    assert run(capsys, "prepare-scans", tmp_path / "scans", "-o", prepared)[0] == 0
    predict(prepared, masks)
    assert run(capsys, "restore-masks", masks, "--scans", prepared, "-o", restored)[0] == 0
    path = restored / "segmentation.dcm"
    assert segment_names(path) == {1: "liver", 2: "Tumour"}
    header, source = dcmread(path), dcmread(paths[0])
    assert header.PatientID == source.PatientID
    assert header.StudyInstanceUID == source.StudyInstanceUID
    assert header.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    assert [s.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for s in header.SegmentSequence] == ["Liver", "Neoplasm"]
    (series,) = sort_files(paths).series
    for name, value in (("liver", 1), ("Tumour", 2)):
        voxels = DicomSegmentation(path, series, name).voxels("label", [])
        np.testing.assert_array_equal(voxels, expected(scan(5)) == value)
    # the same by highdicom alone: each frame refers to its slice of the source
    segmentation = hd.seg.segread(path)
    frames = segmentation.get_pixels_by_source_instance([part.uid for part in series.in_order()])
    np.testing.assert_array_equal(frames[..., 0].transpose(2, 1, 0), expected(scan(5)) == 1)


def test_regions_and_empty_masks(tmp_path, capsys):
    write_series(tmp_path / "scans" / "a", scan(5))
    write_series(tmp_path / "scans" / "b", np.full((12, 10, 6), -1000, np.int16))
    prepared, masks, restored = tmp_path / "prepared", tmp_path / "masks", tmp_path / "restored"
    assert run(capsys, "prepare-scans", tmp_path / "scans", "-o", prepared)[0] == 0
    predict(prepared, masks, {"background": 0, "whole": [1, 2], "tumour": 2, "ignore": 3})
    assert run(capsys, "restore-masks", masks, "--scans", prepared, "-o", restored)[0] == 0
    for folder, voxels in (("a", scan(5)), ("b", np.full((12, 10, 6), -1000))):
        (series,) = sort_files(sorted((tmp_path / "scans" / folder).iterdir())).series
        path = restored / folder / "segmentation.dcm"
        assert segment_names(path) == {1: "whole", 2: "tumour"}
        whole = DicomSegmentation(path, series, "whole").voxels("label", [])
        np.testing.assert_array_equal(whole, expected(voxels) > 0)


def test_masks_among_the_scans_are_told(tmp_path, capsys):
    sources.write(tmp_path / "scans" / "a.nii.gz", sources.scan(1))
    sources.write(tmp_path / "scans" / "a_mask.nii.gz", sources.mask(1))
    _, out, _ = run(capsys, "prepare-scans", tmp_path / "scans", "-o", tmp_path / "prepared")
    assert "mask?: scan_002 (named as a mask, prepared as a scan" in out


def test_two_series_in_a_folder(tmp_path, capsys):
    folder = tmp_path / "scans"
    write_series(folder, scan(5))
    for path in list(folder.iterdir()):
        path.rename(folder / f"first_{path.name}")
    write_series(folder, scan(6))
    prepared, masks, restored = tmp_path / "prepared", tmp_path / "masks", tmp_path / "restored"
    assert run(capsys, "prepare-scans", folder, "-o", prepared)[0] == 0
    predict(prepared, masks)
    assert run(capsys, "restore-masks", masks, "--scans", prepared, "-o", restored)[0] == 0
    assert sorted(path.name for path in restored.iterdir()) == ["segmentation.dcm", "segmentation_2.dcm"]


def test_scans_without_names(tmp_path, capsys):
    """Who takes names away often takes more than the standard allows."""

    def strip(slices):
        for header in slices:
            for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "AccessionNumber"):
                delattr(header, name)
            header.SpecificCharacterSet = ""

    write_series(tmp_path / "scans", scan(5), strip)
    prepared, masks, restored = tmp_path / "prepared", tmp_path / "masks", tmp_path / "restored"
    assert run(capsys, "prepare-scans", tmp_path / "scans", "-o", prepared)[0] == 0
    predict(prepared, masks)
    assert run(capsys, "restore-masks", masks, "--scans", prepared, "-o", restored)[0] == 0
    assert segment_names(restored / "segmentation.dcm") == {1: "liver", 2: "Tumour"}


def test_series_that_cannot_be_referred_to(tmp_path, capsys):
    def strip(slices):
        for header in slices:
            del header.StudyInstanceUID

    write_series(tmp_path / "scans", scan(5), strip)
    prepared, masks, restored = tmp_path / "prepared", tmp_path / "masks", tmp_path / "restored"
    assert run(capsys, "prepare-scans", tmp_path / "scans", "-o", prepared)[0] == 0
    predict(prepared, masks)
    code, _, error = run(capsys, "restore-masks", masks, "--scans", prepared, "-o", restored)
    assert code == 2
    assert "no DICOM-SEG can refer to this series" in error
    assert not restored.exists()


def test_refused_scans(scans, tmp_path, capsys):
    sources.write(scans / "nan.nii.gz", np.full(sources.SIZE, np.nan, np.float32))
    write_series(scans / "gap", scan(7), lambda slices: slices.pop(2))
    prepared = tmp_path / "prepared"
    code, out, error = run(capsys, "prepare-scans", scans, "-o", prepared)
    assert code == 2
    assert "2 of 8 cases cannot be" in error
    assert "slices are missing" in out
    assert "NaN or infinite" in out
    assert not (prepared / "scans.json").exists()
    assert run(capsys, "prepare-scans", scans, "-o", prepared, "--leave-out-refused")[0] == 0
    assert len(json.loads((prepared / "scans.json").read_text())["scans"]) == 6
    assert sorted(path.name for path in prepared.iterdir() if path.name.startswith(".")) == []


def test_nothing_to_prepare(tmp_path, capsys):
    folder = tmp_path / "scans"
    assert "no such folder" in run(capsys, "prepare-scans", folder, "-o", tmp_path / "p")[2]
    folder.mkdir()
    assert "no NIfTI or NRRD files and no CT" in run(capsys, "prepare-scans", folder, "-o", tmp_path / "p")[2]
    (folder / "a.zip").write_bytes(b"")
    assert "unpack a.zip first" in run(capsys, "prepare-scans", folder, "-o", tmp_path / "p")[2]
    sources.write(folder / "nan.nii.gz", np.full(sources.SIZE, np.nan, np.float32))
    options = ("-o", tmp_path / "p", "--leave-out-refused")
    assert "no scan could be prepared" in run(capsys, "prepare-scans", folder, *options)[2]
    assert not (tmp_path / "p").exists()


def test_output_that_cannot_be(scans, tmp_path, capsys):
    assert "lie inside one another" in run(capsys, "prepare-scans", scans, "-o", scans / "p")[2]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    before = tree(tmp_path / "full")
    assert "holds files already" in run(capsys, "prepare-scans", scans, "-o", tmp_path / "full")[2]
    assert tree(tmp_path / "full") == before


@pytest.fixture
def predicted(tmp_path, capsys):
    scans = tmp_path / "scans"
    sources.write(scans / "a.nii.gz", sources.scan(1))
    write_series(scans / "b", scan(5))
    run(capsys, "prepare-scans", scans, "-o", tmp_path / "prepared")
    predict(tmp_path / "prepared", tmp_path / "masks")
    return tmp_path


def rewrite(path: Path, change) -> None:
    image = nib.load(path)
    nib.save(change(np.asanyarray(image.dataobj), image.affine), path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda p: (p / "masks" / "scan_001.nii.gz").unlink(), "no masks of 1 scans, scan_001"),
        (lambda p: (p / "masks" / "dataset.json").unlink(), "dataset.json: no such file; copy it from the model's"),
        (lambda p: (p / "masks" / "dataset.json").write_text("{}"), "dataset.json is damaged"),
        (lambda p: (p / "prepared" / "scans.json").unlink(), "scans.json: no such file; give the folder that"),
        (lambda p: (p / "prepared" / "scans.json").write_text("[]"), "scans.json: damaged, not an object"),
        (lambda p: (p / "scans" / "a.nii.gz").unlink(), "a.nii.gz: the scan is gone"),
        (lambda p: next((p / "scans" / "b").iterdir()).unlink(), "the scan is gone"),
        (
            lambda p: rewrite(p / "masks" / "scan_001.nii.gz", lambda v, a: nib.Nifti1Image(v[1:], a)),
            "its size differ",
        ),
        (
            lambda p: rewrite(p / "masks" / "scan_001.nii.gz", lambda v, a: nib.Nifti1Image(v, a * 1.1)),
            "its spacing and origin differ",
        ),
        (
            lambda p: rewrite(p / "masks" / "scan_001.nii.gz", lambda v, a: nib.Nifti1Image(v * 0.5, a)),
            "values other than 0 to 255",
        ),
        (lambda p: sources.truncate(p / "masks" / "scan_001.nii.gz"), "scan_001.nii.gz: "),
    ],
)
def test_masks_that_cannot_be_restored(predicted, capsys, damage, words):
    damage(predicted)
    options = ("--scans", predicted / "prepared", "-o", predicted / "restored")
    code, _, error = run(capsys, "restore-masks", predicted / "masks", *options, "-np", 1)
    assert code == 2
    assert words in error


def test_a_stopped_command_is_finished_by_the_next(predicted, capsys):
    """The second mask cannot be restored; the first stays, and both are there once it can."""
    damaged = predicted / "masks" / "scan_002.nii.gz"
    good = damaged.read_bytes()
    sources.truncate(damaged)
    options = (predicted / "masks", "--scans", predicted / "prepared", "-o", predicted / "restored", "-np", 1)
    assert run(capsys, "restore-masks", *options)[0] == 2
    assert (predicted / "restored" / "a.nii.gz").exists()
    damaged.write_bytes(good)
    assert run(capsys, "restore-masks", *options)[0] == 0
    names = sorted(str(p.relative_to(predicted / "restored")) for p in (predicted / "restored").rglob("*"))
    assert names == ["a.nii.gz", "b", "b/segmentation.dcm"]
    assert "holds files already" in run(capsys, "restore-masks", *options)[2]


def test_spacing_of_dicom(tmp_path, capsys):
    write_series(tmp_path / "scans", scan(5))
    run(capsys, "prepare-scans", tmp_path / "scans", "-o", tmp_path / "prepared")
    image = sitk.ReadImage(str(tmp_path / "prepared" / "scan_001_0000.nii.gz"))
    np.testing.assert_allclose(image.GetSpacing(), SPACING, rtol=1e-6)


def test_voxels_beside_their_header(tmp_path, capsys):
    """The mask comes in one file, however the scan was stored."""
    for name in ("a.mhd", "b.nhdr"):
        (tmp_path / "scans").mkdir(exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(sources.scan(4).T), str(tmp_path / "scans" / name))
    prepared, masks, restored = tmp_path / "prepared", tmp_path / "masks", tmp_path / "restored"
    assert run(capsys, "prepare-scans", tmp_path / "scans", "-o", prepared)[0] == 0
    predict(prepared, masks)
    assert run(capsys, "restore-masks", masks, "--scans", prepared, "-o", restored)[0] == 0
    assert sorted(path.name for path in restored.iterdir()) == ["a.mha", "b.nrrd"]
    for path in restored.iterdir():
        voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T
        np.testing.assert_array_equal(voxels, expected(sources.scan(4)))


def odd_values(slices):
    for header in slices:
        header.PatientBirthDate, header.StudyDate, header.StudyTime = "1920-07-25", "01.01.2026", "12:00"
        header.PatientSex, header.SpecificCharacterSet = "male", "\\ISO 2022 IR 87"
        del header.SliceThickness, header.Modality


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about what is written here
def test_odd_headers_and_names_in_any_script(tmp_path, capsys):
    write_series(tmp_path / "scans", scan(5), odd_values)
    prepared, masks, restored = tmp_path / "prepared", tmp_path / "masks", tmp_path / "restored"
    code, out, _ = run(capsys, "prepare-scans", tmp_path / "scans", "-o", prepared)
    assert code == 0
    assert "no DICOM-SEG" not in out
    predict(prepared, masks, {"background": 0, "肝臓": 1, "Größe": 2})
    assert run(capsys, "restore-masks", masks, "--scans", prepared, "-o", restored)[0] == 0
    assert segment_names(restored / "segmentation.dcm") == {1: "肝臓", 2: "Größe"}


def test_scans_of_an_earlier_run_do_not_stay(tmp_path, capsys):
    folder, prepared = tmp_path / "scans", tmp_path / "prepared"
    for name in "ac":
        sources.write(folder / f"{name}.nii.gz", sources.scan(1))
    sources.write(folder / "b.nii.gz", np.full(sources.SIZE, np.nan, np.float32))
    assert run(capsys, "prepare-scans", folder, "-o", prepared)[0] == 2
    (folder / "b.nii.gz").unlink()
    assert run(capsys, "prepare-scans", folder, "-o", prepared)[0] == 0
    assert [path.name for path in sorted(prepared.glob("*.gz"))] == ["scan_001_0000.nii.gz", "scan_002_0000.nii.gz"]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("orientation", "XYZ", "scans.json is damaged"), ("mask", "../escaped.nii.gz", "names masks outside of")],
)
def test_keys_changed_by_hand(predicted, capsys, key, value, words):
    path = predicted / "prepared" / "scans.json"
    content = json.loads(path.read_text())
    (content if key in content else content["scans"]["scan_001"])[key] = value
    path.write_text(json.dumps(content))
    options = ("--scans", predicted / "prepared", "-o", predicted / "restored")
    code, _, error = run(capsys, "restore-masks", predicted / "masks", *options)
    assert code == 2
    assert words in error
    assert not (predicted / "escaped.nii.gz").exists()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({}, "names nothing but background"),
        ({"background": 0}, "names nothing but background"),
        ({"background": 0, "a": 99999999999999999999}, "is damaged"),
        ({"background": 0, "a": 7}, "holds 1, which the dataset.json beside it does not name"),
    ],
)
def test_labels_of_another_model(predicted, capsys, labels, words):
    (predicted / "masks" / "dataset.json").write_text(json.dumps({"labels": labels}))
    options = ("--scans", predicted / "prepared", "-o", predicted / "restored")
    code, _, error = run(capsys, "restore-masks", predicted / "masks", *options)
    assert code == 2
    assert words in error
