"""The parts that other converters share."""

import io
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunetv2_unet3plus.conversion.atomic import write_text
from nnunetv2_unet3plus.conversion.nifti import read_voxels, write_nifti
from nnunetv2_unet3plus.conversion.nifti_header import read_geometry
from nnunetv2_unet3plus.conversion.pairing import by_number, number_ranges
from nnunetv2_unet3plus.conversion.splits import spread_split
from nnunetv2_unet3plus.conversion.workers import results_of
from tests.conversion import sources


@pytest.mark.parametrize(
    ("numbers", "text"), [({3}, "3"), ({1, 2, 3, 7}, "1-3, 7"), ({10, 9, 1}, "1, 9-10"), (set(), "")]
)
def test_number_ranges(numbers, text):
    assert number_ranges(numbers) == text


def test_by_number_matches_whole_names_only():
    pattern = re.compile(r"scan-(?P<number>\d+)\.nii")
    files = [Path(name) for name in ("a/scan-1.nii", "a/my-scan-2.nii", "a/scan-3.nii.gz", "scan-0004.nii")]
    assert by_number(files, pattern) == {1: files[0], 4: files[3]}


@pytest.mark.parametrize(("total", "held_out"), [(131, 28), (41, 9), (5, 1), (3, 3), (4, 0)])
def test_spread_split_has_the_right_counts(total, held_out):
    names = [f"case_{k}" for k in range(total)]
    (fold,) = spread_split(names, held_out)
    assert (len(fold["train"]), len(fold["val"])) == (total - held_out, held_out)
    assert sorted(fold["train"] + fold["val"]) == sorted(names)


@pytest.mark.parametrize("axes", ["LPS", "RAS", "LAS", "PIR"])
@pytest.mark.parametrize("dtype", ["u1", "i2", ">i2", "i4", "f4", "f8"])
def test_voxels_type_and_place_survive(axes, dtype, tmp_path):
    affine = sources.AFFINE @ nib.orientations.inv_ornt_aff(
        nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("LAS"), nib.orientations.axcodes2ornt(axes)),
        sources.SIZE,
    )
    voxels = (np.arange(np.prod(sources.SIZE)) % 251).reshape(sources.SIZE).astype(dtype)
    original = sources.write(tmp_path / "original.nii", voxels, affine)
    copy = tmp_path / "copy.nii.gz"
    with copy.open("wb") as stream:
        write_nifti(stream, read_voxels(original), read_geometry(original))
    found, found_affine = sources.read(copy)
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(found, voxels)
    np.testing.assert_allclose(found_affine, affine, atol=1e-4)
    np.testing.assert_allclose(nib.load(copy).get_qform(coded=True)[0], affine, atol=1e-4)  # some tools read only this
    for one, other in zip(sources.grid(copy), sources.grid(original), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(
    ("slope", "inter", "dtype"),
    [
        (1, -1024, np.int16),
        (1, 0, np.int16),
        (2, 5, np.int16),
        (100, 0, np.int32),
        (1e8, 0, np.float32),
        (0.5, 0, np.float32),
    ],
)
def test_scaled_voxels(slope, inter, dtype, tmp_path):
    stored = sources.scan(1)
    path = sources.write(tmp_path / "scaled.nii", stored)
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([slope, inter], "<f4").tobytes()  # the header's scl_slope and scl_inter
    path.write_bytes(content)
    voxels = read_voxels(path)
    assert voxels.dtype == dtype
    np.testing.assert_array_equal(voxels, (stored.astype(float) * slope + inter).astype(dtype))


def test_free_text_of_the_source_is_not_copied(tmp_path):
    image = nib.Nifti1Image(sources.scan(1), sources.AFFINE)
    image.header["descrip"] = b"DOE^JANE"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE^JANE"))
    nib.save(image, tmp_path / "named.nii")
    stream = io.BytesIO()
    write_nifti(stream, read_voxels(tmp_path / "named.nii"), read_geometry(tmp_path / "named.nii"))
    (tmp_path / "copy.nii.gz").write_bytes(stream.getvalue())
    copy = nib.load(tmp_path / "copy.nii.gz")
    assert copy.header["descrip"] == b""
    assert not copy.header.extensions


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path, staging = tmp_path / "file.txt", tmp_path / "staging"
    staging.mkdir()
    write_text(path, staging, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, staging, "\ud800")
    assert path.read_text() == "old"
    assert list(staging.iterdir()) == []


def test_results_of_stops_at_the_first_error():
    done = []

    def work(job):
        if job == 2:
            raise ValueError(job)
        done.append(job)

    with pytest.raises(ValueError, match="2"):
        list(results_of(work, range(5), processes=1))
    assert done == [0, 1]
