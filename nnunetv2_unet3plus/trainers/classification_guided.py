"""Training a network with a classification gate: presence targets, curves, thresholds."""

from typing import Any

import numpy as np
import torch
from torch import nn

from nnunetv2_unet3plus.losses.presence import PresenceGuidedLoss
from nnunetv2_unet3plus.trainers.declarative import DeclarativeTrainer
from nnunetv2_unet3plus.trainers.gate_calibration import choose_thresholds, validation_tiles
from nnunetv2_unet3plus.trainers.stacked_slices import is_stacked

CURVES = ("gate_accuracy", "gate_accuracy_validation", "empty_patches")


class ClassificationGuidedTrainer(DeclarativeTrainer):
    """Adds the gate's loss to the segmentation's, logs how well it classifies, and calibrates it when training ends.

    Its networks take `regions` and have `gatings` and, in the same order, `presence_logits`, as `UNet3PlusCGM`: the
    first of the gates is the one that may keep a patch from the decoder. Deep supervision stays on:
    it is what tells such a network to return the gate's logits.
    """

    regions_in_plans = True

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's own default
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        for curve in CURVES:  # in nnU-Net's logger, so that checkpoints and W&B have them too
            self.logger.local_logger.my_fantastic_logging.setdefault(curve, [])
        self._explained_gate = False

    def _loss_of_all_outputs(self) -> nn.Module:
        manager = self.label_manager
        loss = PresenceGuidedLoss(super()._loss_of_all_outputs(), manager.has_regions, manager.ignore_label)
        self._gate_record = loss.record
        return loss

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """Log nnU-Net's training loss and how well the gate has classified the training patches."""
        super().on_train_epoch_end(train_outputs)
        record = self._gate_record
        if not self._explained_gate:
            self._explained_gate = True
            for line in _what_the_gate_cannot_learn(record.share_of_patches(), self._class_names()):
                self.print_to_log_file(line)
        accuracy, empty = record.take()
        self.logger.log("gate_accuracy", accuracy, self.current_epoch)
        self.logger.log("empty_patches", empty, self.current_epoch)

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """Log nnU-Net's validation and how well the gate has classified the validation patches."""
        super().on_validation_epoch_end(val_outputs)
        self.logger.log("gate_accuracy_validation", self._gate_record.take()[0], self.current_epoch)
        values = {curve: self.logger.get_value(curve, step=-1) for curve in CURVES}
        self.print_to_log_file(
            f"Gate accuracy {values['gate_accuracy']:.4f} (validation {values['gate_accuracy_validation']:.4f}), "
            f"{values['empty_patches']:.1%} of the training patches without foreground"
        )

    def on_train_end(self) -> None:
        """Choose the gate's thresholds on the validation scans, then end as nnU-Net does: they go into the checkpoint.

        Done here and not by a command of its own, so that the model folder is complete when training is.
        """
        network = self.bare_network()
        network.eval()
        scans = validation_tiles(self, network)
        thresholds = choose_thresholds(scans)
        for gating, of_gate in zip(network.gatings, thresholds, strict=True):
            gating.thresholds.copy_(of_gate)
        skipped = torch.cat([(scan.probability[:, 0] < thresholds[0]).all(1) for scan in scans])
        lost = max(scan.lost(thresholds).max().item() for scan in scans)
        chosen = ", ".join(
            f"{name} {' '.join(f'{t:.2g}' for t in of_class)}"
            for name, of_class in zip(self._class_names(), thresholds.T.tolist(), strict=True)
        )
        tiles = "slices of tiles" if is_stacked(self.configuration_manager) else "tiles"
        self.print_to_log_file(
            f"Gate thresholds, below which a class is absent: {chosen}. Of the {len(skipped)} {tiles} and mirror "
            f"images of the validation scans they skip {skipped.float().mean():.1%}; the most that is lost of a class "
            f"in a scan is {lost:.2%}."
        )
        super().on_train_end()

    def _class_names(self) -> list[str]:
        """In the order of the gate's classes: that of the labels' values, or of the regions in dataset.json."""
        labels = {name: value for name, value in self.dataset_json["labels"].items() if name != "ignore"}
        if self.label_manager.has_regions:
            return [name for name, value in labels.items() if value not in (0, [0], (0,))]
        return sorted(
            (name for name, value in labels.items() if value != 0), key=lambda name: max(np.ravel(labels[name]))
        )


def _what_the_gate_cannot_learn(shares: list[float], names: list[str]) -> list[str]:
    """A line for every class that all patches of an epoch hold, or none; no line if no patch was annotated."""
    lines = []
    for share, name in zip(shares, names, strict=bool(shares)):
        if share == 1:
            lines.append(f"Every training patch of this epoch holds {name}: its gate has nothing to learn from these.")
        elif share == 0:
            lines.append(f"No training patch of this epoch holds {name}: its gate learns to call it absent.")
    return lines
