"""Thresholds by hand, and from the tiles nnU-Net's prediction would see."""

import numpy as np
import pytest
import torch
from torch import nn

from nnunetv2_unet3plus.trainers import nnUNetTrainerUNet3PlusCGM
from nnunetv2_unet3plus.trainers.gate_calibration import ScanTiles, choose_thresholds, validation_tiles


def scan(*tiles):
    """Tiles of one class: probability and voxels."""
    probability, voxels = torch.tensor(tiles, dtype=torch.float64).T
    return ScanTiles(probability[:, None, None].float(), (voxels / voxels.sum().clamp(min=1))[:, None])


def test_threshold_is_that_of_the_least_probable_tile_that_must_not_be_lost():
    scans = [scan((0.9, 600), (0.2, 400), (0.3, 0), (0.01, 0)), scan((0.4, 5), (0.1, 0))]
    thresholds = choose_thresholds(scans)
    assert thresholds.tolist() == [[torch.tensor(0.2).item()]]
    assert all(each.lost(thresholds) == 0 for each in scans)


def test_a_thousandth_of_a_scan_may_be_lost():
    thresholds = choose_thresholds([scan((0.4, 9980), (0.1, 4), (0.2, 6), (0.3, 10), (0.05, 0))])
    # in rising order 4 and 6 of 10,000 voxels may go, not 10 more
    assert thresholds.tolist() == [[torch.tensor(0.3).item()]]
    assert scan((0.4, 9980), (0.1, 4), (0.2, 6), (0.3, 10)).lost(thresholds).item() == pytest.approx(0.001)


def test_tolerance_is_per_scan():
    """What is a thousandth of all scans together may be the whole organ of one."""
    assert choose_thresholds([scan((0.9, 100_000), (0.1, 0)), scan((0.2, 1), (0.01, 0))]).tolist() == [
        [torch.tensor(0.2).item()]
    ]


def test_gates_share_what_may_be_lost():
    """Two gates that miss different tiles may lose half a thousandth each."""
    voxels = torch.tensor([9986, 4, 6, 4, 0]).double()
    probability = torch.tensor([[0.4, 0.4], [0.1, 0.5], [0.2, 0.1], [0.5, 0.2], [0.0, 0.3]])[..., None]
    both = ScanTiles(probability, (voxels / voxels.sum())[:, None])
    thresholds = choose_thresholds([both])
    torch.testing.assert_close(thresholds, torch.tensor([[0.2], [0.1]]))
    assert both.lost(thresholds).item() == pytest.approx(0.0004)


def test_at_most_the_papers_half():
    assert choose_thresholds([scan((0.9, 1), (0.6, 0))]).tolist() == [[0.5]]


def test_nothing_is_gated_without_evidence_or_without_gain():
    assert choose_thresholds([scan((0.1, 0), (0.2, 0))]).tolist() == [[0]]
    assert choose_thresholds([scan((0.1, 5), (0.2, 5))]).tolist() == [[0]]


class Brightness(nn.Module):
    """A gate that calls the class present where the tile's corner is bright: it sees how a tile is mirrored."""

    def presence_logits(self, x):
        corner = x[:, 0, 0, 0]
        return torch.stack([torch.zeros_like(corner), corner], dim=1)[:, None, None].expand(-1, 1, 2, -1)


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
    (tiles,) = validation_tiles(trainer, Brightness())
    probability = tiles.probability
    # two slices x two tiles (columns 0-7 and 4-11) x four views
    assert probability.shape == (16, 1, 2)
    assert tiles.share.shape == (16, 2)
    assert tiles.share[:, 0].tolist() == [0] * 12 + [0.25] * 4
    assert not tiles.share[:, 1].any()
    bright = torch.sigmoid(torch.tensor(3.0))
    # padding puts a row of zeros above the bright corner: no view of the tile has it in its own corner
    assert (probability == 0.5).sum() + (probability == bright).sum() == probability.numel()


def test_training_ends_with_thresholds_in_the_checkpoint(make_trainer, monkeypatch, tmp_path):
    from nnunetv2_unet3plus.trainers import classification_guided

    trainer = make_trainer(nnUNetTrainerUNet3PlusCGM)
    tiles = ScanTiles(torch.tensor([[[0.3, 0.9]], [[0.1, 0.2]]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    monkeypatch.setattr(classification_guided, "validation_tiles", lambda *_: [tiles])
    trainer.output_folder = str(tmp_path)
    trainer.log_file = str(tmp_path / "log.txt")
    trainer.dataloader_train = trainer.dataloader_val = None
    trainer.current_epoch = 1
    trainer.on_train_end()
    checkpoint = torch.load(tmp_path / "checkpoint_final.pth", weights_only=False)
    torch.testing.assert_close(checkpoint["network_weights"]["gatings.0.thresholds"], torch.tensor([0.3, 0.5]))
    assert "liver 0.3, tumour 0.5" in (tmp_path / "log.txt").read_text()
    assert "50.0%" in (tmp_path / "log.txt").read_text()
