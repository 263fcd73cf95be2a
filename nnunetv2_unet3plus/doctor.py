"""`unet3plus doctor`: what is installed, what is set, and whether nnU-Net finds us."""

import io
import os
import platform
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib import metadata
from pathlib import Path

import torch

from nnunetv2_unet3plus.building_blocks.cpu_loops import compiled_or_why_not

TRAINER = "nnUNetTrainerUNet3Plus"
_FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
_PLUGINS = "nnUNet_extTrainer"
_PACKAGES = ("nnunetv2-unet3plus", "nnunetv2", "torch")


def examine() -> int:
    """Prints the report.

    Returns:
        0 if nnU-Net finds the trainers, else 1.
    """
    trainer = find_trainer()
    for name, value in _facts():
        print(f"{name:<20} {value}")
    if isinstance(trainer, type):
        print(f"{TRAINER} found: {trainer.__module__}")
        return 0
    print(f"{TRAINER} NOT found by nnU-Net: {trainer}")
    print('Install this package in the environment of nnU-Net, or: export nnUNet_extTrainer="$(unet3plus plugin-path)"')
    return 1


def find_trainer(name: str = TRAINER) -> type | str:
    """Asks nnU-Net itself for a trainer.

    Returns:
        The class, or in one line why there is none.
    """
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    try:
        with redirect_stdout(io.StringIO()):  # it lists every module it opens
            return recursive_find_trainer_class_by_name(name)
    except Exception as error:  # a broken plugin may raise anything, and that is what we are here to tell
        return " ".join(f"{type(error).__name__}: {error}".split())


def _facts() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for package in _PACKAGES:
        yield package, _version(package)
    yield "device", _device()
    yield "cpu_loops", _cpu_loops()
    for variable in _FOLDERS:
        yield variable, _folder(os.environ.get(variable))
    yield _PLUGINS, os.environ.get(_PLUGINS) or "not set"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _device() -> str:
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB"
    if torch.backends.mps.is_available():
        return "mps"
    return f"cpu, {torch.get_num_threads()} threads"


def _cpu_loops() -> str:
    loops = compiled_or_why_not()
    return f"none, the CPU will be slower: {loops}" if isinstance(loops, str) else "compiled"


def _folder(value: str | None) -> str:
    if not value:
        return "not set (the nnUNetv2 commands need it)"
    return value if Path(value).is_dir() else f"{value} (no such folder)"
