"""Synthetic abdominal CT: anatomy made of irregular ellipsoids, no two cases alike.

Coarse in the plane and coarser along the body, so that nnU-Net slices it as it slices real CT, and small enough to
train on in minutes. Liver, spleen and muscle differ by little more than the noise: the liver has to be known by its
place and shape, not by a threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, gaussian_filter

Array = np.ndarray
Point = Sequence[float]

SHAPE = (80, 80, 24)
SPACING = (4.2, 4.2, 7.0)  # mm; the slice distance is the largest, as nnU-Net takes that axis for the slices

BACKGROUND, LIVER, TUMOUR = 0, 1, 2  # LiTS's labels

AIR, FAT, MUSCLE, BOWEL, CORTICAL_BONE, MARROW = -1000.0, -105.0, 55.0, 20.0, 450.0, 180.0  # HU
MEAN_LIVER, MEAN_SPLEEN, MEAN_TUMOUR = 105.0, 115.0, 55.0  # portal venous phase
NOISE = 15.0


@dataclass(frozen=True)
class Phantom:
    """One synthetic scan.

    Attributes:
        intensities: HU, int16, (x, y, z) with x to the patient's left, y to the back and z to the head.
        labels: Background, liver and tumour, uint8, same shape.
        affine: Voxel to world (right, anterior, superior) in mm.
    """

    intensities: Array
    labels: Array
    affine: Array


def make_phantom(seed: int, shape: tuple[int, int, int] = SHAPE) -> Phantom:
    """Make one scan; the same seed gives the same scan.

    Args:
        seed: Which patient.
        shape: Voxels along x, y and z; the body keeps its size in mm.

    Returns:
        The scan.
    """
    canvas = _Canvas(np.random.default_rng(seed), shape)
    room = _paint_trunk(canvas)
    _paint_spleen(canvas, room)
    liver = _paint_liver(canvas, room)
    tumours = _paint_tumours(canvas, liver)
    labels = np.where(tumours, TUMOUR, np.where(liver, LIVER, BACKGROUND)).astype(np.uint8)
    return Phantom(canvas.scan(), labels, np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0]))


class _Canvas:
    """A volume to paint tissue into, and the random numbers that make each patient different."""

    def __init__(self, random: np.random.Generator, shape: tuple[int, int, int]) -> None:
        self.random = random
        self.shape = shape
        self.hu = np.full(shape, AIR)
        # Millimetres from the centre of the volume.
        self.grid = np.meshgrid(
            *((np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, SPACING, strict=True)),
            indexing="ij",
            sparse=True,
        )

    def vary(self, value: float, by: float) -> float:
        """Draw a number around `value`, at most the fraction `by` away from it."""
        return value * (1 + self.random.uniform(-by, by))

    def field(self, millimetres: float) -> Array:
        """Draw a smooth random field with mean 0 and standard deviation 1."""
        noise = gaussian_filter(self.random.standard_normal(self.shape), [millimetres / mm for mm in SPACING])
        return (noise - noise.mean()) / noise.std()

    def ellipsoid(self, centre: Point, radii: Point) -> Array:
        """Compute the distance from `centre` in units of `radii`: below 1 inside; a radius may be infinite."""
        return np.sqrt(sum(((x - c) / r) ** 2 for x, c, r in zip(self.grid, centre, radii, strict=True)))

    def organ(self, centre: Point, radii: Point, bumps: float) -> Array:
        """Draw the mask of an irregular ellipsoid, a little moved and resized."""
        centre = [c + self.random.uniform(-8, 8) for c in centre]
        radii = [self.vary(r, 0.12) for r in radii]
        return self.ellipsoid(centre, radii) + bumps * self.field(18.0) < 1

    def paint(self, mask: Array, hu: float, texture: float = 4.0) -> None:
        """Fill a mask with tissue of about `hu`."""
        self.hu = np.where(mask, hu + texture * self.field(8.0), self.hu)

    def scan(self) -> Array:
        """Look at the painting through a scanner: partial volume, then noise with a little grain."""
        blurred = gaussian_filter(self.hu, [0.6, 0.6, 0.3])
        grain = gaussian_filter(self.random.standard_normal(self.shape), [0.5, 0.5, 0.0])
        return np.clip(np.round(blurred + NOISE * grain / grain.std()), -1024, 3071).astype(np.int16)


def _paint_trunk(canvas: _Canvas) -> Array:
    """Paint fat, the muscle of the wall, bowel in visceral fat and the spine; return the mask that organs may fill."""
    wide, deep = canvas.vary(150.0, 0.07), canvas.vary(108.0, 0.07)
    trunk = canvas.ellipsoid((0, 0, 0), (wide, deep, np.inf))
    spine = canvas.ellipsoid((0, 0.62 * deep, 0), (24, 20, np.inf))
    canvas.paint(trunk < 1, FAT)
    canvas.paint(trunk < canvas.vary(0.90, 0.03), MUSCLE)
    canvas.paint(trunk < 0.80, BOWEL, texture=45.0)
    canvas.paint(spine < 1, CORTICAL_BONE)
    canvas.paint(spine < 0.75, MARROW, texture=30.0)
    return (trunk < 0.80) & (spine >= 1)


def _paint_spleen(canvas: _Canvas, room: Array) -> None:
    spleen = canvas.organ((88, 28, 20), (26, 34, 40), bumps=0.08) & room
    canvas.paint(spleen, canvas.vary(MEAN_SPLEEN, 0.08))


def _paint_liver(canvas: _Canvas, room: Array) -> Array:
    """Paint a big right and a flat left lobe; return their mask."""
    right = canvas.organ((-58, -5, 12), (62, 70, 66), bumps=0.12)
    left = canvas.organ((10, -38, 28), (58, 30, 34), bumps=0.12)
    liver = (right | left) & room
    canvas.paint(liver, canvas.vary(MEAN_LIVER, 0.1))
    return liver


def _paint_tumours(canvas: _Canvas, liver: Array) -> Array:
    """Paint none to two tumours in the liver; return their mask."""
    tumours = np.zeros_like(liver)
    depths = np.argwhere(binary_erosion(liver, iterations=3))
    for _ in range(canvas.random.integers(0, 3) if len(depths) else 0):
        voxel = canvas.random.choice(depths)
        centre = [float(x.ravel()[i]) for x, i in zip(canvas.grid, voxel, strict=True)]
        radius = canvas.random.uniform(10, 22)
        tumours |= (canvas.ellipsoid(centre, (radius,) * 3) + 0.15 * canvas.field(10.0) < 1) & liver
    canvas.paint(tumours, canvas.vary(MEAN_TUMOUR, 0.1))
    return tumours
