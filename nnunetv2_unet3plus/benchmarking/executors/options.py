"""Where a benchmark's jobs run, as options of a command."""

import argparse
import os
from collections.abc import Sequence

from nnunetv2_unet3plus.benchmarking.executors.job import Executor
from nnunetv2_unet3plus.benchmarking.executors.local import LocalExecutor
from nnunetv2_unet3plus.benchmarking.executors.slurm import SlurmExecutor
from nnunetv2_unet3plus.conversion.options import positive
from nnunetv2_unet3plus.errors import UserError


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--executor`, `--jobs`, `--gpus` and `--slurm`."""
    parser.add_argument(
        "--executor", choices=("local", "slurm"), default="local", help="this machine (default), or a SLURM cluster"
    )
    parser.add_argument(
        "--jobs",
        type=positive,
        metavar="N",
        help="with local: trainings at a time (default: one; with --device cuda one a GPU)",
    )
    parser.add_argument(
        "--gpus",
        nargs="+",
        metavar="ID",
        help="with local: the GPUs to share out among the jobs, by number or UUID (default: all that are visible)",
    )
    parser.add_argument(
        "--slurm",
        nargs="+",
        type=_pair,
        metavar="KEY=VALUE",
        help="with slurm: what each job asks for, such as partition=gpu time=2-00 cpus_per_task=12 mem_gb=64 "
        "gpus_per_node=1; with --device cuda one GPU if nothing is said of GPUs",
    )


def make_executor(args: argparse.Namespace) -> Executor:
    """The executor that `add_options`' options and `--device` ask for.

    Raises:
        UserError: If it cannot be had: no GPU, no SLURM, an option that does not go with the others.
    """
    cuda = args.device == "cuda"
    if args.executor == "slurm":
        if args.jobs or args.gpus:
            raise UserError("--jobs and --gpus are for --executor local; SLURM is told by --slurm KEY=VALUE")
        return SlurmExecutor(_slurm_options(args.slurm or [], cuda))
    if args.slurm:
        raise UserError("--slurm is for --executor slurm; add it, or leave --slurm out")
    if not cuda:
        if args.gpus:
            raise UserError("--gpus is for --device cuda; add it, or leave --gpus out")
        return LocalExecutor(args.jobs or 1)
    gpus = _choose_gpus(args.gpus)
    return LocalExecutor(args.jobs or len(gpus), gpus)


def _slurm_options(pairs: Sequence[tuple[str, str]], cuda: bool) -> dict[str, str]:
    options = dict(pairs)
    if len(options) < len(pairs):
        raise UserError("--slurm names a KEY twice; keep one of the two")
    # what a partition or a constraint is called asks for nothing
    asking = [key + (value if key.endswith("additional_parameters") else "") for key, value in pairs]
    if cuda and not any(word in text for text in asking for word in ("gpu", "gres")):
        options["gpus_per_node"] = "1"
    return options


def _choose_gpus(wanted: Sequence[str] | None) -> list[str]:
    """The GPUs to use, as `CUDA_VISIBLE_DEVICES` names them.

    Raises:
        UserError: If there is none, or one wanted is not among them.
    """
    import torch

    if not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch finds no GPU on this machine; use --device cpu, or --executor slurm")
    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = [str(number) for number in range(torch.cuda.device_count())]
    visible = variable.split(",") if variable else numbers
    if wanted is None:
        return visible
    if len(set(wanted)) < len(wanted):
        raise UserError(f"--gpus {' '.join(wanted)}: one is named twice; to share a GPU, set --jobs above their number")
    for gpu in wanted:
        if gpu not in visible and (variable or not _is_uuid_of_a_gpu(gpu)):
            where = "in CUDA_VISIBLE_DEVICES" if variable else "on this machine"
            raise UserError(f"--gpus {gpu}: not {where}; there are {', '.join(visible)}")
    return list(wanted)


def _is_uuid_of_a_gpu(text: str) -> bool:
    """Whether NVIDIA's driver knows a GPU, or a MIG slice of one, of this UUID."""
    if not text.startswith(("GPU-", "MIG-")):
        return False
    import pynvml

    try:
        pynvml.nvmlInit()
        pynvml.nvmlDeviceGetHandleByUUID(text)
    except pynvml.NVMLError:
        return False
    return True


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not (key and sign and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE, such as partition=gpu")
    return key, value
