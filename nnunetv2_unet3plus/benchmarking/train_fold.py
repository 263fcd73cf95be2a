"""Train and validate one fold, as `nnUNetv2_train` does, but so that a kill costs nothing and changes nothing.

    python -m nnunetv2_unet3plus.benchmarking.train_fold Dataset501_LiTS 2d 0 -tr nnUNetTrainerUNet3Plus --device cuda

It differs from nnU-Net's command in four things. Random numbers start anew at every epoch, from seed, fold and epoch,
so that a training which is resumed draws what it would have drawn (exactly so with nnUNet_n_proc_DA=0; patches that
nnU-Net's worker processes make are random). Checkpoints appear complete or not at all. What is done is not done again.
And what it took is written into the fold's `benchmark.json`.
"""

import argparse
import errno
import fcntl
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import torch
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_unet3plus.benchmarking.costs.energy import GpuEnergy
from nnunetv2_unet3plus.benchmarking.fold import FINAL, RECORD, Fold, State, digest, model_folder
from nnunetv2_unet3plus.conversion.atomic import write_text
from nnunetv2_unet3plus.errors import UserError
from nnunetv2_unet3plus.trainers.training_length import CHECKPOINTS_PER_TRAINING

ALL = 1 << 16  # stands for fold `all` in a seed
IN_PROCESS = "0"  # nnUNet_n_proc_DA: patches are made by the training's own process


def main() -> int:
    """Train, validate; 2 if somebody else is at it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="name, Dataset501_LiTS")
    parser.add_argument("configuration")
    parser.add_argument("fold")
    parser.add_argument("-tr", dest="trainer", default="nnUNetTrainer")
    parser.add_argument("-p", dest="plans", default="nnUNetPlans")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda", "mps"))
    args = parser.parse_args()
    model = model_folder(args.dataset, args.trainer, args.plans, args.configuration)
    fold = Fold(model / f"fold_{args.fold}")
    try:
        with only_one_at_a_time(fold.folder):
            train_and_validate(args, fold)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


@contextmanager
def only_one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold a fold's folder, which the operating system gives back however this process ends.

    Raises:
        UserError: if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".benchmark.lock").open("w") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise UserError(f"{folder}: another process is working on it; wait for it or stop it") from error
            raise UserError(
                f"{folder}: the file system has no locks ({error.strerror}), without which two trainings could meet "
                "here; put nnUNet_results elsewhere"
            ) from error
        yield


def train_and_validate(args: argparse.Namespace, fold: Fold) -> None:
    """Do what is missing."""
    state = fold.state
    if state is State.DONE:
        print(f"{fold.folder}: trained and validated already")
        return
    device = set_up(args.device)
    number = args.fold if args.fold == "all" else int(args.fold)
    checkpoint = fold.folder / FINAL if state is State.TRAINED else fold.resume_from
    seed_everything(args.seed, number)
    trainer: nnUNetTrainer = get_trainer_from_args(
        args.dataset, args.configuration, number, args.trainer, args.plans, checkpoint is not None, device
    )
    if checkpoint is not None:
        trainer.load_checkpoint(str(checkpoint))
    if state is not State.TRAINED:
        (fold.validation / "summary.json").unlink(missing_ok=True)  # of an earlier training
        in_one_go = trainer.current_epoch == 0
        record = begin(fold, args, in_one_go)
        safe_and_repeatable(trainer, args.seed, number)
        with GpuEnergy() as energy:
            trainer.run_training()
        record["watt_hours"] = energy.watt_hours if in_one_go else None
        record["peak_gpu_bytes"] = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
        write_record(fold, record)
    trainer.perform_actual_validation()


def set_up(device: str) -> torch.device:
    """As `nnUNetv2_train`, but on a CPU with as many threads as OMP_NUM_THREADS says, where it says so."""
    if device == "cuda":
        torch.set_num_threads(1)
        torch.set_num_interop_threads(1)
        torch.backends.cudnn.deterministic = False
        torch.backends.cudnn.benchmark = True
    return torch.device(device)


def safe_and_repeatable(trainer: nnUNetTrainer, seed: int, fold: int | str) -> None:
    """Give every epoch random numbers of its own, and let checkpoints appear complete."""
    trainer.save_every = min(trainer.save_every, max(1, trainer.num_epochs // CHECKPOINTS_PER_TRAINING))
    on_epoch_start: Callable[[], None] = trainer.on_epoch_start
    save_checkpoint: Callable[[str], None] = trainer.save_checkpoint

    def seeded_epoch(self: nnUNetTrainer) -> None:
        seed_everything(seed, fold, self.current_epoch)
        on_epoch_start()

    def save_whole(self: nnUNetTrainer, filename: str) -> None:
        save_checkpoint(f"{filename}.part")
        if Path(f"{filename}.part").exists():  # not if checkpoints are switched off
            Path(f"{filename}.part").replace(filename)

    trainer.on_epoch_start = MethodType(seeded_epoch, trainer)
    trainer.save_checkpoint = MethodType(save_whole, trainer)


def seed_everything(seed: int, fold: int | str, epoch: int | None = None) -> None:
    """Seed Python, NumPy and PyTorch; without an epoch for the initial weights."""
    place = [seed, ALL if fold == "all" else int(fold), 0 if epoch is None else epoch + 1]
    for_python, for_numpy, for_torch = map(int, np.random.SeedSequence(place).generate_state(3))
    random.seed(for_python)
    np.random.seed(for_numpy)
    torch.manual_seed(for_torch)


def begin(fold: Fold, args: argparse.Namespace, in_one_go: bool) -> dict[str, Any]:
    """Write down how the fold is trained, before it is; what was written when it began stays."""
    workers = os.environ.get("nnUNet_n_proc_DA") != IN_PROCESS  # noqa: SIM112 - nnU-Net's own name
    repeatable = not workers and args.device == "cpu"
    record = fold.record
    if record is None or in_one_go:
        record = {"seed": args.seed, "repeatable": True, "split": split_of(args.dataset, args.fold)}
        if not in_one_go:  # something else began it
            record |= {"seed": None, "repeatable": False, "split": None}
    record["repeatable"] = record["repeatable"] and repeatable
    write_record(fold, record)
    return record


def split_of(dataset: str, fold: str) -> str | None:
    """Tells which scans a fold is trained and validated on."""
    file = Path(nnUNet_preprocessed) / dataset / "splits_final.json"
    if fold == "all" or not file.exists():
        return None
    splits = json.loads(file.read_text())
    return digest(splits[int(fold)]) if int(fold) < len(splits) else None


def write_record(fold: Fold, record: dict[str, Any]) -> None:
    """The fold's `benchmark.json`."""
    write_text(fold.folder / RECORD, fold.folder, json.dumps(record, indent=1))


if __name__ == "__main__":
    sys.exit(main())
