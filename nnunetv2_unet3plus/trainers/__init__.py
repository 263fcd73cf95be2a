"""nnU-Net trainers, one file a family."""

from nnunetv2_unet3plus.trainers.nested import (
    nnUNetTrainerUNetPlusPlus,
    nnUNetTrainerUNetPlusPlusL1,
    nnUNetTrainerUNetPlusPlusL2,
    nnUNetTrainerUNetPlusPlusL3,
    nnUNetTrainerUNetPlusPlusNoDS,
    nnUNetTrainerUNetSharp,
    nnUNetTrainerUNetSharpL1,
    nnUNetTrainerUNetSharpL2,
    nnUNetTrainerUNetSharpL3,
    nnUNetTrainerUNetSharpNoDS,
)
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
    "nnUNetTrainerUNetPlusPlus",
    "nnUNetTrainerUNetPlusPlusL1",
    "nnUNetTrainerUNetPlusPlusL2",
    "nnUNetTrainerUNetPlusPlusL3",
    "nnUNetTrainerUNetPlusPlusNoDS",
    "nnUNetTrainerUNetSharp",
    "nnUNetTrainerUNetSharpL1",
    "nnUNetTrainerUNetSharpL2",
    "nnUNetTrainerUNetSharpL3",
    "nnUNetTrainerUNetSharpNoDS",
]
