"""Model folders as nnU-Net leaves them, in miniature: plans, description, checkpoints, masks and references."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK
import torch
from nnunetv2.evaluation.evaluate_predictions import compute_metrics, save_summary_json
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.utilities.json_export import recursive_fix_for_json_export

from tests.trainers.conftest import plans as make_plans

DATASET = "Dataset900_Phantom"
LABELS = {"background": 0, "liver": 1, "tumour": 2}
SHAPE, SPACING = (6, 16, 16), (0.8, 0.8, 3.0)
CASES = [f"case_{number}" for number in range(10)]
SPLITS = [{"train": [c for c in CASES if c not in CASES[n::5]], "val": CASES[n::5]} for n in range(5)]


@dataclass
class Folders:
    """nnU-Net's three folders.

    Attributes:
        root: what they are in.
        labels: of the dataset.
    """

    root: Path
    labels: dict = None

    def __post_init__(self):
        self.labels = self.labels or LABELS
        self.preprocessed.mkdir(parents=True)
        (self.root / "results" / DATASET).mkdir(parents=True)
        (self.root / "raw").mkdir()
        self.plans = make_plans(2, width=4)
        write_json(self.preprocessed / "nnUNetPlans.json", self.plans)
        write_json(self.preprocessed / "dataset.json", self.dataset_json)
        write_json(self.preprocessed / "splits_final.json", SPLITS)
        (self.preprocessed / "preprocessed").mkdir()
        (self.preprocessed / "preprocessed" / "case_0.b2nd").touch()
        truth = self.preprocessed / "gt_segmentations"
        truth.mkdir()
        for number, case in enumerate(CASES):
            write_mask(truth / f"{case}.nii.gz", reference(number))

    @property
    def dataset_json(self):
        return {"labels": self.labels, "file_ending": ".nii.gz", "channel_names": {"0": "CT"}}

    @property
    def preprocessed(self):
        return self.root / "preprocessed" / DATASET

    def model(self, trainer, plans_name="nnUNetPlans"):
        return self.root / "results" / DATASET / f"{trainer}__{plans_name}__2d"

    def train(self, trainer, fold, shift=0, length=(2, 3), plans=None, plans_name="nnUNetPlans", **record):
        """What a fold that is done leaves; the masks are the references, moved by `shift` pixels."""
        model = self.model(trainer, plans_name)
        folder = model / f"fold_{fold}"
        (folder / "validation").mkdir(parents=True)
        write_json(model / "plans.json", plans or self.plans)
        write_json(model / "dataset.json", self.dataset_json)
        write_json(folder / "debug.json", {"num_epochs": str(length[0]), "num_iterations_per_epoch": str(length[1])})
        if record:
            write_json(folder / "benchmark.json", record)
        init_args = {"plans": plans or self.plans, "configuration": "2d"}
        checkpoint = {"logging": LOGGING, "trainer_name": trainer, "init_args": init_args}
        torch.save(checkpoint, folder / "checkpoint_final.pth")
        for case in SPLITS[fold]["val"]:
            mask = np.roll(reference(CASES.index(case)), shift, axis=2)
            write_mask(folder / "validation" / f"{case}.nii.gz", mask)
        self.evaluate(folder)
        return folder

    def evaluate(self, folder):
        """nnU-Net's own summary of a fold, without its pool of processes."""
        values = [value for name, value in self.labels.items() if name not in ("background", "ignore")]
        metrics = [
            compute_metrics(
                str(self.preprocessed / "gt_segmentations" / mask.name),
                str(mask),
                SimpleITKIO(),
                [tuple(value) if isinstance(value, list) else value for value in values],
                self.labels.get("ignore"),
            )
            for mask in sorted((folder / "validation").glob("*.nii.gz"))
        ]
        for entry in metrics:
            recursive_fix_for_json_export(entry)
        summary = {"metric_per_case": metrics, "mean": {}, "foreground_mean": {}}
        save_summary_json(summary, str(folder / "validation" / "summary.json"))


LOGGING = {
    "train_losses": [1.0, 0.5],
    "val_losses": [1.1, 0.6],
    "mean_fg_dice": [0.1, 0.4],
    "ema_fg_dice": [0.1, 0.13],
    "dice_per_class_or_region": [[0.1, 0.1], [0.5, 0.3]],
    "lrs": [0.01, 0.005],
    "epoch_start_timestamps": [100.0, 120.0],
    "epoch_end_timestamps": [106.0, 126.0],
}


def reference(number):
    """A box of liver with a smaller one of tumour in it, another in every case."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:5, 3 : 9 + number % 4, 3:10] = 1
    mask[2:4, 5:7, 5 : 7 + number % 2] = 2
    return mask


def write_mask(path, array):
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    SimpleITK.WriteImage(image, path)


def write_json(path, content):
    path.write_text(json.dumps(content, default=str))
