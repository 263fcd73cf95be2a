"""Every form in which LiTS is handed out ends as the same dataset."""

import json

import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from nnunetv2_unet3plus import cli
from tests.conversion import sources

# Sorted as text these are 1, 10, 100, 2, 28: any pairing or naming by position goes wrong.
NUMBERS = (1, 2, 10, 28, 100)


def check_content(folder, numbers, tests=()):
    expected = [f"liver_{number:03d}" for number in sorted(numbers)]
    assert sorted(path.name for path in (folder / "imagesTr").iterdir()) == [f"{n}_0000.nii.gz" for n in expected]
    assert sorted(path.name for path in (folder / "labelsTr").iterdir()) == [f"{n}.nii.gz" for n in expected]
    assert len(list((folder / "imagesTs").iterdir())) == len(tests)
    for number in numbers:
        check_file(folder / "imagesTr" / f"liver_{number:03d}_0000.nii.gz", sources.scan(number), np.int16)
        check_file(folder / "labelsTr" / f"liver_{number:03d}.nii.gz", sources.mask(number), np.uint8)
    for number in tests:
        path = folder / "imagesTs" / f"liver_test_{number:03d}_0000.nii.gz"
        check_file(path, sources.scan(1000 + number), np.int16)


def check_file(path, voxels, dtype):
    found, affine = sources.read(path)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, voxels)
    np.testing.assert_allclose(affine, sources.AFFINE, atol=1e-4)


def rename_with_underscores(source):
    for path in sorted(source.rglob("*.nii")):
        path.rename(path.with_name(path.name.replace("-", "_")))
    for folder in sorted(source.iterdir()):
        folder.rename(folder.with_name(folder.name.replace(" ", "_")))
    return source


def nest(source):
    deeper = source / "media" / "nas" / "CT"
    for folder in list(source.iterdir()):
        target = deeper / folder.name / folder.name
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)
    return source


LAYOUTS = {
    "challenge": (lambda s: sources.challenge(s, NUMBERS, tests=(0, 10)), "challenge", (0, 10)),
    "underscores": (
        lambda s: rename_with_underscores(sources.challenge(s, NUMBERS, tests=(0, 10))),
        "challenge",
        (0, 10),
    ),
    "nested": (lambda s: nest(sources.challenge(s, NUMBERS)), "challenge", ()),
    "kaggle": (lambda s: sources.kaggle(s, NUMBERS), "Kaggle", ()),
    "kaggle flat": (lambda s: sources.kaggle(s, NUMBERS, flat=True), "Kaggle", ()),
    "decathlon": (lambda s: sources.decathlon(s, NUMBERS, tests=(132,)), "Task03_Liver", (132,)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_cases(layout, tmp_path, raw, capsys):
    build, told, tests = LAYOUTS[layout]
    source = build(tmp_path / "my source")
    before = sources.snapshot(source)
    assert cli.main(["convert", "lits", str(source), "-np", "1"]) == 0
    assert told in capsys.readouterr().out
    assert sources.snapshot(source) == before
    check_content(raw / "Dataset501_LiTS", NUMBERS, tests)


def test_the_task_folder_itself_is_a_source_too(tmp_path, convert):
    sources.decathlon(tmp_path / "source", NUMBERS)
    check_content(convert(tmp_path / "source" / "Task03_Liver"), NUMBERS)


def test_gzipped_and_plain_files_may_be_mixed(tmp_path, convert):
    source = sources.challenge(tmp_path / "source", NUMBERS)
    sources.gzipped(source / "Training Batch 1" / "volume-2.nii")
    sources.gzipped(source / "Training Batch 1" / "segmentation-10.nii")
    check_content(convert(source), NUMBERS)


def test_hidden_files_and_other_files_are_left_out(tmp_path, raw, capsys):
    source = sources.challenge(tmp_path / "source", NUMBERS)
    for name in ("._volume-2.nii", ".volume-7.nii", "__MACOSX/volume-2.nii", ".trash/volume-2.nii"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(b"no scan")
    sources.write(source / "test-segmentation-3.nii", sources.mask(3))
    (source / "volume-4.nii").mkdir()
    assert cli.main(["convert", "lits", str(source), "-np", "1"]) == 0
    assert "1 other NIfTI files ignored" in capsys.readouterr().out
    check_content(raw / "Dataset501_LiTS", NUMBERS)


def test_nothing_hidden_remains(tmp_path, convert):
    folder = convert(sources.challenge(tmp_path / "source", NUMBERS))
    assert sorted(path.name for path in folder.iterdir()) == [
        "conversion_report.json", "dataset.json", "imagesTr", "imagesTs", "labelsTr",
    ]  # fmt: skip


def test_nnunet_accepts_it(tmp_path, convert, capsys):
    folder = convert(sources.challenge(tmp_path / "source", NUMBERS, tests=(3,)))
    verify_dataset_integrity(str(folder), num_processes=1)
    assert "Warning" not in capsys.readouterr().out
    described = json.loads((folder / "dataset.json").read_text())
    assert described["channel_names"] == {"0": "CT"}
    assert described["file_ending"] == ".nii.gz"
    assert described["numTraining"] == len(NUMBERS)
    assert described["labels"] == {"background": 0, "liver": 1, "tumour": 2}
    assert described["name"] == "LiTS"


def test_processes_make_no_difference(tmp_path, convert):
    source = sources.challenge(tmp_path / "source", NUMBERS)
    one = sources.tree(convert(source))
    two = sources.tree(convert(source, "-d", "502", folder="Dataset502_LiTS", processes=2))
    assert one == two
