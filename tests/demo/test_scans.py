import nibabel as nib
import numpy as np
import pytest

from dataset_conversion.Dataset501_LiTS import find_cases
from nnunetv2_unet3plus.demo.phantom import make_phantom
from nnunetv2_unet3plus.demo.scans import choose_test_scans, link_scans, write_phantoms
from nnunetv2_unet3plus.errors import UserError


@pytest.fixture
def download(tmp_path):
    """Empty files in Kaggle's layout: pairing looks at names only."""

    def make(numbers):
        folder = tmp_path / "download"
        for number in numbers:
            for path in (f"volumes/volume-{number}.nii", f"segmentations/segmentation-{number}.nii.gz"):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).touch()
        return folder

    return make


def test_phantoms_are_what_the_converter_expects(tmp_path):
    scans = write_phantoms(tmp_path, training=2, test=1)
    found = find_cases(scans.folder)
    assert (list(found.pairs), list(found.tests), found.others) == ([0, 1], [2], 0)
    assert [case.name for case in found.cases if case.label is None] == list(scans.truths) == ["liver_test_002"]


def test_test_scans_keep_their_truth_apart(tmp_path):
    scans = write_phantoms(tmp_path, training=1, test=1)
    truth = scans.truths["liver_test_001"]
    assert not truth.is_relative_to(scans.folder)
    np.testing.assert_array_equal(np.asanyarray(nib.load(truth).dataobj), make_phantom(1).labels)


@pytest.mark.parametrize(("total", "test", "held_out"), [(6, None, 1), (10, None, 2), (131, 28, 28), (12, 3, 3)])
def test_choose_test_scans(download, total, test, held_out):
    is_test = choose_test_scans(download(range(total)), test)
    assert list(is_test) == list(range(total))
    assert sum(is_test.values()) == held_out


@pytest.mark.parametrize(("total", "test"), [(5, None), (12, 8), (12, 0), (12, -1)])
def test_too_few_scans(download, total, test):
    with pytest.raises(UserError, match=r"labelled scans, -?\d+ cannot be kept for the test"):
        choose_test_scans(download(range(total)), test)


def test_links_leave_the_download_as_it_is(download, tmp_path):
    source = download([3, 1, 20, 7, 5, 40])
    before = sorted(source.rglob("*"))
    is_test = choose_test_scans(source, 1)
    scans = link_scans(source, is_test, tmp_path / "demo")
    found = find_cases(scans.folder)
    (test,) = (number for number, chosen in is_test.items() if chosen)
    assert (sorted([*found.pairs, test]), list(found.tests)) == ([1, 3, 5, 7, 20, 40], [test])
    assert list(scans.truths) == [f"liver_test_{test:03d}"]
    assert scans.truths[f"liver_test_{test:03d}"].resolve() == source / f"segmentations/segmentation-{test}.nii.gz"
    assert sorted(source.rglob("*")) == before
