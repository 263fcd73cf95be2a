"""Operators that compute in the type they are given."""

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device_type: str = "cpu") -> AbstractContextManager[object]:
    """A context, or decorator, for what autocast must not reach: it may cover a backward whose forward it did not."""
    available = torch.amp.is_autocast_available(device_type)  # not on the meta device
    return torch.autocast(device_type, enabled=False) if available else nullcontext()
