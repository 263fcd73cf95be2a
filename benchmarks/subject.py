"""A network with its input on a device: the training step and the inference that benchmarks time.

On CUDA both run as nnU-Net runs them: compiled by `torch.compile`, in mixed precision (float16 by autocast). On the CPU
neither, as nnU-Net does not.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from nnunetv2_unet3plus.errors import UserError
from nnunetv2_unet3plus.planning.dry_run import LiveBytes
from nnunetv2_unet3plus.planning.saved_tensors import saved_bytes

MIB = 2**20


class Subject:
    """A network with random images, in training mode."""

    def __init__(self, network: nn.Module, x: Tensor) -> None:
        """Move the network to its input.

        Args:
            network: gives logits, or a list of them.
            x: images, on the device that is measured.
        """
        self.network: Any = network.to(x.device)
        self.x = x
        self._call: Any = _compiled(network) if x.is_cuda else network

    def training_step(self) -> None:
        """Forward with the heads the network has switched on, the sum of their mean squares as loss, backward."""
        self.network.train().zero_grad(set_to_none=True)
        with precision(self.x.device):
            loss = torch.stack([logits.float().square().mean() for logits in as_list(self._call(self.x))]).sum()
        loss.backward()

    def inference(self) -> None:
        """Forward alone, in evaluation mode and without gradients."""
        self.network.eval()
        with torch.no_grad(), precision(self.x.device):
            self._call(self.x)

    def inference_without_side_heads(self) -> None:
        """As `inference`, with deep supervision off, as nnU-Net predicts."""
        decoder = self.network.decoder
        supervised, decoder.deep_supervision = decoder.deep_supervision, False
        self.inference()
        decoder.deep_supervision = supervised

    def saved_mib(self) -> float:
        """MiB kept between forward and backward, counted without compilation."""
        self.network.train()
        with precision(self.x.device):
            return saved_bytes(self.network, self.x) / MIB

    def peak_mib(self) -> float:
        """MiB a training step allocates at most, beside the weights; on CUDA alone, the CPU does not count them."""
        self.training_step()  # what compiles or allocates once has done so
        self.network.zero_grad(set_to_none=True)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self.training_step()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MIB

    def parameters(self) -> int:
        """How many numbers it learns."""
        return sum(p.numel() for p in self.network.parameters())


def _compiled(network: nn.Module) -> Any:
    """For fixed sizes, as nnU-Net's patches are."""
    torch._dynamo.config.recompile_limit = 64  # networks of one class share it, each in training and in evaluation
    return torch.compile(network, dynamic=False)


def precision(device: torch.device) -> AbstractContextManager[object]:
    """As in nnU-Net: float16 where autocast sees fit on CUDA, single precision elsewhere."""
    return torch.autocast("cuda", dtype=torch.float16) if device.type == "cuda" else nullcontext()


def as_list(outputs: Any) -> Sequence[Tensor]:
    """All outputs of a network, which may be one."""
    return [outputs] if isinstance(outputs, Tensor) else outputs


def available_bytes(device: str) -> int:
    """Memory that is free on a device."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    return psutil.virtual_memory().available


def bytes_needed(build: Callable[[], nn.Module], shape: Sequence[int], device: str, training: bool = True) -> int:
    """The most memory that a training step will hold, found on the meta device, where nothing is computed.

    Args:
        build: makes the network, with all heads that are trained.
        shape: of its input.
        device: on CUDA maps are half as large.
        training: False for forward alone, though in training mode: a gate in evaluation mode looks at values.
    """
    with torch.device("meta"):
        network, x = build(), torch.empty(*shape)
    if device == "cuda":
        network, x = network.half(), x.half()
    parameters = list(network.parameters())
    with LiveBytes([*parameters, *network.buffers(), x]) as live, torch.set_grad_enabled(training):
        outputs = as_list(network(x))
        if training:
            torch.autograd.backward(outputs, [torch.empty_like(output) for output in outputs])
    return live.peak + x.nbytes + 4 * sum(p.numel() for p in parameters)


def check_memory(needed: int, device: str, option: str) -> None:
    """Refuse what does not fit the memory, before anything is computed.

    Args:
        needed: bytes.
        device: "cpu" or "cuda".
        option: to name, with its value, such as "--size 4096".

    Raises:
        UserError: naming the option and both sizes.
    """
    available = available_bytes(device)
    if needed > available:
        raise UserError(
            f"{option}: about {needed / 1e9:.1f} GB are needed, {available / 1e9:.1f} GB are free on {device}; take "
            "a smaller one"
        )


def check_size(size: int, strides: Sequence[int | Sequence[int]], multiple: bool = False) -> None:
    """Refuse a patch too small for the stages.

    Args:
        size: along every axis.
        strides: of every stage.
        multiple: the network wants a multiple of its total stride, as nnU-Net's own.

    Raises:
        UserError: naming `--size` and the least one that suits.
    """
    total = prod(stride if isinstance(stride, int) else max(stride) for stride in strides)
    if size < 2 * total or (multiple and size % total):
        rule = f"a multiple of {total}, at least {2 * total}" if multiple else f"at least {2 * total}"
        raise UserError(f"--size {size}: {len(strides)} stages need {rule}; take another")
