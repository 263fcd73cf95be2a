"""UNet 3+ with and without its classification gate on CT in LiTS layout: masks, false positives, time.

    python -m benchmarks.accuracy.classification_gate /path/to/LiTS /path/to/workspace   # from the repository's root

Converts, plans (2d) and trains fold 0 of both with the same seed and budget, predicts the held-out scans with
`nnUNetv2_predict`, mirroring included, and prints the table. What has been planned and trained in the workspace already
is not made again. Then the same scans cropped to twice their slices without organ, so that half of the slices hold
none, and what a gate that is always right would win there. `--sparse IMAGE MASK LABEL` predicts one more scan.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from math import log2
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import SimpleITK
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import nn

from benchmarks.accuracy import seeded

DATASET = "Dataset501_LiTS"
TRAINERS = {"without gate": "nnUNetTrainerUNet3Plus", "with gate": "nnUNetTrainerUNet3PlusCGM"}


def main() -> None:
    """Train, predict, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="CT in LiTS layout")
    parser.add_argument("workspace", type=Path, help="where nnU-Net's three folders go")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=40, help="per epoch (default: 40)")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--patch-size", type=int, help="pixels along each axis (default: the plan's)")
    parser.add_argument("--width", type=int, help="features of the first stage, others follow (default: plan's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=1, help="predictions timed, in turn (default: 1)")
    parser.add_argument("--sparse", nargs=3, metavar=("IMAGE", "MASK", "LABEL"), help="one more scan to predict")
    args = parser.parse_args()
    folders = {f"nnUNet_{name}": str(args.workspace / name) for name in ("raw", "preprocessed", "results")}
    os.environ.update(folders | {"nnUNet_n_proc_DA": "2"})  # on a CPU also nnU-Net's number of threads

    plan(args.source, args.workspace)
    edit_plan(args.workspace, args.batch_size, args.patch_size, args.width)
    trainers = {row: f"{trainer}_{args.epochs}epochs_{args.iterations}iters" for row, trainer in TRAINERS.items()}
    for trainer in trainers.values():
        train(args.workspace, trainer, args.seed)
    print(f"fold 0 of {args.source.name}, 2d, {args.epochs} x {args.iterations} steps, seed {args.seed}")
    held_out = held_out_scans(args.workspace)
    compare(args.workspace, trainers, held_out, args.runs)
    for scans in (half_empty_scans(held_out), *sparse_scan(args.workspace, args.sparse)):
        compare(args.workspace, trainers, scans, args.runs)
        gain, share = gain_of_a_right_gate(model_folder(args.workspace, trainers["with gate"]), scans, args.runs)
        print(f"were the gate always right: {share:.1%} of the patches skipped, time of the network {gain:.2f}")


def plan(source: Path, workspace: Path) -> None:
    """Convert, verify, plan, preprocess."""
    if not (workspace / "preprocessed" / DATASET / "nnUNetPlans.json").exists():
        if not (workspace / "raw" / DATASET / "dataset.json").exists():
            run("unet3plus", "convert", "lits", source, "--organ")
        run("nnUNetv2_plan_and_preprocess", "-d", "501", "-c", "2d", "--verify_dataset_integrity", "-np", "2")


def edit_plan(workspace: Path, batch_size: int, patch_size: int | None, width: int | None) -> None:
    """Set what was asked for; as nnU-Net's planner, leave at least four pixels along each axis of the deepest map."""
    plans = workspace / "preprocessed" / DATASET / "nnUNetPlans.json"
    content = json.loads(plans.read_text())
    configuration = content["configurations"]["2d"]
    configuration["batch_size"] = batch_size
    network = configuration["architecture"]["arch_kwargs"]
    if patch_size:
        configuration["patch_size"] = [patch_size] * 2
        stages = min(network["n_stages"], int(log2(patch_size / 4)) + 1)
        network["n_stages"] = stages
        for per_stage in ("features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage"):
            network[per_stage] = network[per_stage][:stages]
        network["n_conv_per_stage_decoder"] = network["n_conv_per_stage_decoder"][: stages - 1]
    if width:
        features = network["features_per_stage"]
        network["features_per_stage"] = [count * width // features[0] for count in features]
    plans.write_text(json.dumps(content))


def train(workspace: Path, trainer: str, seed: int) -> None:
    """Train fold 0, unless that has been done."""
    if not (model_folder(workspace, trainer) / "fold_0" / "checkpoint_final.pth").exists():
        seeded.train("501", "2d", "0", "-tr", trainer, seed=seed, validate=False)  # predicted below


def model_folder(workspace: Path, trainer: str) -> Path:
    """Where nnU-Net keeps what it has trained."""
    return workspace / "results" / DATASET / f"{trainer}__nnUNetPlans__2d"


def held_out_scans(workspace: Path) -> Path:
    """Folder with the validation scans of fold 0 in `images`, their labels in `labels`."""
    held_out = json.loads((workspace / "preprocessed" / DATASET / "splits_final.json").read_text())[0]["val"]
    raw, folder = workspace / "raw" / DATASET, empty_folder(workspace / "held-out scans")
    for case in held_out:
        (folder / "images" / f"{case}_0000.nii.gz").symlink_to((raw / "imagesTr" / f"{case}_0000.nii.gz").resolve())
        (folder / "labels" / f"{case}.nii.gz").symlink_to((raw / "labelsTr" / f"{case}.nii.gz").resolve())
    return folder


def half_empty_scans(held_out: Path) -> Path:
    """The held-out scans, each cropped to its longer end without organ and as many slices beside it that hold some."""
    folder = empty_folder(held_out.with_name("half-empty scans"))
    for path in sorted((held_out / "labels").iterdir()):
        label = SimpleITK.ReadImage(path)
        filled = np.flatnonzero((SimpleITK.GetArrayViewFromImage(label) > 0).any((1, 2)))
        before, after = int(filled[0]), label.GetDepth() - 1 - int(filled[-1])
        kept = slice(0, 2 * before) if before > after else slice(label.GetDepth() - 2 * after, None)
        image_name = path.name.replace(".nii.gz", "_0000.nii.gz")
        image = SimpleITK.ReadImage(held_out / "images" / image_name)
        SimpleITK.WriteImage(image[:, :, kept], folder / "images" / image_name)
        SimpleITK.WriteImage(label[:, :, kept], folder / "labels" / path.name)
    return folder


def sparse_scan(workspace: Path, sparse: tuple[str, str, str] | None) -> Iterable[Path]:
    """The same for one more scan, if there is one."""
    if sparse:
        image, mask, label = sparse
        folder = empty_folder(workspace / "sparse scan")
        (folder / "images" / "sparse_0000.nii.gz").symlink_to(Path(image).resolve())
        organ = SimpleITK.ReadImage(mask) == int(label)
        SimpleITK.WriteImage(organ, folder / "labels" / "sparse.nii.gz")
        yield folder


def empty_folder(folder: Path) -> Path:
    """With `images` and `labels` in it."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    return folder


def compare(workspace: Path, trainers: dict[str, str], scans: Path, runs: int) -> None:
    """Predict with all trainers, evaluate, print a table."""
    seconds: dict[str, list[float]] = {row: [] for row in trainers}
    outputs: dict[str, str] = {}
    for _ in range(runs):
        for row, trainer in trainers.items():
            masks = scans / trainer
            shutil.rmtree(masks, ignore_errors=True)
            start = perf_counter()
            outputs[row] = predict(trainer, scans / "images", masks)
            seconds[row].append(perf_counter() - start)
    organs = {label.name: SimpleITK.ReadImage(label) for label in sorted((scans / "labels").iterdir())}
    slices, empty = map(sum, zip(*(count_slices(organ) for organ in organs.values()), strict=True))
    print(f"\n{scans.name}: {len(organs)}, {empty} of {slices} slices without organ; nnUNetv2_predict {runs} times")
    print(f"{'':14}{'Dice':>8}{'FP voxels, empty slices':>26}{'seconds':>10}{'patches skipped':>18}")
    for row, trainer in trainers.items():
        dice = evaluate(model_folder(workspace, trainer), scans / "labels", scans / trainer)
        false_positives = sum(
            false_positives_in_empty_slices(organ, SimpleITK.ReadImage(scans / trainer / name))
            for name, organ in organs.items()
        )
        skipped = re.search(r"decoder skipped for (\d+) of (\d+)", outputs[row])
        share = f"{int(skipped[1]) / int(skipped[2]):.1%}" if skipped else "-"
        print(f"{row:14}{dice:8.3f}{false_positives:26}{median(seconds[row]):10.0f}{share:>18}")
    without, with_gate = (seconds[row] for row in trainers)
    print(f"time, without / with: {median(a / b for a, b in zip(without, with_gate, strict=True)):.2f}", flush=True)


class ToldGate(nn.Module):
    """Stands in for the gate: has been told of every patch whether it holds the organ."""

    def __init__(self, holds: Iterable[bool]) -> None:
        super().__init__()
        self.holds = iter(holds)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits for one patch."""
        return torch.tensor([[[-9.0, 9.0] if next(self.holds) else [9.0, -9.0]]])


def gain_of_a_right_gate(model: Path, scans: Path, runs: int) -> tuple[float, float]:
    """Time of the network with every patch decoded / with those alone that hold organ; share of those that do not."""
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,), "checkpoint_final.pth")
    plan, configuration = predictor.plans_manager, predictor.configuration_manager
    predictor.list_of_parameters[0]["gatings.0.thresholds"] = torch.tensor([0.5])
    gains, flags = [], []
    for image in sorted((scans / "images").iterdir()):
        label = scans / "labels" / image.name.replace("_0000", "")
        data, organ, _ = configuration.preprocessor_class(verbose=False).run_case(
            [str(image)], str(label), plan, configuration, predictor.dataset_json
        )
        padded = pad_nd_image(organ, configuration.patch_size, "constant", {"constant_values": 0}, False, None)
        slicers = predictor._internal_get_sliding_window_slicers(padded.shape[1:])
        views = 2 ** len(predictor.allowed_mirroring_axes)
        holds = [bool((padded[slicer] > 0).any()) for slicer in slicers for _ in range(views)]
        flags += holds
        for _ in range(runs):
            seconds = []
            for told in ([True] * len(holds), holds):
                predictor.network.gate = ToldGate(told)
                predictor.list_of_parameters = [without_gate(predictor.list_of_parameters[0])]
                start = perf_counter()
                predictor.predict_logits_from_preprocessed_data(torch.from_numpy(np.asarray(data)))
                seconds.append(perf_counter() - start)
            gains.append(seconds[0] / seconds[1])
    return median(gains), 1 - sum(flags) / len(flags)


def without_gate(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What still fits once the gate is replaced."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith("gate.")}


def predict(trainer: str, images: Path, masks: Path) -> str:
    """The stock command, mirroring included; what it prints."""
    model = ("-d", "501", "-c", "2d", "-f", "0", "-tr", trainer)
    return run("nnUNetv2_predict", *model, "-i", images, "-o", masks, "-device", "cpu")


def evaluate(model: Path, labels: Path, masks: Path) -> float:
    """nnU-Net's own evaluation: mean Dice."""
    files = ("-djfile", model / "dataset.json", "-pfile", model / "plans.json")
    run("nnUNetv2_evaluate_folder", labels, masks, *files, "--chill")
    return json.loads((masks / "summary.json").read_text())["foreground_mean"]["Dice"]


def count_slices(organ: SimpleITK.Image) -> tuple[int, int]:
    """Axial slices, and those without organ."""
    holds = (SimpleITK.GetArrayViewFromImage(organ) > 0).any((1, 2))
    return len(holds), int((~holds).sum())


def false_positives_in_empty_slices(organ: SimpleITK.Image, mask: SimpleITK.Image) -> int:
    """Foreground voxels of the mask in axial slices that hold no organ."""
    truth, predicted = (SimpleITK.GetArrayViewFromImage(image) > 0 for image in (organ, mask))
    return int(predicted[~truth.any((1, 2))].sum())


def run(*command: str | Path) -> str:
    """Run a command of this environment; its output."""
    program = Path(sys.executable).parent / str(command[0])
    result = subprocess.run([program, *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        raise SystemExit(f"{command[0]} ended with {result.returncode}:\n{result.stdout}")
    return result.stdout


if __name__ == "__main__":
    main()
