"""JSON files of nnU-Net's and of ours that a command reads."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunetv2_unet3plus.errors import UserError, explain


def read_object(path: Path, hint: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: The file.
        hint: What the user can do if it cannot be used.
        keys: What must be in it.

    Raises:
        UserError: If it is missing, damaged, or lacks a key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; {hint}") from error
    except OSError as error:
        raise explain(error, path) from error
    except ValueError as error:
        raise UserError(f"{path}: damaged, not valid JSON; {hint}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged, not an object; {hint}")
    if missing := [key for key in keys if key not in content]:
        raise UserError(f"{path}: {', '.join(missing)} missing; {hint}")
    return content
