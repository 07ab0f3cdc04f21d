"""The caller's default device: whichmin computes without it, the caller's own code runs with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import torch

_CALLERS: ContextVar[torch.device | None] = ContextVar("default device of the caller's, no CPU", default=None)


@contextmanager
def default_device_aside() -> Iterator[None]:
    """New tensors are on the CPU unless they are told another device, whatever ``torch.set_default_device`` says."""
    device = torch.get_default_device()
    if device.type == "cpu":
        yield
        return
    token = _CALLERS.set(device)
    try:
        with torch.device("cpu"):
            yield
    finally:
        _CALLERS.reset(token)


def callers_default_device() -> AbstractContextManager[object]:
    """Code of the caller's, a network or a loss or a factory, makes its tensors where it would without whichmin."""
    device = _CALLERS.get()
    return nullcontext() if device is None else device
