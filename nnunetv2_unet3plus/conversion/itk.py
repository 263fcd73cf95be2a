"""What ITK says, in a form that fits between our lines."""

import re
from collections.abc import Iterable
from pathlib import Path

import SimpleITK as sitk  # noqa: N813 - its usual name


def silence() -> None:
    """Keeps ITK's and GDCM's remarks from coming between our lines."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)


def reason_of(error: Exception, paths: Iterable[Path]) -> str:
    """The last line of an error, without the names of files and where ITK's objects are in memory."""
    *_, last = str(error).strip().splitlines() or ["too large for this machine's memory"]
    for path in paths:
        last = last.replace(str(path), "the file")
    return re.sub(r"\(0x[0-9a-f]+\)", "", last.rpartition("ERROR: ")[2])
