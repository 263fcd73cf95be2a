"""What a benchmark has found out, in the form in which its parts hand it on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd


@dataclass(frozen=True)
class Measure:
    """A figure of one class in one scan.

    Attributes:
        title: as tables and figures call it.
        unit: empty for a ratio.
        better: which way is better; `zero` for an error with a sign.
        meaning: a sentence, what it is where reference, prediction or both are empty included.
    """

    title: str
    unit: str
    better: Literal["higher", "lower", "zero"]
    meaning: str


_SHOWN = "Shown and compared over the scans whose reference holds the class; results.csv has"
MEASURES = {
    "dice": Measure(
        "Dice",
        "",
        "higher",
        f"2 TP / (2 TP + FP + FN). {_SHOWN} nnU-Net's figure of every scan, none where both masks are empty.",
    ),
    "iou": Measure(
        "IoU",
        "",
        "higher",
        f"TP / (TP + FP + FN). {_SHOWN} nnU-Net's figure of every scan, none where both masks are empty.",
    ),
    "hd95": Measure(
        "HD95",
        "mm",
        "lower",
        "The larger of the two 95th percentiles of the distances from one mask's surface to the other's. The scan's "
        f"diagonal where one mask is empty. {_SHOWN} every scan's, none where both masks are empty.",
    ),
    "surface_dice": Measure(
        "Surface Dice 2 mm",
        "",
        "higher",
        f"Share of both surfaces that lies within 2 mm of the other. 0 where one mask is empty. {_SHOWN} every scan's, "
        "none where both masks are empty.",
    ),
    "volume_error": Measure("Volume error", "ml", "zero", "Predicted volume less reference volume."),
    "false_positive_scan": Measure(
        "False positives, scans without",
        "ml",
        "lower",
        "Predicted volume in a scan whose reference is empty: this, and not Dice or a distance, judges those scans.",
    ),
    "false_positive_slices": Measure(
        "False positives, slices without",
        "ml",
        "lower",
        "Predicted volume in those axial slices of a scan where the reference is empty, scans without the class "
        "included.",
    ),
}
"""The columns of `Benchmark.cases` that hold figures, in the order in which they are shown."""

CASE_COLUMNS = ("model", "fold", "split", "case", "label", *MEASURES)
SPLITS = ("test", "validation")


@dataclass(frozen=True)
class Costs:
    """What a model costs; None where it is not known.

    Attributes:
        parameters: of the whole network, deep-supervision heads included.
        gflop: floating-point operations (a multiplication and an addition are two) of the forward pass of one
            training patch, all heads included, in 1e9.
        saved_bytes: what autograd keeps of that patch between forward and backward, in single precision.
        peak_gpu_bytes: the most the training had allocated on the GPU.
        seconds_per_iteration: median over the epochs of an epoch's time over its training iterations: data loading
            and the epoch's validation included.
        seconds_per_case: prediction of a validation scan, files written and nnU-Net's evaluation included.
        watt_hours: the GPU's energy during the training of a fold, by NVML; of the whole GPU, if it is shared.
    """

    parameters: int | None = None
    gflop: float | None = None
    saved_bytes: int | None = None
    peak_gpu_bytes: int | None = None
    seconds_per_iteration: float | None = None
    seconds_per_case: float | None = None
    watt_hours: float | None = None


@dataclass(frozen=True)
class Curves:
    """One fold's training, one value an epoch.

    Attributes:
        train_loss: of the training patches.
        validation_loss: of patches of the fold's validation scans.
        pseudo_dice: nnU-Net's mean Dice over the classes of those patches.
    """

    train_loss: list[float]
    validation_loss: list[float]
    pseudo_dice: list[float]


@dataclass(frozen=True)
class Model:
    """A trainer's results with one plan.

    Attributes:
        name: unique in the benchmark: the trainer's, with the plans' where they differ.
        folder: nnU-Net's model folder.
        folds: those with results.
        costs: its costs.
        curves: fold -> its training.
    """

    name: str
    folder: Path
    folds: tuple[str, ...]
    costs: Costs = field(default_factory=Costs)
    curves: dict[str, Curves] = field(default_factory=dict)


@dataclass(frozen=True)
class CasePair:
    """One scan that a model has segmented.

    Attributes:
        model: name of the model.
        fold: of the cross-validation; of a test scan the folds that predicted it together, as `0+1`.
        split: `validation` or `test`.
        case: the scan's identifier.
        truth: file of the reference segmentation.
        prediction: file of the predicted one.
        image: file of the scan's first channel; None where it is not to be found.
    """

    model: str
    fold: str
    split: str
    case: str
    truth: Path
    prediction: Path
    image: Path | None = None


@dataclass(frozen=True)
class Labels:
    """The classes that are measured.

    Attributes:
        values: name -> the label values that make it up: one, or of a region several. Background is not among them.
        ignore: label value of voxels that do not count.
    """

    values: dict[str, tuple[int, ...]]
    ignore: int | None = None


@dataclass(frozen=True)
class Benchmark:
    """Everything the report shows.

    Attributes:
        dataset: its name, `Dataset501_LiTS`.
        models: in the order in which they are shown; the first is what the others are compared with.
        labels: the classes.
        cases: one row per model, fold, split, case and label, `CASE_COLUMNS`; NaN where a measure is not defined.
        pairs: where the segmentations are, for pictures.
        settings: what was the same for all, name -> value: configuration, plans, length, seed policy, device, versions.
        problems: one line each for what is missing or was left out, and why.
        is_ct: the images are CT, in HU.
    """

    dataset: str
    models: list[Model]
    labels: Labels
    cases: pd.DataFrame
    pairs: list[CasePair]
    settings: dict[str, str]
    problems: list[str]
    is_ct: bool = True
