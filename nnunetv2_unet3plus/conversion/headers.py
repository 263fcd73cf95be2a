"""The headers of a case: what they say, what is repaired in them."""

from dataclasses import dataclass, replace

import nibabel as nib
import numpy as np

from nnunetv2_unet3plus.conversion.description import Case, Wishes
from nnunetv2_unet3plus.conversion.findings import FaultyFileError, Finding
from nnunetv2_unet3plus.conversion.geometry import Geometry, numbers_of, reorient
from nnunetv2_unet3plus.conversion.same_grid import check_same_grid
from nnunetv2_unet3plus.conversion.volumes import Volume


@dataclass(frozen=True)
class Grids:
    """How the voxels of a case are stored, and how they are to be written.

    Attributes:
        image: The image's grid as stored.
        label: The label's grid as stored, if there is one.
        label_order: nibabel's orientation that brings the label's voxels into the image's order; None if they are.
        written: The grid to be written.
        order: nibabel's orientation from the image's order to the written one; None if it is the same.
    """

    image: Geometry
    label: Geometry | None
    label_order: np.ndarray | None
    written: Geometry
    order: np.ndarray | None


def read_headers(case: Case, wishes: Wishes, findings: list[Finding]) -> Grids:
    """Reads and compares the headers of a case.

    Args:
        case: The case.
        wishes: What the user wants otherwise than the headers say.
        findings: What had to be repaired, or looks wrong, is added here.

    Raises:
        FaultyFileError: If a header cannot be used.
    """
    image = case.image.geometry("image", findings)
    written, order = _corrected(case, image, wishes, findings), None
    label, label_order = None, None
    if case.label is not None:
        label = _label_grid(case.label, image, findings)
        label_order = check_same_grid(
            [written, image], label, case.label.path, findings, must_lie_there=case.label_on_own_grid
        )
    if wishes.axes and written.axes != wishes.axes:
        findings.append(
            Finding("repaired", "image", "orientation", f"from {written.axes} to {wishes.axes}, as asked for")
        )
        written, order = reorient(written, wishes.axes)
    return Grids(image, label, label_order, written, order)


def _label_grid(label: Volume, image: Geometry, findings: list[Finding]) -> Geometry:
    """The label's grid; the image's, where the label's own cannot be and it has as many voxels."""
    try:
        return label.geometry("label", findings)
    except FaultyFileError as error:
        fault = error.finding.fault
        if fault not in ("shear", "impossible header") or label.size("label") != image.size:
            raise
        text = f"it cannot be used ({error.finding.text.partition(';')[0]}): the image's header taken"
        findings.append(Finding("repaired", "label", "header differs", text))
        return image


def _corrected(case: Case, image: Geometry, wishes: Wishes, findings: list[Finding]) -> Geometry:
    """The grid with the spacing the user has given; a warning where that seems needed."""
    if (spacing := wishes.spacings.get(case.name)) is not None:
        text = f"{numbers_of(spacing)} instead of {numbers_of(image.spacing)}, as --spacing-from says"
        findings.append(Finding("repaired", "image", "spacing", text))
        return replace(image, spacing=spacing)
    told = any(finding.fault == "no position" for finding in findings)
    if not told and np.allclose(np.abs(image.affine), np.eye(4), rtol=0, atol=1e-6):
        text = (
            "the header says nothing of where the voxels lie: cubes of 1 mm at the origin; kept, the true spacing can "
            "be given with --spacing-from"
        )
        findings.append(Finding("warning", "image", "no position", text))
    return image


def in_order(voxels: np.ndarray, orientation: np.ndarray | None) -> np.ndarray:
    """Voxels in the order of nibabel's orientation; a view."""
    return voxels if orientation is None else nib.orientations.apply_orientation(voxels, orientation)
