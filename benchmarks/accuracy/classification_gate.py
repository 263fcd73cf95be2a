"""UNet 3+ with and without its classification gate on CT in LiTS layout: masks, false positives, time.

    python -m benchmarks.accuracy.classification_gate /path/to/LiTS /path/to/workspace   # from the repository's root

Converts, plans (2d) and trains fold 0 of both with the same seed and budget, predicts the held-out scans with
`nnUNetv2_predict`, mirroring included, and prints the table. What is in the workspace already is not made again.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import SimpleITK

DATASET = "Dataset501_LiTS"
TRAINERS = {"without gate": "nnUNetTrainerUNet3Plus", "with gate": "nnUNetTrainerUNet3PlusCGM"}
SEEDED_TRAINING = """
import random, sys
import numpy, torch
seed = int(sys.argv.pop())
for start_from in (random.seed, numpy.random.seed, torch.manual_seed):
    start_from(seed)
from nnunetv2.run.run_training import run_training_entry
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer
nnUNetTrainer.get_allowed_n_proc_DA = lambda: 0  # augmentation in this process, which is the seeded one
run_training_entry()
"""


def main() -> None:
    """Train, predict, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="CT in LiTS layout")
    parser.add_argument("workspace", type=Path, help="where nnU-Net's three folders go")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=40, help="per epoch (default: 40)")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folders = {f"nnUNet_{name}": str(args.workspace / name) for name in ("raw", "preprocessed", "results")}
    os.environ.update(folders | {"nnUNet_n_proc_DA": "2"})  # on a CPU also nnU-Net's number of threads

    plan(args.source, args.workspace, args.batch_size)
    rows = {}
    for row, trainer in TRAINERS.items():
        name = f"{trainer}_{args.epochs}epochs_{args.iterations}iters"
        rows[row] = train_and_predict(args.workspace, name, args.seed)
    print(
        f"fold 0 of {args.source.name}, 2d, {args.epochs} x {args.iterations} steps, seed {args.seed}, held-out scans"
    )
    columns = list(next(iter(rows.values())))
    print(f"{'':14}" + "".join(f"{column:>26}" for column in columns))
    for row, values in rows.items():
        print(f"{row:14}" + "".join(f"{values[column]:>26}" for column in columns))


def plan(source: Path, workspace: Path, batch_size: int) -> None:
    """Convert, verify, plan, preprocess."""
    plans = workspace / "preprocessed" / DATASET / "nnUNetPlans.json"
    if plans.exists():
        return
    if not (workspace / "raw" / DATASET / "dataset.json").exists():
        run("unet3plus", "convert", "lits", source, "--organ")
    run("nnUNetv2_plan_and_preprocess", "-d", "501", "-c", "2d", "--verify_dataset_integrity", "-np", "2")
    content = json.loads(plans.read_text())
    content["configurations"]["2d"]["batch_size"] = batch_size
    plans.write_text(json.dumps(content))


def train_and_predict(workspace: Path, trainer: str, seed: int) -> dict[str, str]:
    """One row of the table."""
    model = workspace / "results" / DATASET / f"{trainer}__nnUNetPlans__2d"
    if not (model / "fold_0" / "checkpoint_final.pth").exists():
        options = ("501", "2d", "0", "-tr", trainer, "-device", "cpu")
        subprocess.run([sys.executable, "-c", SEEDED_TRAINING, *options, str(seed)], check=True)
    held_out = json.loads((workspace / "preprocessed" / DATASET / "splits_final.json").read_text())[0]["val"]
    scans, masks = workspace / "scans", workspace / f"masks_{trainer}"
    scans.mkdir(exist_ok=True)
    for case in held_out:
        link = scans / f"{case}_0000.nii.gz"
        if not link.exists():
            link.symlink_to(workspace / "raw" / DATASET / "imagesTr" / link.name)
    start = perf_counter()
    output = run(
        "nnUNetv2_predict",
        "-d",
        "501",
        "-c",
        "2d",
        "-f",
        "0",
        "-tr",
        trainer,
        "-i",
        scans,
        "-o",
        masks,
        "-device",
        "cpu",
    )
    seconds = perf_counter() - start
    truth = workspace / "raw" / DATASET / "labelsTr"
    run(
        "nnUNetv2_evaluate_folder",
        truth,
        masks,
        "-djfile",
        model / "dataset.json",
        "-pfile",
        model / "plans.json",
        "--chill",
    )
    dice = json.loads((masks / "summary.json").read_text())["foreground_mean"]["Dice"]
    false_positives = sum(
        false_positives_in_empty_slices(truth / f"{c}.nii.gz", masks / f"{c}.nii.gz") for c in held_out
    )
    skipped = re.search(r"decoder skipped for (\d+) of (\d+)", output)
    return {
        "Dice": f"{dice:.3f}",
        "FP voxels, empty slices": str(false_positives),
        "nnUNetv2_predict, s": f"{seconds:.0f}",
        "patches skipped": f"{int(skipped[1]) / int(skipped[2]):.1%}" if skipped else "-",
    }


def false_positives_in_empty_slices(truth: Path, mask: Path) -> int:
    """Foreground voxels of the mask in axial slices that hold no organ."""
    organ, predicted = (SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(file)) > 0 for file in (truth, mask))
    return int(predicted[~organ.any((1, 2))].sum())


def run(*command: str | Path) -> str:
    """Run a command of this environment; its output."""
    program = Path(sys.executable).parent / str(command[0])
    result = subprocess.run([program, *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        raise SystemExit(f"{command[0]} ended with {result.returncode}:\n{result.stdout}")
    return result.stdout


if __name__ == "__main__":
    main()
