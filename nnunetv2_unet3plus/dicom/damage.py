"""What pydicom and highdicom raise where a file is not what it should be."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
    text = f"cannot be read as a {what}; export it again"
    return FaultyFileError(path, "label", "unreadable", text, f" ({reason})")


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the remarks of pydicom and highdicom about odd values from coming between our lines."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
