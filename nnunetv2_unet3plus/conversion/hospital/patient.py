"""The one scan and the one mask in a patient's folder."""

from collections.abc import Sequence
from pathlib import Path

from nnunetv2_unet3plus.conversion.findings import FaultyFileError
from nnunetv2_unet3plus.conversion.hospital.masks import MaskFile, PngMask
from nnunetv2_unet3plus.conversion.hospital.organs import is_mask_name, matching
from nnunetv2_unet3plus.conversion.pairing import ARCHIVES, visible_files
from nnunetv2_unet3plus.conversion.same_grid import is_same_grid
from nnunetv2_unet3plus.conversion.volumes import ITK_ENDINGS, NIFTI_ENDINGS, Unusable, Volume, volume_file
from nnunetv2_unet3plus.dicom import ENHANCED, is_dicom, require_library
from nnunetv2_unet3plus.dicom.series import DicomSeries

_VOLUMES = (*NIFTI_ENDINGS, *ITK_ENDINGS)


def find_scan_and_mask(folder: Path, organ: str) -> tuple[Volume, Volume | None]:
    """Finds a patient's CT and the mask of an organ, whatever they are stored in.

    A CT is a DICOM series or, where there is none, a NIfTI or NRRD file. A mask is a NIfTI or NRRD file, a DICOM-SEG,
    an RTSTRUCT, or PNG pictures. Of several series the one is taken that the mask names, or whose grid it has; of
    several masks the one named as the organ.

    Args:
        folder: The patient's; files may lie in further folders.
        organ: Its name.

    Returns:
        The CT and, if there is one, the mask; where none could be chosen, an `Unusable` that says why.

    Raises:
        UserError: If a folder cannot be read, or DICOM not without the extra.
    """
    files = visible_files(folder)
    volumes = [path for path in files if path.name.lower().endswith(_VOLUMES)]
    pictures = [path for path in files if path.suffix.lower() == ".png" and _is_of_mask(path, folder)]
    dicom = [path for path in files if path not in volumes and path.suffix.lower() != ".png" and is_dicom(path)]
    if dicom:
        return _with_dicom(folder, dicom, volumes, pictures, organ)
    images = [path for path in volumes if not is_mask_name(_stem(path))]
    masks = [MaskFile(volume_file(path), organ) for path in volumes if path not in images]
    if len(images) == 1:
        return volume_file(images[0]), _the_mask(masks, organ, folder)
    if len(images) == 2 and not masks:
        text = "nothing says which of two files is the mask; name it so, such as mask.nii.gz"
        return Unusable(folder, "which is the mask", text, _listed(images)), None
    if images:
        return Unusable(folder, "several scans", "more than one scan; keep one of them", _listed(images)), None
    packed = [path for path in files if path.name.lower().endswith(ARCHIVES)]
    text = "no CT series and no NIfTI or NRRD file here" + ("; unpack what is packed" if packed else "")
    return Unusable(folder, "no scan", f"{text}; add the scan or move the folder away", _listed(packed)), None


def _with_dicom(
    folder: Path, dicom: Sequence[Path], volumes: Sequence[Path], pictures: Sequence[Path], organ: str
) -> tuple[Volume, Volume | None]:
    require_library()
    from nnunetv2_unet3plus.dicom import segmentation, structures
    from nnunetv2_unet3plus.dicom.files import sort_files

    found = sort_files(dicom)
    if found.unreadable:
        text = f"{len(found.unreadable)} DICOM files cannot be read; export the study again, or move them away"
        return Unusable(folder, "unreadable", text, _listed(found.unreadable)), None
    if found.enhanced and not found.series:
        return Unusable(folder, "enhanced CT", ENHANCED), None
    named = [path for path in volumes if is_mask_name(_stem(path))]
    mask_files = [MaskFile(volume_file(path), organ) for path in (named or volumes)]
    of_series = {
        **{path: segmentation.referenced_series(path) for path in found.segmentations},
        **{path: structures.referenced_series(path) for path in found.structure_sets},
    }
    series = _the_series(found.series, {uid for uid in of_series.values() if uid}, mask_files, folder)
    if not isinstance(series, DicomSeries):
        return series, None
    masks: list[Volume] = list(mask_files)
    masks += [segmentation.DicomSegmentation(path, series, organ) for path in found.segmentations]
    masks += [structures.Structure(path, series, organ) for path in found.structure_sets]
    if pictures:
        masks.append(PngMask(tuple(pictures), series))
    masks = [mask for mask in masks if of_series.get(mask.path) in (None, series.uid)] or masks
    return series, _the_mask(masks, organ, folder)


def _the_series(
    series: Sequence[DicomSeries], referenced: set[str], masks: Sequence[MaskFile], folder: Path
) -> DicomSeries | Unusable:
    """The CT: the only series, or the one that the masks were drawn on."""
    if not series:
        return Unusable(folder, "no scan", "no CT series here; add the scan or move the folder away")
    volumes = [each for each in series if len(each.slices) > 1]
    if len(volumes) <= 1:
        return (volumes or list(series))[0]
    meant = [each for each in volumes if each.uid in referenced] or [
        each for each in volumes if any(_lies_on(mask, each) for mask in masks)
    ]
    if len(meant) == 1:
        return meant[0]
    text = f"{len(volumes)} CT series, and no mask that says which is meant; keep one of them"
    slices = ", ".join(f"{len(each.slices)} slices in {each.path}" for each in volumes)
    return Unusable(folder, "several series", text, f": {slices}")


def _lies_on(mask: MaskFile, series: DicomSeries) -> bool:
    try:
        return is_same_grid(series.geometry("image", []), mask.geometry("label", []))
    except FaultyFileError:
        return False


def _the_mask(masks: Sequence[Volume], organ: str, folder: Path) -> Volume | None:
    """The only mask, or the only one of the organ."""
    if len(masks) > 1:
        named = matching({place: _names_in(mask, organ) for place, mask in enumerate(masks)}, organ)
        if len(named) != 1:
            paths = [mask.path for mask in masks]
            text = f"{len(masks)} masks for one scan; keep one of them, or name it {organ}"
            return Unusable(folder, "several masks", text, _listed(paths))
        return masks[named[0]]
    return masks[0] if masks else None


def _names_in(mask: Volume, organ: str) -> str:
    """What tells which organ a mask is of: names in the file, else the file's own."""
    from nnunetv2_unet3plus.dicom import segmentation, structures

    try:
        if isinstance(mask, segmentation.DicomSegmentation):
            return " ".join(segmentation.segment_names(mask.path).values())
        if isinstance(mask, structures.Structure):
            return " ".join(structures.structure_names(mask.path).values())
    except FaultyFileError:
        return organ  # not to be left out without a word
    return _stem(mask.path)


def _stem(path: Path) -> str:
    """A file's name without its endings, which may say `.seg.nrrd`."""
    return path.name.rpartition(".nii")[0] or path.stem


def _is_of_mask(path: Path, folder: Path) -> bool:
    return any(is_mask_name(part) for part in (*path.relative_to(folder).parent.parts, path.stem))


def _listed(paths: Sequence[Path]) -> str:
    return ": " + ", ".join(str(path) for path in paths) if paths else ""
