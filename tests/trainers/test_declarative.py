"""Every trainer through nnU-Net's own training, validation and checkpoint code, on every kind of labels."""

import inspect
import io
import re
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_unet3plus import trainers
from nnunetv2_unet3plus.architectures.encoder_decoder import EncoderDecoderNetwork
from nnunetv2_unet3plus.architectures.unet3plus import UNet3Plus
from nnunetv2_unet3plus.planning import memory
from nnunetv2_unet3plus.trainers import (
    nnUNetTrainerHybridLoss,
    nnUNetTrainerUNet3Plus,
    nnUNetTrainerUNet3PlusDiceCE,
    nnUNetTrainerUNet3PlusNoDS,
    nnUNetTrainerUNet3PlusPaper,
    training_cost,
)
from nnunetv2_unet3plus.trainers.baselines import LibraryTrainer
from nnunetv2_unet3plus.trainers.fixed_stages import FixedStagesTrainer
from tests.trainers.conftest import LABELS, NETWORK, plans

ALL_TRAINERS = [getattr(trainers, name) for name in trainers.__all__]
PLAN_DRIVEN = [t for t in ALL_TRAINERS if not issubclass(t, FixedStagesTrainer | LibraryTrainer)]
PLANS = [
    {"dims": 2, "encoder": "plain"},
    {"dims": 2, "encoder": "residual", "anisotropic": True},
    {"dims": 3, "encoder": "plain", "n_stages": 3, "patch_size": [8, 16, 16], "anisotropic": True},
    {"dims": 3, "encoder": "residual", "n_stages": 3, "patch_size": [16, 16, 16]},
]


def check_training_and_validation(trainer, make_batch):
    trainer.network.train()
    trainer.lr_scheduler.step(0)
    result = trainer.train_step(make_batch(trainer))
    assert np.isfinite(result["loss"])
    waiting = [name for name, p in trainer.network.named_parameters() if p.requires_grad and p.grad is None]
    assert waiting == []
    trainer.network.eval()
    with torch.no_grad():
        validation = trainer.validation_step(make_batch(trainer))
    assert np.isfinite(validation["loss"])
    assert len(validation["tp_hard"]) == 2  # liver and tumour, or the two regions


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("trainer_class", PLAN_DRIVEN)
def test_labels_regions_ignore(trainer_class, labels, make_trainer, make_batch):
    check_training_and_validation(make_trainer(trainer_class, labels), make_batch)


def has_enough_stages(plan, trainer_class):
    return trainer_class.network_options.get("prune_level", 1) < plan.get("n_stages", 4)


@pytest.mark.parametrize(
    ("plan", "trainer_class"),
    [(plan, trainer) for plan in PLANS for trainer in PLAN_DRIVEN if has_enough_stages(plan, trainer)],
    ids=lambda p: f"{p['dims']}d-{p['encoder']}" if isinstance(p, dict) else p.__name__,
)
def test_every_kind_of_plan(trainer_class, plan, make_trainer, make_batch):
    check_training_and_validation(make_trainer(trainer_class, **plan), make_batch)


@pytest.mark.parametrize(
    "trainer_class", [t for t in ALL_TRAINERS if t not in PLAN_DRIVEN and not getattr(t, "imagenet", False)]
)
def test_networks_with_stages_of_their_own(trainer_class, make_trainer, make_batch):
    check_training_and_validation(make_trainer(trainer_class, "regions", n_stages=3, patch_size=[64, 64]), make_batch)


@pytest.mark.parametrize("trainer_class", [nnUNetTrainerUNet3Plus, nnUNetTrainerUNet3PlusDiceCE])
def test_training_lowers_the_loss(trainer_class, make_trainer, make_batch):
    trainer = make_trainer(trainer_class)
    trainer.lr_scheduler.step(0)
    batch = make_batch(trainer)
    losses = [float(trainer.train_step(batch)["loss"]) for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0] if losses[0] > 0 else losses[-1] < losses[0] - 0.2


@pytest.mark.parametrize("trainer_class", [t for t in ALL_TRAINERS if not getattr(t, "imagenet", False)])
def test_checkpoint_loads_strictly_for_inference(trainer_class, make_trainer, tmp_path):
    trainer = make_trainer(trainer_class, patch_size=[64, 64])
    trainer.save_checkpoint(str(tmp_path / "checkpoint.pth"))
    checkpoint = torch.load(tmp_path / "checkpoint.pth", weights_only=False)
    assert checkpoint["trainer_name"] == trainer_class.__name__
    network = trainer_class.build_network_architecture(  # as nnUNetPredictor does, without an instance
        trainer.plans_manager, trainer.configuration_manager, 1, 3, enable_deep_supervision=False
    )
    network.load_state_dict(checkpoint["network_weights"], strict=True)
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        logits = network.eval()(x)
        trainer.set_deep_supervision_enabled(False)
        assert logits.equal(trainer.network.eval()(x))
    assert logits.shape == (1, 3, 64, 64)


@pytest.mark.parametrize("trainer_class", ALL_TRAINERS)
def test_constructor_keeps_nnunets_parameter_names(trainer_class):
    names = list(inspect.signature(trainer_class.__init__).parameters)
    assert names == list(inspect.signature(nnUNetTrainer.__init__).parameters)
    assert "plans_manager" in inspect.signature(trainer_class.build_network_architecture).parameters


def test_full_scale_needs_one_target_and_native_scale_one_a_head(make_trainer):
    assert make_trainer(nnUNetTrainerUNet3Plus)._get_deep_supervision_scales() == [[1, 1]]
    native = make_trainer(nnUNetTrainerUNet3PlusDiceCE)._get_deep_supervision_scales()
    assert native == [[1, 1], [0.5, 0.5], [0.25, 0.25], [0.125, 0.125]]
    assert make_trainer(nnUNetTrainerUNet3PlusNoDS)._get_deep_supervision_scales() is None
    # nnU-Net's network has no head on the deepest map
    assert make_trainer(nnUNetTrainerHybridLoss)._get_deep_supervision_scales() == native[:-1]


class TestCostInLog:
    def lines(self, trainer):
        return trainer._cost_lines()

    def test_parameters_and_memory(self, make_trainer):
        trainer = make_trainer(nnUNetTrainerUNet3Plus, n_stages=5, width=32, patch_size=[512, 512], batch_size=12)
        (line,) = self.lines(trainer)
        millions, need, budget, plans_need = map(float, re.findall(r"\d+\.?\d*(?= million| GB)", line))
        assert millions == round(sum(p.numel() for p in trainer.network.parameters()) / 1e6, 2)
        assert budget == 8
        # by hand: two half-precision maps of 12 patches a count, backward's share of UNet 3+, overhead and parameters
        stored = trainer.network.compute_conv_feature_map_size((512, 512))
        assert need == pytest.approx(1.9 + (1.5 * 12 * 4 * stored + 14e6 * millions) / 1e9, rel=0.05)
        assert need > plans_need

    def test_plans_own_network_needs_what_it_needs(self, make_trainer):
        need = make_trainer(nnUNetTrainerHybridLoss)._memory_need()
        assert need.network == need.plan_network

    def test_batch_of_this_process_counts(self, make_trainer):
        trainer = make_trainer(nnUNetTrainerUNet3Plus, batch_size=8)
        whole = trainer._memory_need().network
        trainer.batch_size = 2  # as under DDP with four GPUs
        less = whole - trainer._memory_need().network
        trainer.batch_size = 4
        assert whole - trainer._memory_need().network == pytest.approx(less * 4 / 6)

    def test_network_that_does_not_count_costs_no_training(self, make_trainer, monkeypatch):
        trainer = make_trainer(nnUNetTrainerUNet3Plus)
        monkeypatch.delattr(EncoderDecoderNetwork, "compute_conv_feature_map_size")
        (line,) = self.lines(trainer)
        assert "unknown (AttributeError" in line

    def test_what_to_run_where_it_will_not_fit(self, make_trainer, monkeypatch):
        trainer = make_trainer(nnUNetTrainerUNet3Plus, n_stages=5, width=32, patch_size=[512, 512], batch_size=12)
        need = trainer._memory_need()
        monkeypatch.setattr(training_cost, "_memory_of", lambda device: 6.0)
        _, advice = self.lines(trainer)
        # single precision on the CPU
        assert "Run instead: unet3plus plan -d 900 --network unet3plus --vram 3 --name nnUNetPlans_3G, then" in advice
        assert "\n" not in advice
        assert need.network > 3

    @pytest.mark.parametrize("trainer", [nnUNetTrainerHybridLoss, nnUNetTrainerUNet3Plus, nnUNetTrainerUNet3PlusPaper])
    def test_what_to_run_for_our_plans(self, trainer, make_trainer, monkeypatch):
        """The planner that made them, for the network they were made for, whatever the trainer puts in its place."""
        trainer = make_trainer(trainer, n_stages=5, width=32, patch_size=[512, 512], batch_size=12)
        options = {"network": "unetplusplus", "residual_encoder": "L", "vram": 24.0, "patch_size": [512, 512]}
        trainer.plans_manager.plans["planned_with"] = options
        monkeypatch.setattr(training_cost, "_memory_of", lambda device: 6.0)
        need = trainer._memory_need()
        _, advice = self.lines(trainer)
        target = max(1, int(6 * need.plan_network / (2 * need.network)))  # single precision on the CPU
        assert "unet3plus plan -d 900 --network unetplusplus --residual-encoder L --patch-size 512 512 " in advice
        assert f" --vram {target} --name nnUNetPlans_{target}G, then" in advice

    def test_what_to_run_for_nnunets_own_network(self, make_trainer, monkeypatch):
        trainer = make_trainer(nnUNetTrainerHybridLoss, n_stages=5, width=32, patch_size=[512, 512], batch_size=12)
        monkeypatch.setattr(training_cost, "_memory_of", lambda device: 6.0)
        _, advice = self.lines(trainer)
        assert "-pl ExperimentPlanner -gpu_memory_target 3 -overwrite_plans_name nnUNetPlans_3G, then" in advice

    def test_plan_for_a_network_of_ours_without_the_trainers_options(self, make_trainer):
        trainer = make_trainer(trainers.nnUNetTrainerUNet3PlusCGM)
        architecture = trainer.configuration_manager.configuration["architecture"]
        architecture["network_class_name"] = "nnunetv2_unet3plus.architectures.unet3plus.UNet3Plus"
        architecture["arch_kwargs"] |= {"cat_channels": 3}  # which UNet 3+ knows, unlike the `regions` of the gate
        assert architecture["arch_kwargs"]["regions"] is False
        need = trainer._memory_need()
        assert need.plan_network == pytest.approx(need.network, rel=0.01)

    def test_plans_tell_what_they_were_made_for(self, make_trainer):
        trainer = make_trainer(nnUNetTrainerUNet3Plus)
        trainer.plans_manager.plans["planned_with"] = {"network": "unet3plus", "vram": 11.0}
        assert "the plan's budget is 11.0 GB" in self.lines(trainer)[0]

    def test_logged_before_training_starts(self, make_trainer, monkeypatch):
        trainer = make_trainer(nnUNetTrainerUNet3Plus)
        logged = []
        monkeypatch.setattr(trainer, "print_to_log_file", lambda *args, **_: logged.append(" ".join(map(str, args))))
        monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: logged.append("started"))
        with redirect_stdout(io.StringIO()):
            trainer.on_train_start()
        assert "million parameters" in logged[0]
        assert logged[-1] == "started"


class TestBadInput:
    def test_head_without_a_target(self, make_trainer, refused):
        class Coarse(nnUNetTrainerUNet3PlusDiceCE):
            def _get_deep_supervision_scales(self):
                return super()._get_deep_supervision_scales()[:-1]

        with refused(r"Head 3 of Coarse is to be compared at \[0.125, 0.125\] of the patch"):
            make_trainer(Coarse)

    def test_patch_too_small_for_the_shortcuts_of_a_residual_encoder(self, make_trainer, refused):
        with refused("which its shortcut cannot pool by 2 x 2 x 2"):
            make_trainer(nnUNetTrainerUNet3Plus, dims=3, encoder="residual", patch_size=[4, 16, 16])

    def test_patch_too_small_for_the_stages(self, make_trainer, refused):
        with refused(r"patch of 8 x 8 voxels is too small for 4 stages"):
            make_trainer(nnUNetTrainerUNet3Plus, patch_size=[8, 8])

    def test_patch_too_small_for_the_papers_network(self, make_trainer, refused):
        with refused(r"patch of 16 x 16 voxels is too small for 5 stages"):
            make_trainer(nnUNetTrainerUNet3PlusPaper, n_stages=3, patch_size=[16, 16])

    def test_paper_network_on_a_3d_plan(self, make_trainer, refused):
        with refused("train it with the configuration 2d"):
            make_trainer(nnUNetTrainerUNet3PlusPaper, dims=3)


@pytest.mark.parametrize(
    ("planner", "target"),
    [("ExperimentPlanner", 8), ("nnUNetPlannerResEncM", 8), ("nnUNetPlannerResEncL", 24), ("nnUNetPlannerResEncXL", 40),
     ("nnUNetPlannerResEncL_torchres", 24), ("PlannerNobodyKnows", 8)],
)  # fmt: skip
def test_target_of_the_plans_planner(planner, target):
    manager = PlansManager(plans() | {"experiment_planner_used": planner})
    assert memory.planner_target(manager) == target


@pytest.mark.parametrize("trainer_class", [nnUNetTrainerHybridLoss, nnUNetTrainerUNet3PlusDiceCE])
def test_plan_that_names_our_network(trainer_class, make_trainer, make_batch, monkeypatch):
    name = f"{UNet3Plus.__module__}.{UNet3Plus.__name__}"
    monkeypatch.setitem(NETWORK, "plain", name)
    trainer = make_trainer(trainer_class)
    assert isinstance(trainer.network, UNet3Plus)
    check_training_and_validation(trainer, make_batch)
