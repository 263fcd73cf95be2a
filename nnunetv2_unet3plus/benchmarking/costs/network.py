"""What a trainer's network costs on a plan, by counting: no data, no GPU, and no memory for its maps.

The network is built by its trainer, on PyTorch's meta device, and sees one patch in training mode.

- GFLOP: convolutions and matrix products, a multiplication and an addition are two. Norms, nonlinearities, pooling and
  interpolation are not counted; they are limited by memory, not by arithmetic.
- What is counted is the form a GPU runs. On the CPU, UNet 3+ takes for wide convolutions one with a quarter of the
  multiplications (`building_blocks.winograd`), and narrow heads in another order (`building_blocks.resize_conv`).
"""

from dataclasses import dataclass, fields, replace
from inspect import signature
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_unet3plus.benchmarking.costs.trainer import trainer_to_ask
from nnunetv2_unet3plus.doctor import find_trainer
from nnunetv2_unet3plus.planning.saved_tensors import saved_bytes


@dataclass(frozen=True)
class NetworkCosts:
    """What is known of a trainer on a plan before it trains; None where it cannot be found out.

    Attributes:
        parameters: of the whole network, deep-supervision heads included.
        gflop: floating-point operations of the forward pass of one training patch, in 1e9.
        saved_bytes: what autograd keeps of that patch for backward, in single precision.
        epochs: of the whole training.
        iterations: training batches an epoch.
        validation_iterations: validation batches an epoch.
        problem: one line, why something is None.
    """

    parameters: int | None = None
    gflop: float | None = None
    saved_bytes: int | None = None
    epochs: int | None = None
    iterations: int | None = None
    validation_iterations: int | None = None
    problem: str | None = None


def network_costs(
    trainer_name: str, plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]
) -> NetworkCosts:
    """Count what a trainer's network costs; plans and dataset.json of a model folder are enough.

    Args:
        trainer_name: of any trainer nnU-Net finds.
        plans: as in `plans.json`.
        configuration: `2d`, ...
        dataset_json: as in `dataset.json`.

    Returns:
        As much as could be found out; never raises for what a trainer or a network does.
    """
    trainer_class = find_trainer(trainer_name)
    if not isinstance(trainer_class, type):
        return NetworkCosts(problem=f"{trainer_name}: not found by nnU-Net, so what it costs is unknown")
    costs = NetworkCosts()
    try:
        with trainer_to_ask(trainer_class, plans, configuration, dataset_json) as trainer:
            costs = replace(
                costs,
                epochs=trainer.num_epochs,
                iterations=trainer.num_iterations_per_epoch,
                validation_iterations=trainer.num_val_iterations_per_epoch,
            )
            network = network_of(trainer)
            costs = replace(costs, parameters=sum(p.numel() for p in network.parameters()))
            gflop, kept = _forward(network, input_channels_of(trainer), trainer.configuration_manager.patch_size)
            return replace(costs, gflop=gflop, saved_bytes=kept)
    except (Exception, SystemExit) as error:  # of trainers that are not ours anything can be expected
        unknown = ", ".join(f.name for f in fields(costs) if f.name != "problem" and getattr(costs, f.name) is None)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return replace(costs, problem=f"{trainer_name}: {unknown} unknown ({reason})")


def network_of(trainer: nnUNetTrainer) -> nn.Module:
    """On the meta device, as the trainer's `initialize` builds it.

    Raises:
        Exception: whatever the network's constructor raises.
    """
    try:
        with torch.device("meta"):
            return _network(trainer).to("meta")
    except Exception:  # such as of networks that ask for the value of a tensor while they are built
        return _network(trainer).to("meta")


def _network(trainer: nnUNetTrainer) -> nn.Module:
    build: Any = trainer.build_network_architecture
    configuration = trainer.configuration_manager
    sizes = (
        input_channels_of(trainer),
        trainer.label_manager.num_segmentation_heads,
        trainer.enable_deep_supervision,
    )
    if "plans_manager" in signature(build).parameters:
        return build(trainer.plans_manager, configuration, *sizes)
    return build(  # the signature of old, which nnU-Net still calls
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        *sizes,
    )


def input_channels_of(trainer: nnUNetTrainer) -> int:
    """Those of the images, and in a cascade of the earlier stage's segmentation."""
    return determine_num_input_channels(trainer.plans_manager, trainer.configuration_manager, trainer.dataset_json)


def _forward(network: nn.Module, channels: int, patch_size: list[int]) -> tuple[float, int]:
    """GFLOP and bytes kept for backward, of a patch."""
    network.train()
    try:
        return _forward_of(1, network, channels, patch_size)
    except Exception:  # a batch norm behind global pooling has nothing to compare in a single patch
        return _forward_of(2, network, channels, patch_size)


def _forward_of(patches: int, network: nn.Module, channels: int, patch_size: list[int]) -> tuple[float, int]:
    x = torch.empty(patches, channels, *patch_size, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x)
    with torch.enable_grad():
        kept = saved_bytes(network, x)
    return counter.get_total_flops() / patches / 1e9, round(kept / patches)
