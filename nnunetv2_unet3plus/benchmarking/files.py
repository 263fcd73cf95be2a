"""Where the masks of a model are, and the references and scans that belong to them."""

from collections.abc import Iterator
from pathlib import Path

from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw

from nnunetv2_unet3plus.benchmarking.fold import Fold
from nnunetv2_unet3plus.benchmarking.model_folder import ModelFolder
from nnunetv2_unet3plus.benchmarking.results import CasePair


def validation_pairs(name: str, model: ModelFolder, fold: Fold) -> list[CasePair]:
    """The fold's validation scans.

    The folder may have been moved since nnU-Net wrote the paths in summary.json: masks are looked for beside it,
    references where it says, then in nnU-Net's folders.

    Args:
        name: of the model in the benchmark.
        model: its folder.
        fold: one that is done.
    """
    pairs = []
    for entry in (fold.summary or {}).get("metric_per_case", []):
        mask = fold.validation / Path(entry["prediction_file"]).name
        case = mask.name.removesuffix(_ending(model))
        truth = _first_existing([Path(entry["reference_file"]), *_references(model, mask.name)])
        pairs.append(CasePair(name, fold.name, "validation", case, truth, mask, _image(model, case)))
    return pairs


def test_pairs(
    name: str, model: ModelFolder, folds: list[str], masks: Path, labels: Path, images: Path
) -> list[CasePair]:
    """The test scans that have a reference.

    Args:
        name: of the model in the benchmark.
        model: its folder.
        folds: that predicted together.
        masks: folder of predicted masks.
        labels: folder of references.
        images: folder of the scans.
    """
    ending = _ending(model)
    cases = sorted(path.name.removesuffix(ending) for path in labels.glob(f"*{ending}"))
    return [
        CasePair(
            name,
            "+".join(folds),
            "test",
            case,
            labels / f"{case}{ending}",
            masks / f"{case}{ending}",
            _if_existing(images / f"{case}_0000{ending}"),
        )
        for case in cases
    ]


def _ending(model: ModelFolder) -> str:
    return model.dataset_json["file_ending"]


def _references(model: ModelFolder, file: str) -> Iterator[Path]:
    if nnUNet_preprocessed.get():
        yield Path(nnUNet_preprocessed) / model.dataset / "gt_segmentations" / file
    if nnUNet_raw.get():
        yield Path(nnUNet_raw) / model.dataset / "labelsTr" / file


def _first_existing(candidates: list[Path]) -> Path:
    """The first of them that is there; else the first, for the error that names it."""
    return next((path for path in candidates if path.exists()), candidates[0])


def _image(model: ModelFolder, case: str) -> Path | None:
    if not nnUNet_raw.get():
        return None
    return _if_existing(Path(nnUNet_raw) / model.dataset / "imagesTr" / f"{case}_0000{_ending(model)}")


def _if_existing(path: Path) -> Path | None:
    return path if path.exists() else None
