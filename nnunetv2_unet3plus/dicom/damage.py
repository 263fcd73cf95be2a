"""What pydicom and highdicom raise where a file is not what it should be."""

from pathlib import Path

from pydicom.errors import InvalidDicomError

from nnunetv2_unet3plus.conversion.findings import FaultyFileError

DAMAGE = (
    OSError,
    EOFError,
    InvalidDicomError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    RuntimeError,
    NotImplementedError,
)


def unreadable_mask(path: Path, what: str, error: Exception) -> FaultyFileError:
    """For a file that cannot be read as a segmentation or a structure set."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].replace(str(path), "the file")
    text = f"cannot be read as a {what} ({reason}); export it again"
    return FaultyFileError(path, "label", "unreadable", text)
