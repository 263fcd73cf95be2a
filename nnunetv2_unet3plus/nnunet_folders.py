"""nnU-Net's three folders, and the dataset a user means."""

from pathlib import Path
from typing import Any

from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets

from nnunetv2_unet3plus.errors import UserError


def require_set(*folders: Any) -> None:
    """Refuse to go on without one of nnU-Net's variables.

    Args:
        folders: of `nnunetv2.paths`.

    Raises:
        UserError: naming the variable.
    """
    for folder in folders:
        if not folder.get():
            name = folder.env_var_name
            raise UserError(f"{name} is not set: export {name}=FOLDER, as for nnU-Net's own commands")


def dataset_name(name_or_number: str, folder: Path) -> str:
    """The full name of the dataset a user means with `-d`.

    Args:
        name_or_number: `501` or `Dataset501_LiTS`.
        folder: of nnU-Net's, the one it must be in.

    Raises:
        UserError: if there is none, or several share the number.
    """
    number = name_or_number.removeprefix("Dataset").split("_")[0]
    if not number.isdecimal() or len(number) > 3:
        raise UserError(f"-d {name_or_number}: a number up to 999, or a name such as Dataset501_LiTS")
    names = sorted(map(str, find_candidate_datasets(int(number))))
    if len(names) > 1:
        raise UserError(
            f"-d {name_or_number}: {' and '.join(names)} share this number in nnU-Net's folders; rename all but one"
        )
    if not names or not (folder / names[0]).is_dir() or (name_or_number.startswith("D") and name_or_number != names[0]):
        known = ", ".join(sorted(found.name for found in folder.glob("Dataset???_*"))) or "none"
        raise UserError(f"-d {name_or_number}: no such dataset in {folder}; there: {known}")
    return names[0]


def dataset_number(dataset: str) -> int:
    """501 of `Dataset501_LiTS`."""
    return int(dataset[len("Dataset") :].split("_")[0])
