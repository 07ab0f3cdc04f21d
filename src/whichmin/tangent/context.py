"""A verb's own context: nothing of the caller's is changed or felt."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch.backends import cuda, cudnn, mkldnn

from whichmin.devices import default_device_aside

T = TypeVar("T")


@contextmanager
def own_context() -> Iterator[None]:
    """Run in a context of one's own; as a decorator, ``@own_context()``.

    Gradients are recorded, inference mode and autocast are off, products of single precision are of single precision
    (no tf32 or bfloat16 in their place), compiled modules run as they were written, new tensors are on the CPU unless
    they are told another device, and torch's random generators come out as they went in.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        on_gpu = torch.cuda.is_initialized()
        stack.enter_context(torch.random.fork_rng(devices=range(torch.cuda.device_count() if on_gpu else 0)))
        for device in ("cpu", "cuda") if on_gpu else ("cpu",):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(_full_precision(on_gpu))
        if on_gpu:
            stack.enter_context(_recurrent_layers_of_torch())
        stack.enter_context(default_device_aside())
        if "torch._dynamo" in sys.modules:  # nothing is compiled without it
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


@contextmanager
def _full_precision(on_gpu: bool) -> Iterator[None]:
    """Products and convolutions of float32 tensors in float32, on the CPU and on a GPU.

    Convolutions on a GPU are otherwise of tf32, which keeps 10 of 23 bits, and where
    ``torch.set_float32_matmul_precision`` says so products of matrices are of tf32 or bfloat16.
    """
    with ExitStack() as stack:
        if on_gpu and _read(lambda: cudnn.allow_tf32):
            cudnn.allow_tf32 = False
            stack.callback(setattr, cudnn, "allow_tf32", True)
        precision = _read(torch.get_float32_matmul_precision)
        if precision not in (None, "highest"):
            torch.set_float32_matmul_precision("highest")
            stack.callback(torch.set_float32_matmul_precision, precision)
        for operation in _operations(on_gpu):
            if operation.fp32_precision not in ("ieee", "none"):
                stack.callback(setattr, operation, "fp32_precision", operation.fp32_precision)
                operation.fp32_precision = "ieee"
        yield


@contextmanager
def _recurrent_layers_of_torch() -> Iterator[None]:
    """Recurrent layers in evaluation mode run without cuDNN, which differentiates them in training mode only."""
    names = [name for name in ("lstm", "gru", "rnn_tanh", "rnn_relu") if name not in vars(torch._VF)]
    for name in names:
        setattr(torch._VF, name, _without_cudnn(getattr(torch._VF, name)))
    try:
        yield
    finally:
        for name in names:
            delattr(torch._VF, name)


def _without_cudnn(layers: Callable[..., T]) -> Callable[..., T]:
    def run(*args: Any) -> T:
        # (x, hx, weights, has_bias, layers, dropout, training, …), or of a packed sequence (x, sizes, hx, weights, …).
        training = args[7 if isinstance(args[3], list | tuple) else 6]
        if training or not cudnn.enabled:
            return layers(*args)
        cudnn.enabled = False
        try:
            return layers(*args)
        finally:
            cudnn.enabled = True

    return run


def _operations(on_gpu: bool) -> list[Any]:
    """Those whose precision can be set each by itself, from torch 2.9 on."""
    if not hasattr(mkldnn, "conv"):
        return []
    found = [getattr(mkldnn, name) for name in ("matmul", "conv", "rnn")]
    return [*found, cuda.matmul, *(getattr(cudnn, name) for name in ("conv", "rnn"))] if on_gpu else found


def _read(setting: Callable[[], T]) -> T | None:
    """A setting for all operations; None where they were set apart, which torch refuses to read as one."""
    try:
        return setting()
    except RuntimeError:
        return None
