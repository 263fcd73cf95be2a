"""From the masks of `nnUNetv2_predict` back to the scans they were made of."""

import argparse
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from io import IOBase
from pathlib import Path
from typing import BinaryIO, cast

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 - its usual name
from tqdm import tqdm

from nnunetv2_unet3plus.conversion import options
from nnunetv2_unet3plus.conversion.atomic import publish, stage
from nnunetv2_unet3plus.conversion.description import Case, Wishes
from nnunetv2_unet3plus.conversion.headers import Grids, in_order, read_headers
from nnunetv2_unet3plus.conversion.nifti_header import nifti_header
from nnunetv2_unet3plus.conversion.same_grid import differences
from nnunetv2_unet3plus.conversion.target import check_outside
from nnunetv2_unet3plus.conversion.volumes import ITK_ENDINGS, NIFTI_ENDINGS, NiftiFile, Volume, volume_file
from nnunetv2_unet3plus.conversion.workers import results_of
from nnunetv2_unet3plus.dicom import require_library
from nnunetv2_unet3plus.dicom.series import DicomSeries
from nnunetv2_unet3plus.errors import UserError
from nnunetv2_unet3plus.json_files import read_object
from nnunetv2_unet3plus.scans.folder import filling
from nnunetv2_unet3plus.scans.prepare import KEY

_ENDINGS = (*NIFTI_ENDINGS, *ITK_ENDINGS)


@dataclass(frozen=True)
class Mask:
    """A mask and the scan it belongs to.

    Attributes:
        name: Of the scan, for nnU-Net.
        path: The mask's file.
        scan: The scan's file or, of a DICOM series, its folder.
        slices: The files of a DICOM series; empty for others.
        restored: Where the mask belongs.
        axes: What the scan was turned to.
    """

    name: str
    path: Path
    scan: Path
    slices: tuple[Path, ...]
    restored: Path
    axes: str | None


def run(args: argparse.Namespace) -> int:
    """Restores, as the options say.

    Returns:
        The exit code, 0.

    Raises:
        UserError: If a mask or its scan is missing or cannot be used, or the output not be written.
    """
    masks = _find_masks(args.masks, args.scans, args.output)
    labels = _read_labels(args.masks) if any(mask.slices for mask in masks) else {}
    if labels:
        require_library()
    with filling(args.output) as staging:
        restore = partial(_restore, staging=staging, labels=labels)
        list(tqdm(results_of(restore, masks, args.processes), "restoring", len(masks), unit="mask", disable=None))
    print(f"{args.output} holds {len(masks)} masks, named as the scans are")
    return 0


def _find_masks(folder: Path, prepared: Path, output: Path) -> list[Mask]:
    key = read_object(prepared / KEY, "give the folder that unet3plus prepare-scans has made with --scans")
    try:
        source, axes = Path(key["source"]), key["orientation"]
        entries = [
            (name, source / entry["scan"], tuple(source / path for path in entry["slices"]), output / entry["mask"])
            for name, entry in key["scans"].items()
        ]
        if axes is not None:
            axes = options.axes(axes)
        inside = all(path.resolve().is_relative_to(output.resolve()) for *_, path in entries)
    except (LookupError, TypeError, AttributeError, argparse.ArgumentTypeError) as error:
        raise UserError(f"{prepared / KEY} is damaged; run unet3plus prepare-scans again") from error
    if not inside:
        raise UserError(f"{prepared / KEY} names masks outside of {output}; run unet3plus prepare-scans again")
    for path in (folder, prepared, source):
        check_outside(output, path)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    of_scan = {name: _mask_of(name, folder) for name, *_ in entries}
    if lacking := [name for name, path in of_scan.items() if path is None]:
        shown = ", ".join(lacking[:5]) + (", ..." if len(lacking) > 5 else "")
        raise UserError(f"{folder}: no masks of {len(lacking)} scans, {shown}; let nnUNetv2_predict finish first")
    for _, scan, slices, _ in entries:
        if gone := next((path for path in (scan, *slices) if not path.exists()), None):
            raise UserError(f"{gone}: the scan is gone; put it back, the mask is restored to its grid")
    return [
        Mask(name, of_mask, scan, slices, restored, axes)
        for name, scan, slices, restored in entries
        if (of_mask := of_scan[name]) is not None
    ]


def _mask_of(name: str, folder: Path) -> Path | None:
    return next((path for ending in _ENDINGS if (path := folder / f"{name}{ending}").exists()), None)


def _read_labels(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names of the foreground and the values that belong to them; a region has several.

    Raises:
        UserError: If nnU-Net's `dataset.json` is not beside the masks.
    """
    path = folder / "dataset.json"
    content = read_object(path, "copy it from the model's folder: it names the structures")
    try:
        labels = {str(name): tuple(np.ravel(values).astype(int).tolist()) for name, values in content["labels"].items()}
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} is damaged; copy it from the model's folder") from error
    foreground = {name: values for name, values in labels.items() if values != (0,) and name != "ignore"}
    if not foreground:
        raise UserError(f"{path} names nothing but background; copy it from the model's folder")
    return foreground


def _restore(mask: Mask, staging: Path, labels: Mapping[str, tuple[int, ...]]) -> None:
    """Writes one mask on its scan's grid."""
    scan = _series(mask) if mask.slices else volume_file(mask.scan)
    grids = read_headers(Case(mask.name, scan), Wishes(axes=mask.axes), [])
    voxels = _on_scan(volume_file(mask.path), grids)
    mask.restored.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(scan, DicomSeries):
        known = {0, *(value for values in labels.values() for value in values)}
        if strange := sorted(set(np.unique(voxels).tolist()) - known):
            text = f"holds {strange[0]}, which the dataset.json beside it does not name; copy that of the model"
            raise UserError(f"{mask.path}: {text}")
        from nnunetv2_unet3plus.dicom.write_segmentation import write_segmentation

        write = partial(write_segmentation, voxels=voxels, series=scan, labels=labels)
        publish(stage(mask.restored, staging, write), mask.restored)
    elif isinstance(scan, NiftiFile):
        publish(stage(mask.restored, staging, partial(_write_nifti, voxels=voxels, scan=mask.scan)), mask.restored)
    else:
        _write_itk(mask, voxels, staging)


def _series(mask: Mask) -> DicomSeries:
    from nnunetv2_unet3plus.dicom.files import sort_files

    found = sort_files(mask.slices).series
    if len(found) != 1 or len(found[0].slices) != len(mask.slices):
        raise UserError(f"{mask.scan}: not the series it was when it was prepared; run unet3plus prepare-scans again")
    return found[0]


def _on_scan(mask: Volume, grids: Grids) -> np.ndarray:
    """The mask's voxels in the order of the scan's.

    Raises:
        UserError: If the mask lies on another grid or holds other than whole numbers from 0 to 255.
    """
    voxels = mask.voxels("label", [])
    if differing := differences(grids.written, mask.geometry("label", [])):
        text = f"its {' and '.join(differing)} differ from the scan's; give the masks of these very scans"
        raise UserError(f"{mask.path}: {text}")
    if not np.isin(voxels, np.arange(256)).all():
        raise UserError(f"{mask.path}: values other than 0 to 255; give the folder with nnUNetv2_predict's masks")
    encoded = voxels.astype(np.uint8)
    if grids.order is None:
        return encoded
    back = np.empty_like(grids.order)
    back[grids.order[:, 0].astype(int)] = np.column_stack([np.arange(3), grids.order[:, 1]])
    return in_order(encoded, back)


def _write_nifti(stream: BinaryIO, voxels: np.ndarray, scan: Path) -> None:
    """With the scan's own matrices, be they sheared or missing."""
    header = nifti_header(scan, "image").copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    image = nib.Nifti1Image(np.asarray(voxels), None, header)
    if scan.suffix.lower() != ".gz":
        image.to_stream(cast(IOBase, stream))
        return
    with gzip.GzipFile(fileobj=stream, mode="wb", filename="", mtime=0) as packed:
        image.to_stream(packed)


def _write_itk(mask: Mask, voxels: np.ndarray, staging: Path) -> None:
    """ITK writes to a name, not to a stream."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(mask.scan))
    reader.ReadImageInformation()
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.T))
    image.SetSpacing(reader.GetSpacing())
    image.SetOrigin(reader.GetOrigin())
    image.SetDirection(reader.GetDirection())
    staged = staging / f"{mask.name}{mask.restored.suffix}"
    try:
        sitk.WriteImage(image, str(staged), useCompression=True)
    except RuntimeError as error:
        staged.unlink(missing_ok=True)
        raise UserError(f"{mask.restored}: could not be written; free some space or choose another --output") from error
    publish(staged, mask.restored)
