"""Trainers by name: with the length asked for, and what a user may have meant by a name nobody knows."""

import os
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import nnunetv2

from nnunetv2_unet3plus import trainers as our_trainers
from nnunetv2_unet3plus.doctor import find_trainer
from nnunetv2_unet3plus.errors import UserError
from nnunetv2_unet3plus.trainers.training_length import LENGTH_SUFFIX

_LENGTH = re.compile(r"[1-9]\d*epochs?(_[1-9]\d*iters?)?", re.ASCII)
_CLASS = re.compile(r"^class (\w*Trainer\w*)\(", re.MULTILINE)
_SUGGESTIONS = 3


def with_length(trainer: str, length: str | None) -> str:
    """A trainer's name with a length behind it.

    Args:
        trainer: `nnUNetTrainerUNet3Plus`.
        length: `50epochs` or `50epochs_100iters`; None leaves the name as it is.

    Raises:
        UserError: if the length is none, or the name has one already.
    """
    if length is None:
        return trainer
    if not _LENGTH.fullmatch(length):
        raise UserError(f"--length {length}: as in a trainer's name, 50epochs or 50epochs_100iters")
    if LENGTH_SUFFIX.fullmatch(trainer):
        raise UserError(f"-tr {trainer}: has a length in its name; leave that or --length {length} out")
    return f"{trainer}_{length}"


def why_unknown(trainer: str) -> str | None:
    """A line for a trainer that nnU-Net does not find, with the names nearest to it; None if it finds it."""
    found = find_trainer(trainer)
    if isinstance(found, type):
        return None
    suffix = LENGTH_SUFFIX.fullmatch(trainer)
    base = suffix["base"] if suffix else trainer
    near = get_close_matches(base, sorted(set(known_trainers())), n=_SUGGESTIONS, cutoff=0.5)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    reason = "" if "Could not find requested nnunet trainer" in found else f" ({found})"
    return f"-tr {trainer}: nnU-Net finds no such trainer{reason}{meant}"


def known_trainers() -> Iterator[str]:
    """Names of trainers: ours, and what nnU-Net's look-up would search, read without importing it."""
    yield from our_trainers.__all__
    folders = [Path(nnunetv2.__path__[0]) / "training" / "nnUNetTrainer"]
    external = os.environ.get("nnUNet_extTrainer", "")  # noqa: SIM112 - nnU-Net's own name
    folders += [Path(folder) for folder in external.split(os.pathsep) if folder]
    for folder in folders:
        for module in folder.rglob("*.py"):
            yield from _CLASS.findall(module.read_text(errors="replace"))
