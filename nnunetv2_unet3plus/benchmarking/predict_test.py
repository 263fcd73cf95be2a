"""Predict the test scans with all folds of a model, as `nnUNetv2_predict` does, going on where it was stopped.

    python -m nnunetv2_unet3plus.benchmarking.predict_test MODEL_FOLDER 0 1 -i imagesTs -o masks --device cuda

The output folder appears when all scans are predicted, with a note of the checkpoints and scans they are made from.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from nnunetv2.configuration import default_num_processes
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunetv2_unet3plus.benchmarking.fold import FINAL, read_or_none
from nnunetv2_unet3plus.benchmarking.measures.reading import read_mask
from nnunetv2_unet3plus.benchmarking.train_fold import only_one_at_a_time
from nnunetv2_unet3plus.conversion.atomic import write_text
from nnunetv2_unet3plus.errors import UserError

PREDICTED_BY = "predicted_by.json"


def main() -> int:
    """Predict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folds", nargs="+")
    parser.add_argument("-i", dest="images", type=Path, required=True)
    parser.add_argument("-o", dest="output", type=Path, required=True)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda", "mps"))
    args = parser.parse_args()

    if is_predicted(args.output, args.model, args.folds, args.images):
        print(f"{args.output}: predicted already")
        return 0
    work = work_folder(args.output, made_from(args.model, args.folds, args.images))
    try:
        with only_one_at_a_time(work):
            predict(args, work)
            work.rename(args.output)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def predict(args: argparse.Namespace, work: Path) -> None:
    """What is not predicted yet."""
    predictor = nnUNetPredictor(device=torch.device(args.device), perform_everything_on_device=args.device == "cuda")
    folds = tuple(fold if fold == "all" else int(fold) for fold in args.folds)
    predictor.initialize_from_trained_model_folder(str(args.model), folds, FINAL)
    remove_half_written(work, predictor.dataset_json["file_ending"])
    processes = min(3, default_num_processes)  # as nnUNetv2_predict
    predictor.predict_from_files(str(args.images), str(work), False, False, processes, processes)


def made_from(model: Path, folds: Sequence[str], images: Path) -> dict[str, list[int]]:
    """Size and time of the checkpoints and scans that masks are made from: of others they would not be these masks."""
    files = [model / f"fold_{fold}" / FINAL for fold in folds] + sorted(f for f in images.iterdir() if f.is_file())
    stats = {f"{file.parent.name}/{file.name}": file.stat() for file in files}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


def is_predicted(output: Path, model: Path, folds: Sequence[str], images: Path) -> bool:
    """Whether these test scans have been predicted by the model as it is now."""
    return read_or_none(output / PREDICTED_BY) == made_from(model, folds, images)


def work_folder(output: Path, origin: dict[str, list[int]]) -> Path:
    """Where masks gather until all are there; masks of other checkpoints or scans are moved out of the way."""
    work = output.with_name(f"{output.name}.part")
    for folder in (output, work):
        if folder.exists() and read_or_none(folder / PREDICTED_BY) != origin:
            folder.rename(_unused(folder.with_name(f"{folder.name}.outdated")))
    work.mkdir(parents=True, exist_ok=True)
    write_text(work / PREDICTED_BY, work, json.dumps(origin))
    return work


def _unused(folder: Path) -> Path:
    number = 1
    while (candidate := folder.with_name(f"{folder.name}{number}")).exists():
        number += 1
    return candidate


def remove_half_written(work: Path, ending: str) -> None:
    """Masks a kill has cut short, which would count as predicted."""
    for mask in work.glob(f"*{ending}"):
        try:
            read_mask(mask)
        except UserError:
            mask.unlink()


if __name__ == "__main__":
    sys.exit(main())
