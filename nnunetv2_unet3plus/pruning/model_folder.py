"""Cut a trained UNet++ or UNet# down to its first levels, as an ordinary nnU-Net model folder.

What UNet++ calls embedded pruning: the whole network is trained with deep supervision, then only the nodes X(i, j) with
i + j up to the level are kept. They never saw the others, so the pruned network's output is exactly the whole
network's branch X(0, level).
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_unet3plus.architectures.slice_stack import SliceWise
from nnunetv2_unet3plus.errors import UserError, explain
from nnunetv2_unet3plus.trained_network import Checkpoint, build_network, read_json
from nnunetv2_unet3plus.trainers.classification_guided import ClassificationGuidedTrainer
from nnunetv2_unet3plus.trainers.declarative import with_architecture_option
from nnunetv2_unet3plus.trainers.nested import NestedTrainer
from nnunetv2_unet3plus.trainers.stacked_slices import in_plane

KEPT_FILES = ("dataset.json", "dataset_fingerprint.json")
KEPT_OF_FOLD = ("progress.png", "debug.json")
# Of a checkpoint, what inference reads; the optimizer's state belongs to the whole network.
KEPT_OF_CHECKPOINT = (
    "network_weights",
    "grad_scaler_state",
    "current_epoch",
    "init_args",
    "trainer_name",
    "inference_allowed_mirroring_axes",
)


def prune(folder: Path, level: int, output: Path) -> tuple[int, int]:
    """Write a pruned copy of a model folder; it appears complete or not at all.

    Args:
        folder: as nnU-Net writes it, `.../nnUNetTrainerUNetSharp__nnUNetPlans__2d`.
        level: deepest level to keep, from 1.
        output: the new folder.

    Returns:
        Parameters of the whole and of the pruned network.

    Raises:
        UserError: if this is no model folder, its network cannot be pruned to the level, or the output exists.
    """
    plans, dataset = (read_json(folder / name) for name in ("plans.json", "dataset.json"))
    checkpoints = sorted(path for kind in ("final", "best") for path in folder.glob(f"fold_*/checkpoint_{kind}.pth"))
    if not checkpoints:
        raise UserError(f"{folder}: no fold_*/checkpoint_final.pth in it; give the folder nnUNetv2_train has written")
    require_new(output)
    pruned = {path: _prune_checkpoint(path, plans, dataset, level) for path in checkpoints}
    staging = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        staging.mkdir(parents=True)
        for path, (checkpoint, _, _) in pruned.items():
            fold = staging / path.parent.name
            fold.mkdir(exist_ok=True)
            _save(checkpoint, fold / path.name, output)
            _copy(path.parent, fold, KEPT_OF_FOLD)
            _write_summary(fold, folder, level)
        _copy(folder, staging, KEPT_FILES)
        (staging / "plans.json").write_text(json.dumps(pruned[checkpoints[0]][1], indent=4))
        staging.rename(output)
    except OSError as error:
        raise explain(error, output) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return pruned[checkpoints[0]][2]


def require_new(output: Path) -> None:
    """Refuse to write over anything."""
    if output.exists():
        raise UserError(f"{output}: exists already; give a new folder with -o")


@dataclass
class WholeNetwork:
    """A trained network that can be pruned.

    Attributes:
        checkpoint: as nnU-Net has written it.
        trainer: its class.
        configuration: `2d`, ...
        network: with the checkpoint's weights.
    """

    checkpoint: dict[str, Any]
    trainer: Any
    configuration: str
    network: Any

    @property
    def deepest_level(self) -> int:
        """That of the whole network."""
        return len(self.network.encoder.output_channels) - 1


def read_whole(path: Path, plans: dict[str, Any], dataset: dict[str, Any]) -> WholeNetwork:
    """The network of a checkpoint.

    Raises:
        UserError: if it cannot be read, does not fit the plans, or is of a network that cannot be pruned.
    """
    checkpoint = Checkpoint.read(path)
    _check(path, checkpoint.trainer)
    whole = checkpoint.network(plans, dataset)
    if "prune_level" in PlansManager(plans).get_configuration(checkpoint.configuration).network_arch_init_kwargs:
        raise UserError(f"{path}: pruned already; prune the whole model's folder")
    return WholeNetwork(checkpoint.content, checkpoint.trainer, checkpoint.configuration, whole)


def _prune_checkpoint(
    path: Path, plans: dict[str, Any], dataset: dict[str, Any], level: int
) -> tuple[dict[str, Any], dict[str, Any], tuple[int, int]]:
    """The pruned checkpoint, the plans it goes with, and both parameter counts."""
    whole = read_whole(path, plans, dataset)
    pruned_plans = with_architecture_option(plans, whole.configuration, "prune_level", level)
    try:
        pruned = build_network(whole.trainer, pruned_plans, dataset, whole.configuration)
    except ValueError as error:
        raise UserError(f"--level {level}: {error}") from error
    weights = whole.checkpoint["network_weights"]
    kept = {name: whole.checkpoint[name] for name in KEPT_OF_CHECKPOINT if name in whole.checkpoint}
    kept["network_weights"] = {name: weights[name] for name in pruned.state_dict()}
    kept["init_args"] = whole.checkpoint["init_args"] | {"plans": pruned_plans}
    pruned.load_state_dict(kept["network_weights"], strict=True)
    _require_branch(whole.network, pruned, plans, whole.configuration, level)
    return kept, pruned_plans, (_parameters(whole.network), _parameters(pruned))


def _require_branch(whole: Any, pruned: torch.nn.Module, plans: dict[str, Any], configuration: str, level: int) -> None:
    """Weights that load are no proof that the networks agree: both see a patch of noise.

    Raises:
        RuntimeError: if they do not agree.
    """
    size = in_plane(PlansManager(plans).get_configuration(configuration)).patch_size
    whole, pruned = (network.network if isinstance(network, SliceWise) else network for network in (whole, pruned))
    x = torch.randn(1, next(whole.parameters()).shape[1], *size, generator=torch.Generator().manual_seed(0))

    def branch(network: Any) -> torch.Tensor:
        network.eval()
        return network.decoder.segment((0, level), network.decoder.node_maps(network.encoder(x)))

    with torch.no_grad():
        expected, found = branch(whole), branch(pruned)
    if not torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item()):
        raise RuntimeError(f"{type(pruned).__name__} pruned to level {level} is not the whole network's branch")


def _check(path: Path, trainer: type) -> None:
    name = trainer.__name__
    if not issubclass(trainer, NestedTrainer):
        raise UserError(f"{path}: {name} trains no UNet++ or UNet#; only their levels can be pruned")
    if issubclass(trainer, ClassificationGuidedTrainer):
        raise UserError(
            f"{path}: {name} has a gate on the deepest map, which pruning would cut away; train {name.split('CGM')[0]} "
            "to prune it"
        )
    if "prune_level" in trainer.network_options:
        raise UserError(f"{path}: {name} is a pruned network already; prune the whole one, or train another")
    if not trainer.deep_supervision:
        raise UserError(
            f"{path}: {name} trained without deep supervision, so the branches that pruning would keep were "
            "never trained; train the network with it, or a pruned one alone (trainers ending in L1, L2, L3)"
        )


def _save(checkpoint: dict[str, Any], path: Path, output: Path) -> None:
    try:
        torch.save(checkpoint, path)
    except RuntimeError as error:  # what PyTorch's writer makes of a full disk
        raise UserError(f"{output}: could not be written; free some space, then run the same command again") from error


def _parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def _write_summary(fold: Path, source: Path, level: int) -> None:
    """nnU-Net's export wants a summary of the validation; that of the whole network would say something untrue."""
    (fold / "validation").mkdir(exist_ok=True)
    summary = {"pruned": f"{source.name} at level {level}; not validated"}
    (fold / "validation" / "summary.json").write_text(json.dumps(summary, indent=4))
