"""Where AdaGrad takes a network of one output that is trained on a single point."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from whichmin.arrays import as_tensor
from whichmin.devices import default_device_aside
from whichmin.errors import DataError, ModelError, SingularKernelError
from whichmin.kernels.linearize import Tangent
from whichmin.task import Task


@default_device_aside()
def adagrad_one_point(model: nn.Module, x1: Tensor, y1: Tensor | float, X_test: Tensor) -> Tensor:
    """Where AdaGrad takes the linearized network of one output that is trained on a single point.

        f_∞(x') = f₀(x') + J(x')·sign J(x₁) / ‖J(x₁)‖₁ · (y₁ − f₀(x₁))

    All gradients are multiples of J(x₁), so that the preconditioner stays a multiple of diag(1/|J(x₁)|) and every
    parameter that the output at x₁ depends on moves equally far. It is the smallest step in the largest coordinate,
    where gradient descent takes the smallest in the 2-norm: the optimizer chooses the minimizer. Exact for any
    learning rate with which ``torch.optim.Adagrad`` converges, from zero accumulators and without ε (``eps=0`` divides
    zero by zero where a parameter has no part in the output; ``eps=1e-30`` does not). Costs one backward pass and a few
    forward passes.

    Args:
        model: the network at θ₀, of one output; it is not changed.
        x1: the training input, (1, …) or (…).
        y1: its target, one number.
        X_test: test inputs, (n_test, …).

    Returns:
        (n_test, 1), float64; computed in the model's type.

    Raises:
        DataError: more than one training point or target, shapes that do not match, numbers that are not finite.
        ModelError: a network of several outputs; see also :func:`whichmin.tangent_kernel`.
        SingularKernelError: no parameter moves the output at x₁.

    Nonnenmacher, Reeb and Steinwart 2021, Example 1.
    """
    task = _one_point(x1, y1, X_test)
    assert task.X_test is not None
    tangent = Tangent(model)
    start = tangent.f0(task.X)
    if tuple(start.shape) != (1, 1):
        raise ModelError(
            f"the network has {start.shape[-1]} outputs; with more than one the gradients are no multiples of one "
            "another and the minimizer has no such formula. Pass a network of one output."
        )
    J = tangent.vjp(task.X, torch.ones_like(start))
    reach = sum(float(part.double().abs().sum()) for part in J.values())
    if reach == 0:
        raise SingularKernelError("no parameter moves the output at x1: its gradient is zero, training stays at θ₀.")
    step = (float(task.y) - float(start)) / reach
    signs = {name: part.sign() for name, part in J.items()}
    return tangent.f0(task.X_test).double() + step * tangent.jvp(task.X_test, signs).double()


def _one_point(x1: Tensor, y1: Tensor | float, X_test: Tensor) -> Task:
    """The task of one training input and one target, checked."""
    x1, X_test, target = as_tensor(x1, "x1"), as_tensor(X_test, "X_test"), as_tensor(y1, "y1").double()
    if target.numel() != 1:
        raise DataError(f"y1 has shape {tuple(target.shape)}; expected one number.")
    if x1.ndim == X_test.ndim - 1:
        x1 = x1[None]
    if x1.ndim == 0 or len(x1) != 1:
        raise DataError(f"x1 has shape {tuple(x1.shape)}; expected one training input, (1, …) or (…).")
    return Task(x1, target.reshape(1, 1), X_test)
