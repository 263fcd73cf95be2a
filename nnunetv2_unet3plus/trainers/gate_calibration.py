"""Choose the thresholds of a classification gate so that no organ of the validation scans is lost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot
from torch import Tensor, distributed, nn

from nnunetv2_unet3plus.building_blocks.classification_gate import presence_probability
from nnunetv2_unet3plus.building_blocks.gating import DEFAULT_THRESHOLD

# Of the voxels of a class in a scan. Without any tolerance the one tile in which the first few voxels of an organ show
# would decide for all scans; Dice cannot fall by more than half of this.
TOLERATED_LOSS = 0.001


@dataclass
class ScanTiles:
    """What a gate says about the tiles of a scan and their mirror images, and what they hold.

    Where slices are stacked it answers slice by slice, and a slice of a tile is what is called a tile here.

    Attributes:
        probability: `P(present)`, `(tiles, gates, classes)`.
        share: of the class's voxels in the scan, those that lie in the tile, `(tiles, classes)`; each column sums to
            1, or to 0 where the scan does not hold the class.
    """

    probability: Tensor
    share: Tensor

    def lost(self, thresholds: Tensor) -> Tensor:
        """Of the voxels of each class, the share in tiles that a gate calls absent; `(classes,)`."""
        return (self.share * (self.probability < thresholds).any(1)).sum(0)


def choose_thresholds(scans: Sequence[ScanTiles]) -> Tensor:
    """The largest thresholds, up to 0.5, at which no scan loses more than `TOLERATED_LOSS` of a class.

    Several gates may lose an equal part of it each. A class that no tile holds, or that every tile holds, gets 0, which
    gates nothing: in the one case there is no evidence of what would be lost, in the other nothing to win.

    Args:
        scans: the validation scans.

    Returns:
        Thresholds `(gates, classes)`.
    """
    thresholds = torch.stack([_largest_thresholds(scan) for scan in scans]).amin(0)
    holds = torch.cat([scan.share > 0 for scan in scans])
    return thresholds.where(holds.any(0) & ~holds.all(0), torch.zeros(()))


def _largest_thresholds(scan: ScanTiles) -> Tensor:
    """The probability of the first tile, in rising order, that must not be lost; 0.5 if that is lower."""
    probability, order = scan.probability.sort(0)
    lost = scan.share[:, None].expand_as(order).gather(0, order).cumsum(0)
    tolerated = TOLERATED_LOSS / probability.shape[1]
    return probability.masked_fill(lost <= tolerated, DEFAULT_THRESHOLD).amin(0).clamp(max=DEFAULT_THRESHOLD)


def validation_tiles(trainer: nnUNetTrainer, network: nn.Module) -> list[ScanTiles]:
    """What the gate says about every tile of the fold's validation scans, mirrored views included, and what is true.

    The tiles are those of nnU-Net's prediction: same size, steps, padding, mirrorings and precision. Of the network
    only what the gates need runs. Under DDP every process takes a part of the scans and gets the tiles of all.

    Args:
        trainer: initialised, with preprocessed validation scans.
        network: its network, not wrapped, with a method `presence_logits`.
    """
    keys = trainer.do_split()[1]
    if trainer.is_ddp:
        keys = keys[trainer.local_rank :: distributed.get_world_size()]
    manager = trainer.label_manager
    classes = manager.foreground_regions if manager.has_regions else manager.foreground_labels
    listener = _GateListener(network, manager.num_segmentation_heads, classes)
    predictor = nnUNetPredictor(use_mirroring=True, device=trainer.device, allow_tqdm=False)
    predictor.manual_initialization(
        listener, trainer.plans_manager, trainer.configuration_manager, None, trainer.dataset_json,
        type(trainer).__name__, trainer.inference_allowed_mirroring_axes,
    )  # fmt: skip
    dataset = trainer.dataset_class(
        trainer.preprocessed_dataset_folder, keys, trainer.folder_with_segs_from_previous_stage
    )
    scans = []
    for key in keys:
        predictor.predict_sliding_window_return_logits(_load(trainer, dataset, key))
        scans.append(listener.tiles())
    if trainer.is_ddp:
        gathered: list = [None] * distributed.get_world_size()
        distributed.all_gather_object(gathered, scans)
        scans = [scan for part in gathered for scan in part]
    return scans


class _GateListener(nn.Module):
    """Stands in for the network in nnU-Net's predictor: writes down the gate's answers, segments nothing.

    The true segmentation comes as one more channel of the images, so nnU-Net pads, cuts and mirrors both alike.
    """

    def __init__(self, network: Any, channels: int, classes: Sequence[int | Sequence[int]]) -> None:
        super().__init__()
        self.network = network
        self.channels = channels
        self.labels = [torch.tensor(each).flatten() for each in classes]
        self.heard: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        """Logits of zeros, `(B, channels, *size)`."""
        images, segmentation = x[:, :-1], x[:, -1].cpu()
        probability = presence_probability(self.network.presence_logits(images)).cpu()
        parts = segmentation.reshape(len(probability), -1)  # a gate may answer for every slice of a patch
        voxels = torch.stack([torch.isin(parts, labels).sum(1) for labels in self.labels], dim=1)
        self.heard.append((probability, voxels))
        return x.new_zeros(len(x), self.channels, *x.shape[2:])

    def tiles(self) -> ScanTiles:
        """What has been heard of one scan; forgets it."""
        probability, voxels = (torch.cat(parts) for parts in zip(*self.heard, strict=True))
        self.heard.clear()
        return ScanTiles(probability, voxels.double() / voxels.sum(0).clamp(min=1))


def _load(trainer: nnUNetTrainer, dataset: object, key: str) -> Tensor:
    """The network's input for one scan and its segmentation as the last channel, `(C + 1, *size)`."""
    data, segmentation, previous, _ = dataset.load_case(key)  # type: ignore[attr-defined]
    channels = [data[:]]
    if trainer.is_cascaded:
        labels = trainer.label_manager.foreground_labels
        channels.append(convert_labelmap_to_one_hot(previous[:], labels, output_dtype=data.dtype))
    return torch.from_numpy(np.vstack([*channels, segmentation[:]]).astype(np.float32, copy=False))
