"""The demo's scans, as a LiTS download would lie on disk, with the test scans' segmentations kept apart.

scans/Training Batch 1/volume-N.nii, segmentation-N.nii
scans/Test Batch/test-volume-N.nii
truth/segmentation-N.nii
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib

from dataset_conversion.Dataset501_LiTS import find_cases
from nnunetv2_unet3plus.conversion.splits import spread_split
from nnunetv2_unet3plus.demo.phantom import Array, make_phantom
from nnunetv2_unet3plus.errors import UserError

MIN_TRAINING = 5  # nnU-Net's cross-validation has five folds


@dataclass(frozen=True)
class Scans:
    """Where the scans are.

    Attributes:
        folder: What the converter is given: training pairs, and test scans without their segmentations.
        truths: The segmentation of each test scan, by the name the converter gives the scan.
    """

    folder: Path
    truths: dict[str, Path]


def write_phantoms(root: Path, training: int, test: int) -> Scans:
    """Make phantoms and write them in LiTS's layout.

    Args:
        root: Where to.
        training: Number of scans to train on.
        test: Number of scans that training does not see.

    Returns:
        The scans.
    """
    layout = _Layout(root)
    for number in range(training + test):
        phantom = make_phantom(seed=number)
        is_test = number >= training
        _save(phantom.intensities, phantom.affine, layout.volume(number, ".nii", is_test))
        _save(phantom.labels, phantom.affine, layout.segmentation(number, ".nii", is_test))
    return layout.scans()


def choose_test_scans(source: Path, test: int | None = None) -> dict[int, bool]:
    """Set some of a download's training cases aside as test scans, evenly spread over the numbers.

    Args:
        source: A download in any layout the LiTS converter knows.
        test: How many; one in five if not given.

    Returns:
        Whether a case is a test scan, by its number, for all cases.

    Raises:
        UserError: If there are no pairs or too few.
    """
    numbers = list(find_cases(source).pairs)
    test = max(1, len(numbers) // 5) if test is None else test
    if test < 1 or len(numbers) - test < MIN_TRAINING:
        raise UserError(
            f"{source}: of {len(numbers)} labelled scans, {test} cannot be kept for the test: it takes at least 1, and "
            f"{MIN_TRAINING} others to train on"
        )
    held_out = spread_split([str(number) for number in numbers], test)[0]["val"]
    return {number: str(number) in held_out for number in numbers}


def link_scans(source: Path, is_test: Mapping[int, bool], root: Path) -> Scans:
    """Lay a download out anew by links; the download itself stays as it is.

    Args:
        source: A download in any layout the LiTS converter knows.
        is_test: Whether a case is a test scan, by its number.
        root: Where the links go.

    Returns:
        The scans.
    """
    layout = _Layout(root)
    for number, (volume, segmentation) in find_cases(source).pairs.items():
        _link(volume, layout.volume(number, _ending(volume), is_test[number]))
        _link(segmentation, layout.segmentation(number, _ending(segmentation), is_test[number]))
    return layout.scans()


@dataclass(frozen=True)
class _Layout:
    root: Path

    def volume(self, number: int, ending: str, is_test: bool) -> Path:
        name = f"Test Batch/test-volume-{number}" if is_test else f"Training Batch 1/volume-{number}"
        return self.root / "scans" / f"{name}{ending}"

    def segmentation(self, number: int, ending: str, is_test: bool) -> Path:
        folder = self.root / "truth" if is_test else self.root / "scans" / "Training Batch 1"
        return folder / f"segmentation-{number}{ending}"

    def scans(self) -> Scans:
        # The converter says what it will call the test scans.
        folder = self.root / "scans"
        truths = {}
        for case in find_cases(folder).cases:
            if case.label is None:
                segmentation = case.image.path.name.replace("test-volume", "segmentation")
                truths[case.name] = next((self.root / "truth").glob(segmentation.partition(".")[0] + ".*"))
        return Scans(folder, truths)


def _ending(path: Path) -> str:
    return ".nii.gz" if path.suffix.lower() == ".gz" else ".nii"


def _save(voxels: Array, affine: Array, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)


def _link(target: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target.resolve())
