"""nnU-Net trainers, one file a family."""

from nnunetv2_unet3plus.trainers.unet3plus import (
    nnUNetTrainerHybridLoss,
    nnUNetTrainerUNet3Plus,
    nnUNetTrainerUNet3PlusCGM,
    nnUNetTrainerUNet3PlusDiceCE,
    nnUNetTrainerUNet3PlusFocal,
    nnUNetTrainerUNet3PlusNoDS,
    nnUNetTrainerUNet3PlusPaper,
)

__all__ = [
    "nnUNetTrainerHybridLoss",
    "nnUNetTrainerUNet3Plus",
    "nnUNetTrainerUNet3PlusCGM",
    "nnUNetTrainerUNet3PlusDiceCE",
    "nnUNetTrainerUNet3PlusFocal",
    "nnUNetTrainerUNet3PlusNoDS",
    "nnUNetTrainerUNet3PlusPaper",
]
