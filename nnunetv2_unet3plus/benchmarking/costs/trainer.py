"""A trainer of nnU-Net that is asked and does not train: it leaves nothing on disk, prints nothing, downloads nothing.

As soon as it is made, a trainer writes a log into a folder of its own under nnUNet_results. But what it would do, how
many epochs, whether with deep supervision, only the object can tell.
"""

import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from io import StringIO
from tempfile import TemporaryDirectory
from typing import Any, NoReturn
from unittest.mock import patch

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


@contextmanager
def trainer_to_ask(
    trainer_class: type[nnUNetTrainer], plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]
) -> Iterator[nnUNetTrainer]:
    """A trainer on the CPU, for as long as this is entered; what it prints meanwhile and all warnings are dropped.

    Args:
        trainer_class: nnU-Net's, ours or the user's.
        plans: as in a plans file; stay as they are, as does `dataset_json`.
        configuration: `2d`, ...
        dataset_json: as in `dataset.json`.

    Raises:
        Exception: whatever the trainer's constructor raises.
    """
    with (
        TemporaryDirectory() as folder,
        patch.dict(os.environ, nnUNet_results=folder, nnUNet_wandb_enabled="0"),
        patch("huggingface_hub.constants.HF_HUB_OFFLINE", True),  # else it tries again for a minute; timm brings it
        patch.object(socket, "getaddrinfo", _offline),
        redirect_stdout(StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield trainer_class(
            deepcopy(plans) | {"continue_training": False},
            configuration,
            0,
            deepcopy(dataset_json),
            torch.device("cpu"),
        )


def _offline(host: object, *_args: object, **_kwargs: object) -> NoReturn:
    """In place of what every download asks first. Weights on disk are read, where libraries keep them."""
    raise socket.gaierror(f"wants to download from {host}, which is not done to count")
