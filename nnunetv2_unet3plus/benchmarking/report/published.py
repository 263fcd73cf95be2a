"""What the papers report, beside what was found here.

UNet 3+: Huang et al., ICASSP 2020, tables 1 and 2. UNet++: Zhou et al., TMI 2020. UNet#: Qian et al., 2022.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from nnunetv2_unet3plus.benchmarking.report.summary import per_case
from nnunetv2_unet3plus.benchmarking.report.tables import decimal
from nnunetv2_unet3plus.benchmarking.results import MEASURES, Benchmark, Model

LITS, SPLEEN = "LiTS", "spleen"
_ORGAN = {LITS: "liver", SPLEEN: "spleen"}
_NAMES = {LITS: {"lits", "liver"}, SPLEEN: {"spleen"}}
_LENGTH = re.compile(r"_[1-9]\d*epochs?(_[1-9]\d*iters?)?$")


@dataclass(frozen=True)
class Published:
    """A figure of a paper.

    Attributes:
        paper: which.
        data: `LITS` or `SPLEEN`.
        network: as the paper calls it.
        measure: a key of `MEASURES`.
        value: of it, a share of 1.
        trainers: ours and nnU-Net's that docs/reproducing-the-papers.md, which says by what judgement, has in that row,
            and those that start from ImageNet's weights; the nearest first. None for what nobody here trains.
    """

    paper: str
    data: str
    network: str
    measure: str
    value: float
    trainers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Beside:
    """A published figure and ours.

    Attributes:
        published: the paper's.
        model: ours; empty if no such trainer is in the benchmark.
        split: the split of our cases.
        ours: mean over those that hold the organ; NaN if there is none.
    """

    published: Published
    model: str = ""
    split: str = ""
    ours: float = math.nan

    @property
    def heading(self) -> str:
        """Paper and measure."""
        return f"{self.published.paper}, {MEASURES[self.published.measure].title}"

    @property
    def texts(self) -> tuple[str, str, str]:
        """Published figure, ours, and ours less the published."""
        difference = self.ours - self.published.value
        return decimal(self.published.value, 4), decimal(self.ours, 4), decimal(difference, 4, signed=True)


UNET3PLUS = "UNet 3+ (Huang et al., ICASSP 2020)"
UNETPLUSPLUS = "UNet++ (Zhou et al., TMI 2020)"
UNETSHARP = "UNet# (Qian et al., 2022)"
_NAME = "nnUNetTrainer"


def _named(*endings: str) -> tuple[str, ...]:
    return tuple(_NAME + ending for ending in endings)


_BOTH_ORGANS = (
    # network, liver, spleen, trainers
    ("UNet, VGG-16", 0.9206, 0.9023, (_NAME,)),
    ("UNet++, VGG-16", 0.9278, 0.9230, _named("UNetPlusPlusVGG16ImageNet", "UNetPlusPlusVGG16", "UNetPlusPlus")),
    ("UNet 3+ without deep supervision, VGG-16", 0.9489, 0.9437, _named("UNet3PlusNoDS")),
    ("UNet 3+, VGG-16", 0.9550, 0.9496, _named("UNet3PlusFocal")),
    ("UNet, ResNet-101", 0.9387, 0.9332, ()),
    ("UNet++, ResNet-101", 0.9475, 0.9423, _named("UNetPlusPlusResNet101ImageNet", "UNetPlusPlusResNet101")),
    ("UNet 3+ without deep supervision, ResNet-101", 0.9580, 0.9539, ()),
    ("UNet 3+, ResNet-101", 0.9601, 0.9560, ()),
    (
        "UNet 3+ with hybrid loss, ResNet-101",
        0.9643,
        0.9588,
        _named(
            "UNet3PlusResNet101ImageNet",
            "UNet3PlusResNet101",
            "UNet3PlusVGG16ImageNet",
            "UNet3PlusVGG16",
            "UNet3PlusPaper",
            "UNet3Plus",
        ),
    ),
    ("UNet 3+ with hybrid loss and CGM, ResNet-101", 0.9675, 0.9620, _named("UNet3PlusCGM")),
    ("PSPNet", 0.9242, 0.9240, _named("PSPNet")),
    ("DeepLabV2", 0.9021, 0.9097, ()),
    ("DeepLabV3", 0.9217, 0.9217, _named("DeepLabV3")),
    ("DeepLabV3+", 0.9186, 0.9290, _named("DeepLabV3Plus")),
    ("Attention UNet", 0.9341, 0.9324, _named("AttentionUNet")),
)
_SHARP_IOU = (
    ("UNet", 0.9143, _named("UNetPaper")),
    ("UNet++ with deep supervision", 0.9164, _named("UNetPlusPlus")),
    ("UNet 3+ with deep supervision, the paper's own variant", 0.9214, _named("UNet3Plus")),
    ("UNet# with deep supervision", 0.9536, _named("UNetSharp")),
)
_SHARP_DICE = (
    ("PSPNet", 0.9323, _named("PSPNet")),
    ("DeepLabV3+", 0.9517, _named("DeepLabV3Plus")),
    ("ENet", 0.9090, ()),
    ("nnU-Net", 0.9530, (_NAME,)),
    ("Attention UNet", 0.9715, _named("AttentionUNet")),
    ("DUNet", 0.9721, ()),
    ("RA-UNet", 0.9610, ()),
    ("TransUNet", 0.9616, ()),
    ("UNet#", 0.9729, _named("UNetSharp")),
    ("UNet# with CGM", 0.9824, _named("UNetSharpCGM")),
)

PUBLISHED = (
    *(Published(UNET3PLUS, LITS, name, "dice", liver, trainers) for name, liver, _, trainers in _BOTH_ORGANS),
    *(Published(UNET3PLUS, SPLEEN, name, "dice", spleen, trainers) for name, _, spleen, trainers in _BOTH_ORGANS),
    Published(UNETPLUSPLUS, LITS, "UNet++ with deep supervision", "iou", 0.8290, _named("UNetPlusPlus")),
    *(Published(UNETSHARP, LITS, name, "iou", value, trainers) for name, value, trainers in _SHARP_IOU),
    *(Published(UNETSHARP, LITS, name, "dice", value, trainers) for name, value, trainers in _SHARP_DICE),
)

CAVEATS = {
    LITS: (
        "Every paper has its own split of the 131 public LiTS scans (UNet 3+: 103 to train on, 28 to test), its own "
        "input (UNet 3+: three neighbouring slices of 320 × 320) and its own classes (UNet 3+: the liver alone). The "
        "figures can be compared only where those are the same here: unet3plus convert lits --organ --split paper and "
        "the configuration 2.5d come closest."
    ),
    SPLEEN: (
        "The spleen scans of the UNet 3+ paper came from a hospital and are not public (40 to train on, 9 to test): "
        "its figures stand here for orientation and cannot be compared with those of other scans."
    ),
}


def data_of(benchmark: Benchmark) -> str | None:
    """Which of the papers' data this is: by a word of the dataset's name or, if none says it, its cases' names.

    A word ends at whatever is no letter: `Task03_Liver` and `LiTS2017` are LiTS, `LiverVessels` is not.
    """
    words = set(re.findall(r"[a-z]+", benchmark.dataset.lower()))
    for data, names in _NAMES.items():
        if words & names:
            return data
    cases = [str(case).lower() for case in benchmark.cases["case"].unique()]
    for data, organ in _ORGAN.items():
        if cases and all(case.startswith(f"{organ}_") for case in cases):
            return data
    return None


def organ_of(benchmark: Benchmark, data: str) -> str | None:
    """The class that is the papers' organ; None if there is none of its name and more than one to choose from."""
    for name in benchmark.labels.values:
        if name.lower() == _ORGAN[data]:
            return name
    return next(iter(benchmark.labels.values)) if len(benchmark.labels.values) == 1 else None


def organ_note(benchmark: Benchmark, data: str, organ: str) -> str:
    """Whether our class is the papers' organ, tumours in it included; empty if it may well be."""
    own = set(benchmark.labels.values[organ])
    others = [name for name, values in benchmark.labels.values.items() if not set(values) <= own]
    if data != LITS or not others:
        return ""
    return f"Our class {organ} does not hold {' and '.join(others)}; the papers' liver holds its tumours."


def trainer_of(model: Model) -> str:
    """The model's trainer without its length: nnU-Net names the folder `trainer__plans__configuration`."""
    trainer, separator, _ = model.folder.name.partition("__")
    return _LENGTH.sub("", trainer if separator else model.name)


def beside(benchmark: Benchmark, data: str, split: str, organ: str) -> list[Beside]:
    """The papers' figures of a data set, each beside every model of ours that stands for it.

    Args:
        benchmark: ours.
        data: `LITS` or `SPLEEN`.
        split: whose cases to take.
        organ: the class.
    """
    rows = benchmark.cases[(benchmark.cases["split"] == split) & (benchmark.cases["label"] == organ)]
    means = {measure: per_case(rows, measure).mean() for measure in MEASURES}
    return [
        line
        for published in PUBLISHED
        if published.data == data
        for line in _beside(published, benchmark.models, split, means[published.measure].to_dict())
    ]


def _beside(published: Published, models: Iterable[Model], split: str, means: dict[str, float]) -> list[Beside]:
    found = [
        Beside(published, model.name, split, means.get(model.name, math.nan))
        for model in models
        if trainer_of(model) in published.trainers
    ]
    return found or [Beside(published)]
