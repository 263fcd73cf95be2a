"""`unet3plus prune`: to a level that is named, or to the first that is good enough."""

import argparse
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import torch

from nnunetv2_unet3plus.errors import UserError, explain
from nnunetv2_unet3plus.pruning.figure import draw
from nnunetv2_unet3plus.pruning.levels import choose_level, measure_levels, table
from nnunetv2_unet3plus.pruning.model_folder import prune, require_new

FIGURE, NUMBERS = "pruning.png", "pruning.json"


def run(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    if args.auto == (args.level is not None):
        raise UserError("give either --level N or --auto (see unet3plus prune --help)")
    if args.auto:
        level, before, after = prune_automatically(args.model_folder, args.tolerance, args.output, args.device)
    else:
        level = args.level
        before, after = prune(args.model_folder, level, args.output)
    folds = " ".join(sorted(fold.name.removeprefix("fold_") for fold in args.output.glob("fold_*")))
    final = all((fold / "checkpoint_final.pth").exists() for fold in args.output.glob("fold_*"))
    print(
        f"{args.output}: pruned to level {level}, {after / 1e6:.2f} of {before / 1e6:.2f} million parameters. "
        f"Predict with: nnUNetv2_predict_from_modelfolder -m {args.output} -f {folds} "
        f"{'' if final else '-chk checkpoint_best.pth '}-i SCANS -o MASKS"
    )
    return 0


def prune_automatically(folder: Path, tolerance: float, output: Path, device: str | None) -> tuple[int, int, int]:
    """Measure all levels, keep the first that is good enough; its table, as JSON, and figure go with it.

    Args:
        folder: trained model.
        tolerance: percentage points of Dice that may be lost on the validation scans.
        output: the new model folder; it appears complete or not at all.
        device: "cpu", "cuda" or "mps"; None for "cuda" if there is one, else "cpu".

    Returns:
        The level, and the parameters of the whole and of the pruned network.

    Raises:
        UserError: for a negative tolerance, a device that is not there, and as `measure_levels`.
    """
    if not tolerance >= 0:
        raise UserError(f"--tolerance {tolerance}: percentage points that may be lost, 0 or more")
    require_new(output)
    work = output.with_name(f".{output.name}.{os.getpid()}.levels")
    try:
        work.mkdir(parents=True)
        levels = measure_levels(folder, work, _device(device))
        chosen = choose_level(levels, tolerance)
        print(table(levels))
        print(f"Level {chosen.level} is the first within {tolerance:g} percentage points of the whole network's Dice.")
        model = work / f"level_{chosen.level}"
        draw(levels, chosen).savefig(model / FIGURE, dpi=150)
        (model / NUMBERS).write_text(json.dumps([asdict(level) for level in levels], indent=4))
        model.rename(output)
    except OSError as error:
        raise explain(error, output) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return chosen.level, levels[-1].parameters, chosen.parameters


def _device(name: str | None) -> torch.device:
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: not available ({str(error).splitlines()[0]}); use --device cpu") from error
    return device
