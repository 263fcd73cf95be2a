"""Small made-up LiTS downloads. Every case has its own voxels, so a wrong pair shows."""

import gzip
from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 - its usual name

SIZE = (8, 9, 6)
"""Voxels along x, y, z."""

_ANGLE = 0.1
_TURN = np.array([[np.cos(_ANGLE), -np.sin(_ANGLE), 0], [np.sin(_ANGLE), np.cos(_ANGLE), 0], [0, 0, 1]])
AFFINE = np.eye(4)
AFFINE[:3, :3] = _TURN @ np.diag([-0.7, 0.8, 2.5])
AFFINE[:3, 3] = (113.2, -87.6, -402.5)


def scan(number: int, size: tuple[int, int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(number).integers(-1000, 1000, size).astype(np.int16)


def mask(number: int, size: tuple[int, int, int] = SIZE) -> np.ndarray:
    voxels = np.zeros(size, np.uint8)
    voxels[2:6, 2:7, 1:5] = 1
    voxels[2 + number % 3, 3 + number % 4, 2 + number % 2] = 2
    return voxels


def write(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def write_pair(image: Path, label: Path, number: int) -> None:
    write(image, scan(number))
    write(label, mask(number))


def challenge(source: Path, numbers: Iterable[int], tests: Iterable[int] = ()) -> Path:
    for number in numbers:
        batch = source / f"Training Batch {1 if number < 28 else 2}"
        write_pair(batch / f"volume-{number}.nii", batch / f"segmentation-{number}.nii", number)
    for number in tests:
        write(source / "LITS-Test" / f"test-volume-{number}.nii", scan(1000 + number))
    return source


def kaggle(source: Path, numbers: Iterable[int], flat: bool = False) -> Path:
    for number in numbers:
        volumes = source / ("volumes" if flat else f"volume_pt{1 + number // 10}")
        write_pair(volumes / f"volume-{number}.nii", source / "segmentations" / f"segmentation-{number}.nii", number)
    return source


def decathlon(source: Path, numbers: Iterable[int], tests: Iterable[int] = ()) -> Path:
    task = source / "Task03_Liver"
    for number in numbers:
        name = f"liver_{number}.nii.gz"
        write_pair(task / "imagesTr" / name, task / "labelsTr" / name, number)
        for folder in ("imagesTr", "labelsTr"):
            (task / folder / f"._{name}").write_bytes(b"\0\5\26\7AppleDouble")
    for number in tests:
        write(task / "imagesTs" / f"liver_{number}.nii.gz", scan(1000 + number))
    (task / "dataset.json").write_text("{}")
    return source


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels in their stored type and the affine."""
    image = nib.load(path)
    return np.asanyarray(image.dataobj), image.affine


def grid(path: Path) -> tuple[tuple[float, ...], ...]:
    """What nnU-Net's reader takes for the geometry."""
    image = sitk.ReadImage(str(path))
    return image.GetSpacing(), image.GetOrigin(), image.GetDirection()


def truncate(path: Path, share: float = 0.6) -> None:
    """Cuts the file off, or the compressed stream in it."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def gzipped(path: Path) -> Path:
    """Replaces a file by its gzipped form."""
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return packed


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and modification time of every file."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, hidden entries too: content of files, None for folders."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}
