"""What is to be converted, and into what: plain data, cheap to import."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnunetv2_unet3plus.conversion.findings import Finding
    from nnunetv2_unet3plus.conversion.volumes import Volume  # ITK and nibabel: slow to import

Splits = list[dict[str, list[str]]]


@dataclass(frozen=True)
class Case:
    """One scan and, for training, its segmentation.

    Attributes:
        name: nnU-Net's case identifier, such as `liver_012`.
        image: The scan.
        label: The segmentation; None makes this a test case (`imagesTs`).
        findings: What looked wrong when the files were found.
        label_on_own_grid: The label's header counts: a label that does not lie on the image's grid is refused, where
            else the image's header would be taken for it.
    """

    name: str
    image: "Volume"
    label: "Volume | None" = None
    findings: "tuple[Finding, ...]" = ()
    label_on_own_grid: bool = False

    @property
    def volumes(self) -> "list[Volume]":
        """Image and, if there is one, label."""
        return [self.image] if self.label is None else [self.image, self.label]


@dataclass(frozen=True)
class LabelScheme:
    """How the source's label values become nnU-Net's.

    Attributes:
        labels: nnU-Net's label names and values; a tuple of values is a region.
        expected: The values a source segmentation may hold.
        merged: Source value -> value written; values not named here stay as they are.
        regions_class_order: nnU-Net's, needed as soon as a label is a region.
    """

    labels: Mapping[str, int | tuple[int, ...]]
    expected: tuple[int, ...]
    merged: Mapping[int, int] = field(default_factory=dict)
    regions_class_order: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Wishes:
    """What the user wants otherwise than the headers say.

    Attributes:
        spacings: Case name -> true spacing in mm along x, y, z.
        axes: Where the axes of everything that is written shall lead, such as `RAS`; None to leave them.
    """

    spacings: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    axes: str | None = None


@dataclass(frozen=True)
class Dataset:
    """A whole nnU-Net dataset with one image channel, before it is written.

    Attributes:
        folder_name: Such as `Dataset501_LiTS`.
        source: The folder the cases come from; never written to.
        cases: All cases, training and test.
        scheme: The labels.
        channel: The channel's name; nnU-Net chooses the normalisation by it ("CT").
        options: What the user chose. A stopped conversion is continued only with the same choice.
        splits: nnU-Net's `splits_final.json`, if the dataset brings its own.
        about: More entries for `dataset.json` (`reference`, `license`, ...).
        wishes: What is to be written otherwise than the headers say.
        hidden: Files left out for their names, which begin with a dot.
        anonymous: Names of files and folders may tell who a patient is, and must not get into the report.
    """

    folder_name: str
    source: Path
    cases: tuple[Case, ...]
    scheme: LabelScheme
    channel: str
    options: Mapping[str, str]
    splits: Splits | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    wishes: Wishes = field(default_factory=Wishes)
    hidden: tuple[Path, ...] = ()
    anonymous: bool = False

    def without(self, refused: Collection[str]) -> "Dataset":
        """The dataset without some of its cases."""
        splits = self.splits and [
            {part: [name for name in names if name not in refused] for part, names in fold.items()}
            for fold in self.splits
        ]
        return replace(self, cases=tuple(case for case in self.cases if case.name not in refused), splits=splits)

    @property
    def num_training(self) -> int:
        """Number of training cases."""
        return sum(case.label is not None for case in self.cases)
