"""The one scan and the one mask in a patient's folder."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunetv2_unet3plus.conversion.findings import FaultyFileError, Finding
from nnunetv2_unet3plus.conversion.hospital.masks import MaskFile, PngMask
from nnunetv2_unet3plus.conversion.hospital.organs import is_mask_name, matching, organs_in, says_mask
from nnunetv2_unet3plus.conversion.pairing import ARCHIVES, visible_files
from nnunetv2_unet3plus.conversion.same_grid import is_same_grid
from nnunetv2_unet3plus.conversion.volumes import ITK_ENDINGS, NIFTI_ENDINGS, Unusable, Volume, volume_file
from nnunetv2_unet3plus.dicom import ENHANCED, is_dicom, require_library
from nnunetv2_unet3plus.dicom.series import DicomSeries, Reference

_VOLUMES = (*NIFTI_ENDINGS, *ITK_ENDINGS)


@dataclass
class Patient:
    """What was chosen in a patient's folder.

    Attributes:
        scan: The CT; where none could be chosen, an `Unusable` that says why.
        mask: The mask, if there is one.
        findings: What should be looked at.
    """

    scan: Volume
    mask: Volume | None = None
    findings: list[Finding] = field(default_factory=list)


def find_patient(folder: Path, organ: str) -> Patient:
    """Finds a patient's CT and the mask of an organ, whatever they are stored in.

    A CT is a DICOM series or, where there is none, a NIfTI or NRRD file. A mask is a NIfTI or NRRD file, a DICOM-SEG,
    an RTSTRUCT, or PNG pictures. Of several series the one is taken that the mask names, or whose grid it has; of
    several masks the one named as the organ.

    Args:
        folder: The patient's; files may lie in further folders.
        organ: Its name.

    Raises:
        UserError: If a folder cannot be read, or DICOM not without the extra.
    """
    files = visible_files(folder)
    volumes = [path for path in files if _is_volume(path)]
    pictures = [path for path in files if path.suffix.lower() == ".png"]
    dicom = [path for path in files if path not in volumes and path not in pictures and is_dicom(path)]
    if dicom:
        patient = _with_dicom(folder, dicom, volumes, pictures, organ)
    else:
        patient = _with_files(folder, volumes, [path for path in files if path.name.lower().endswith(ARCHIVES)], organ)
    if patient.mask is None:
        others = len(files) - len(volumes) - len(pictures) - len(dicom)
        more = f"; {others} files of other kinds lie there" if others else ""
        patient.findings.append(Finding("warning", "label", "no mask", f"no mask was found: a test case{more}"))
    return patient


def is_scan_or_mask(path: Path) -> bool:
    """Whether a file is of a kind that is looked at."""
    return _is_volume(path) or path.suffix.lower() == ".png" or is_dicom(path)


def _is_volume(path: Path) -> bool:
    return path.name.lower().endswith(_VOLUMES)


def _with_files(folder: Path, volumes: Sequence[Path], packed: Sequence[Path], organ: str) -> Patient:
    images = [path for path in volumes if not is_mask_name(_stem(path), organ)]
    if not images:  # a scan that is called after an organ, beside a file that is called a mask
        images = [path for path in volumes if not says_mask(_stem(path)) and not matching({0: _stem(path)}, organ)]
    masks = [MaskFile(volume_file(path), organ) for path in volumes if path not in images]
    if len(images) == 1:
        return Patient(volume_file(images[0]), _the_mask(masks, organ, folder))
    if len(images) == 2 and not masks:
        text = "nothing says which of two files is the mask; name it so, such as mask.nii.gz"
        return Patient(Unusable(folder, "which is the mask", text, _listed(images)))
    if images:
        return Patient(Unusable(folder, "several scans", "more than one scan; keep one of them", _listed(images)))
    text = "no CT series and no NIfTI or NRRD file here that is a scan by its name"
    text += ("; unpack what is packed" if packed else "") + "; add the scan or move the folder away"
    return Patient(Unusable(folder, "no scan", text, _listed([*volumes, *packed])))


def _with_dicom(
    folder: Path, dicom: Sequence[Path], volumes: Sequence[Path], pictures: Sequence[Path], organ: str
) -> Patient:
    require_library()
    from nnunetv2_unet3plus.dicom import segmentation, structures
    from nnunetv2_unet3plus.dicom.files import sort_files

    found = sort_files(dicom)
    if found.unreadable:
        text = f"{len(found.unreadable)} DICOM files cannot be read; export the study again, or move them away"
        return Patient(Unusable(folder, "unreadable", text, _listed(found.unreadable)))
    if found.enhanced and not found.series:
        return Patient(Unusable(folder, "enhanced CT", ENHANCED))
    if len({part.patient for series in found.series for part in series.slices}) > 1:
        text = "CT series of several patients in one folder; give each a folder of its own"
        return Patient(Unusable(folder, "several patients", text))
    references = {path: segmentation.reference(path) for path in found.segmentations}
    references |= {path: structures.reference(path) for path in found.structure_sets}
    named = [path for path in volumes if is_mask_name(_stem(path), organ)]
    mask_files = [MaskFile(volume_file(path), organ) for path in (named or volumes)]
    series = _the_series(found.series, references.values(), mask_files, folder)
    if isinstance(series, Unusable):
        return Patient(series)
    drawn = {
        path: reference.series not in found.other_series and series.is_meant_by(reference)
        for path, reference in references.items()
    }
    masks: list[Volume] = list(mask_files)
    masks += [segmentation.DicomSegmentation(path, series, organ) for path in found.segmentations if drawn[path]]
    masks += [structures.Structure(path, series, organ) for path in found.structure_sets if drawn[path]]
    masks += [PngMask(tuple(group), series) for group in _picture_groups(pictures, folder, organ)]
    elsewhere = [path for path, is_here in drawn.items() if not is_here]
    if elsewhere and not masks:
        text = "the masks here were drawn on another series than the CT; add that series, or move them away"
        return Patient(series, Unusable(folder, "other series", text, _listed(elsewhere)))
    return Patient(series, _the_mask(masks, organ, folder))


def _the_series(
    series: Sequence[DicomSeries], references: Iterable[Reference], masks: Sequence[MaskFile], folder: Path
) -> DicomSeries | Unusable:
    """The CT: the only series, or the one that the masks were drawn on."""
    if not series:
        return Unusable(folder, "no scan", "no CT series here; add the scan or move the folder away")
    if len(series) == 1:
        return series[0]
    named = {reference.series for reference in references}
    meant = [each for each in series if each.uid in named] or [
        each for each in series if any(_lies_on(mask, each) for mask in masks)
    ]
    if len(meant) == 1:
        return meant[0]
    text = f"{len(series)} CT series, and no mask that says which is meant; keep one of them"
    slices = ", ".join(f"{len(each.slices)} slices in {each.path}" for each in series)
    return Unusable(folder, "several series", text, f": {slices}")


def _lies_on(mask: MaskFile, series: DicomSeries) -> bool:
    try:
        return is_same_grid(series.geometry("image", []), mask.geometry("label", []))
    except FaultyFileError:
        return False


def _picture_groups(pictures: Sequence[Path], folder: Path, organ: str) -> list[list[Path]]:
    """Those that are masks by a folder's or their own name, by the folder they are in."""
    groups: dict[Path, list[Path]] = {}
    for path in pictures:
        names = (*path.relative_to(folder).parent.parts, path.stem)
        if any(is_mask_name(name, organ) for name in names):
            groups.setdefault(path.parent, []).append(path)
    return list(groups.values())


def _the_mask(masks: Sequence[Volume], organ: str, folder: Path) -> Volume | None:
    """The only mask, or the only one of the organ."""
    if not masks:
        return None
    names = {place: _names_in(mask, organ) for place, mask in enumerate(masks)}
    named = matching(names, organ)
    paths = _listed([mask.path for mask in masks])
    if len(named) == 1:
        return masks[named[0]]
    if len(masks) > 1:
        text = f"{len(masks)} masks for one scan; keep one of them, or name it {organ}"
        return Unusable(folder, "several masks", text, paths)
    if isinstance(masks[0], MaskFile | PngMask) and organs_in(names[0]):
        text = f"the only mask is not named as one of the {organ}; say with --organ what it is of, or rename it"
        return Unusable(folder, "no such organ", text, paths)
    return masks[0]


def _names_in(mask: Volume, organ: str) -> str:
    """What tells which organ a mask is of: names in the file, else the file's own."""
    if isinstance(mask, PngMask):
        return f"{mask.path.name} {mask.pictures[0].stem}"
    if isinstance(mask, MaskFile):
        return _stem(mask.path)
    from nnunetv2_unet3plus.dicom import segmentation, structures

    read = (
        segmentation.segment_names if isinstance(mask, segmentation.DicomSegmentation) else structures.structure_names
    )
    try:
        return " ".join(read(mask.path).values())
    except FaultyFileError:
        return organ  # not to be left out without a word


def _stem(path: Path) -> str:
    """A file's name without its endings, which may say `.seg.nrrd`."""
    return path.name.rpartition(".nii")[0] or path.stem


def _listed(paths: Sequence[Path]) -> str:
    return ": " + ", ".join(str(path) for path in paths) if paths else ""
