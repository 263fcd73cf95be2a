"""Trainers as nnU-Net makes them, on a plan and a dataset.json written here: no data on disk, no training run."""

import re
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform

from tests.architectures.plans import arch_kwargs
from tests.stacked_plans import add_stacked_slices

LABELS = {
    "labels": {"background": 0, "liver": 1, "tumour": 2},
    "ignore": {"background": 0, "liver": 1, "tumour": 2, "ignore": 3},
    "regions": {"background": 0, "organ": [1, 2], "tumour": 2},
    "regions-ignore": {"background": 0, "organ": [1, 2], "tumour": 2, "ignore": 3},
}
NETWORK = {
    "plain": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "residual": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
}


def plans(dims=2, encoder="plain", n_stages=4, patch_size=None, batch_size=2, width=4, anisotropic=False, stacked=None):
    """A plans file with one configuration, `2d` or `3d_fullres`; with what `add_stacked_slices` takes also `2.5d`."""
    kwargs = arch_kwargs(dims, encoder, n_stages, anisotropic, width)
    importable = {k: f"{v.__module__}.{v.__name__}" for k, v in kwargs.items() if isinstance(v, type)}
    configuration = {
        "data_identifier": "preprocessed",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": batch_size,
        "patch_size": patch_size or [32] * dims,
        "spacing": [1.0] * dims,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "batch_dice": dims == 2,
        "architecture": {
            "network_class_name": NETWORK[encoder],
            "arch_kwargs": kwargs | importable,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    plans = {
        "dataset_name": "Dataset900_Phantom",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "configurations": {{2: "2d", 3: "3d_fullres"}[dims]: configuration},
    }
    return add_stacked_slices(plans, **{"batch_size": batch_size} | stacked) if stacked else plans


@pytest.fixture
def refused(capsys):
    """with refused(line): what ends as our commands do, exit code 2 and one line that matches."""

    @contextmanager
    def expect(line):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ending:
            yield
        printed = capsys.readouterr().err
        assert ending.value.code == 2
        assert re.search(line, printed)
        assert printed.count("\n") == 1

    return expect


@pytest.fixture
def make_trainer(tmp_path, monkeypatch):
    """make_trainer(trainer_class, kind_of_labels, **plans options) -> an initialised trainer on the CPU."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")

    def make(trainer_class, labels="labels", **options):
        plan = plans(**options)
        folder = tmp_path / "nnUNet_preprocessed" / plan["dataset_name"] / "preprocessed"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "case.b2nd").touch()  # nnU-Net infers its dataset class from the files' ending
        dataset_json = {
            "channel_names": {"0": "CT"},
            "labels": LABELS[labels],
            "file_ending": ".nii.gz",
            "numTraining": 1,
        }
        if labels.startswith("regions"):
            dataset_json["regions_class_order"] = [1, 2]
        torch.manual_seed(0)
        *_, configuration = plan["configurations"]
        trainer = trainer_class(
            plan | {"continue_training": False}, configuration, 0, dataset_json, torch.device("cpu")
        )
        trainer.initialize()
        trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
        return trainer

    return make


@pytest.fixture
def make_batch():
    """make_batch(trainer) -> a batch as nnU-Net's loader would hand it to this trainer."""

    def make(trainer, seed=0):
        rng = np.random.default_rng(seed)
        size = trainer.configuration_manager.patch_size
        shape = (trainer.batch_size, 1, *size)
        manager = trainer.label_manager
        segmentation = torch.zeros(shape)
        segmentation[(slice(None), 0, *[slice(n // 4, n // 2) for n in size])] = 1
        segmentation[(slice(None), 0, *[slice(n // 4, n // 3) for n in size])] = 2
        if manager.has_ignore_label:
            segmentation[..., -4:] = manager.ignore_label
        data = torch.from_numpy(rng.normal(size=shape).astype(np.float32)) + segmentation
        if manager.has_regions:
            regions = [torch.isin(segmentation, torch.tensor(region).float()) for region in manager.foreground_regions]
            ignored = [segmentation == manager.ignore_label] if manager.has_ignore_label else []
            segmentation = torch.cat(regions + ignored, dim=1).float()
        scales = trainer._get_deep_supervision_scales()
        if scales is None:
            return {"data": data, "target": segmentation}
        downsample = DownsampleSegForDSTransform(scales)
        per_sample = [downsample._apply_to_segmentation(s) for s in segmentation]
        return {"data": data, "target": [torch.stack(level) for level in zip(*per_sample, strict=True)]}

    return make
