"""What a training will cost, said before it begins: parameters, memory, and what to do where that is too much."""

import os
import pydoc
from inspect import signature
from typing import Any, ClassVar

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunetv2_unet3plus.architectures.encoder_decoder import EncoderDecoderNetwork
from nnunetv2_unet3plus.building_blocks.plan_encoder import plan_encoder
from nnunetv2_unet3plus.planning.memory import PLANNED_WITH, MemoryNeed, planner_target, training_cost
from nnunetv2_unet3plus.planning.networks import name_of
from nnunetv2_unet3plus.trainers.stacked_slices import in_plane, is_stacked, slices_of


class TrainingCostMixin(nnUNetTrainer):
    """Adds lines with parameters and memory to the beginning of nnU-Net's log."""

    network_class: ClassVar[type[nn.Module] | None]
    network_options: ClassVar[dict[str, Any]]
    _network: Any  # builds the network on a configuration

    def on_train_start(self) -> None:
        """Log what the network costs, then start as nnU-Net does."""
        if not self.was_initialized:
            self.initialize()
        for line in self._cost_lines():
            self.print_to_log_file(line)
        super().on_train_start()

    def _cost_lines(self) -> list[str]:
        parameters = sum(p.numel() for p in self.network.parameters())
        line = f"{type(self).__name__}: {parameters / 1e6:.2f} million parameters. Training memory: "
        try:
            need = self._memory_need()
        except Exception as error:  # a network that does not count its memory must not cost the training
            return [f"{line}unknown ({type(error).__name__}: {error})."]
        lines = [
            f"{line}about {need.network:.1f} GB on a GPU; the plan's budget is {need.budget:.1f} GB, its own network "
            f"needs {need.plan_network:.1f} GB."
        ]
        available = _memory_of(self.device)
        if need.on(self.device.type) > available:
            lines.append(self._advice(need, available))
        return lines

    def _memory_need(self) -> MemoryNeed:
        """Compare this network with the plan's own on one patch each, by the planner's count."""
        configuration = in_plane(self.configuration_manager)
        patch = configuration.patch_size
        images = self.batch_size
        if is_stacked(self.configuration_manager):
            images *= self.configuration_manager.patch_size[0]

        channels = slices_of(self.configuration_manager) * self.num_input_channels
        classes = self.label_manager.num_segmentation_heads
        with torch.device("meta"):
            ours = self._network(configuration, channels, classes, self.enable_deep_supervision)
            plan_network = self._plan_network(configuration, channels, classes)

        def gigabytes(network: nn.Module) -> float:
            return training_cost(network, channels, patch).gigabytes(images)

        return MemoryNeed(gigabytes(ours), gigabytes(plan_network), planner_target(self.plans_manager))

    @staticmethod
    def _plan_network(configuration: ConfigurationManager, input_channels: int, output_channels: int) -> nn.Module:
        """The network the plan itself names, without options in the plan that only ours knows."""
        name, kwargs = configuration.network_arch_class_name, configuration.network_arch_init_kwargs
        known = _arguments_of(pydoc.locate(name))
        kwargs = {argument: value for argument, value in kwargs.items() if argument in known}
        return get_network_from_plans(
            name,
            kwargs,
            configuration.network_arch_init_kwargs_req_import,
            input_channels,
            output_channels,
            deep_supervision=True,
        )

    def _advice(self, need: MemoryNeed, available: float) -> str:
        """The commands that make a plan whose training fits, with the planner that made this one if it was ours."""
        dataset = self.plans_manager.dataset_name.split("_")[0].removeprefix("Dataset")
        planned_with = self.plans_manager.plans.get(PLANNED_WITH)
        network = None if self.network_options else name_of(self.network_class)
        if planned_with is not None:
            target = max(1, int(need.target_for(available, self.device.type)))
            options = {"network": planned_with["network"], "residual-encoder": planned_with["residual_encoder"]}
            plan = f"unet3plus plan -d {dataset}" + "".join(
                f" --{key} {value}" for key, value in options.items() if value
            )
            if size := planned_with.get("patch_size"):
                plan += f" --patch-size {' '.join(map(str, size))}"
            plan += f" --vram {target} --name"
        elif network is not None:
            target = max(1, int(need.vram_for(available, self.device.type)))
            encoder = " --residual-encoder M" if is_residual(self.configuration_manager) else ""
            plan = f"unet3plus plan -d {dataset} --network {network}{encoder} --vram {target} --name"
        else:
            target = max(1, int(need.target_for(available, self.device.type)))
            plan = (
                f"nnUNetv2_plan_and_preprocess -d {dataset} -c {self.configuration_name} -pl "
                f"{self.plans_manager.experiment_planner_name} -gpu_memory_target {target} -overwrite_plans_name"
            )
        plans = f"{self.plans_manager.plans_name}_{target}G"
        return (
            f"WARNING: {need.on(self.device.type):.1f} GB will not fit into the {available:.1f} GB of {self.device}. "
            f"Run instead: {plan} {plans}, then nnUNetv2_train with -p {plans}."
        )


def _arguments_of(network_class: Any) -> set[str]:
    """Names of a network's arguments; ours hand those they do not know on to their parents and to the encoder."""
    constructors = [base.__init__ for base in network_class.__mro__ if "__init__" in vars(base)]
    parameters = [parameter for constructor in constructors for parameter in signature(constructor).parameters.values()]
    known = {parameter.name for parameter in parameters}
    if issubclass(network_class, EncoderDecoderNetwork):
        known |= signature(plan_encoder).parameters.keys()
    return known


def is_residual(configuration: ConfigurationManager) -> bool:
    """Whether the plan's encoder is a residual one."""
    return "n_blocks_per_stage" in configuration.network_arch_init_kwargs


def _memory_of(device: torch.device) -> float:
    """Memory of a device in GB."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 1e9
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
