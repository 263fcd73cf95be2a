"""Trainers of networks with stages of their own: the papers', those on ImageNet's encoders, the libraries'."""

import pytest

from nnunetv2_unet3plus import trainers
from nnunetv2_unet3plus.trainers import (
    nnUNetTrainerUNet3PlusPaper,
    nnUNetTrainerUNet3PlusVGG16,
    nnUNetTrainerUNet3PlusVGG16ImageNet,
    nnUNetTrainerUNetPaper,
    nnUNetTrainerUNetSharpResNet101,
    nnUNetTrainerWideUNetPaper,
)
from nnunetv2_unet3plus.trainers.imagenet import ImageNetEncoderTrainer


@pytest.mark.parametrize(
    ("trainer_class", "parameters"),
    [
        (nnUNetTrainerUNet3PlusPaper, 27_029_967),
        (nnUNetTrainerUNetPaper, 7_852_035),
        (nnUNetTrainerWideUNetPaper, 9_392_358),
    ],
)
def test_parameters_whatever_the_plan(trainer_class, parameters, make_trainer):
    trainer = make_trainer(trainer_class, n_stages=3)
    assert sum(p.numel() for p in trainer.network.parameters()) == parameters


def test_patch_must_fit_the_networks_own_stages(make_trainer, refused):
    assert len(nnUNetTrainerUNetSharpResNet101.strides(make_trainer(nnUNetTrainerUNetPaper).configuration_manager)) == 6
    with refused("patch"):
        make_trainer(nnUNetTrainerUNetSharpResNet101, patch_size=[32, 32])


@pytest.mark.parametrize("trainer_class", [nnUNetTrainerUNetPaper, nnUNetTrainerUNet3PlusVGG16])
def test_3d_plan(trainer_class, make_trainer, refused):
    with refused(f"{trainer_class.__name__} is a 2D network"):
        make_trainer(trainer_class, dims=3)


def test_every_encoder_has_a_trainer_with_and_without_imagenet():
    found = [t for t in vars(trainers).values() if isinstance(t, type) and issubclass(t, ImageNetEncoderTrainer)]
    assert len(found) == 12
    assert {t.__name__ for t in found if t.imagenet} == {f"{t.__name__}ImageNet" for t in found if not t.imagenet}


class TestImageNet:
    @pytest.fixture
    def trainer(self, make_trainer, monkeypatch):
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

        monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
        trainer = make_trainer(nnUNetTrainerUNet3PlusVGG16ImageNet)
        self.asked = []
        monkeypatch.setattr(trainer.network.encoder, "load_imagenet_weights", self.asked.append)
        return trainer

    def test_downloaded_when_training_starts(self, trainer, monkeypatch):
        monkeypatch.delenv("unet3plus_imagenet_weights", raising=False)
        trainer.on_train_start()
        assert self.asked == [None]

    def test_from_the_file_that_is_named(self, trainer, monkeypatch):
        monkeypatch.setenv("unet3plus_imagenet_weights", "weights/vgg16.pth")
        trainer.on_train_start()
        assert [str(file) for file in self.asked] == ["weights/vgg16.pth"]

    def test_not_when_training_is_resumed(self, trainer):
        trainer.current_epoch = 3
        trainer.on_train_start()
        assert self.asked == []

    def test_not_to_predict(self, trainer, monkeypatch):
        import timm

        create = timm.create_model
        monkeypatch.setattr(timm, "create_model", lambda *a, pretrained=False, **k: create(*a, **k) if not pretrained
                            else pytest.fail("weights were asked for"))  # fmt: skip
        network = type(trainer).build_network_architecture(
            trainer.plans_manager, trainer.configuration_manager, 1, 3, enable_deep_supervision=False
        )
        network.load_state_dict(trainer.network.state_dict(), strict=True)


@pytest.mark.parametrize(
    "name",
    ["nnUNetTrainerPSPNet", "nnUNetTrainerDeepLabV3", "nnUNetTrainerDeepLabV3Plus", "nnUNetTrainerAttentionUNet"],
)
def test_libraries_networks_have_nnunets_loss_and_count_their_memory(name, make_trainer):
    trainer = make_trainer(getattr(trainers, name), patch_size=[64, 64])
    assert type(trainer.loss).__name__ == "DC_and_CE_loss"
    assert "unknown" not in trainer._cost_lines()[0]
    trainer.set_deep_supervision_enabled(False)  # as nnU-Net does to validate
