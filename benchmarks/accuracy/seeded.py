"""nnU-Net's own training from a seed: augmentation in the process that is seeded."""

import subprocess
import sys
from collections.abc import Mapping

_TRAINING = """
import random, sys
import numpy, torch
seed = int(sys.argv.pop())
for start_from in (random.seed, numpy.random.seed, torch.manual_seed):
    start_from(seed)
from nnunetv2.run.run_training import run_training_entry
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as module
module.get_allowed_n_proc_DA = lambda: 0  # augmentation in this process, which is the seeded one
"""
_WITHOUT_VALIDATION = "module.nnUNetTrainer.perform_actual_validation = lambda *_: None\n"
_WITHOUT_MIRRORING = """
validate = module.nnUNetTrainer.perform_actual_validation
def validate_as_it_is(trainer, *arguments):
    trainer.inference_allowed_mirroring_axes = None
    validate(trainer, *arguments)
module.nnUNetTrainer.perform_actual_validation = validate_as_it_is
"""


def train(
    *arguments: str,
    seed: int,
    validate: bool = True,
    environment: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> None:
    """Train on the CPU in a process of its own.

    Args:
        *arguments: those of `nnUNetv2_train`.
        seed: of weights, patches and augmentation.
        validate: whether to predict the fold's validation cases in the end, without mirroring.
        environment: of the process; None for this one's.
        quiet: print only what goes wrong.

    Raises:
        CalledProcessError: if the training fails.
    """
    program = _TRAINING + (_WITHOUT_MIRRORING if validate else _WITHOUT_VALIDATION) + "run_training_entry()\n"
    command = [sys.executable, "-c", program, *arguments, "-device", "cpu", str(seed)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL if quiet else None)
