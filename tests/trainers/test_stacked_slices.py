"""Every trainer on a `2.5d` configuration, and what of it is the 2D training's."""

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_unet3plus.architectures.slice_stack import SliceStack, SliceWise
from nnunetv2_unet3plus.building_blocks.slice_stack import slices_to_batch
from nnunetv2_unet3plus.trainers import (
    nnUNetTrainerDeepLabV3,
    nnUNetTrainerHybridLoss,
    nnUNetTrainerUNet3Plus,
    nnUNetTrainerUNet3PlusCGM,
    nnUNetTrainerUNet3PlusDiceCE,
    nnUNetTrainerUNet3PlusPaper,
    nnUNetTrainerUNet3PlusVGG16,
    nnUNetTrainerUNet3PlusVGG16ImageNet,
    nnUNetTrainerUNetSharp,
    nnUNetTrainerUNetSharpCGM,
)
from nnunetv2_unet3plus.trainers.gate_calibration import validation_tiles
from tests.trainers.conftest import LABELS, NETWORK
from tests.trainers.test_declarative import PLAN_DRIVEN, check_training_and_validation
from tests.trainers.two_processes import gradient_sizes, train_in_two_processes

UNET3PLUS = "nnunetv2_unet3plus.architectures.unet3plus.UNet3Plus"
DEPTH = 4
STACKED = {"depth": DEPTH}
OTHERS = [nnUNetTrainerUNet3PlusPaper, nnUNetTrainerUNet3PlusVGG16, nnUNetTrainerDeepLabV3]


@pytest.mark.parametrize("trainer_class", PLAN_DRIVEN)
def test_every_trainer(trainer_class, make_trainer, make_batch):
    trainer = make_trainer(trainer_class, "regions", stacked=STACKED, patch_size=[16, 24])
    assert isinstance(trainer.network, SliceWise)
    assert trainer.network.slices == 3
    if trainer_class.network_class is not None:
        assert type(trainer.network.network) is trainer_class.network_class
    check_training_and_validation(trainer, make_batch)


@pytest.mark.parametrize("trainer_class", OTHERS)
def test_networks_with_stages_of_their_own(trainer_class, make_trainer, make_batch):
    check_training_and_validation(
        make_trainer(trainer_class, stacked={"depth": 2}, n_stages=3, patch_size=[64, 64]), make_batch
    )


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize(
    "trainer_class", [nnUNetTrainerUNet3PlusCGM, nnUNetTrainerUNetSharpCGM, nnUNetTrainerHybridLoss]
)
def test_labels_regions_ignore(trainer_class, labels, make_trainer, make_batch):
    options = {"stacked": STACKED, "patch_size": [16, 24], "encoder": "residual"}
    trainer = make_trainer(trainer_class, labels, **options)
    check_training_and_validation(trainer, make_batch)


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("name", [*NETWORK.values(), UNET3PLUS])
def test_nnunets_own_trainer(name, labels, make_trainer, make_batch):
    encoder = "residual" if "Residual" in name else "plain"
    stacked = STACKED | {"arguments": {"network_class_name": name}}
    trainer = make_trainer(nnUNetTrainer, labels, stacked=stacked, encoder=encoder)
    assert isinstance(trainer.network, SliceStack)
    assert trainer.network.network.__class__.__name__ == name.split(".")[-1]
    trainer.network.train()
    trainer.lr_scheduler.step(0)
    assert np.isfinite(trainer.train_step(make_batch(trainer))["loss"])
    trainer.network.eval()
    with torch.no_grad():
        assert np.isfinite(trainer.validation_step(make_batch(trainer))["loss"])


@pytest.mark.parametrize("trainer_class", [nnUNetTrainerUNet3Plus, nnUNetTrainerUNet3PlusCGM, nnUNetTrainerUNetSharp])
def test_checkpoint_loads_strictly_for_inference(trainer_class, make_trainer):
    trainer = make_trainer(trainer_class, stacked=STACKED)
    network = trainer_class.build_network_architecture(
        trainer.plans_manager, trainer.configuration_manager, 1, 3, enable_deep_supervision=False
    )
    network.load_state_dict(trainer.network.state_dict(), strict=True)
    x = torch.randn(1, 1, DEPTH, 32, 32)
    with torch.no_grad():
        logits = network.eval()(x)
        trainer.set_deep_supervision_enabled(False)
        assert logits.equal(trainer.network.eval()(x))
    assert logits.shape == (1, 3, DEPTH, 32, 32)


def test_targets_keep_all_slices(make_trainer):
    native = make_trainer(nnUNetTrainerUNet3PlusDiceCE, stacked=STACKED)._get_deep_supervision_scales()
    assert native == [[1, 1, 1], [1, 0.5, 0.5], [1, 0.25, 0.25], [1, 0.125, 0.125]]
    assert make_trainer(nnUNetTrainerUNet3Plus, stacked=STACKED)._get_deep_supervision_scales() == [[1, 1, 1]]
    assert make_trainer(nnUNetTrainerUNet3PlusPaper, stacked=STACKED)._sizes_of_stages()[-1].tolist() == [
        1,
        1 / 16,
        1 / 16,
    ]


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize(
    "trainer_class", [nnUNetTrainerUNet3PlusCGM, nnUNetTrainerUNetSharpCGM, nnUNetTrainerHybridLoss]
)
def test_loss_is_that_of_the_2d_training_on_the_slices(trainer_class, labels, make_trainer, make_batch):
    stacked, flat = make_trainer(trainer_class, labels, stacked=STACKED), make_trainer(trainer_class, labels)
    batch = make_batch(stacked)
    with torch.no_grad():
        outputs = stacked.network(batch["data"])
        expected = flat.loss([slices_to_batch(o) for o in outputs], [slices_to_batch(t) for t in batch["target"]])
        assert stacked.loss(outputs, batch["target"]).item() == pytest.approx(expected.item(), rel=1e-6)


def test_memory_is_that_of_the_2d_training_with_as_many_images(make_trainer):
    need = make_trainer(nnUNetTrainerUNet3Plus, stacked={"depth": 8}, batch_size=3)._memory_need()
    flat = make_trainer(nnUNetTrainerUNet3Plus, batch_size=24)._memory_need()
    assert (need.network, need.plan_network) == pytest.approx((flat.network, flat.plan_network))


@pytest.mark.parametrize("trainer_class", [nnUNetTrainerUNet3PlusCGM, nnUNetTrainerHybridLoss, nnUNetTrainerUNetSharp])
def test_memory_is_told(trainer_class, make_trainer):
    assert "unknown" not in make_trainer(trainer_class, stacked={"depth": 8})._cost_lines()[0]


def test_every_weight_of_the_gate_learns_under_ddp(make_trainer, make_batch):
    trainer = make_trainer(nnUNetTrainerUNet3PlusCGM, stacked=STACKED)
    gradients = train_in_two_processes(trainer, [make_batch(trainer, seed) for seed in range(2)])
    first, second = ({n: g for n, g in each.items() if n.startswith("network.gate")} for each in gradients)
    assert first == pytest.approx(second)
    assert min(first.values()) > 0


def test_gate_learns_which_slices_hold_a_class(make_trainer, make_batch):
    trainer = make_trainer(nnUNetTrainerUNet3PlusCGM, stacked=STACKED)
    batch = make_batch(trainer)  # one slice of four holds something
    trainer.network.train()
    trainer.on_train_epoch_end([trainer.train_step(batch)])
    assert trainer.logger.get_value("empty_patches", step=0) == 0.75
    assert min(size for name, size in gradient_sizes(trainer.network).items() if "gate." in name) > 0


class Middle(torch.nn.Module):
    """A gate that calls the class present in slices with a bright corner: it sees how a patch is mirrored."""

    def presence_logits(self, x):
        corner = slices_to_batch(x)[:, 0, 0, 0]
        return torch.stack([torch.zeros_like(corner), corner], dim=1)[:, None, None].expand(-1, 1, 2, -1)


def test_gate_is_calibrated_slice_by_slice(make_trainer, monkeypatch):
    trainer = make_trainer(nnUNetTrainerUNet3PlusCGM, n_stages=2, patch_size=[4, 4], stacked={"depth": 2})
    data = np.zeros((1, 2, 4, 4), np.float32)
    data[0, 1, 0, 0] = 3  # slice 1
    segmentation = np.zeros((1, 2, 4, 4), np.int16)
    segmentation[0, 1, :, 1:] = 1  # 12 voxels in slice 1
    segmentation[0, 0, 0] = 2  # 4 in slice 0

    class Dataset:
        def __init__(self, *_):
            pass

        def load_case(self, key):
            return data, segmentation, None, {}

    trainer.dataset_class = Dataset
    monkeypatch.setattr(trainer, "do_split", lambda: ([], ["a"]))
    trainer.inference_allowed_mirroring_axes = (0,)
    (tiles,) = validation_tiles(trainer, Middle())
    # one tile of two slices; its mirror image has them in the opposite order
    bright = torch.sigmoid(torch.tensor(3.0)).item()
    assert tiles.probability[:, 0, 0].tolist() == pytest.approx([0.5, bright, bright, 0.5])
    assert tiles.share.tolist() == [[0, 0.5], [0.5, 0], [0.5, 0], [0, 0.5]]


def test_imagenets_weights_meet_three_slices_in_the_place_of_three_colours(make_trainer, monkeypatch):
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    trainer = make_trainer(nnUNetTrainerUNet3PlusVGG16ImageNet, stacked=STACKED)
    asked = []
    monkeypatch.setattr(trainer.network.network.encoder, "load_imagenet_weights", asked.append)
    trainer.on_train_start()
    assert len(asked) == 1
    assert next(trainer.network.encoder.body.parameters()).shape[1] == 3


class TestBadInput:
    def test_patch_without_slices(self, make_trainer, refused, monkeypatch):
        with refused(r"patch_size of stacked slices is three numbers in the plans, slices first: \[32, 32\]"):
            make_trainer(nnUNetTrainerUNet3Plus, stacked={"patch_size": [32, 32]})

    def test_slices_do_not_make_up_for_a_small_plane(self, make_trainer, refused):
        with refused("A patch of 8 x 8 voxels is too small for 4 stages"):
            make_trainer(nnUNetTrainerUNet3Plus, stacked={"depth": 8}, patch_size=[8, 8])

    @pytest.mark.parametrize(
        ("argument", "value", "line"),
        [
            ("slices", 2, "slices must be an odd number"),
            ("network_class_name", None, "SliceStack needs network_class_name, the 2D network"),
            ("strides", [[1, 1], [2, 2], [2, 2], [2, 2]], "strides of stacked slices has three numbers a stage"),
        ],
    )
    def test_architecture(self, argument, value, line, make_trainer, refused):
        with refused(line):
            make_trainer(nnUNetTrainerUNet3Plus, stacked={"arguments": {argument: value}})
