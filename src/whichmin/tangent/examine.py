"""A model as a function of its trainable parameters, and the checks that make its tangent kernel well defined."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from whichmin.errors import ModelError

_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)
_DROPOUTS = (nn.modules.dropout._DropoutNd, nn.RReLU)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters with ``requires_grad``, by name; a shared one appears once.

    Raises:
        ModelError: there is none.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise ModelError(
            "the model has no trainable parameters (none, or all have requires_grad=False): its tangent kernel is "
            "zero. Unfreeze some with parameter.requires_grad_()."
        )
    return parameters


def check_modules(model: nn.Module) -> None:
    """Refuse layers whose output for one row depends on the others or on chance.

    Raises:
        ModelError: a BatchNorm in training mode or an active dropout, named, with the remedy.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"got a {type(model).__name__}; expected a torch.nn.Module.")
    for name, module in model.named_modules():
        kind = type(module).__name__
        if isinstance(module, _BATCH_NORMS) and (module.training or module.running_mean is None):
            remedy = "call model.eval()" if module.running_mean is not None else "give it running statistics"
            raise ModelError(
                f"layer {name!r} ({kind}) normalizes with the statistics of the batch, so that a row's output depends "
                f"on the other rows and no tangent kernel exists: {remedy}, or use LayerNorm or GroupNorm."
            )
        if isinstance(module, _DROPOUTS) and module.training and getattr(module, "p", 1.0) > 0:
            raise ModelError(
                f"layer {name!r} ({kind}) is random in training mode: call model.eval(), or set p=0, to get a network "
                "that is a function."
            )


def evaluate(model: Callable[[Tensor], Tensor], X: Tensor) -> Tensor:
    """f(X), (N, C), with an error that says what the model was given where it fails.

    Raises:
        ModelError: the model fails on X, or returns something that is not (N,) or (N, C), or not finite.
    """
    try:
        out = model(X)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
        types = "" if first is None else f" The parameters are {first.dtype} on {first.device}."
        integer = "" if X.is_floating_point() else " Integer inputs suit an embedding; otherwise pass X.float()."
        raise ModelError(
            f"the model fails on inputs of shape {tuple(X.shape)}, {X.dtype} on {X.device}: {error}.{types}{integer}"
        ) from error
    if not isinstance(out, Tensor) or out.ndim not in (1, 2) or len(out) != len(X):
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ModelError(
            f"the model returned {got} for {len(X)} inputs; expected (N,) or (N, C): flatten or pick the output."
        )
    return out.reshape(len(X), -1)


def finite(out: Tensor, name: str) -> Tensor:
    """``out`` itself, checked.

    Raises:
        ModelError: it holds NaN or infinity; names the first such row.
    """
    if not math.isfinite(float(out.detach().abs().max())):
        row = int((~torch.isfinite(out)).reshape(len(out), -1).any(1).nonzero()[0, 0])
        raise ModelError(
            f"the model's output is not finite on {name}, first in row {row}: check its parameters and scale."
        )
    return out


def check_inputs(model: nn.Module, X: Tensor, looked_up: bool) -> None:
    """Refuse integer inputs to a network that has no use for them.

    Raises:
        ModelError: X is of an integer type and nothing looked an embedding up with it.
    """
    if X.is_floating_point() or looked_up:
        return
    raise ModelError(
        f"X is {X.dtype} and the network {type(model).__name__} has no embedding that looks integers up: pass "
        "X.float() (and scale it, pixels by 1/255)."
    )


def check_rows(model: nn.Module, X: Tensor, out: Tensor, rows: list[int], sampled: Tensor) -> None:
    """Refuse models whose output for a row depends on the other rows, or on the call.

    Args:
        model: the network.
        X: the inputs.
        out: f(X), as one call gave it.
        rows: some row numbers.
        sampled: f(X[rows]), from a call of its own.

    Raises:
        ModelError: two calls differ, or a row's output changes with the rows around it.
    """
    out, sampled = out.detach(), sampled.detach()
    slack = 50 * torch.finfo(out.dtype).eps ** 0.75 * (float(out.abs().max()) + 1e-30)

    def differ(a: Tensor, b: Tensor) -> bool:
        return float((a - b).abs().max()) > slack

    with torch.no_grad():
        suspicious = differ(out[rows], sampled)
        if not suspicious and len(X) <= len(rows):
            suspicious = differ(evaluate(model, X[:1]), out[:1])
        if not suspicious:
            return
        random = differ(evaluate(model, X[rows]), sampled)
    if random:
        raise ModelError(
            "two calls of the model on the same inputs differ: something in it is random. Call model.eval(), or take "
            "the randomness (functional dropout, noise) out."
        )
    raise ModelError(
        "the model's output for a row depends on the other rows of the batch (batch statistics, attention across "
        "rows?): each row must be a function of its own input for a tangent kernel to exist."
    )


def metric_weights(
    metric: Mapping[str, Tensor | float] | None, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor | float]:
    """The metric D as a number or a tensor of the parameter's shape, for each trainable parameter.

    Raises:
        ModelError: names that do not match, shapes that do not broadcast, weights that are not positive and finite.
    """
    if metric is None:
        return dict.fromkeys(parameters, 1.0)
    missing, extra = sorted(set(parameters) - set(metric)), sorted(set(metric) - set(parameters))
    if missing or extra:
        raise ModelError(
            "metric must name exactly the trainable parameters; "
            f"missing: {missing or 'none'}, unknown: {extra or 'none'}."
        )
    weights: dict[str, Tensor | float] = {}
    for name, parameter in parameters.items():
        value = torch.as_tensor(metric[name], dtype=parameter.dtype, device=parameter.device)
        if not bool((torch.isfinite(value) & (value > 0)).all()):
            raise ModelError(f"metric[{name!r}] must be positive and finite; its smallest is {float(value.min())}.")
        if value.numel() == 1:
            weights[name] = float(value)
            continue
        try:
            weights[name] = value.expand(parameter.shape)
        except RuntimeError as error:
            raise ModelError(
                f"metric[{name!r}] has shape {tuple(value.shape)}, its parameter {tuple(parameter.shape)}."
            ) from error
    return weights
