"""The weights of linear networks that come as modules."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from whichmin.devices import default_device_aside
from whichmin.errors import DataError, ModelError
from whichmin.inputs import single_tensor
from whichmin.linear import _checks
from whichmin.task import Task


@default_device_aside()
def factors(model: nn.Module, task: Task) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(U, V, X, Y) of f(x) = V Uᵀ x, as :func:`whichmin.linear.analyze_weights` and the flows take them.

    Args:
        model: two linear layers without biases.
        task: the data.

    Returns:
        U (d, h), V (m, h), X (N, d) and Y (N, m).

    Raises:
        ModelError: see :func:`layers`; or a depth other than two.
        DataError: what is not a task, or one of another loss.
    """
    if not isinstance(task, Task):
        raise DataError(f"got a model and a {type(task).__name__}; expected a whichmin.Task after a model.")
    if not task.loss.is_quadratic:
        raise DataError(
            f"the theory of linear networks is that of the mean square error, and the task has {task.loss!r}: pass a "
            "Task with loss=torch.nn.MSELoss()."
        )
    X = single_tensor(task.X, "a linear network")
    weights = layers(model, X)
    if len(weights) != 2:
        raise ModelError(
            f"the module has {len(weights)} weight matrices; the theory of a single hidden layer needs 2. "
            "For other depths see deep_flow and deep_imbalances."
        )
    return weights[0].T, weights[1], X.flatten(1), task.y


@default_device_aside()
def layers(model: nn.Module, X: Tensor) -> list[Tensor]:
    """The weights W_1 … W_L of a module that computes W_L ⋯ W_1 x, checked on the inputs X and on random ones.

    Args:
        model: linear layers without biases.
        X: inputs, (N, …).

    Returns:
        (out, in) each, first layer first.

    Raises:
        ModelError: what is not a module; biases or other parameters that are not matrices, fewer than two weights, or
            outputs that are not the product of the weights: an activation, a factor, a skip connection, layers used in
            another order.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"got a {type(model).__name__}; expected a torch.nn.Module. For arrays see analyze_weights.")
    named = list(model.named_parameters())
    other = [f"{name} {tuple(p.shape)}" for name, p in named if p.ndim != 2]
    if other:
        raise ModelError(
            f"the module has parameters that are not weight matrices: {', '.join(other)}. A linear network has none: "
            "build its layers with bias=False."
        )
    weights = [p.detach() for _, p in named]
    _checks.chain(weights)
    _verify(model, weights, X)
    return weights


def _verify(module: nn.Module, weights: Sequence[Tensor], X: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    dtype, device = weights[0].dtype, weights[0].device
    shape = (8, *X.shape[1:])
    probe = torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)
    probe = torch.cat([probe, -3.0 * probe, X[:8].to(device, dtype)])
    product = probe.flatten(1)
    if weights[0].shape[1] != product.shape[1]:
        raise ModelError(f"the first layer takes {weights[0].shape[1]} inputs and X has {product.shape[1]} columns.")
    for weight in weights:
        product = product @ weight.T
    with torch.no_grad():
        try:
            output = module(probe)
        except RuntimeError as error:
            raise ModelError(f"the module does not run on inputs of shape {tuple(probe.shape)}: {error}") from error
    if output.shape != product.shape:
        raise ModelError(
            f"the module's outputs have shape {tuple(output.shape)}; its weights give {tuple(product.shape)}."
        )
    scale = float(product.abs().max())
    difference = float((output - product).abs().max())
    if not difference <= 1e3 * torch.finfo(dtype).eps * max(scale, torch.finfo(dtype).tiny):
        raise ModelError(_why(output, product, difference, scale))


def _why(output: Tensor, product: Tensor, difference: float, scale: float) -> str:
    factor = float((output * product).sum() / (product * product).sum())
    if float((output - factor * product).abs().max()) <= 1e-3 * difference:
        return (
            f"the module's output is {factor:.6g} times the product of its weights, and factors in front of weights "
            "change their gradient flow: use the standard parametrization, with the factors inside the weights."
        )
    return (
        f"the module does not compute the product of its weights (off by {difference:.3g} where outputs reach "
        f"{scale:.3g}): remove activations and skip connections, and define the layers in the order of their use."
    )
