"""The conversion of one case, from its source files to its files in the dataset."""

from pathlib import Path

import numpy as np

from nnunetv2_unet3plus.conversion.atomic import publish, stage
from nnunetv2_unet3plus.conversion.description import Case, LabelScheme
from nnunetv2_unet3plus.conversion.geometry import Geometry, read_geometry
from nnunetv2_unet3plus.conversion.labels import encode_labels
from nnunetv2_unet3plus.conversion.nifti import read_voxels, write_nifti
from nnunetv2_unet3plus.conversion.target import TargetFolder
from nnunetv2_unet3plus.errors import UserError


def convert_case(case: Case, target: TargetFolder, scheme: LabelScheme) -> None:
    """Writes a case's image and label, each complete or not at all, the label last.

    So a label in its place says that the whole case is finished. Intensities stay as they are; the label is written
    on the image's grid, which `check_same_grid` has found to be its own but for rounding.

    Raises:
        UserError: If a source file is damaged or holds what it should not, or a file cannot be written.
    """
    geometry = read_geometry(case.image)
    image_path, label_path = target.image_path(case), target.label_path(case)
    staged_image = stage_image(case.image, geometry, image_path, target.staging)
    if case.label is None:
        publish(staged_image, image_path)
        return
    staged_label = stage_label(case.label, geometry, label_path, target.staging, scheme)
    label_path.unlink(missing_ok=True)  # of an older source: never beside the new image
    publish(staged_image, image_path)
    publish(staged_label, label_path)


def read_whole(source: Path, geometry: Geometry) -> np.ndarray:
    """Reads the voxels of a volume and checks that they are as many as its grid has.

    Raises:
        UserError: If it cannot be read, or there are more or fewer.
    """
    voxels = read_voxels(source)
    if voxels.shape != geometry.size:
        held, meant = (" x ".join(map(str, size)) for size in (voxels.shape, geometry.size))
        raise UserError(f"{source}: holds {held} voxels where its grid has {meant}; replace the file by a good copy")
    return voxels


def stage_image(source: Path, geometry: Geometry, path: Path, staging: Path) -> Path:
    """Reads an image and stages it for `path`.

    Raises:
        UserError: If it cannot be read, holds NaN or infinite values, or cannot be written.
    """
    voxels = read_whole(source, geometry)
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise UserError(f"{source}: NaN or infinite intensities; replace them or move the case away")
    return stage(path, staging, lambda stream: write_nifti(stream, voxels, geometry))


def stage_label(source: Path, geometry: Geometry, path: Path, staging: Path, scheme: LabelScheme) -> Path:
    """Reads a segmentation, encodes its labels and stages it for `path`.

    Raises:
        UserError: If it cannot be read, holds unexpected labels, or cannot be written.
    """
    voxels = encode_labels(read_whole(source, geometry), scheme, source)
    return stage(path, staging, lambda stream: write_nifti(stream, voxels, geometry))
