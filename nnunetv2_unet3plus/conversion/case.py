"""The conversion of one case, from its source files to its files in the dataset."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunetv2_unet3plus.conversion.atomic import publish, stage, write_text
from nnunetv2_unet3plus.conversion.description import Case, LabelScheme, Wishes
from nnunetv2_unet3plus.conversion.findings import FaultyFileError, Finding
from nnunetv2_unet3plus.conversion.flips import find_flip
from nnunetv2_unet3plus.conversion.geometry import Geometry
from nnunetv2_unet3plus.conversion.headers import in_order, read_headers
from nnunetv2_unet3plus.conversion.labels import encode_labels
from nnunetv2_unet3plus.conversion.nifti import write_nifti
from nnunetv2_unet3plus.conversion.target import TargetFolder, stamps_of
from nnunetv2_unet3plus.conversion.volumes import Volume
from nnunetv2_unet3plus.errors import UserError


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        case: Its name.
        findings: What was wrong with it.
        refusal: Why it was not converted, with the file's name; None if it was.
    """

    case: str
    findings: tuple[Finding, ...]
    refusal: str | None = None


def convert_case(case: Case, target: TargetFolder | None, scheme: LabelScheme, wishes: Wishes, source: Path) -> Outcome:
    """Writes a case's findings, image and label, each complete or not at all, the label last.

    So a label in its place says that the whole case is finished. Intensities stay as they are; the label is written
    on the image's grid.

    Args:
        case: The case.
        target: Where to; None to look only.
        scheme: Its labels.
        wishes: What is to be written otherwise than the headers say.
        source: The folder it comes from, resolved.

    Raises:
        UserError: If a file cannot be written.
    """
    findings = [*case.findings, *_links_outside(case, source)]
    stamps = stamps_of(case)  # before reading: who replaces a file now will have it converted again
    try:
        image, label, geometry = read_case(case, scheme, wishes, findings)
    except FaultyFileError as error:
        return Outcome(case.name, (*findings, error.finding), str(error))
    if target is not None:
        _write(case, target, image, label, geometry, findings, stamps)
    return Outcome(case.name, tuple(findings))


def _links_outside(case: Case, source: Path) -> list[Finding]:
    """What the source folder itself does not hold: gone when it is moved, changed when it is not."""
    found = []
    for about, volume in (("image", case.image), ("label", case.label)):
        if volume is not None and any(not path.resolve().is_relative_to(source) for path in volume.files):
            text = "a link that leads out of the source folder; read where it leads"
            found.append(Finding("warning", about, "link", text))
    return found


def read_case(
    case: Case, scheme: LabelScheme, wishes: Wishes, findings: list[Finding]
) -> tuple[np.ndarray, np.ndarray | None, Geometry]:
    """Image, label and grid as they are to be written."""
    grids = read_headers(case, wishes, findings)
    image = _read_whole(case.image, grids.image, "image", findings)
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        text = "NaN or infinite intensities; replace them or move the case away"
        raise FaultyFileError(case.image.path, "image", "no number", text)
    if case.label is None or grids.label is None:
        return in_order(image, grids.order), None, grids.written
    label = encode_labels(_read_whole(case.label, grids.label, "label", findings), scheme, case.label.path, findings)
    if not label.any():
        findings.append(Finding("warning", "label", "empty", "holds nothing but background"))
    label = in_order(label, grids.label_order)
    if (suspicion := find_flip(image, label, grids.image.axes)) is not None:
        findings.append(suspicion)
    return in_order(image, grids.order), in_order(label, grids.order), grids.written


def _read_whole(source: Volume, geometry: Geometry, about: str, findings: list[Finding]) -> np.ndarray:
    """The voxels of a volume, which must be as many as its grid has."""
    voxels = source.voxels(about, findings)
    if voxels.shape != geometry.size:
        held, meant = (" x ".join(map(str, size)) for size in (voxels.shape, geometry.size))
        text = f"holds {held} voxels where its grid has {meant}; replace the file by a good copy"
        raise FaultyFileError(source.path, about, "impossible header", text)
    return voxels


def _write(
    case: Case,
    target: TargetFolder,
    image: np.ndarray,
    label: np.ndarray | None,
    geometry: Geometry,
    findings: list[Finding],
    stamps: list[list[int]],
) -> None:
    image_path, label_path = target.image_path(case), target.label_path(case)
    staged_image = stage(image_path, target.staging, lambda stream: write_nifti(stream, image, geometry))
    staged_label = None
    if label is not None:
        staged_label = stage(label_path, target.staging, lambda stream: write_nifti(stream, label, geometry))
    remembered = {"sources": stamps, "findings": [finding.reported for finding in findings]}
    write_text(target.findings_path(case), target.staging, json.dumps(remembered))
    if staged_label is None:
        publish(staged_image, image_path)
        return
    label_path.unlink(missing_ok=True)  # of an older source: never beside the new image
    publish(staged_image, image_path)
    publish(staged_label, label_path)


def read_findings(case: Case, target: TargetFolder) -> Outcome:
    """What an earlier run has found in a case that it has finished.

    Raises:
        UserError: If that was damaged since.
    """
    path = target.findings_path(case)
    try:
        return Outcome(case.name, tuple(Finding(**finding) for finding in json.loads(path.read_text())["findings"]))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} is damaged; delete {target.folder} and start again") from error
