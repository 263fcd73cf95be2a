"""A generator of faults: takes a clean pair of files and plants one fault in it."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.conversion import sources

IDENTITY = np.eye(4)


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        plant: plant(image, label, number) spoils the two files of a case.
        kind: what must become of it; "none" where it is no fault at all.
        about: "image" or "label".
        name: that of the finding.
        options: of the command, `{table}` stands for a file.
        image: expected voxels, `(number) -> array`.
        label: expected label.
        affine: expected matrix.
        headers: the headers alone betray it, so nothing is begun.
    """

    plant: Callable[[Path, Path, int], object]
    kind: str
    about: str = ""
    name: str = ""
    options: tuple[str, ...] = ()
    image: Callable[[int], np.ndarray] = sources.scan
    label: Callable[[int], np.ndarray] = sources.mask
    affine: np.ndarray = field(default_factory=lambda: sources.AFFINE)
    headers: bool = False


def _affine(**changes: object) -> np.ndarray:
    affine = sources.AFFINE.copy()
    for what, value in changes.items():
        match what:
            case "origin":
                affine[:3, 3] += value
            case "stretch":
                affine[:3, 2] *= value
            case "reverse":  # the header alone: the first voxel stays where it is
                affine[:3, value] *= -1
            case "shear":
                affine[:3, 2] += value * affine[:3, 1] / np.linalg.norm(affine[:3, 1])
    return affine


def _label(affine: np.ndarray) -> Callable:
    return lambda image, label, number: sources.write(label, sources.mask(number), affine)


def _reordered(axes: str) -> Callable:
    """The label as another tool writes it: its axes in another order, its header saying so."""

    def plant(image: Path, label: Path, number: int) -> None:
        original = nib.Nifti1Image(sources.mask(number), sources.AFFINE)
        wanted = nib.orientations.axcodes2ornt(tuple(axes))
        turn = nib.orientations.ornt_transform(nib.io_orientation(sources.AFFINE), wanted)
        nib.save(original.as_reoriented(turn), label)

    return plant


def _sform(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    volume = nib.Nifti1Image(voxels, affine)
    volume.set_sform(affine, 1)
    volume.set_qform(None, 0)
    nib.save(volume, path)


def _sheared(by: float) -> Callable:
    def plant(image: Path, label: Path, number: int) -> None:
        _sform(image, sources.scan(number), _affine(shear=by))
        _sform(label, sources.mask(number), _affine(shear=by))

    return plant


def straightened(by: float) -> np.ndarray:
    """By hand: the shear of an angle's sine is undone by turning both axes by half of it, about the centre."""
    affine = _affine(shear=by)
    axes = affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    # the orthogonal factor of the polar decomposition, by Newton's iteration instead of the SVD
    turn = axes / spacing
    for _ in range(50):
        turn = (turn + np.linalg.inv(turn).T) / 2
    straight = np.eye(4)
    straight[:3, :3] = turn * spacing
    centre = (np.array(sources.SIZE) - 1) / 2
    straight[:3, 3] = affine[:3, :3] @ centre + affine[:3, 3] - straight[:3, :3] @ centre
    return straight


def _both(affine: np.ndarray) -> Callable:
    def plant(image: Path, label: Path, number: int) -> None:
        sources.write(image, sources.scan(number), affine)
        sources.write(label, sources.mask(number), affine)

    return plant


def _voxels(which: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable:
    def plant(image: Path, label: Path, number: int) -> None:
        if which == "image":
            sources.write(image, change(sources.scan(number)))
        else:
            sources.write(label, change(sources.mask(number)))

    return plant


def _one_voxel(value: float, dtype: type = np.float32) -> Callable[[np.ndarray], np.ndarray]:
    def change(voxels: np.ndarray) -> np.ndarray:
        voxels = voxels.astype(dtype)
        voxels[1, 1, 1] = value
        return voxels

    return change


def _halved(image: Path, label: Path, number: int) -> None:
    sources.write(label, sources.mask(number) * 2)
    content = bytearray(label.read_bytes())
    content[112:120] = np.array([0.5, 0], "<f4").tobytes()  # the header's scl_slope and scl_inter
    label.write_bytes(content)


def _truncated(which: str) -> Callable:
    return lambda image, label, number: sources.truncate(image if which == "image" else label, 0.9)


def _packed(image: Path, label: Path, number: int) -> None:
    for path in (image, label):
        sources.gzipped(path)


def _bad_checksum(image: Path, label: Path, number: int) -> None:
    content = bytearray(gzip.compress(image.read_bytes()))
    content[-8] ^= 1
    image.with_name(f"{image.name}.gz").write_bytes(content)
    image.unlink()


def _content(which: str, content: bytes) -> Callable:
    return lambda image, label, number: (image if which == "image" else label).write_bytes(content)


def _header(offset: int, values: list[float], dtype: str = "<f4") -> Callable:
    """Overwrites a field of the image's NIfTI header."""

    def plant(image: Path, label: Path, number: int) -> None:
        content = bytearray(image.read_bytes())
        new = np.array(values, dtype).tobytes()
        content[offset : offset + len(new)] = new
        image.write_bytes(content)

    return plant


def organ_scan(number: int) -> np.ndarray:
    """An organ of even brightness in a corner of something uneven."""
    voxels = np.random.default_rng(number).integers(-900, 900, (24, 24, 24)).astype(np.int16)
    voxels[organ(number) > 0] = 100
    return voxels


def organ(number: int) -> np.ndarray:
    label = np.zeros((24, 24, 24), np.uint8)
    label[2:9, 3:10, 13:21] = 1
    return label


def _mirrored(*axes: int) -> Fault:
    def plant(image: Path, label: Path, number: int) -> None:
        sources.write(image, organ_scan(number))
        sources.write(label, np.flip(organ(number), axes))

    expected = {"image": organ_scan, "label": lambda number: np.flip(organ(number), axes)}
    return Fault(plant, "warning", "label", "mirrored?", **expected)


def _colours(image: Path, label: Path, number: int) -> None:
    sources.write(image, np.zeros(sources.SIZE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]))


def _to_ras(number: int, voxels: np.ndarray) -> np.ndarray:
    return nib.Nifti1Image(voxels, sources.AFFINE).as_reoriented(_RAS).get_fdata().astype(voxels.dtype)


_RAS = nib.orientations.ornt_transform(
    nib.io_orientation(sources.AFFINE), nib.orientations.axcodes2ornt(("R", "A", "S"))
)
_RAS_AFFINE = nib.Nifti1Image(sources.scan(0), sources.AFFINE).as_reoriented(_RAS).affine

FAULTS = {
    # what is no fault
    "labels in float64": Fault(_voxels("label", lambda voxels: voxels.astype(np.float64)), "none"),
    "labels in int16": Fault(_voxels("label", lambda voxels: voxels.astype(np.int16)), "none"),
    "labels in int32, big-endian": Fault(_voxels("label", lambda voxels: voxels.astype(">i4")), "none"),
    "labels stored doubled, scale one half": Fault(_halved, "none"),
    "image in float32": Fault(
        _voxels("image", lambda voxels: voxels + np.float32(0.25)),
        "none",
        image=lambda n: sources.scan(n) + np.float32(0.25),
    ),
    "image big-endian": Fault(_voxels("image", lambda voxels: voxels.astype(">i2")), "none"),
    "gzipped": Fault(_packed, "none"),
    "label header differs by rounding": Fault(_label(_affine(origin=5e-4)), "none"),
    # what is repaired
    "label: other spacing": Fault(_label(_affine(stretch=1.01)), "repaired", "label", "header differs"),
    "label: other origin": Fault(_label(_affine(origin=1.5)), "repaired", "label", "header differs"),
    "label: direction reversed in the header": Fault(_label(_affine(reverse=0)), "repaired", "label", "header differs"),
    "label: no position": Fault(_label(IDENTITY), "repaired", "label", "header differs"),
    "label: sheared header": Fault(
        lambda image, label, number: _sform(label, sources.mask(number), _affine(shear=0.02)),
        "repaired",
        "label",
        "shear",
    ),
    "label: x reversed": Fault(_reordered("RAS"), "repaired", "label", "order of axes"),
    "label: y reversed": Fault(_reordered("LPS"), "repaired", "label", "order of axes"),
    "label: all reversed": Fault(_reordered("RPI"), "repaired", "label", "order of axes"),
    "label: axes swapped": Fault(_reordered("SLA"), "repaired", "label", "order of axes"),
    "label: fourth axis": Fault(_voxels("label", lambda v: v[..., None]), "repaired", "label", "fourth axis"),
    "label: values not quite whole": Fault(
        _voxels("label", lambda v: v * np.float32(1 + 2e-5)), "repaired", "label", "labels not whole"
    ),
    "image: fourth axis": Fault(_voxels("image", lambda v: v[..., None]), "repaired", "image", "fourth axis"),
    "slight shear": Fault(_sheared(0.02), "repaired", "image", "shear", affine=straightened(0.02)),
    "spacing given": Fault(
        _both(IDENTITY),
        "repaired",
        "image",
        "spacing",
        ("--spacing-from", "{table}"),
        affine=np.diag([0.7, 0.8, 2.5, 1]),
    ),
    "orientation asked for": Fault(
        _both(sources.AFFINE),
        "repaired",
        "image",
        "orientation",
        ("--orientation", "RAS"),
        affine=_RAS_AFFINE,
        image=lambda n: _to_ras(n, sources.scan(n)),
        label=lambda n: _to_ras(n, sources.mask(n)),
    ),
    # what is written with a warning
    "no position": Fault(_both(IDENTITY), "warning", "image", "no position", affine=IDENTITY),
    "label mirrored along x": _mirrored(0),
    "label mirrored along y": _mirrored(1),
    "label mirrored along z": _mirrored(2),
    "label mirrored along all axes": _mirrored(0, 1, 2),
    # what is refused
    "image truncated": Fault(_truncated("image"), "refused", "image", "unreadable"),
    "label truncated": Fault(_truncated("label"), "refused", "label", "unreadable"),
    "wrong checksum": Fault(_bad_checksum, "refused", "image", "unreadable", headers=True),
    "NaN in the image": Fault(_voxels("image", _one_voxel(np.nan)), "refused", "image", "no number"),
    "infinite in the image": Fault(_voxels("image", _one_voxel(np.inf)), "refused", "image", "no number"),
    "minus infinite in the image": Fault(_voxels("image", _one_voxel(-np.inf)), "refused", "image", "no number"),
    "unknown label": Fault(_voxels("label", _one_voxel(7, np.uint8)), "refused", "label", "unexpected labels"),
    "negative label": Fault(_voxels("label", _one_voxel(-1, np.int16)), "refused", "label", "unexpected labels"),
    "half a label": Fault(_voxels("label", _one_voxel(0.5)), "refused", "label", "unexpected labels"),
    "label further than rounding": Fault(_voxels("label", _one_voxel(1.01)), "refused", "label", "unexpected labels"),
    "NaN in the label": Fault(_voxels("label", _one_voxel(np.nan)), "refused", "label", "unexpected labels"),
    "infinite in the label": Fault(_voxels("label", _one_voxel(np.inf)), "refused", "label", "unexpected labels"),
    "other size": Fault(_voxels("label", lambda v: v[:, :, :-1]), "refused", "label", "different size", headers=True),
    "two times": Fault(
        _voxels("image", lambda v: np.stack([v, v], -1)), "refused", "image", "not one volume", headers=True
    ),
    "colours": Fault(_colours, "refused", "image", "not one volume", headers=True),
    "strong shear": Fault(_sheared(0.5), "refused", "image", "shear", headers=True),
    "image empty": Fault(_content("image", b""), "refused", "image", "unreadable", headers=True),
    "label no NIfTI": Fault(_content("label", b"not a scan"), "refused", "label", "unreadable", headers=True),
    "header of zeros": Fault(_content("label", bytes(400)), "refused", "label", "unreadable", headers=True),
    "more slices claimed": Fault(_header(42, [8, 9, 60], "<i2"), "refused", "label", "different size", headers=True),
    "header's type of voxels unknown": Fault(_header(70, [77], "<i2"), "refused", "image", "unreadable", headers=True),
}
