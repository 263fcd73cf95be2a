"""A task of the Medical Segmentation Decathlon: its folders, its `dataset.json`."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_unet3plus.conversion.description import Case, LabelScheme
from nnunetv2_unet3plus.conversion.pairing import nifti_files
from nnunetv2_unet3plus.errors import UserError, explain

URL = "http://medicaldecathlon.com"

_MOST_LABELS = 256

_NAME = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]*)\.nii(\.gz)?", re.IGNORECASE)


@dataclass(frozen=True)
class Task:
    """What a folder of a task holds.

    Attributes:
        folder: The one with `imagesTr` in it.
        cases: Training cases, then test cases, each sorted by name.
        hidden: NIfTI files left out because their names begin with a dot.
    """

    folder: Path
    cases: tuple[Case, ...]
    hidden: tuple[Path, ...]

    @property
    def training(self) -> list[Case]:
        """The cases with a label."""
        return [case for case in self.cases if case.label is not None]


def find_task(source: Path) -> Task:
    """Finds a task's folders in a download and pairs its files by their names.

    Raises:
        UserError: If there is no task or more than one, no pairs, or files without their partner.
    """
    from nnunetv2_unet3plus.conversion.volumes import NiftiFile  # ITK and nibabel: not for --help

    files = nifti_files(source)
    folders = sorted({path.parent.parent for path in files.volumes if path.parent.name == "imagesTr"})
    if not folders:
        raise UserError(f"{source}: no imagesTr with NIfTI files in it; give the unpacked folder of a task")
    if len(folders) > 1:
        raise UserError(f"{source} holds several tasks, {folders[0]} and {folders[1]}; give the folder of one of them")
    images, labels, tests = (
        _by_name([path for path in files.volumes if path.parent == folders[0] / part])
        for part in ("imagesTr", "labelsTr", "imagesTs")
    )
    for these, others, what in ((images, labels, "images without label"), (labels, images, "labels without image")):
        if alone := sorted(these.keys() - others.keys()):
            shown = ", ".join(alone[:10]) + (", ..." if len(alone) > 10 else "")
            raise UserError(f"{folders[0]}: {what}: {shown}; add the missing files or move these away")
    if both := sorted(images.keys() & tests.keys()):
        raise UserError(f"{folders[0]}: {both[0]} is in imagesTr and in imagesTs; keep one of the two")
    training = [Case(name, NiftiFile(images[name]), NiftiFile(labels[name])) for name in sorted(images)]
    cases = (*training, *(Case(name, NiftiFile(tests[name])) for name in sorted(tests)))
    return Task(folders[0], cases, tuple(files.hidden))


def _by_name(files: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files:
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise UserError(f"{path}: a case's name may hold letters, digits, '_', '-' and '.' only; rename the file")
        if match["name"] in found:
            raise UserError(f"{found[match['name']]} and {path} are one case; keep only one of them")
        found[match["name"]] = path
    return found


@dataclass(frozen=True)
class Description:
    """What a task's `dataset.json` says.

    Attributes:
        name: Of the task.
        channel: The only one's name.
        scheme: The labels.
        licence: Of the data.
        reference: Where it comes from.
    """

    name: str
    channel: str
    scheme: LabelScheme
    licence: str
    reference: str


def read_description(task: Path) -> Description:
    """Reads a task's `dataset.json`.

    Raises:
        UserError: If it is missing, damaged, describes several channels, or labels that are not 0, 1, 2, ...
    """
    path = task / "dataset.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        labels = {int(value): str(name) for value, name in content["labels"].items()}
        channels = [str(name) for _, name in sorted(content["modality"].items())]
        json.dumps(content, ensure_ascii=False).encode()  # half a character is none
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file, and it names the labels; copy it from the download") from error
    except OSError as error:
        raise explain(error) from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged, not the description of a task; copy it from the download") from error
    if len(channels) != 1:
        raise UserError(f"{path}: {len(channels)} channels; nnUNetv2_convert_MSD_dataset converts such tasks")
    if len(labels) > _MOST_LABELS:
        raise UserError(f"{path}: {len(labels)} labels, more than the {_MOST_LABELS} that fit into a byte")
    if len(labels) < len(content["labels"]):
        raise UserError(f"{path}: a label's value is there twice; keep one of the two")
    if sorted(labels) != list(range(len(labels))) or len(labels) < 2:
        raise UserError(f"{path}: labels {sorted(labels)}, but nnU-Net needs 0 for the background, then 1, 2, ...")
    named = {"background" if value == 0 else labels[value]: value for value in sorted(labels)}
    if len(named) != len(labels):
        raise UserError(f"{path}: two labels have the same name; give each its own")
    scheme = LabelScheme(named, tuple(sorted(labels)))
    about = (str(content.get(key, default)) for key, default in (("licence", "see the reference"), ("reference", URL)))
    return Description(str(content.get("name", task.name)), channels[0], scheme, *about)
