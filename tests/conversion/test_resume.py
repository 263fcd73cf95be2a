"""A stop at any moment leaves no half case, and the same command finishes the job."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from nnunetv2_unet3plus import cli
from nnunetv2_unet3plus.conversion import dataset
from tests.conversion import sources
from tests.end_to_end.nnunet import shared_data

NUMBERS, TESTS = (1, 2, 10), (4,)

# Kills itself at the n-th call of one function.
SUICIDAL = """
import gzip, os, pathlib, signal, sys
from nnunetv2_unet3plus import cli
owner, name, moment = sys.argv[1], sys.argv[2], int(sys.argv[3])
owner = {"Path": pathlib.Path, "GzipFile": gzip.GzipFile, "os": os}[owner]
real, calls = getattr(owner, name), 0
def counted(*args, **kwargs):
    global calls
    if calls == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    calls += 1
    return real(*args, **kwargs)
setattr(owner, name, counted)
sys.exit(cli.main(sys.argv[4:]))
"""

MOMENTS = [
    *(
        ("Path", "replace", moment) for moment in range(14)
    ),  # marker, three pairs and test scan with their findings, report, dataset.json
    *(("GzipFile", "write", moment) for moment in (3, 20, 40)),  # inside a file
    *(("os", "fsync", moment) for moment in (0, 5)),  # a whole file, not yet in its place
    ("Path", "unlink", 0),  # between a case's files being staged and being moved
    ("Path", "unlink", 3),  # the marker, at the very end
]


@pytest.fixture
def source(tmp_path):
    return sources.challenge(tmp_path / "source", NUMBERS, TESTS)


@pytest.fixture
def undisturbed(source, convert):
    return sources.tree(convert(source, "-d", "502", folder="Dataset502_LiTS"))


def check_nothing_half(folder, undisturbed):
    """What is visible is whole: every file equals the undisturbed one, every label has its image."""
    found = {name: content for name, content in sources.tree(folder).items() if not name.startswith(".")}
    for name, content in found.items():
        assert content == undisturbed[name], name
    for name in found:
        if name.startswith("labelsTr/"):
            assert f"imagesTr/{name.split('/')[1].replace('.nii.gz', '_0000.nii.gz')}" in found
    if "dataset.json" in found:
        assert found == undisturbed


@pytest.mark.parametrize(("owner", "name", "moment"), MOMENTS)
def test_killed_at(owner, name, moment, source, raw, undisturbed, convert):
    command = [sys.executable, "-c", SUICIDAL, owner, name, str(moment), "convert", "lits", str(source), "-np", "1"]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    check_nothing_half(raw / "Dataset501_LiTS", undisturbed)
    assert sources.tree(convert(source)) == undisturbed


@pytest.mark.parametrize("finished", [1, 4])
def test_killed_with_workers(finished, tmp_path, raw, convert):
    source = tmp_path / "large"
    for number in range(8):
        sources.write(source / f"volume-{number}.nii", sources.scan(number, (96, 96, 60)))
        sources.write(source / f"segmentation-{number}.nii", sources.mask(number, (96, 96, 60)))
    undisturbed = sources.tree(convert(source, "-d", "502", folder="Dataset502_LiTS"))
    folder = raw / "Dataset501_LiTS"
    command = [sys.executable, "-m", "nnunetv2_unet3plus.cli", "convert", "lits", str(source), "-np", "2"]
    main = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(list(folder.glob("labelsTr/*"))) >= finished)
    main.kill()
    assert main.wait() == -signal.SIGKILL
    wait_until(lambda: not group_exists(main.pid))  # no worker is left behind, at work or waiting
    check_nothing_half(folder, undisturbed)
    assert not (folder / "dataset.json").exists()
    assert sources.tree(convert(source)) == undisturbed


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def group_exists(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def stop_after(raw, monkeypatch):
    """Runs the conversion and stops it, as Ctrl-C does, when some cases are done."""

    def run(source, cases, *options):
        real, done = dataset.convert_case, []

        def convert_case(*args, **kwargs):
            if len(done) == cases:
                raise KeyboardInterrupt
            done.append(real(*args, **kwargs))

        with monkeypatch.context() as patched:
            patched.setattr(dataset, "convert_case", convert_case)
            assert cli.main(["convert", "lits", str(source), "-np", "1", *options]) == 130
        return raw / "Dataset501_LiTS"

    return run


def test_ctrl_c(source, stop_after, convert, undisturbed, capsys):
    folder = stop_after(source, 2)
    assert capsys.readouterr().err == "unet3plus: stopped; to go on, run the same command again\n"
    check_nothing_half(folder, undisturbed)
    assert not (folder / ".staging").exists()
    assert sources.tree(convert(source)) == undisturbed


def test_finished_cases_are_not_done_again(source, stop_after, convert):
    folder = stop_after(source, 2)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("imagesTr/*")}
    assert len(before) == 2
    convert(source)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_case_whose_source_was_replaced_is_done_again(source, stop_after, convert):
    stop_after(source, 2)
    path = sources.write(source / "Training Batch 1" / "volume-1.nii", sources.scan(77))
    os.utime(path, (1e9, 1e9))  # even by an older file
    found, _ = sources.read(convert(source) / "imagesTr" / "liver_001_0000.nii.gz")
    assert (found == sources.scan(77)).all()


def test_an_old_label_is_never_beside_a_new_image(source, raw, stop_after):
    folder = stop_after(source, 2)
    sources.write(source / "Training Batch 1" / "volume-1.nii", sources.scan(77))
    sources.write(source / "Training Batch 1" / "segmentation-1.nii", sources.mask(77))
    command = ["Path", "replace", "3", "convert", "lits", str(source), "-np", "1"]  # after marker, findings, image
    killed = subprocess.run([sys.executable, "-c", SUICIDAL, *command], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    image, _ = sources.read(folder / "imagesTr" / "liver_001_0000.nii.gz")
    assert (image == sources.scan(77)).all()
    assert not (folder / "labelsTr" / "liver_001.nii.gz").exists()


def test_cases_added_meanwhile_are_converted(source, stop_after, convert, undisturbed):
    stop_after(source, 2)
    sources.challenge(source, (11,))
    folder = convert(source)
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 4


def test_stale_temporaries_are_cleaned(source, stop_after, convert, undisturbed):
    folder = stop_after(source, 1)
    (folder / ".staging").mkdir()
    (folder / ".staging" / "liver_002_0000.nii.gz.123").write_bytes(b"half")
    assert sources.tree(convert(source)) == undisturbed


@pytest.mark.parametrize("options", [["--organ"], ["--regions"]])
def test_other_options_are_not_mixed_in(options, source, stop_after, refuse, convert, undisturbed):
    folder = stop_after(source, 2)
    error = refuse(source, *options)
    assert str(folder) in error
    assert f"begun with labels = tumour, not {options[0][2:]}" in error
    assert sources.tree(convert(source)) == undisturbed


def test_another_source_is_not_mixed_in(source, tmp_path, stop_after, refuse):
    stop_after(source, 2)
    other = sources.challenge(tmp_path / "other", NUMBERS, TESTS)
    assert f"begun with source = {source}" in refuse(other)


def test_a_case_that_left_the_source_is_named(source, stop_after, refuse):
    folder = stop_after(source, 2)
    for name in ("volume-1.nii", "segmentation-1.nii"):
        (source / "Training Batch 1" / name).unlink()
    assert str(folder / "imagesTr" / "liver_001_0000.nii.gz") in refuse(source)


def test_stopped_before_the_first_case_nothing_remains(source, stop_after, convert):
    folder = stop_after(source, 0)
    assert not folder.exists()
    convert(source, "--organ")


@pytest.mark.slow
def test_killed_at_fifty_moments_over_real_scans(tmp_path, raw, convert):
    """After a second run everything is as in an undisturbed one, report included."""
    assemble = shared_data("ircad").parent / "assemble_lits.py"
    source = tmp_path / "LiTS"
    command = [sys.executable, str(assemble), str(source), "--inplane", "64"]
    subprocess.run(command, check=True, capture_output=True)
    undisturbed = sources.tree(convert(source, processes=2))
    folder = raw / "Dataset501_LiTS"

    def start():
        """Converts anew in a process; returns as soon as there is something to see."""
        shutil.rmtree(folder)
        command = [sys.executable, "-m", "nnunetv2_unet3plus.cli", "convert", "lits", str(source), "-np", "2"]
        main = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(folder.exists)
        return main

    main, begun_at = start(), time.monotonic()
    assert main.wait() == 0
    seconds = time.monotonic() - begun_at
    moments, in_the_middle = random.Random(0), 0
    for _ in range(50):
        main = start()
        time.sleep(moments.uniform(0, seconds))
        main.kill()
        main.wait()
        wait_until(lambda group=main.pid: not group_exists(group))
        check_nothing_half(folder, undisturbed)
        if not (folder / "dataset.json").exists() or (folder / ".unfinished.json").exists():
            in_the_middle += 1
            convert(source, processes=2)
        assert sources.tree(folder) == undisturbed
    assert in_the_middle > 25
