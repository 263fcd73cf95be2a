"""nnU-Net's commands as processes, in folders of their own, and small datasets to run them on."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunetv2_unet3plus.demo.phantom import make_phantom

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
BIN = Path(sys.executable).parent
TIMEOUT = 1500  # seconds, several times what any command here takes
THREADS = 1 if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1 else 2  # tests side by side share two cores


def shared_data(name):
    """A folder of real scans, or a skip that says what is missing."""
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"real scans are not part of the project: {folder} is absent")
    return folder


class Workspace:
    """nnU-Net's three folders and what is run in them; no plug-in variable is set."""

    def __init__(self, root):
        self.root = root
        self.long_trainings = False
        self.raw, self.preprocessed, self.results = (root / n for n in ("raw", "preprocessed", "results"))
        for folder in (self.raw, self.preprocessed, self.results):
            folder.mkdir(parents=True, exist_ok=True)
        # the plug-in comes from the .pth file alone: what this process has inherited or set is taken away
        inherited = {k: v for k, v in os.environ.items() if k not in ("nnUNet_extTrainer", "PYTHONPATH")}
        self.env = inherited | {
            "nnUNet_raw": str(self.raw),
            "nnUNet_preprocessed": str(self.preprocessed),
            "nnUNet_results": str(self.results),
            "nnUNet_n_proc_DA": "2",
            "nnUNet_def_n_proc": "1",
            "OMP_NUM_THREADS": str(THREADS),
            "OMP_WAIT_POLICY": "passive",  # threads that spin while others work make a busy machine ten times slower
        }

    def start(self, *command, **options):
        env = self.env
        if command[0] == "nnUNetv2_train" and not self.long_trainings:
            env = env | {"nnUNet_n_proc_DA": "0"}  # in seconds, starting processes to augment costs more than it saves
        if command[0].startswith("nnUNetv2_predict"):  # instead of three processes, each of which imports PyTorch
            command += ("-npp", 1, "-nps", 1)
        command = [BIN / command[0], *map(str, command[1:])]
        return subprocess.Popen(command, env=env, cwd=self.root, start_new_session=True, **options)

    def run(self, *command, check=True):
        """Run a command to its end; its output, stdout and stderr together."""
        process = self.start(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            output, _ = process.communicate(timeout=TIMEOUT)
        finally:
            if process.poll() is None:  # hung, or this test is being stopped
                os.killpg(process.pid, signal.SIGKILL)
        if check:
            assert process.returncode == 0, f"{command} ended with {process.returncode}:\n{output[-4000:]}"
        return output

    def run_until(self, log, pattern, *command, timeout=400):
        """Start a command and kill it, all its processes, as soon as its log holds a pattern."""
        with log.open("w") as stream:
            process = self.start(*command, stdout=stream, stderr=subprocess.STDOUT)
            deadline = time.monotonic() + timeout
            while not re.search(pattern, log.read_text()):
                assert process.poll() is None, f"ended before {pattern!r}:\n{log.read_text()[-4000:]}"
                assert time.monotonic() < deadline, f"no {pattern!r} in {timeout} s:\n{log.read_text()[-4000:]}"
                time.sleep(0.1)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def plans(self, dataset, name="nnUNetPlans"):
        return self.preprocessed / dataset / f"{name}.json"

    def edit_plans(self, dataset, configuration, name="nnUNetPlans", **changes):
        """Make a planned configuration small enough for a test: its batch, its patch."""
        file = self.plans(dataset, name)
        plans = json.loads(file.read_text())
        plans["configurations"][configuration].update(changes)
        file.write_text(json.dumps(plans))

    def model_folder(self, dataset, trainer, configuration, plans="nnUNetPlans"):
        return self.results / dataset / f"{trainer}__{plans}__{configuration}"

    def evaluate(self, dataset, truth, predictions):
        """nnU-Net's own evaluation of the cases predicted: mean foreground Dice and the scores of each case."""
        plans = next((self.results / dataset).glob("*/plans.json"))
        self.run(
            "nnUNetv2_evaluate_folder",
            truth,
            predictions,
            "-djfile",
            plans.parent / "dataset.json",
            "-pfile",
            plans,
            "--chill",
        )
        summary = json.loads((predictions / "summary.json").read_text())
        return summary["foreground_mean"]["Dice"], summary["metric_per_case"]


def write_lits_phantoms(folder, cases=8):
    """Phantoms in the challenge's layout."""
    batch = folder / "Training Batch 1"
    batch.mkdir(parents=True)
    for n in range(cases):
        phantom = make_phantom(seed=n, shape=(64, 64, 24))
        nib.save(nib.Nifti1Image(phantom.intensities, phantom.affine), batch / f"volume-{n}.nii")
        nib.save(nib.Nifti1Image(phantom.labels, phantom.affine), batch / f"segmentation-{n}.nii")
    return folder


def write_hippocampus(raw, cases, dataset="Dataset004_Hippocampus", labels=None, **dataset_json):
    """Real MR scans of the Decathlon's Task04 as an nnU-Net dataset."""
    source = shared_data("Task04_Hippocampus")
    images, masks = ({p.name for p in (source / d).glob("*.nii.gz")} for d in ("imagesTr", "labelsTr"))
    names = sorted(images & masks)[:cases]
    target = raw / dataset
    for folder in ("imagesTr", "labelsTr"):
        (target / folder).mkdir(parents=True)
    for name in names:
        image_name = name.replace(".nii.gz", "_0000.nii.gz")
        shutil.copy(source / "imagesTr" / name, target / "imagesTr" / image_name)
        shutil.copy(source / "labelsTr" / name, target / "labelsTr" / name)
    description = {
        "channel_names": {"0": "MRI"},
        "labels": labels or {"background": 0, "anterior": 1, "posterior": 2},
        "numTraining": len(names),
        "file_ending": ".nii.gz",
    }
    (target / "dataset.json").write_text(json.dumps(description | dataset_json))
    return dataset


def ignore_every_other_slice(folder, ignore_label):
    """Sparse annotation: overwrite every other slice of all segmentations by the ignore label."""
    for file in folder.glob("*.nii.gz"):
        image = nib.load(file)
        array = np.asanyarray(image.dataobj).copy()
        array[:, :, ::2] = ignore_label
        nib.save(nib.Nifti1Image(array, image.affine, image.header), file)


def link_images(source, target, cases):
    """A folder with some images of another: a number of them, or those of the cases named."""
    files = sorted(source.glob("*.nii.gz"))
    files = files[:cases] if isinstance(cases, int) else [source / f"{case}_0000.nii.gz" for case in cases]
    target.mkdir()
    for file in files:
        (target / file.name).symlink_to(file)
    return target
