"""Trainers of UNet++ and UNet#: targets, isolated networks, what plans may ask for, two processes."""

import pytest
import torch

from nnunetv2_unet3plus.trainers import (
    nnUNetTrainerUNet3Plus,
    nnUNetTrainerUNet3PlusCGM,
    nnUNetTrainerUNetPlusPlus,
    nnUNetTrainerUNetSharp,
    nnUNetTrainerUNetSharpCGM,
    nnUNetTrainerUNetSharpL1,
    nnUNetTrainerUNetSharpL2,
    nnUNetTrainerUNetSharpL3,
    nnUNetTrainerUNetSharpNoDS,
)
from nnunetv2_unet3plus.trainers.declarative import with_architecture_option
from tests.trainers.two_processes import train_in_two_processes


def test_heads_of_a_size_share_a_target(make_trainer):
    assert make_trainer(nnUNetTrainerUNetPlusPlus)._get_deep_supervision_scales() == [[1, 1]]
    native = [[1, 1], [0.5, 0.5], [0.25, 0.25], [0.125, 0.125]]
    assert make_trainer(nnUNetTrainerUNetSharp)._get_deep_supervision_scales() == native
    assert len(make_trainer(nnUNetTrainerUNetSharp).loss.weights) == 6  # three on the row, three on the diagonal


def test_isolated_network_is_the_pruned_one(make_trainer):
    trainer = make_trainer(nnUNetTrainerUNetSharpL2)
    assert list(trainer.network.decoder.nodes) == ["0_1", "1_1", "0_2"]
    assert len(trainer.network.encoder.stages) == 3


def test_isolated_network_needs_its_stages(make_trainer, refused):
    with refused("prune_level must be 1 to 2 in a network of 3 stages, not 3"):
        make_trainer(nnUNetTrainerUNetSharpL3, n_stages=3)


def test_patch_need_only_fit_the_stages_that_are_built(make_trainer, make_batch):
    trainer = make_trainer(nnUNetTrainerUNetSharpL1, patch_size=[8, 8])
    trainer.network.train()
    trainer.train_step(make_batch(trainer))


def network_for_inference(trainer, **options):
    """As nnUNetPredictor builds it, from a model folder's plans with options added."""
    plans = trainer.plans_manager.plans
    for name, value in options.items():
        plans = with_architecture_option(plans, "2d", name, value)
    manager = type(trainer.plans_manager)(plans)
    network = type(trainer).build_network_architecture(
        manager, manager.get_configuration("2d"), 1, trainer.label_manager.num_segmentation_heads, False
    )
    network.load_state_dict(trainer.network.state_dict(), strict=True)
    return network.eval()


@pytest.mark.parametrize("labels", ["labels", "regions"])
@pytest.mark.parametrize("trainer_class", [nnUNetTrainerUNetPlusPlus, nnUNetTrainerUNetSharp])
def test_plans_of_a_model_may_ask_for_the_mean_of_its_branches(trainer_class, labels, make_trainer):
    trainer = make_trainer(trainer_class, labels)
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        branches = [logits for logits in trainer.network.eval()(x) if logits.shape[2:] == x.shape[2:]]
        logits = network_for_inference(trainer, inference_mode="accurate")(x)
    nonlin = trainer.label_manager.inference_nonlin
    expected = torch.stack([nonlin(branch[0]) for branch in branches]).mean(0)
    torch.testing.assert_close(nonlin(logits[0]), expected, rtol=0, atol=1e-5)


def test_mean_of_branches_that_were_not_trained_is_refused(make_trainer):
    trainer = make_trainer(nnUNetTrainerUNetSharpNoDS)
    with pytest.raises(ValueError, match='set it to "fast"'):
        network_for_inference(trainer, inference_mode="accurate")


@pytest.mark.parametrize(
    ("trainer_class", "option", "value"),
    [
        (nnUNetTrainerUNetSharp, "inference_mode", "accurate"),
        (nnUNetTrainerUNetSharp, "far_edges", "raw"),
        (nnUNetTrainerUNetSharpCGM, "gating", "soft"),
        (nnUNetTrainerUNet3PlusCGM, "gating", "soft"),
        (nnUNetTrainerUNet3Plus, "cat_channels", 4),
    ],
)
def test_options_in_plans_do_not_disturb_the_estimate_of_memory(trainer_class, option, value, make_trainer):
    trainer = make_trainer(trainer_class)
    trainer.configuration_manager.configuration["architecture"]["arch_kwargs"][option] = value
    assert "unknown" not in trainer._cost_lines()[0]


@pytest.mark.parametrize(
    "trainer_class", [nnUNetTrainerUNetPlusPlus, nnUNetTrainerUNetSharp, nnUNetTrainerUNetSharpNoDS]
)
def test_every_parameter_gets_a_gradient_in_two_processes(trainer_class, make_trainer, make_batch):
    trainer = make_trainer(trainer_class)
    first, second = train_in_two_processes(trainer, [make_batch(trainer, seed) for seed in range(2)])
    assert None not in first.values()
    assert first == pytest.approx(second)
