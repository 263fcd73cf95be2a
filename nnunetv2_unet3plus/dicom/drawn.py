"""What masks that were drawn on a series have in common."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_unet3plus.conversion.findings import Finding
from nnunetv2_unet3plus.conversion.geometry import Geometry
from nnunetv2_unet3plus.dicom.series import DicomSeries


@dataclass(frozen=True)
class DrawnMask(ABC):
    """One organ of a DICOM file with several, on the grid of the series it was drawn on; a `Volume`.

    Attributes:
        path: The file.
        series: The series.
        organ: Its name, in any language that `organs` knows.
    """

    path: Path
    series: DicomSeries
    organ: str

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    def size(self, about: str) -> tuple[int, ...]:
        """See `Volume`."""
        return self.series.size(about)

    def geometry(self, about: str, findings: list[Finding]) -> Geometry:
        """The series' grid, whose own findings are the image's.

        Raises:
            FaultyFileError: If the file cannot be read or has no such organ.
        """
        self.number(findings)
        return self.series.geometry("image", [])

    @abstractmethod
    def number(self, findings: list[Finding]) -> int:
        """What the file calls the organ.

        Args:
            findings: Whether its name says more than the organ is added here.

        Raises:
            FaultyFileError: If the file cannot be read or has no such organ.
        """
