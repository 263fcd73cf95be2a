"""The network of a model folder, built as nnU-Net's predictor builds it."""

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunetv2_unet3plus.doctor import find_trainer
from nnunetv2_unet3plus.errors import UserError
from nnunetv2_unet3plus.json_files import read_object


@dataclass(frozen=True)
class Checkpoint:
    """What a training has written.

    Attributes:
        path: its file.
        content: as nnU-Net has written it.
        trainer: its class.
        configuration: `2d`, ...
    """

    path: Path
    content: dict[str, Any]
    trainer: Any
    configuration: str

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """Read a checkpoint and find its trainer.

        Raises:
            UserError: if it cannot be read, or nnU-Net does not find the trainer.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=False)
            configuration, name = content["init_args"]["configuration"], content["trainer_name"]
            _ = content["network_weights"]
        except (OSError, RuntimeError, EOFError, LookupError, TypeError, UnpicklingError, ImportError) as error:
            raise UserError(f"{path}: not a readable checkpoint of nnU-Net; copy or train it again") from error
        trainer = find_trainer(name)
        if not isinstance(trainer, type):
            raise UserError(f"{path}: nnU-Net finds no trainer {name}; install what brings it, see unet3plus doctor")
        return cls(path, content, trainer, configuration)

    def network(self, plans: dict[str, Any], dataset: dict[str, Any]) -> Any:
        """The network for inference, with the weights.

        Raises:
            UserError: if it does not fit the plans.
        """
        try:
            network = build_network(self.trainer, plans, dataset, self.configuration)
            network.load_state_dict(self.content["network_weights"], strict=True)
        except (LookupError, TypeError, AttributeError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"{self.path}: does not fit the plans.json and dataset.json beside it ({reason}); give the folder as "
                "nnUNetv2_train has written it"
            ) from error
        return network


def build_network(trainer: Any, plans: dict[str, Any], dataset: dict[str, Any], configuration: str) -> nn.Module:
    """A trainer's network for inference, without deep supervision."""
    manager = PlansManager(plans)
    configuration_manager = manager.get_configuration(configuration)
    return trainer.build_network_architecture(
        manager,
        configuration_manager,
        determine_num_input_channels(manager, configuration_manager, dataset),
        manager.get_label_manager(dataset).num_segmentation_heads,
        enable_deep_supervision=False,
    )


def read_json(path: Path) -> dict[str, Any]:
    """The content of a file of a model folder.

    Raises:
        UserError: if there is no such file, or nothing nnU-Net would write in it.
    """
    return read_object(path, "give a model folder, as nnUNetv2_train writes it")
