"""DICOM as hospitals send it: CT series, segmentations (DICOM-SEG), structure sets (RTSTRUCT).

Headers and segmentations are read with pydicom and highdicom, the pixels of series with SimpleITK's GDCM, which knows
every compression. The first two come with the extra `dicom`; without them `require_library` says so.

- `files` finds the DICOM files of a folder and sorts them into series and masks,
- `series` is a CT as a `conversion.volumes.Volume`, with all that can be wrong with it,
- `segmentation` and `structures` are masks on such a series,
- `write_segmentation` makes a DICOM-SEG of masks.
"""

from importlib.util import find_spec
from pathlib import Path

from nnunetv2_unet3plus.errors import UserError

ENHANCED = "an enhanced CT in a single file; make a NIfTI file of it with dcm2niix"
"""Why such a file is refused."""


def require_library() -> None:
    """Makes sure that DICOM can be read.

    Raises:
        UserError: Naming the extra to install.
    """
    if find_spec("pydicom") is None or find_spec("highdicom") is None:
        raise UserError("DICOM needs pydicom and highdicom: pip install 'nnunetv2-unet3plus[dicom]'")


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its name or its first bytes, which some exports leave out the preamble of."""
    if path.suffix.lower() in (".dcm", ".ima"):
        return True
    with path.open("rb") as file:
        head = file.read(132)
    is_cut_off = not head and not path.suffix  # as a copy that was stopped leaves it
    return head[128:] == b"DICM" or head[:2] in (b"\x02\x00", b"\x08\x00") or is_cut_off
