"""Thresholds by hand, and from the tiles nnU-Net's prediction would see."""

import numpy as np
import torch
from torch import nn

from nnunetv2_unet3plus.trainers import nnUNetTrainerUNet3PlusCGM
from nnunetv2_unet3plus.trainers.gate_calibration import choose_thresholds, validation_tiles


def test_no_tile_that_holds_the_class_is_lost():
    probability = torch.tensor([[0.9], [0.2], [0.3], [0.01]])
    holds = torch.tensor([[True], [True], [False], [False]])
    thresholds = choose_thresholds(probability, holds)
    assert thresholds.tolist() == [torch.tensor(0.2).item()]
    assert (probability >= thresholds)[holds].all()


def test_at_most_the_papers_half():
    assert choose_thresholds(torch.tensor([[0.9], [0.6]]), torch.tensor([[True], [False]])).tolist() == [0.5]


def test_nothing_is_gated_without_evidence_or_without_gain():
    probability = torch.tensor([[0.1, 0.1], [0.2, 0.2]])
    never_and_always = torch.tensor([[False, True], [False, True]])
    assert choose_thresholds(probability, never_and_always).tolist() == [0, 0]


class Brightness(nn.Module):
    """A gate that calls the class present where the tile's corner is bright: it sees how a tile is mirrored."""

    def presence_logits(self, x):
        corner = x[:, 0, 0, 0]
        return torch.stack([torch.zeros_like(corner), corner], dim=1)[:, None].expand(-1, 2, -1)


def test_tiles_are_those_of_prediction(make_trainer, monkeypatch):
    trainer = make_trainer(nnUNetTrainerUNet3PlusCGM, n_stages=2, patch_size=[8, 8])
    data = np.zeros((1, 2, 6, 12), np.float32)  # two slices, smaller than a tile along one axis
    data[0, 1, 0, 0] = 3
    segmentation = np.zeros((1, 2, 6, 12), np.int16)
    segmentation[0, 1, :, 9:] = 1  # slice 1, right tile alone

    class Dataset:
        def __init__(self, folder, keys, previous):
            assert keys == ["a"]

        def load_case(self, key):
            return data, segmentation, None, {}

    trainer.dataset_class = Dataset
    monkeypatch.setattr(trainer, "do_split", lambda: ([], ["a"]))
    trainer.inference_allowed_mirroring_axes = (0, 1)
    probability, holds = validation_tiles(trainer, Brightness())
    # two slices x two tiles (columns 0-7 and 4-11) x four views
    assert probability.shape == holds.shape == (16, 2)
    assert holds[:, 0].tolist() == [False] * 12 + [True] * 4
    assert not holds[:, 1].any()
    bright = torch.sigmoid(torch.tensor(3.0))
    # padding puts a row of zeros above the bright corner: no view of the tile has it in its own corner
    assert (probability == 0.5).sum() + (probability == bright).sum() == probability.numel()


def test_training_ends_with_thresholds_in_the_checkpoint(make_trainer, monkeypatch, tmp_path):
    from nnunetv2_unet3plus.trainers import classification_guided

    trainer = make_trainer(nnUNetTrainerUNet3PlusCGM)
    tiles = torch.tensor([[0.3, 0.9], [0.1, 0.2]]), torch.tensor([[True, True], [False, False]])
    monkeypatch.setattr(classification_guided, "validation_tiles", lambda *_: tiles)
    trainer.output_folder = str(tmp_path)
    trainer.log_file = str(tmp_path / "log.txt")
    trainer.dataloader_train = trainer.dataloader_val = None
    trainer.current_epoch = 1
    trainer.on_train_end()
    checkpoint = torch.load(tmp_path / "checkpoint_final.pth", weights_only=False)
    torch.testing.assert_close(checkpoint["network_weights"]["gating.thresholds"], torch.tensor([0.3, 0.5]))
    assert "liver 0.3, tumour 0.5" in (tmp_path / "log.txt").read_text()
    assert "50.0%" in (tmp_path / "log.txt").read_text()
