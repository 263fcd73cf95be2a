"""The volumes a conversion reads, whatever they are stored in."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its usual name

from nnunetv2_unet3plus.conversion.findings import FaultyFileError, Finding
from nnunetv2_unet3plus.conversion.geometry import Geometry, grid_of, straightened
from nnunetv2_unet3plus.conversion.itk import reason_of, silence
from nnunetv2_unet3plus.conversion.nifti import read_voxels
from nnunetv2_unet3plus.conversion.nifti_header import nifti_header, read_geometry, size_of

NIFTI_ENDINGS = (".nii", ".nii.gz")
ITK_ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")

_RIGHT_ANGLES = 1e-4
"""How far the scalar product of two axes' directions may be from 0: above rounding, below what ITK lets pass."""


class Volume(Protocol):
    """A scan or its segmentation."""

    @property
    def path(self) -> Path:
        """What to name in messages."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that it is read from."""

    def size(self, about: str) -> tuple[int, ...]:
        """Voxels along x, y, z, of which a header may tell even where the rest of it cannot be used."""

    def geometry(self, about: str, findings: list[Finding]) -> Geometry:
        """Its grid, from headers alone.

        Args:
            about: "image" or "label", for the findings.
            findings: What had to be repaired is added here.

        Raises:
            FaultyFileError: If a header cannot be used.
        """

    def voxels(self, about: str, findings: list[Finding]) -> np.ndarray:
        """Indexed x, y, z, in the type they are stored in.

        Args:
            about: "image" or "label", for the findings.
            findings: What had to be repaired is added here.

        Raises:
            FaultyFileError: If they cannot be read, to the last one.
        """


@dataclass(frozen=True)
class NiftiFile:
    """A NIfTI file."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    def size(self, about: str) -> tuple[int, ...]:
        """See `Volume`."""
        return size_of(nifti_header(self.path, about))

    def geometry(self, about: str, findings: list[Finding]) -> Geometry:
        """See `Volume`."""
        return read_geometry(self.path, about, findings)

    def voxels(self, about: str, findings: list[Finding]) -> np.ndarray:
        """See `Volume`."""
        return read_voxels(self.path, about, findings)


@dataclass(frozen=True)
class ItkFile:
    """A file of another format with a grid that ITK reads: NRRD, MetaImage."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The file; of a header with its voxels in another file, the header alone."""
        return (self.path,)

    def size(self, about: str) -> tuple[int, ...]:
        """See `Volume`."""
        return self._header(about).GetSize()

    def geometry(self, about: str, findings: list[Finding]) -> Geometry:
        """See `Volume`."""
        geometry = grid_of(self._header(about), self.path, about)
        axes = np.reshape(geometry.direction, (3, 3))
        if np.abs(axes.T @ axes - np.eye(3)).max() > _RIGHT_ANGLES:
            return straightened(geometry.size, geometry.affine, self.path, about, findings)
        return geometry

    def voxels(self, about: str, findings: list[Finding]) -> np.ndarray:
        """See `Volume`."""
        try:
            return sitk.GetArrayFromImage(sitk.ReadImage(str(self.path))).T
        except (RuntimeError, MemoryError) as error:
            raise self._unreadable(about, error) from error

    def segment_names(self) -> dict[int, str]:
        """Label value -> name, of a segmentation that 3D Slicer has saved (`.seg.nrrd`); empty for others."""
        header = self._header("label")
        fields = {key: header.GetMetaData(key) for key in header.GetMetaDataKeys()}
        numbers = [match[1] for key in fields if (match := re.fullmatch(r"Segment(\d+)_LabelValue", key))]
        try:
            return {int(fields[f"Segment{n}_LabelValue"]): fields.get(f"Segment{n}_Name", "") for n in numbers}
        except ValueError as error:
            text = "the values of its segments are no whole numbers; save it again"
            raise FaultyFileError(self.path, "label", "unreadable", text) from error

    def _header(self, about: str) -> sitk.ImageFileReader:
        silence()
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(self.path))
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise self._unreadable(about, error) from error
        return reader

    def _unreadable(self, about: str, error: Exception) -> FaultyFileError:
        text, reason = "cannot be read; replace the file by a good copy", reason_of(error, [self.path])
        return FaultyFileError(self.path, about, "unreadable", text, f" ({reason})")


@dataclass(frozen=True)
class Unusable:
    """Stands for a volume that could not even be found or chosen: using it tells why."""

    path: Path
    fault: str
    text: str
    shown: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """None that could be read."""
        return ()

    def size(self, about: str) -> tuple[int, ...]:
        """See `Volume`."""
        raise self._error(about)

    def geometry(self, about: str, findings: list[Finding]) -> Geometry:
        """See `Volume`."""
        raise self._error(about)

    def voxels(self, about: str, findings: list[Finding]) -> np.ndarray:
        """See `Volume`."""
        raise self._error(about)

    def _error(self, about: str) -> FaultyFileError:
        return FaultyFileError(self.path, about, self.fault, self.text, self.shown)


def volume_file(path: Path) -> NiftiFile | ItkFile:
    """The volume of a single file, by the end of its name."""
    return NiftiFile(path) if path.name.lower().endswith(NIFTI_ENDINGS) else ItkFile(path)
