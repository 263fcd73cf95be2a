"""The scans of a folder, whatever they are stored in."""

from dataclasses import dataclass
from pathlib import Path

from nnunetv2_unet3plus.conversion.description import Case
from nnunetv2_unet3plus.conversion.pairing import archives_in, visible_files
from nnunetv2_unet3plus.conversion.volumes import ITK_ENDINGS, NIFTI_ENDINGS, Unusable, Volume, volume_file
from nnunetv2_unet3plus.dicom import ENHANCED, is_dicom, require_library
from nnunetv2_unet3plus.errors import UserError

_IN_ONE_FILE = {".mhd": ".mha", ".nhdr": ".nrrd"}  # header and voxels apart would be two files to be moved as one
_UNREADABLE = "cannot be read as DICOM; export it again"


@dataclass(frozen=True)
class Scan:
    """A scan, and what its mask will be called.

    Attributes:
        case: Its name for nnU-Net, and its volume.
        mask: Where its mask belongs, below the folder of restored masks.
        slices: The files of a DICOM series; empty for others.
    """

    case: Case
    mask: Path
    slices: tuple[Path, ...] = ()


def find_scans(folder: Path) -> list[Scan]:
    """All scans below a folder: NIfTI, NRRD and MetaImage files, CT series in DICOM.

    Args:
        folder: The folder.

    Returns:
        The scans, called `scan_001` and so on in the order of their paths.

    Raises:
        UserError: If there are none, a folder cannot be read, or DICOM not without the extra.
    """
    files = visible_files(folder)
    volumes = [path for path in files if path.name.lower().endswith((*NIFTI_ENDINGS, *ITK_ENDINGS))]
    dicom = [path for path in files if path not in volumes and is_dicom(path)]
    found: list[tuple[Path, Volume]] = [(path, volume_file(path)) for path in volumes]
    found += _series(dicom) if dicom else []
    if not found:
        packed = archives_in(folder)
        hint = f"; unpack {packed[0]} first" if packed else ""
        raise UserError(f"{folder}: no NIfTI or NRRD files and no CT series in DICOM{hint}")
    return _named(sorted(found, key=lambda each: each[0]), folder)


def _series(dicom: list[Path]) -> list[tuple[Path, Volume]]:
    """First file and volume of every series; of files that cannot be read, what says so."""
    require_library()
    from nnunetv2_unet3plus.dicom.files import sort_files

    files = sort_files(dicom)
    found: list[tuple[Path, Volume]] = [(min(each.files), each) for each in files.series]
    if files.others:
        print(f"{len(files.others)} DICOM files are of no CT volume (localizers, other modalities, reports): left out")
    found += [(path, Unusable(path, "unreadable", _UNREADABLE)) for path in files.unreadable]
    return found + [(path, Unusable(path, "enhanced CT", ENHANCED)) for path in files.enhanced]


def _named(found: list[tuple[Path, Volume]], folder: Path) -> list[Scan]:
    scans: list[Scan] = []
    taken: set[Path] = set()
    for number, (path, volume) in enumerate(found, start=1):
        is_file = path == volume.path
        wanted = path.relative_to(folder) if is_file else volume.path.relative_to(folder) / "segmentation.dcm"
        mask = _free(wanted.with_suffix(_IN_ONE_FILE.get(wanted.suffix.lower(), wanted.suffix)), taken)
        taken.add(mask)
        scans.append(Scan(Case(f"scan_{number:03d}", volume), mask, () if is_file else volume.files))
    return scans


def _free(wanted: Path, taken: set[Path]) -> Path:
    """The name wanted or, as of several series in a folder, one with a number behind it."""
    mask, number = wanted, 1
    while mask in taken:
        number += 1
        mask = wanted.with_name(f"{wanted.stem}_{number}{wanted.suffix}")
    return mask
