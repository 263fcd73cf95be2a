"""Benchmarks made up for tests: every figure from a seed, scans of two ellipsoids in a round body."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from nnunetv2_unet3plus.benchmarking.results import (
    CASE_COLUMNS,
    MEASURES,
    Benchmark,
    CasePair,
    Costs,
    Curves,
    Labels,
    Model,
)

TRAINERS = (
    "nnUNetTrainer",
    "nnUNetTrainerUNet3Plus",
    "nnUNetTrainerUNet3PlusCGM",
    "nnUNetTrainerUNetSharp",
    "nnUNetTrainerUNetPlusPlus",
    "nnUNetTrainerUNet3PlusDiceCE",
)
SHAPE, SPACING = (48, 40, 12), (2.0, 2.0, 5.0)


def trainers(count, length="_50epochs"):
    more = (f"nnUNetTrainerVariant{index}" for index in range(1, 100))
    return [f"{name}{length}" for name in [*TRAINERS, *more][:count]]


def case_table(models, cases, labels=("liver", "tumour"), splits=("test", "validation"), seed=0):
    """Rows of models of which each later one is a little better than the first, in every other case."""
    generator = np.random.default_rng(seed)
    parts = []
    for split in splits:
        for label_index, label in enumerate(labels):
            hardness = generator.beta(2, 18, cases) * (1 + 2 * label_index)
            for index, model in enumerate(models):
                dice = np.clip(1 - hardness * (1 - 0.06 * index) - generator.gamma(1.5, 0.006, cases), 0, 1)
                part = pd.DataFrame(index=range(cases), columns=list(CASE_COLUMNS))
                part["model"], part["split"], part["label"] = model, split, label
                part["fold"] = "0+1" if split == "test" else [str(case % 2) for case in range(cases)]
                part["case"] = [f"{'liver_test' if split == 'test' else 'liver'}_{case:03d}" for case in range(cases)]
                part["dice"], part["iou"] = dice, dice / (2 - dice)
                part["hd95"] = generator.gamma(2, 120 * (1 - dice) + 0.5)
                part["surface_dice"] = np.clip(dice - 0.08, 0, 1)
                part["volume_error"] = generator.normal(2 * index - 3, 14, cases)
                part["false_positive_scan"] = np.nan
                part["false_positive_slices"] = generator.gamma(0.5, 3, cases)
                parts.append(part)
    return pd.concat(parts, ignore_index=True).astype(dict.fromkeys(MEASURES, float))


def model(name, index, known_costs=True, epochs=60, folds=("0", "1")):
    costs = Costs(
        parameters=30_500_000 - 1_900_000 * index,
        gflop=58.3 + 71 * index,
        saved_bytes=int((1.9 + 0.7 * index) * 2**30),
        peak_gpu_bytes=int((7.2 + 1.3 * index) * 2**30) if index % 2 == 0 else None,
        seconds_per_iteration=0.11 + 0.06 * index,
        seconds_per_case=4.0 + 41.7 * index,
    )
    return Model(
        name,
        Path("/data/nnUNet_results/Dataset501_LiTS") / f"{name.partition(' ')[0]}__nnUNetPlans__2d",
        folds,
        costs if known_costs else Costs(),
        {fold: curves(epochs, seed=10 * index + int(fold)) for fold in folds} if epochs else {},
    )


def curves(epochs, seed):
    generator = np.random.default_rng(seed)
    falling = np.exp(-np.arange(epochs) / max(1, epochs / 4))
    train = falling - 0.9 + generator.normal(0, 0.02, epochs)
    return Curves(
        train.tolist(),
        (train + 0.05 + generator.normal(0, 0.03, epochs)).tolist(),
        np.clip(0.93 * (1 - falling) + generator.normal(0, 0.015, epochs), 0, 1).tolist(),
    )


def benchmark(models=4, cases=12, labels=("liver", "tumour"), splits=("test", "validation"), **changes):
    """A benchmark without files; `changes` replace attributes."""
    names = trainers(models)
    made = Benchmark(
        dataset="Dataset501_LiTS",
        models=[model(name, index) for index, name in enumerate(names)],
        labels=Labels({label: (index + 1,) for index, label in enumerate(labels)}),
        cases=case_table(names, cases, labels, splits),
        pairs=[],
        settings={
            "Configuration": "2d",
            "Plans": "nnUNetPlans",
            "Folds": "0, 1",
            "Length": "50 epochs of 250 iterations",
            "Seeds": "nnU-Net's own: none is set",
            "Device": "cuda, NVIDIA A100",
            "Versions": "nnunetv2 2.8.1, torch 2.9.0",
        },
        problems=[],
    )
    return replace(made, **changes)


def phantom(seed=0, shape=SHAPE):
    """Intensities in HU and classes, organ 1 and lesion 2, (right, front, up)."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))

    def ellipsoid(centre, radii):
        offsets = (grid - np.reshape(centre, (3, 1, 1, 1))) / np.reshape(radii, (3, 1, 1, 1))
        return (offsets**2).sum(axis=0) < 1

    shift = generator.uniform(-0.08, 0.08, 3)
    classes = np.zeros(shape, np.uint8)
    classes[ellipsoid(np.array([0.35, 0.1, 0.1]) + shift, (0.42, 0.5, 0.6))] = 1
    classes[ellipsoid(np.array([0.4, 0.15, 0.1]) + shift, (0.14, 0.16, 0.25))] = 2
    scan = np.where(ellipsoid((0, 0, 0), (0.92, 0.85, 9)), 20.0, -1000.0)
    scan[classes == 1], scan[classes == 2] = 110, 60
    return (scan + generator.normal(0, 12, shape)).astype(np.int16), classes


def write(path, voxels, spacing=SPACING, axes="RAS"):
    image = nib.Nifti1Image(voxels, np.diag([*spacing, 1.0]))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image.as_reoriented(nib.orientations.axcodes2ornt(axes)), path)
    return path


def with_files(made, folder, split="test", axes="LPS", shape=SHAPE):
    """The same benchmark with scans, references and predictions of all cases of a split."""
    pairs = []
    cases = made.cases[made.cases["split"] == split]
    for seed, case in enumerate(sorted(cases["case"].unique())):
        scan, classes = phantom(seed, shape)
        image = write(folder / "images" / f"{case}_0000.nii.gz", scan, axes=axes)
        truth = write(folder / "labels" / f"{case}.nii.gz", classes, axes=axes)
        for index, each in enumerate(made.models):
            predicted = np.roll(classes, (index + 1, -index, 0), axis=(0, 1, 2))
            prediction = write(folder / f"model{index}" / f"{case}.nii.gz", predicted, axes=axes)
            pairs.append(CasePair(each.name, "0+1", split, case, truth, prediction, image))
    return replace(made, pairs=pairs)


def small(count=2, cases=7, **changes):
    """The same with one class, one split, no cost and no curve: quick to draw."""
    made = benchmark(count, cases, ("liver",), ("test",))
    bare = [model(each.name, index, known_costs=False, epochs=0) for index, each in enumerate(made.models)]
    return replace(made, **{"models": bare, **changes})
