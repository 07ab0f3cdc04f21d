"""A verb's own context: nothing of the caller's is changed or felt."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def own_context() -> Iterator[None]:
    """Run in a context of one's own; as a decorator, ``@own_context()``.

    Gradients are recorded, inference mode and autocast are off, compiled modules run as they were written, and torch's
    random generators come out as they went in.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        devices = ["cpu"]
        if torch.cuda.is_initialized():
            devices.append("cuda")
            stack.enter_context(torch.random.fork_rng())
        else:
            stack.enter_context(torch.random.fork_rng(devices=[]))
        for device in devices:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if "torch._dynamo" in sys.modules:  # nothing is compiled without it
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield
