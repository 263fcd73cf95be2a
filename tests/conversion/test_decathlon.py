"""Tasks of the Decathlon: spleen, and any with one channel; on made-up scans and on the real ones."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from nnunetv2_unet3plus import cli
from tests.conversion import sources
from tests.conversion.test_real_data import compare
from tests.end_to_end.nnunet import shared_data

DESCRIPTION = {
    "name": "Spleen",
    "modality": {"0": "CT"},
    "labels": {"0": "background", "1": "spleen", "2": "cyst"},
    "licence": "CC-BY-SA 4.0",
    "reference": "a hospital",
}


@pytest.fixture
def task(tmp_path):
    folder = tmp_path / "source" / "Task09_Spleen"
    for number in (3, 12, 20):
        name = f"spleen_{number}.nii.gz"
        sources.write(folder / "imagesTr" / name, sources.scan(number))
        sources.write(folder / "labelsTr" / name, (sources.mask(number) > 0).astype(np.uint8))
        (folder / "labelsTr" / f"._{name}").write_bytes(b"\0\5\26\7")
    sources.write(folder / "imagesTs" / "spleen_1.nii.gz", sources.scan(1))
    (folder / "dataset.json").write_text(json.dumps(DESCRIPTION))
    return folder


def convert(*command):
    return cli.main(["convert", *map(str, command), "-np", "1"])


def refused(capsys, *command):
    assert convert(*command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


class TestSpleen:
    def test_cases_keep_their_names(self, task, raw):
        assert convert("spleen", task.parent) == 0
        folder = raw / "Dataset509_Spleen"
        names = ["spleen_12", "spleen_20", "spleen_3"]
        assert sorted(path.name for path in (folder / "labelsTr").iterdir()) == [f"{name}.nii.gz" for name in names]
        assert [path.name for path in (folder / "imagesTs").iterdir()] == ["spleen_1_0000.nii.gz"]
        content = json.loads((folder / "dataset.json").read_text())
        assert content["labels"] == {"background": 0, "spleen": 1}
        assert content["channel_names"] == {"0": "CT"}
        verify_dataset_integrity(str(folder), num_processes=1)

    def test_paper_split_holds_out_nine(self, task, raw):
        for number in range(100, 138):
            for part in ("imagesTr", "labelsTr"):
                shutil.copy(task / part / "spleen_3.nii.gz", task / part / f"spleen_{number}.nii.gz")
        assert convert("spleen", task, "--split", "paper") == 0
        (fold,) = json.loads((raw / "Dataset509_Spleen" / "splits_final.json").read_text())
        assert (len(fold["train"]), len(fold["val"])) == (32, 9)

    def test_paper_split_of_too_few(self, task, capsys):
        assert "holds out 9 cases, found 3" in refused(capsys, "spleen", task, "--split", "paper")

    def test_left_out_cases_leave_the_split(self, task, raw):
        for number in range(100, 110):
            for part in ("imagesTr", "labelsTr"):
                shutil.copy(task / part / "spleen_3.nii.gz", task / part / f"spleen_{number}.nii.gz")
        sources.write(task / "labelsTr" / "spleen_12.nii.gz", sources.mask(12) + 5)
        assert convert("spleen", task, "--split", "paper", "--leave-out-refused") == 0
        (fold,) = json.loads((raw / "Dataset509_Spleen" / "splits_final.json").read_text())
        assert "spleen_12" not in fold["train"] + fold["val"]
        assert len(fold["train"] + fold["val"]) == 12


class TestAnyTask:
    def test_labels_and_channel_are_those_of_the_description(self, task, raw):
        assert convert("msd", task, "-d", 77, "--name", "Mine") == 0
        content = json.loads((raw / "Dataset077_Mine" / "dataset.json").read_text())
        assert content["labels"] == {"background": 0, "spleen": 1, "cyst": 2}
        assert content["reference"] == "a hospital"

    def test_number_and_name_must_be_given(self, task, capsys):
        assert "-d" in refused(capsys, "msd", task, "--name", "Mine")
        assert "--name" in refused(capsys, "msd", task, "-d", 7)

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"modality": {"0": "T1", "1": "T2"}}, "2 channels; nnUNetv2_convert_MSD_dataset"),
            ({"labels": {"0": "background", "2": "spleen"}}, "labels [0, 2], but nnU-Net needs"),
            ({"labels": {"0": "background"}}, "labels [0], but"),
            ({"labels": {"0": "background", "1": "a", "2": "a"}}, "two labels have the same name"),
            ({"labels": ["background", "spleen"]}, "damaged"),
            ({"labels": {"zero": "background"}}, "damaged"),
            ({"labels": {"0": "background", "1": "a", "01": "b"}}, "a label's value is there twice"),
            ({"labels": {str(value): f"label {value}" for value in range(257)}}, "257 labels, more than the 256"),
            ({"name": "\ud800"}, "damaged"),
        ],
    )
    def test_description(self, change, reason, task, capsys):
        (task / "dataset.json").write_text(json.dumps(DESCRIPTION | change))
        error = refused(capsys, "msd", task, "-d", 7, "--name", "Mine")
        assert f"{task / 'dataset.json'}: " in error
        assert reason in error

    def test_no_description(self, task, capsys):
        (task / "dataset.json").unlink()
        assert "no such file, and it names the labels" in refused(capsys, "msd", task, "-d", 7, "--name", "Mine")


class TestPairing:
    def test_no_task(self, tmp_path, capsys):
        (tmp_path / "source").mkdir()
        assert "expected imagesTr and labelsTr of the Decathlon, or" in refused(capsys, "spleen", tmp_path / "source")

    def test_task_in_further_folders(self, task, tmp_path):
        (tmp_path / "a" / "b").mkdir(parents=True)
        task.rename(tmp_path / "a" / "b" / task.name)
        assert convert("spleen", tmp_path / "a") == 0

    def test_two_tasks(self, task, capsys):
        shutil.copytree(task, task.with_name("Task10_Colon"))
        assert "several tasks" in refused(capsys, "spleen", task.parent)

    @pytest.mark.parametrize(
        ("part", "what"), [("imagesTr", "labels without image"), ("labelsTr", "images without label")]
    )
    def test_alone(self, part, what, task, capsys):
        (task / part / "spleen_12.nii.gz").unlink()
        assert f"{what}: spleen_12;" in refused(capsys, "spleen", task)

    def test_twice(self, task, capsys):
        sources.write(task / "imagesTr" / "spleen_12.nii", sources.scan(12))
        assert "are one case" in refused(capsys, "spleen", task)

    def test_names_that_differ_in_case(self, task, capsys):
        for part in ("imagesTr", "labelsTr"):
            shutil.copy(task / part / "spleen_12.nii.gz", task / part / "Spleen_12.nii.gz")
        assert "differ in upper and lower case alone" in refused(capsys, "spleen", task)

    def test_name_with_a_space(self, task, capsys):
        for part in ("imagesTr", "labelsTr"):
            shutil.copy(task / part / "spleen_12.nii.gz", task / part / "spleen 12.nii.gz")
        assert "spleen 12.nii.gz: a case's name may hold letters" in refused(capsys, "spleen", task)

    def test_scan_to_train_and_to_test(self, task, capsys):
        shutil.copy(task / "imagesTr" / "spleen_12.nii.gz", task / "imagesTs" / "spleen_12.nii.gz")
        assert "spleen_12 is in imagesTr and in imagesTs" in refused(capsys, "spleen", task)


class TestRealData:
    def test_hippocampus(self, tmp_path, raw, capsys):
        """Real MR; of the archive's files the three whose partners are missing are told, then left away."""
        original, task = shared_data("Task04_Hippocampus"), tmp_path / "Task04_Hippocampus"
        labels = {"0": "background", "1": "Anterior", "2": "Posterior"}
        for part in ("imagesTr", "labelsTr"):
            (task / part).mkdir(parents=True)
            for path in sorted(original.glob(f"{part}/hippocampus_*.nii.gz")):
                if path.name[12:15] < "060" or path.name[12:15] in ("118", "281"):
                    shutil.copy(path, task / part)
        content = {"name": "Hippocampus", "modality": {"0": "MRI"}, "labels": labels}
        (task / "dataset.json").write_text(json.dumps(content))
        assert "images without label: hippocampus_118;" in refused(
            capsys, "msd", task, "-d", 4, "--name", "Hippocampus"
        )
        (task / "imagesTr" / "hippocampus_118.nii.gz").unlink()
        assert "hippocampus_281;" in refused(capsys, "msd", task, "-d", 4, "--name", "Hippocampus")
        for path in task.glob("labelsTr/*"):
            if not (task / "imagesTr" / path.name).exists():
                path.unlink()
        assert convert("msd", task, "-d", 4, "--name", "Hippocampus") == 0
        folder = raw / "Dataset004_Hippocampus"
        for path in task.glob("imagesTr/*"):
            compare(path, folder / "imagesTr" / path.name.replace(".nii.gz", "_0000.nii.gz"))
            compare(task / "labelsTr" / path.name, folder / "labelsTr" / path.name, dtype=np.uint8)
        verify_dataset_integrity(str(folder), num_processes=1)

    @pytest.mark.slow
    def test_spleen_labels_with_made_up_images(self, tmp_path, raw):
        """All 41 labels, with the AppleDouble files of the archive; the images are made up on the labels' grids."""
        original, task = shared_data("Task09_Spleen"), tmp_path / "Task09_Spleen"
        shutil.copytree(original / "labelsTr", task / "labelsTr")
        (task / "imagesTr").mkdir()
        labels = sorted(path for path in task.glob("labelsTr/*") if not path.name.startswith("."))
        for path in labels:
            label = nib.load(path)
            header = nib.Nifti1Image(np.broadcast_to(np.int16(0), label.shape), label.affine)
            nib.save(header, task / "imagesTr" / path.name)
        assert convert("spleen", task, "--split", "paper") == 0
        folder = raw / "Dataset509_Spleen"
        assert json.loads((folder / "dataset.json").read_text())["numTraining"] == len(labels) == 41
        report = json.loads((folder / "conversion_report.json").read_text())
        assert report["hidden files left out"]
        for path in labels:
            compare(path, folder / "labelsTr" / path.name, dtype=np.uint8)
        verify_dataset_integrity(str(folder), num_processes=2)
