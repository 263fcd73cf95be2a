"""The memory of a training step, found on PyTorch's meta device: every map is made and freed, none has values.

Backward takes more than what was kept for it: the gradients of maps on their way back. How much more is the network's
own business; where its maps of full resolution are wide, as in UNet 3+, much more.
"""

import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nnunetv2_unet3plus.building_blocks.recompute import as_compiled


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make while this is entered.

    Attributes:
        now: bytes alive.
        numbers: those of floating-point numbers.
        peak: the most there were at once.
    """

    def __init__(self, not_counted: Iterable[Tensor] = ()) -> None:
        """Count from nothing.

        Args:
            not_counted: tensors made before, of which operations may return views.
        """
        super().__init__()
        self.now = self.numbers = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in not_counted}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it returns, each storage once."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage(), tensor.is_floating_point())
        return result

    def _count(self, storage: torch.UntypedStorage, is_number: bool) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.numbers += size * is_number
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key, size, is_number)

    def _forget(self, key: int, size: int, is_number: bool) -> None:
        self._known.discard(key)
        self.now -= size
        self.numbers -= size * is_number


def backward_share(network: nn.Module, input_channels: int, size: Sequence[int], batch_size: int = 2) -> float:
    """The peak of a step's memory over what is alive between forward and backward, in half precision.

    Of a step that recomputes nothing.

    Parameters and their gradients are left out. The share hardly depends on the size: 1.62 for UNet 3+ at 128^3 and at
    192^3 voxels.

    Args:
        network: on the meta device; its parameters become half, and are not to be trained afterwards.
        input_channels: of its input.
        size: spatial size of its input.
        batch_size: of its input.

    Returns:
        At least 1.
    """
    network = as_compiled(network).half().to("meta")  # libraries' networks may have some parts elsewhere
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(_forget_gradient)
    x = torch.empty(batch_size, input_channels, *size, dtype=torch.half, device="meta")
    with LiveBytes([*network.parameters(), *network.buffers(), x]) as live:
        outputs = network(x)
        outputs = [outputs] if isinstance(outputs, Tensor) else outputs
        kept = live.now
        live.peak = live.now
        torch.autograd.backward(outputs, [torch.empty_like(output) for output in outputs])
        peak = live.peak
    return peak / kept


def _forget_gradient(parameter: Tensor) -> None:
    parameter.grad = None
