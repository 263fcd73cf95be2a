"""What is to be converted, and into what: plain data, cheap to import."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Splits = list[dict[str, list[str]]]


@dataclass(frozen=True)
class Case:
    """One scan and, for training, its segmentation.

    Attributes:
        name: nnU-Net's case identifier, such as `liver_012`.
        image: The scan.
        label: The segmentation; None makes this a test case (`imagesTs`).
    """

    name: str
    image: Path
    label: Path | None = None


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
    """

    folder_name: str
    source: Path
    cases: tuple[Case, ...]
    scheme: LabelScheme
    channel: str
    options: Mapping[str, str]
    splits: Splits | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_training(self) -> int:
        """Number of training cases."""
        return sum(case.label is not None for case in self.cases)
