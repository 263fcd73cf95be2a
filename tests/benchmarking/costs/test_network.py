"""Counted against networks that are built, against arithmetic by hand, and on trainers that cannot be counted."""

import os
import re
from copy import deepcopy
from time import perf_counter

import pytest
import torch

from nnunetv2_unet3plus.benchmarking.costs.network import network_costs
from nnunetv2_unet3plus.building_blocks import resize_conv
from nnunetv2_unet3plus.doctor import find_trainer
from nnunetv2_unet3plus.planning.saved_tensors import saved_bytes

TRAININGS = [
    ("nnUNetTrainer", {}),
    ("nnUNetTrainer", {"dims": 3}),
    ("nnUNetTrainer", {"encoder": "residual"}),
    ("nnUNetTrainerNoDeepSupervision", {}),
    ("nnUNetTrainerUNet3Plus", {"dims": 3, "anisotropic": True}),
    ("nnUNetTrainerUNet3Plus", {"stacked": {"depth": 4}}),
    ("nnUNetTrainerUNet3PlusCGM", {}),
    ("nnUNetTrainerUNet3PlusCGM", {"labels": "regions", "stacked": {"depth": 4}}),
    ("nnUNetTrainerUNetSharpCGM", {"dims": 3}),  # batch norms that have nothing to compare in one patch
    ("nnUNetTrainerDeepLabV3", {}),
    ("nnUNetTrainerUNetSharpNoDS", {}),
    ("nnUNetTrainerUNet3PlusVGG16ImageNet", {"n_stages": 5, "patch_size": [64, 64]}),
]


def name_of(value):
    return "-".join(map(str, value.values())) or "2d" if isinstance(value, dict) else value


@pytest.mark.parametrize(("name", "options"), TRAININGS, ids=name_of)
def test_against_the_network_that_trains(name, options, make_trainer, on_plans, monkeypatch):
    monkeypatch.setattr(resize_conv, "tiles_apply", lambda *_: False)  # the CPU's own form copies no weights
    trainer = make_trainer(find_trainer(name), **options)
    patch = trainer.configuration_manager.patch_size
    plans, configuration, dataset_json = on_plans(**options)
    if "labels" in options:
        dataset_json["regions_class_order"] = [1, 2]
    costs = network_costs(name, plans, configuration, dataset_json)
    assert costs.problem is None
    assert costs.parameters == sum(p.numel() for p in trainer.network.parameters())
    patches = 2 if name in ("nnUNetTrainerUNetSharpCGM", "nnUNetTrainerDeepLabV3") else 1
    kept = saved_bytes(trainer.network.train(), torch.zeros(patches, 1, *patch)) / patches
    # the CPU computes narrow heads in another order and keeps some weights for it; what recomputes keeps little else
    assert costs.saved_bytes == pytest.approx(kept, rel=0.02)


def test_operations_by_hand(on_plans):
    """Three stages of 4, 8 and 16 features on 32 x 32, two heads of three classes."""
    encoder = 32**2 * 9 * 1 * 4 + 16**2 * 9 * (4 * 8 + 8 * 8) + 8**2 * 9 * (8 * 16 + 16 * 16)
    up = 16**2 * 16 * 8 + 32**2 * 8 * 4  # transposed convolutions of 2 x 2, beside each other
    decoder = 16**2 * 9 * 16 * 8 + 32**2 * 9 * 8 * 4
    fine, coarse = 32**2 * 4 * 3, 16**2 * 8 * 3
    costs = network_costs("nnUNetTrainer", *on_plans(n_stages=3))
    assert costs.gflop == pytest.approx(2 * (encoder + up + decoder + fine + coarse) / 1e9, rel=1e-9)
    assert (costs.epochs, costs.iterations, costs.validation_iterations) == (1000, 250, 50)
    one_head = network_costs("nnUNetTrainerNoDeepSupervision_7epochs_20iters", *on_plans(n_stages=3))
    assert one_head.gflop == pytest.approx(costs.gflop - 2 * coarse / 1e9, rel=1e-9)
    assert (one_head.epochs, one_head.iterations, one_head.validation_iterations) == (7, 20, 4)


def test_a_patch_of_slices_costs_as_many_2d_patches(on_plans):
    stacked = network_costs("nnUNetTrainerUNet3Plus", *on_plans(stacked={"depth": 4}))
    plane = network_costs("nnUNetTrainerUNet3Plus", *on_plans(channels=3))
    assert stacked.parameters == plane.parameters
    assert stacked.gflop == pytest.approx(4 * plane.gflop, rel=1e-9)


def test_a_cascade_sees_the_earlier_stages_segmentation(on_plans):
    plans, _, dataset_json = on_plans(dims=3)
    fullres = plans["configurations"]["3d_fullres"]
    plans["configurations"]["3d_lowres"] = fullres | {"next_stage": "3d_cascade_fullres"}
    plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    alone, cascaded = (
        network_costs("nnUNetTrainer", plans, configuration, dataset_json)
        for configuration in ("3d_lowres", "3d_cascade_fullres")
    )
    assert cascaded.problem is None
    assert cascaded.parameters - alone.parameters == 2 * 4 * 3**3  # two more channels into the first convolution


OLD_SIGNATURE = """
@staticmethod
def build_network_architecture(architecture_class_name, arch_init_kwargs, arch_init_kwargs_req_import,
                               num_input_channels, num_output_channels, enable_deep_supervision=True):
    return torch.nn.Conv2d(num_input_channels, num_output_channels, 3, padding=1)
"""
NEW_SIGNATURE = """
@staticmethod
def build_network_architecture(plans_manager, configuration_manager, num_input_channels, num_output_channels,
                               enable_deep_supervision=True):
"""
ASKS_FOR_VALUES = (
    NEW_SIGNATURE
    + """
    width = int(torch.linspace(2, 4, 3)[1].item())
    return torch.nn.Conv2d(num_input_channels, width, 3, padding=1)
"""
)
ASKS_FOR_VALUES_IN_FORWARD = (
    NEW_SIGNATURE
    + """
    class Network(torch.nn.Conv2d):
        def forward(self, x):
            return super().forward(x) if x.mean().item() > 0 else x
    return Network(num_input_channels, num_output_channels, 3)
"""
)
DOWNLOADS = {
    "torch": """
    torch.hub.load_state_dict_from_url("https://weights.example.org/weights.pth")
""",
    "timm": """
    import timm
    return timm.create_model("resnet18", pretrained=True, features_only=True)
""",
}
LEAVES = """
def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
    raise SystemExit("needs\\na GPU")
"""


class TestTrainersOfUsers:
    def test_old_signature(self, users_trainer, on_plans):
        costs = network_costs(users_trainer(OLD_SIGNATURE), *on_plans())
        assert costs.problem is None
        assert costs.parameters == 3 * 9 + 3
        assert costs.gflop == pytest.approx(2 * 32**2 * 9 * 3 / 1e9)

    def test_network_that_asks_for_values_while_it_is_built(self, users_trainer, on_plans):
        costs = network_costs(users_trainer(ASKS_FOR_VALUES), *on_plans())
        assert costs.problem is None
        assert costs.parameters == 3 * 9 + 3

    def test_network_that_asks_for_values_in_forward(self, users_trainer, on_plans):
        costs = network_costs(users_trainer(ASKS_FOR_VALUES_IN_FORWARD), *on_plans())
        assert costs.parameters == 3 * 9 + 3
        assert costs.gflop is costs.saved_bytes is None
        assert costs.problem.startswith("nnUNetTrainerOfUser: gflop, saved_bytes unknown (RuntimeError: ")

    @pytest.mark.parametrize("library", DOWNLOADS)
    def test_nothing_is_downloaded(self, library, users_trainer, on_plans, monkeypatch, tmp_path):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("connected"))
        start = perf_counter()
        costs = network_costs(users_trainer(NEW_SIGNATURE + DOWNLOADS[library]), *on_plans())
        assert perf_counter() - start < 20  # no waiting for a connection to come
        assert costs.parameters is costs.gflop is costs.saved_bytes is None
        assert costs.epochs == 1000
        reason = {"torch": "wants to download from weights.example.org", "timm": "resnet18|Hub"}[library]
        assert re.search(reason, costs.problem)

    def test_trainer_that_cannot_be_made(self, users_trainer, on_plans):
        costs = network_costs(users_trainer(LEAVES), *on_plans())
        assert costs.epochs is costs.parameters is None
        assert costs.problem.endswith("unknown (SystemExit: needs a GPU)")

    def test_trainer_that_is_not_found(self, on_plans):
        costs = network_costs("nnUNetTrainerOfNobody", *on_plans())
        assert costs.problem == "nnUNetTrainerOfNobody: not found by nnU-Net, so what it costs is unknown"

    def test_configuration_the_trainer_is_not_made_for(self, on_plans):
        costs = network_costs("nnUNetTrainerUNet3PlusPaper", *on_plans(dims=3))
        assert costs.epochs == 1000
        assert "nnUNetTrainerUNet3PlusPaper is a 2D network" in costs.problem


@pytest.mark.parametrize("results", [None, "results"])
def test_nothing_is_left_behind(results, on_plans, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("nnUNet_results", raising=False)
    if results:
        monkeypatch.setenv("nnUNet_results", str(tmp_path / results))
    monkeypatch.setenv("nnUNet_wandb_enabled", "1")  # would open a run of its own
    arguments = on_plans()
    before, environment = deepcopy(arguments), dict(os.environ)
    assert network_costs("nnUNetTrainerUNet3PlusCGM", *arguments).problem is None
    assert arguments == before
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert dict(os.environ) == environment
