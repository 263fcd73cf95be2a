"""The folds of the cross-validation, as nnU-Net makes them."""

import json
from pathlib import Path

from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunetv2_unet3plus.conversion.atomic import write_text
from nnunetv2_unet3plus.errors import UserError

SEED, FOLDS = 12345, 5  # nnU-Net's


def read_splits(preprocessed: Path, data: Path) -> list[dict[str, list[str]]]:
    """The folds; made here if no training has made them yet, so that trainings that start together share them.

    Args:
        preprocessed: the dataset's folder.
        data: the folder in it that holds the configuration's cases.

    Raises:
        UserError: if there are too few cases.
    """
    file = preprocessed / "splits_final.json"
    if not file.exists():
        cases = sorted(infer_dataset_class(str(data)).get_identifiers(str(data)))
        if len(cases) < FOLDS:
            raise UserError(
                f"{data}: {len(cases)} cases are too few for {FOLDS} folds; write {file}, a list of folds, each "
                '{"train": [...], "val": [...]}, or train with -f all'
            )
        splits = generate_crossval_split(cases, seed=SEED, n_splits=FOLDS)
        write_text(
            file, preprocessed, json.dumps([{k: list(map(str, v)) for k, v in split.items()} for split in splits])
        )
    try:
        splits = json.loads(file.read_text())
        if not all({"train", "val"} <= set(split) for split in splits):
            raise ValueError("no train and val")
    except (ValueError, TypeError) as error:
        hint = 'a list of folds, each {"train": [...], "val": [...]}'
        raise UserError(f"{file}: damaged; write it anew as {hint}, or remove it for nnU-Net's own folds") from error
    return splits
