"""Scans -> converter -> plan -> train -> predict -> evaluate -> Dice table and pictures.

Every step is the command a user would type, run as a process of its own and printed before it runs.
"""

import json
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from dataset_conversion.Dataset501_LiTS import SCHEMES
from nnunetv2_unet3plus.conversion.labels import encode_labels
from nnunetv2_unet3plus.conversion.nifti import read_voxels, write_nifti
from nnunetv2_unet3plus.conversion.nifti_header import read_geometry
from nnunetv2_unet3plus.conversion.target import check_outside
from nnunetv2_unet3plus.demo.overlay import save_overlay
from nnunetv2_unet3plus.demo.results import Results, read_results
from nnunetv2_unet3plus.demo.scans import Scans, choose_test_scans, link_scans, write_phantoms
from nnunetv2_unet3plus.demo.workspace import Workspace

DATASET_ID, DATASET = "501", "Dataset501_LiTS"
CONFIGURATION, FOLD = "2d", "0"
LABELS = "organ"  # liver and tumour as one, the paper's task
PHANTOMS_TO_TRAIN, PHANTOMS_TO_TEST = 10, 4
PROCESSES = "2"  # nnU-Net's own default is up to eight, each of which imports PyTorch before it does anything


@dataclass(frozen=True)
class Demo:
    """A demo whose scans lie ready.

    Attributes:
        workspace: The folder it works in.
        scans: Its scans.
    """

    workspace: Workspace
    scans: Scans

    @classmethod
    def prepare(cls, output: Path, data: Path | None = None, test_scans: int | None = None) -> "Demo":
        """Write phantoms or link real scans into an output folder, which is emptied once the input is known to do.

        Args:
            output: A new or empty folder, or one of an earlier demo.
            data: A LiTS download; None for phantoms.
            test_scans: How many scans of `data` to keep for the test; one in five if not given.

        Returns:
            The demo.

        Raises:
            UserError: If `data` or `output` cannot be used.
        """
        if data is None:
            workspace = Workspace.prepare(output)
            print(f"Writing {PHANTOMS_TO_TRAIN} phantom CT scans to train on and {PHANTOMS_TO_TEST} to test on")
            return cls(workspace, write_phantoms(workspace.root, PHANTOMS_TO_TRAIN, PHANTOMS_TO_TEST))
        check_outside(output, data)
        is_test = choose_test_scans(data, test_scans)
        workspace = Workspace.prepare(output)
        return cls(workspace, link_scans(data, is_test, workspace.root))

    def run(self, trainer: str, device: str) -> Results:
        """Go from the scans to the pictures.

        Args:
            trainer: Name of any trainer nnU-Net finds.
            device: `cpu`, `cuda` or `mps`.

        Returns:
            The test scans' Dice.

        Raises:
            UserError: If a step fails.
        """
        start = time.monotonic()
        print("To repeat any of these commands by hand, first set nnU-Net's folders:")
        for variable, folder in self.workspace.folders.items():
            print(f"export {variable}={folder}")
        self._train(trainer, device)
        self._predict(trainer, device)
        results = self._evaluate()
        print(f"\nDice of the test scans, by nnU-Net's evaluation:\n\n{results.table()}\n")
        print(f"Mean over scans and classes, as nnU-Net counts it: {results.mean:.4f}")
        self._draw(results)
        print(f"\nFrom scans to pictures in {timedelta(seconds=round(time.monotonic() - start))}")
        return results

    @property
    def _dataset(self) -> Path:
        return self.workspace.root / "nnUNet_raw" / DATASET

    @property
    def _masks(self) -> Path:
        return self.workspace.root / "masks"

    def _train(self, trainer: str, device: str) -> None:
        run = self.workspace.run
        run("unet3plus", "convert", "lits", self.scans.folder, f"--{LABELS}", "-d", DATASET_ID)
        processes = ("-npfp", PROCESSES, "-np", PROCESSES)
        run(
            "nnUNetv2_plan_and_preprocess",
            "-d",
            DATASET_ID,
            "-c",
            CONFIGURATION,
            "--verify_dataset_integrity",
            *processes,
        )
        run("nnUNetv2_train", DATASET_ID, CONFIGURATION, FOLD, "-tr", trainer, "-device", device)

    def _predict(self, trainer: str, device: str) -> None:
        model = ("-d", DATASET_ID, "-c", CONFIGURATION, "-f", FOLD, "-tr", trainer, "-device", device)
        folders = ("-i", self._dataset / "imagesTs", "-o", self._masks)
        self.workspace.run("nnUNetv2_predict", *folders, *model, "-npp", PROCESSES, "-nps", PROCESSES)

    def _evaluate(self) -> Results:
        truths = self._dataset / "labelsTs"
        truths.mkdir()
        for name, segmentation in self.scans.truths.items():
            voxels = encode_labels(read_voxels(segmentation), SCHEMES[LABELS], segmentation)
            with (truths / f"{name}.nii.gz").open("wb") as stream:
                write_nifti(stream, voxels, read_geometry(segmentation))
        model = ("-djfile", self._masks / "dataset.json", "-pfile", self._masks / "plans.json")
        self.workspace.run("nnUNetv2_evaluate_folder", truths, self._masks, *model, "-np", PROCESSES)
        labels = json.loads((self._dataset / "dataset.json").read_text())["labels"]
        return read_results(self._masks / "summary.json", labels)

    def _draw(self, results: Results) -> None:
        folder = self.workspace.root / "pictures"
        folder.mkdir()
        print("Pictures, true positive purple, false negative yellow, false positive green:")
        for name, dice in results.dice.items():
            picture = folder / f"{name}.png"
            scan = self._dataset / "imagesTs" / f"{name}_0000.nii.gz"
            mask = f"{name}.nii.gz"
            title = f"{name}, Dice {dice[0]:.3f}"
            save_overlay(scan, self._dataset / "labelsTs" / mask, self._masks / mask, picture, title)
            print(picture)
