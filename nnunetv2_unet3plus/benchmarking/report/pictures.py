"""The best, the median and the worst case, in colour over the scan."""

import base64
import io
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from PIL import Image

from nnunetv2_unet3plus.benchmarking.report.summary import figure, per_case
from nnunetv2_unet3plus.benchmarking.report.volumes import Volume
from nnunetv2_unet3plus.benchmarking.results import MEASURES, Benchmark, CasePair, Labels
from nnunetv2_unet3plus.overlay import CT_WINDOW, as_seen, colour, grey

Array = np.ndarray

PIXELS = 300  # of a picture's longer side
QUALITY = 88  # of its JPEG
PERCENTILES = (0.5, 99.5)  # of a slice, the window where intensities have no unit
MARGIN = 0.2  # around what is coloured, of its longer side
LEAST_MARGIN = 12  # millimetres or, without a spacing, pixels
_UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, zlib.error, nib.filebasedimages.ImageFileError,
               nib.spatialimages.HeaderDataError, nib.wrapstruct.WrapStructError)  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """A picture.

    Attributes:
        title: what it shows: `Image`, `Reference` or a model.
        source: a data URI; empty if there is none.
        note: why not, or what is wrong with it.
    """

    title: str
    source: str = ""
    note: str = ""


@dataclass(frozen=True)
class Shown:
    """A case in pictures.

    Attributes:
        role: `Best`, `Median` or `Worst`.
        case: its name.
        dice: mean over classes and models.
        panels: scan, reference, and each model.
        by_model: model -> mean Dice over classes.
    """

    role: str
    case: str
    dice: float
    panels: list[Panel]
    by_model: Mapping[str, float] = field(default_factory=dict)

    @property
    def dice_text(self) -> str:
        """As it is shown."""
        return figure(self.dice, MEASURES["dice"])

    def dice_of(self, model: str) -> str:
        """A model's Dice as it is shown."""
        return figure(self.by_model.get(model, math.nan), MEASURES["dice"])


def choose(cases: pd.DataFrame) -> dict[str, str]:
    """The best, the median and the worst of a split's cases by the mean Dice over models.

    Only cases that every model has are looked at, where there are any: others' means are of other models.

    Returns:
        Role -> case, of one to three cases.
    """
    values = per_case(cases, "dice")
    complete = values.dropna()
    means = (complete if len(complete) else values).mean(axis=1).dropna()
    order = sorted(means.index, key=lambda case: (-means[case], str(case)))
    places = {"Best": 0, "Median": len(order) // 2, "Worst": len(order) - 1}
    shown = {0: (), 1: ("Best",), 2: ("Best", "Worst")}.get(len(order), tuple(places))
    return {role: order[places[role]] for role in shown}


def show(benchmark: Benchmark, split: str) -> list[Shown]:
    """Draw them; only these cases' files are read."""
    cases = benchmark.cases[benchmark.cases["split"] == split]
    values = per_case(cases, "dice")
    shown = []
    for role, case in choose(cases).items():
        pairs = {pair.model: pair for pair in benchmark.pairs if (pair.split, pair.case) == (split, case)}
        ordered = [(model.name, pairs.get(model.name)) for model in benchmark.models]
        panels = _panels(ordered, benchmark.labels, benchmark.is_ct)
        dice = values.loc[case]
        shown.append(Shown(role, str(case), float(dice.mean()), panels, dice.to_dict()))
    return shown


def _panels(pairs: list[tuple[str, CasePair | None]], labels: Labels, is_ct: bool) -> list[Panel]:
    """All pictures of a case: the axial slice with the largest reference area, cut to what is coloured in any."""
    present = [pair for _, pair in pairs if pair is not None]
    if not present:
        return [Panel("Reference", note="The benchmark does not say where the segmentations are.")]
    truth, note = _try(lambda: Volume(present[0].truth), present[0].truth)
    if truth is None:
        return [Panel("Reference", note=note)]
    place, note = _try(lambda: _place(truth, present, labels), present[0].truth)
    if place is None:
        return [Panel("Reference", note=note)]
    reference = _classes(truth.axial(place), labels)
    ignored = truth.axial(place) == labels.ignore if labels.ignore is not None else np.zeros(reference.shape, bool)
    scene, image_note = _scene(present, place, truth.shape, is_ct)
    found: dict[str, tuple[Array | None, str]] = {}
    for name, pair in pairs:
        if pair is None:
            found[name] = None, "No prediction."
        else:
            found[name] = _try(_reader(pair.prediction, place, truth.shape, labels, ignored), pair.prediction)
    frame = _frame([reference, *(each for each, _ in found.values() if each is not None)], truth.spacing)
    draw = _Drawing(scene, reference, frame, truth.spacing)
    return [
        Panel("Image", draw(np.zeros_like(reference), np.zeros_like(reference)), image_note),
        Panel("Reference", draw(reference, reference), "" if reference.any() else "Nothing in this slice."),
        *(Panel(name, "" if each is None else draw(reference, each), text) for name, (each, text) in found.items()),
    ]


@dataclass(frozen=True)
class _Drawing:
    scene: Array
    reference: Array
    frame: tuple[slice, slice]
    spacing: tuple[float, float]

    def __call__(self, truth: Array, prediction: Array) -> str:
        rgb = colour(*(as_seen(each[self.frame]) for each in (self.scene, truth, prediction)))
        return _data_uri(rgb, self.spacing)


def _place(truth: Volume, pairs: list[CasePair], labels: Labels) -> int:
    """The slice with the largest reference area; of an empty reference, with the largest of the first prediction."""
    z = truth.largest(_values(labels))
    for pair in pairs if z is None else ():
        volume, _ = _try(lambda pair=pair: Volume(pair.prediction), pair.prediction)
        z = volume.largest(_values(labels)) if volume is not None and volume.shape == truth.shape else None
        if z is not None:
            break
    return truth.shape[2] // 2 if z is None else z


def _scene(pairs: list[CasePair], z: int, shape: tuple[int, ...], is_ct: bool) -> tuple[Array, str]:
    """The scan in grey, black where it cannot be had, and why."""
    black = np.zeros(shape[:2])
    path = next((pair.image for pair in pairs if pair.image is not None), None)
    if path is None:
        return black, "The image was not found: drawn on black."
    scene, note = _try(lambda: _on_grid(Volume(path), shape).axial(z).astype(float), path)
    if scene is None:
        return black, f"{note} Drawn on black."
    scene = np.nan_to_num(scene)
    low, high = CT_WINDOW if is_ct else np.percentile(scene, PERCENTILES)
    return grey(scene, (float(low), float(high))), ""


def _reader(path: Path, z: int, shape: tuple[int, ...], labels: Labels, ignored: Array) -> Callable[[], Array]:
    return lambda: np.where(ignored, 0, _classes(_on_grid(Volume(path), shape).axial(z), labels))


def _on_grid(volume: Volume, shape: tuple[int, ...]) -> Volume:
    if volume.shape != shape:
        sizes = (" × ".join(map(str, each)) for each in (volume.shape, shape))
        raise ValueError("its grid is {}, the reference's {}".format(*sizes))
    return volume


def _try(read: Callable, path: Path) -> tuple:
    """What is read and no note, or None and why not."""
    try:
        return read(), ""
    except _UNREADABLE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return None, f"{path.name} cannot be shown: {reason}."


def _values(labels: Labels) -> list[int]:
    return sorted({value for values in labels.values.values() for value in values})


def _classes(voxels: Array, labels: Labels) -> Array:
    """The voxels' classes, 0 for what is not measured."""
    return np.where(np.isin(voxels, _values(labels)), voxels, 0)


def _frame(masks: list[Array], spacing: tuple[float, float]) -> tuple[slice, slice]:
    """A square, as far as the slice goes, around all that is coloured; the whole slice if nothing is."""
    together = np.any([mask != 0 for mask in masks], axis=0)
    if not together.any():
        return slice(None), slice(None)
    spans = [np.flatnonzero(together.any(axis=1 - axis))[[0, -1]] for axis in (0, 1)]
    side = max((last + 1 - first) * size for (first, last), size in zip(spans, spacing, strict=True))
    side += 2 * max(MARGIN * side, LEAST_MARGIN)
    slices = []
    for (first, last), size, length in zip(spans, spacing, together.shape, strict=True):
        pixels = min(length, round(side / size))
        start = min(max(0, (first + last + 1 - pixels) // 2), length - pixels)
        slices.append(slice(int(start), int(start + pixels)))
    return slices[0], slices[1]


def _data_uri(rgb: Array, spacing: tuple[float, float]) -> str:
    """A small JPEG, its pixels square; single voxels stay visible where there are few."""
    rows, columns = rgb.shape[0] * spacing[1], rgb.shape[1] * spacing[0]
    scale = PIXELS / max(rows, columns)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    method = Image.Resampling.LANCZOS if rgb.shape[0] > size[1] else Image.Resampling.NEAREST
    picture = Image.fromarray((255 * rgb).round().astype(np.uint8)).resize(size, method)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
