"""`unet3plus report` on a thousand scans and six trainers: seconds and memory, with and without what is known already.

    python -m benchmarks.large_report                 # from the repository's root
    python -m benchmarks.large_report --cases 1000 --models 6 --size 64

Writes model folders as nnU-Net leaves them, with references and masks of balls, into a temporary folder, then starts
the command twice: the second time all measures are known from the first.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import psutil
import SimpleITK
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.evaluation.evaluate_predictions import save_summary_json

LABELS = {"background": 0, "liver": 1, "tumour": 2, "spleen": 3}
FOLDS = 5
TRAINERS = (
    "nnUNetTrainer",
    "nnUNetTrainerUNet3Plus",
    "nnUNetTrainerUNet3PlusCGM",
    "nnUNetTrainerUNetPlusPlus",
    "nnUNetTrainerUNetSharp",
    "nnUNetTrainerHybridLoss",
)


def main() -> None:
    """Write the folders, run the command twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--models", type=int, default=len(TRAINERS))
    parser.add_argument("--size", type=int, default=32, help="voxels along each axis of a scan (default: 32)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = write_results(Path(folder), args.cases, TRAINERS[: args.models], args.size)
        print(f"{args.cases} scans of {args.size}^3 voxels, {args.models} trainers, {len(LABELS) - 1} classes")
        for what in ("measured for the first time", "measures known"):
            seconds, gigabytes = run("report", results, "-o", Path(folder) / "report")
            print(f"{what}: {seconds:.0f} s, {gigabytes:.2f} GB at most, all processes together", flush=True)
        print(f"report.html: {(Path(folder) / 'report' / 'report.html').stat().st_size / 1e6:.1f} MB")


def write_results(root: Path, cases: int, trainers: tuple[str, ...], size: int) -> Path:
    """References and model folders; masks are the references, a little off."""
    random = np.random.default_rng(0)
    results, truth = root / "Dataset900_Balls", root / "truth"
    truth.mkdir(parents=True)
    names = [f"case_{number:04}" for number in range(cases)]
    references = {name: balls(random, size) for name in names}
    for name, mask in references.items():
        write_mask(truth / f"{name}.nii.gz", mask)
    for trainer in trainers:
        model = results / f"{trainer}__nnUNetPlans__3d_fullres"
        for fold in range(FOLDS):
            validation = model / f"fold_{fold}" / "validation"
            validation.mkdir(parents=True)
            torch.save({"logging": {}}, model / f"fold_{fold}" / "checkpoint_final.pth")
            entries = []
            for name in names[fold::FOLDS]:
                mask = validation / f"{name}.nii.gz"
                write_mask(mask, np.roll(references[name], random.integers(0, 4), axis=2))
                reference = str(truth / mask.name)
                entries.append({"prediction_file": str(mask), "reference_file": reference, "metrics": {}})
            summary = {"metric_per_case": entries, "mean": {}, "foreground_mean": {}}
            save_summary_json(summary, str(validation / "summary.json"))
        (model / "plans.json").write_text(json.dumps(plans()))
        description = {"labels": LABELS, "file_ending": ".nii.gz", "channel_names": {"0": "CT"}}
        (model / "dataset.json").write_text(json.dumps(description))
    return results


def balls(random: np.random.Generator, size: int) -> np.ndarray:
    """One ball a class."""
    mask = np.zeros((size, size, size), np.uint8)
    grid = np.indices(mask.shape)
    for value in range(1, len(LABELS)):
        centre, radius = random.uniform(0.3, 0.7, 3) * size, random.uniform(0.08, 0.25) * size
        mask[((grid - centre[:, None, None, None]) ** 2).sum(0) < radius**2] = value
    return mask


def write_mask(path: Path, mask: np.ndarray) -> None:
    """In voxels of 1 x 1 x 3 mm."""
    image = SimpleITK.GetImageFromArray(mask)
    image.SetSpacing((1.0, 1.0, 3.0))
    SimpleITK.WriteImage(image, path)


def plans() -> dict:
    """Of a small network."""
    stages = 4
    network = {
        "n_stages": stages,
        "features_per_stage": [8, 16, 32, 64],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "batch_size": 2,
        "patch_size": [32, 32, 32],
        "spacing": [3.0, 1.0, 1.0],
        "normalization_schemes": ["CTNormalization"],
        "architecture": {
            "network_class_name": f"{PlainConvUNet.__module__}.{PlainConvUNet.__qualname__}",
            "arch_kwargs": network,
            "_kw_requires_import": ["conv_op", "norm_op", "nonlin"],
        },
    }
    return {
        "dataset_name": "Dataset900_Balls",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "configurations": {"3d_fullres": configuration},
    }


def run(*command: str | Path) -> tuple[float, float]:
    """Seconds, and the most memory the command's processes had together, in GB, seen ten times a second."""
    start, most = perf_counter(), 0
    program = Path(sys.executable).parent / "unet3plus"
    process = psutil.Popen([program, *command], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            all_of_them = [process, *process.children(recursive=True)]
            most = max(most, sum(each.memory_info().rss for each in all_of_them))
            process.wait(0.1)
        except (psutil.NoSuchProcess, psutil.TimeoutExpired):
            pass
    return perf_counter() - start, most / 1e9


if __name__ == "__main__":
    main()
