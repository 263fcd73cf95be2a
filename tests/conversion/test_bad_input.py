"""What cannot be converted: one line, exit code 2, the source untouched, nothing begun."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnunetv2_unet3plus import cli
from nnunetv2_unet3plus.conversion import case, nifti
from nnunetv2_unet3plus.conversion.same_grid import TOLERANCE
from tests.conversion import sources

NUMBERS = (1, 2, 10)


@pytest.fixture
def source(tmp_path):
    return sources.challenge(tmp_path / "source", NUMBERS)


@pytest.fixture
def batch(source):
    return source / "Training Batch 1"


def moved(column: int, by: float) -> np.ndarray:
    """The usual affine with a changed first row's entry: column 3 is the origin."""
    affine = sources.AFFINE.copy()
    affine[0, column] += by
    return affine


def test_missing_folder(tmp_path, raw, capsys):
    assert cli.main(["convert", "lits", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err == f"unet3plus: error: {tmp_path / 'nowhere'}: no such folder\n"


def test_archive_instead_of_a_folder(tmp_path, capsys):
    (tmp_path / "LiTS.zip").write_bytes(b"PK")
    assert cli.main(["convert", "lits", str(tmp_path / "LiTS.zip")]) == 2
    assert "unpack it" in capsys.readouterr().err


def test_no_pairs(tmp_path, refuse):
    (tmp_path / "empty").mkdir()
    assert "no training pairs" in refuse(tmp_path / "empty")


def test_test_scans_alone_are_no_training_set(tmp_path, refuse):
    assert "no training pairs" in refuse(sources.challenge(tmp_path / "tests", (), tests=(1,)))


def test_volume_without_segmentation(source, batch, refuse):
    for number in (1, 2):
        (batch / f"segmentation-{number}.nii").unlink()
    assert "volumes without their segmentation: 1-2;" in refuse(source)


def test_segmentation_without_volume(source, batch, refuse):
    (batch / "volume-10.nii").unlink()
    assert "segmentations without their volume: 10;" in refuse(source)


@pytest.mark.parametrize("twin", ["volume-2.nii.gz", "volume-02.nii", "deeper/volume-2.nii", "volume_2.nii"])
def test_a_number_twice(twin, source, batch, refuse):
    sources.write(batch / twin, sources.scan(2))
    error = refuse(source)
    assert "number 2 " in error
    assert str(batch / "volume-2.nii") in error
    assert str(batch / twin) in error


def test_two_downloads_in_one_folder(source, refuse):
    sources.decathlon(source, NUMBERS)
    assert "two downloads" in refuse(source)


def test_different_shapes(source, batch, refuse):
    sources.write(batch / "segmentation-2.nii", sources.mask(2)[:, :, :-1])
    error = refuse(source)
    assert str(batch / "segmentation-2.nii") in error
    assert "(8, 9, 5)" in error
    assert "(8, 9, 6)" in error


def test_rounding_in_a_header_is_no_difference(source, batch, convert):
    sources.write(batch / "segmentation-2.nii", sources.mask(2), moved(3, TOLERANCE / 2))
    folder = convert(source)
    image, label = folder / "imagesTr" / "liver_002_0000.nii.gz", folder / "labelsTr" / "liver_002.nii.gz"
    assert sources.grid(label) == sources.grid(image)


def test_four_dimensions(source, batch, refuse):
    sources.write(batch / "volume-2.nii", np.zeros((*sources.SIZE, 2), np.int16))
    assert "8 x 9 x 6 x 2" in refuse(source)


def test_a_fourth_dimension_of_one_is_fine(source, batch, convert):
    sources.write(batch / "volume-2.nii", sources.scan(2)[..., None])
    found, _ = sources.read(convert(source) / "imagesTr" / "liver_002_0000.nii.gz")
    np.testing.assert_array_equal(found, sources.scan(2))


def test_coloured_volume(source, batch, refuse):
    colours = np.zeros(sources.SIZE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    sources.write(batch / "volume-2.nii", colours)
    assert "3 value(s) a voxel" in refuse(source)


@pytest.mark.parametrize("content", [b"", b"not a scan", bytes(400)])
def test_no_nifti_at_all(content, source, batch, refuse):
    (batch / "segmentation-2.nii").write_bytes(content)
    assert str(batch / "segmentation-2.nii") in refuse(source)


def test_broken_test_scan_is_found_before_anything_is_written(source, refuse):
    (source / "test-volume-5.nii").write_bytes(b"not a scan")
    assert "test-volume-5.nii" in refuse(source)


@pytest.mark.parametrize("name", ["volume-1.nii", "segmentation-1.nii"])
@pytest.mark.parametrize("packed", [False, True])
def test_truncated_file(name, packed, source, batch, refuse_case, refuse):
    path = sources.gzipped(batch / name) if packed else batch / name
    sources.truncate(path)
    error = (refuse if packed and name[0] == "s" else refuse_case)(source)  # of so small a file no header is left
    assert str(path) in error
    assert "replace the file" in error


def test_wrong_checksum_of_a_gzipped_file(source, batch, refuse_case):
    size = (64, 64, 40)  # too large to be read in one gulp, checksum and all
    packed = sources.gzipped(sources.write(batch / "volume-1.nii", sources.scan(1, size)))
    sources.write(batch / "segmentation-1.nii", sources.mask(1, size))
    content = bytearray(packed.read_bytes())
    content[-8] ^= 1
    packed.write_bytes(content)
    assert f"{packed}: cannot be read (CRC check failed" in refuse_case(source)


def test_unexpected_labels(source, batch, refuse_case):
    voxels = sources.mask(1)
    voxels[0, 0, 0], voxels[1, 1, 1] = 7, 3
    sources.write(batch / "segmentation-1.nii", voxels)
    error = refuse_case(source)
    assert str(batch / "segmentation-1.nii") in error
    assert "3, 7 in 2 voxels (expected 0, 1, 2)" in error


@pytest.mark.parametrize("value", [0.5, np.nan, -1.0, 257.0])
def test_float_labels_must_be_whole_and_known(value, source, batch, refuse_case):
    voxels = sources.mask(1).astype(np.float32)
    voxels[0, 0, 0] = value
    sources.write(batch / "segmentation-1.nii", voxels)
    assert f"values {value:g} " in refuse_case(source)


def test_whole_float_labels_are_fine(source, batch, convert):
    sources.write(batch / "segmentation-1.nii", sources.mask(1).astype(np.float64))
    found, _ = sources.read(convert(source) / "labelsTr" / "liver_001.nii.gz")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, sources.mask(1))


def test_nan_in_an_image(source, batch, refuse_case):
    voxels = sources.scan(1).astype(np.float32)
    voxels[3, 3, 3] = np.nan
    sources.write(batch / "volume-1.nii", voxels)
    assert "volume-1.nii: NaN" in refuse_case(source)


def test_other_cases_survive_a_bad_one(source, batch, raw, capsys, convert):
    sources.write(batch / "segmentation-1.nii", sources.mask(1) + 5)
    assert cli.main(["convert", "lits", str(source), "-np", "1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    folder = raw / "Dataset501_LiTS"
    assert not (folder / "dataset.json").exists()
    assert sorted(p.name for p in (folder / "labelsTr").iterdir()) == ["liver_002.nii.gz", "liver_010.nii.gz"]
    assert len(list((folder / "imagesTr").iterdir())) == 2
    assert not (folder / ".staging").exists()
    sources.write(batch / "segmentation-1.nii", sources.mask(1))
    assert len(list((convert(source) / "labelsTr").iterdir())) == 3


@pytest.mark.parametrize("root", ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"])
def test_number_taken_by_another_dataset(root, source, raw, refuse):
    taken = raw.parent / root / "Dataset501_Other"
    taken.mkdir()
    error = refuse(source)
    assert str(taken) in error
    assert "-d" in error


def test_complete_dataset_is_not_touched(source, convert, refuse):
    folder = convert(source)
    error = refuse(source)
    assert str(folder) in error
    assert "complete" in error


def test_folder_with_other_files_is_not_touched(source, raw, refuse):
    (raw / "Dataset501_LiTS" / "imagesTr").mkdir(parents=True)
    (raw / "Dataset501_LiTS" / "imagesTr" / "mine_0000.nii.gz").write_bytes(b"precious")
    assert "holds other files" in refuse(source)


def test_empty_folder_of_the_same_name_is_fine(source, raw, convert):
    (raw / "Dataset501_LiTS").mkdir()
    convert(source)


def test_target_inside_the_source(source, refuse):
    assert "inside one another" in refuse(source, "--output", str(source / "raw"))


def test_a_file_where_the_target_should_be(source, tmp_path, refuse):
    (tmp_path / "file").write_bytes(b"")
    error = refuse(source, "--output", str(tmp_path / "file"))
    assert str(tmp_path / "file") in error
    assert "--output" in error


def test_no_write_permission(source, raw, refuse, monkeypatch):
    real = Path.mkdir

    def mkdir(self, *args, **kwargs):
        if self.is_relative_to(raw):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    error = refuse(source)
    assert "Permission denied" in error
    assert "--output" in error


@pytest.mark.parametrize("written", [0, 1, 2])
def test_full_disk(written, source, raw, monkeypatch, capsys):
    """The disk is full while file number `written` is being written."""
    before = sources.snapshot(source)
    files = iter(range(100))

    def write(stream, voxels, geometry):
        if next(files) == written:
            stream.write(b"some of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        nifti.write_nifti(stream, voxels, geometry)

    monkeypatch.setattr(case, "write_nifti", write)
    assert cli.main(["convert", "lits", str(source), "-np", "1"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "No space left on device; free some space" in error
    assert "liver_00" in error
    finished = ["liver_001.nii.gz"] if written == 2 else []
    folder = raw / "Dataset501_LiTS"
    assert folder.exists() == bool(finished)
    assert [path.name for path in folder.glob("labelsTr/*")] == finished
    assert not list(folder.rglob("*.staging*"))
    assert sources.snapshot(source) == before


def test_full_disk_at_the_very_end(source, raw, monkeypatch, capsys, convert):
    def no_space(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("nnunetv2_unet3plus.conversion.dataset.generate_dataset_json", no_space)
        assert cli.main(["convert", "lits", str(source), "-np", "1"]) == 2
    error = capsys.readouterr().err
    assert "dataset.json: No space left" in error
    assert not (raw / "Dataset501_LiTS" / "dataset.json").exists()
    convert(source)


LIMITED = """
import resource, sys
from nnunetv2_unet3plus.cli import main
if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    sys.exit(main(sys.argv[1:]))
"""


def test_write_errors_in_worker_processes(source, tmp_path, raw):
    """The operating system's own limit on file size takes the part of the full disk."""
    sources.write(source / "volume-20.nii", sources.scan(20, (40, 40, 40)))
    sources.write(source / "segmentation-20.nii", sources.mask(20, (40, 40, 40)))
    before = sources.snapshot(source)
    script = tmp_path / "limited.py"
    script.write_text(LIMITED)
    command = [sys.executable, str(script), "convert", "lits", str(source), "-np", "2"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "liver_020_0000.nii.gz: File too large" in run.stderr
    assert not list(raw.rglob("*020*"))
    assert not list(raw.rglob(".staging"))
    assert sources.snapshot(source) == before


def test_bad_labels_in_worker_processes(source, batch, raw, capsys):
    sources.write(batch / "segmentation-2.nii", sources.mask(2) + 5)
    assert cli.main(["convert", "lits", str(source), "-np", "2"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "segmentation-2.nii: unexpected label values 5, 6, 7" in error
    assert not list(raw.rglob("*002*"))


def test_a_killed_worker(source, tmp_path):
    """As the system does when memory runs out."""
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, signal\n"
        "from nnunetv2_unet3plus.conversion.workers import results_of\n"
        "from nnunetv2_unet3plus.errors import UserError\n"
        "def die(job):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        list(results_of(die, range(3), 2))\n"
        "    except UserError as error:\n"
        "        print(error)\n"
    )
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert "smaller -np" in run.stdout
    assert run.stderr == ""


def test_two_conversions_at_once(source, raw, capsys):
    folder = raw / "Dataset501_LiTS"
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        assert cli.main(["convert", "lits", str(source), "-np", "1"]) == 2
    finally:
        os.close(descriptor)
    assert "another conversion" in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_damaged_marker_of_an_interrupted_run(source, raw, refuse):
    folder = raw / "Dataset501_LiTS"
    folder.mkdir()
    (folder / ".unfinished.json").write_text('{"source": ')
    error = refuse(source)
    assert ".unfinished.json is damaged" in error
    assert f"delete {folder} and start again" in error


class TestOddFiles:
    """Inputs that once did harm."""

    def test_folder_that_cannot_be_read_is_named(self, source, refuse, monkeypatch):
        hidden = source / "Training Batch 2"
        hidden.mkdir()
        scandir = os.scandir

        def denied(path):
            if Path(path) == hidden:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", denied)
        assert f"{hidden}: Permission denied" in refuse(source)

    def test_file_that_cannot_be_read_is_not_called_missing(self, source, batch, monkeypatch, capsys):
        opened = Path.open

        def denied(path, *args, **kwargs):
            if path.name == "volume-2.nii":
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return opened(path, *args, **kwargs)

        monkeypatch.setattr(Path, "open", denied)
        assert cli.main(["convert", "lits", str(source), "-np", "1"]) == 2
        assert f"{batch / 'volume-2.nii'}: Permission denied" in capsys.readouterr().err

    def test_name_that_is_not_utf8(self, source, batch, refuse):
        bytes_name = os.fsencode(batch) + b"/volume-3\xff.nii"
        os.close(os.open(bytes_name, os.O_CREAT))
        assert "the name is not UTF-8" in refuse(source)

    def test_volume_without_voxels(self, source, batch, capsys):
        for what in ("volume", "segmentation"):
            sources.write(batch / f"{what}-10.nii", np.zeros((8, 9, 0), np.int16))
        assert cli.main(["convert", "lits", str(source), "-np", "1"]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert f"{batch}/" in error
        assert "10.nii" in error

    def test_more_voxels_than_memory(self, source, batch, monkeypatch, capsys):
        def none_left(proxy):
            raise MemoryError

        monkeypatch.setattr(nifti, "_plain_numbers", none_left)
        assert cli.main(["convert", "lits", str(source), "-np", "1"]) == 2
        assert "volume-1.nii: too large for this machine's memory" in capsys.readouterr().err

    def test_link_to_a_folder_is_followed(self, source, batch, convert, tmp_path):
        elsewhere = batch.rename(tmp_path / "Training Batch 1")
        batch.symlink_to(elsewhere)
        (elsewhere / "back").symlink_to(source)
        dataset = convert(source)
        assert len(list((dataset / "imagesTr").iterdir())) == len(NUMBERS)
        cases = json.loads((dataset / "conversion_report.json").read_text())["cases"].values()
        assert [[finding["fault"] for finding in each["findings"]] for each in cases] == [["link"] * 2] * len(NUMBERS)

    def test_link_into_the_output(self, source, batch, raw, refuse):
        inside = raw / "Dataset501_LiTS" / "imagesTr" / "liver_001_0000.nii.gz"
        inside.parent.mkdir(parents=True)
        (batch / "volume-1.nii").rename(inside)
        (batch / "volume-1.nii").symlink_to(inside)
        assert "volume-1.nii is a link into" in refuse(source)

    def test_splits_and_marker_that_are_not_text(self, source, raw, refuse):
        preprocessed = raw.parent / "nnUNet_preprocessed" / "Dataset501_LiTS"
        preprocessed.mkdir()
        (preprocessed / "splits_final.json").write_bytes(b"\xff\xfe")
        marker = raw / "Dataset501_LiTS" / ".unfinished.json"
        marker.parent.mkdir()
        marker.write_text("[]")
        assert "is damaged" in refuse(source)

    @pytest.mark.parametrize("arguments", [[""], ["{source}", "--output", ""]])
    def test_unset_shell_variable_as_a_folder(self, source, arguments, capsys):
        assert cli.main(["convert", "lits", *(argument.format(source=source) for argument in arguments)]) == 2
        assert "an empty name is no folder" in capsys.readouterr().err
