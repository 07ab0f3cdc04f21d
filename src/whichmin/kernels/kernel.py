"""``tangent_kernel``: validate, plan, compute, check."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, overload
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from whichmin.errors import DataError, InputError
from whichmin.kernels.linearize import Tangent
from whichmin.kernels.operator import KernelOperator
from whichmin.tangent.autograd import per_example_gradients
from whichmin.tangent.examine import (
    check_inputs,
    check_modules,
    check_rows,
    evaluate,
    finite,
    metric_weights,
    trainable,
)
from whichmin.tangent.factors import Probe, contract, factorize, probe
from whichmin.tangent.memory import available_bytes, require, size

logger = logging.getLogger(__name__)

Method = Literal["auto", "layerwise", "jacobian", "matrixfree"]
#: Plans of fewer bytes are made without asking how much memory is free.
MODEST = 2**26
#: Models whose layerwise kernel agreed with plain autograd, with the structures that did; forgotten with the model.
_FOUND_RIGHT: WeakKeyDictionary[nn.Module, set[object]] = WeakKeyDictionary()
METHODS = ("auto", "layerwise", "jacobian", "matrixfree")


@dataclass(frozen=True)
class KernelPlan:
    """How a kernel is computed; the returned tensor carries it as its attribute ``plan``.

    Attributes:
        method: ``layerwise``, ``jacobian`` or ``matrixfree``.
        reason: why this one.
        fallback: parameters whose per-example gradients were formed because their use was not recognized.
        rows_per_block: how many rows are held at once.
        n_bytes: what the plan needs at its peak, estimated.
    """

    method: str
    reason: str
    rows_per_block: int
    n_bytes: int
    fallback: tuple[str, ...] = field(default=())


@overload
def tangent_kernel(
    model: nn.Module,
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    method: Literal["auto", "layerwise", "jacobian"] = "auto",
    metric: Mapping[str, Tensor | float] | None = None,
) -> Tensor: ...
@overload
def tangent_kernel(
    model: nn.Module,
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    method: Literal["matrixfree"],
    metric: Mapping[str, Tensor | float] | None = None,
) -> KernelOperator: ...
@overload
def tangent_kernel(
    model: nn.Module,
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    method: str = "auto",
    metric: Mapping[str, Tensor | float] | None = None,
) -> Tensor | KernelOperator: ...
def tangent_kernel(
    model: nn.Module,
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    method: str = "auto",
    metric: Mapping[str, Tensor | float] | None = None,
) -> Tensor | KernelOperator:
    """The empirical neural tangent kernel K(x, x') = J(x) D J(x')ᵀ, J = ∂f/∂θ over the trainable parameters.

    Args:
        model: any network whose rows are functions of their own inputs.
        x1: inputs, (n1, …).
        x2: inputs, (n2, …); x1 by default.
        method: ``layerwise`` (from each layer's inputs and output gradients; a parameter used in a way that is not
            recognized gets per-example gradients of its own), ``jacobian`` (per-example gradients of all parameters by
            ``torch.func``), ``matrixfree`` (an operator with ``matvec``), or ``auto`` (layerwise, checked against plain
            autograd on sampled entries).
        metric: D: a positive number or tensor for each trainable parameter, by name; None is the identity.

    Returns:
        (n1, n2, C, C) in the network's type and on its device, with the :class:`KernelPlan` as its attribute ``plan``;
        or a :class:`KernelOperator`.

    Cost: layerwise, one forward and C backward passes and about n1·n2·C²·(the sum of the layer widths); the Jacobian is
    never formed. jacobian, n1·C backward passes and n1·n2·C²·P.

    Raises:
        ModelError: BatchNorm in training mode, active dropout, rows that depend on each other, outputs that vary from
            call to call or are not (n,) or (n, C), no trainable parameters, a metric that does not match.
        DataError: inputs that are empty or not finite.
        MemoryPlanError: the plan does not fit; says what would.

    Jacot, Gabriel, Hongler, "Neural Tangent Kernel" (2018); the contraction as in Novak, Sohl-Dickstein, Schoenholz,
    "Fast Finite Width Neural Tangent Kernel" (2022).
    """
    if method not in METHODS:
        raise InputError(f"method is {method!r}; expected one of {', '.join(METHODS)}.")
    check_modules(model)
    parameters = trainable(model)
    weights = metric_weights(metric, parameters)
    same = x2 is None or x2 is x1
    x2 = x1 if x2 is None else x2
    _check_array("x1", x1)
    if not same:
        _check_array("x2", x2)
    rows = sorted({0, len(x1) - 1})
    looked = probe(model, parameters, x1[rows])
    check_inputs(model, x1, looked.looked_up)
    C = looked.outputs.shape[1]
    if method == "matrixfree":
        check_rows(model, x1, evaluate(model, x1[:3]), [0], evaluate(model, x1[:1]))
        return KernelOperator(Tangent(model), x1, x2, weights, C)
    plan = _plan(method, looked, parameters, x1, x2, same)
    K: Tensor | None = None
    if plan.method == "layerwise":
        K, outputs = _layerwise(model, parameters, weights, x1, x2, same, plan)
        check_rows(model, x1, outputs, rows, looked.outputs)
        if method == "auto" and same and not agrees(model, looked, parameters, weights, K[rows][:, rows]):
            plan = _replan(
                plan, "sampled entries of the layerwise kernel differ from plain autograd", parameters, x1, C
            )
    if plan.method == "jacobian":
        check_rows(model, x1, evaluate(model, x1[:3]), [0], evaluate(model, x1[:1]))
        K = _jacobian(model, parameters, weights, x1, x2, same, plan)
    assert K is not None
    K = finite(K, "the kernel")
    K.plan = plan  # type: ignore[attr-defined]
    return K


def _check_array(name: str, x: Tensor) -> None:
    if not isinstance(x, Tensor) or x.ndim == 0 or x.numel() == 0:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise DataError(f"{name} is {got}; expected a tensor of at least one row, (n, …).")
    if x.is_floating_point() and not math.isfinite(float(x.abs().max())):
        row = int((~torch.isfinite(x)).reshape(len(x), -1).any(1).nonzero()[0, 0])
        raise DataError(f"{name} holds NaN or infinity, first in row {row}: drop or impute those rows.")


def _plan(
    method: str, looked: Probe, parameters: Mapping[str, Tensor], x1: Tensor, x2: Tensor, same: bool
) -> KernelPlan:
    """How many rows to hold at once, and whether that fits at all."""
    n, C = max(len(x1), len(x2)), looked.outputs.shape[1]
    item, device = looked.outputs.element_size(), looked.outputs.device
    kernel = len(x1) * len(x2) * C * C * item * (1 if C == 1 else 2)
    P = sum(p.numel() for p in parameters.values())
    per_row = C * P * item if method == "jacobian" else looked.bytes_per_row(parameters)
    sets = 1 if same else 2
    modest = kernel + sets * n * per_row
    free = available_bytes(device) if modest > MODEST else 2 * modest
    smallest = math.isqrt(int(0.8 * free) // (C * C * item * (1 if C == 1 else 2)))
    remedy = (
        f"At most {smallest} rows against {smallest} fit; or use method='matrixfree', which holds no kernel, or "
        "compute it in blocks, tangent_kernel(model, x1[a:b], x2[c:d])."
    )
    if modest > MODEST:
        what = f"a kernel of {len(x1)}·{C} by {len(x2)}·{C}, {item} bytes an entry,"
        require(kernel + 2 * per_row, device, what, remedy)
    budget = max(2 * per_row, min((free - kernel) // 2, 2 * 2**30))
    rows = max(1, min(n, budget // (sets * per_row)))
    rows = n if rows >= n else max(1, rows // 2)
    fallback = looked.opaque
    reason = "asked for" if method != "auto" else "per-layer inputs and output gradients give it without a Jacobian"
    if fallback and method != "jacobian":
        reason += f"; per-example gradients for {', '.join(fallback)}"
    plan = KernelPlan(
        "layerwise" if method == "auto" else method,
        reason,
        rows,
        kernel + sets * rows * per_row,
        fallback if method != "jacobian" else (),
    )
    logger.info("tangent kernel: %s, %s; %d rows at once, about %s", plan.method, reason, rows, size(plan.n_bytes))
    return plan


def _replan(plan: KernelPlan, reason: str, parameters: Mapping[str, Tensor], x1: Tensor, C: int) -> KernelPlan:
    logger.warning("%s: using the jacobian method, which is slower", reason)
    P = sum(p.numel() for p in parameters.values())
    rows = max(1, min(len(x1), 2**30 // (C * P * 8)))
    return KernelPlan("jacobian", reason, rows, 2 * rows * C * P * 8)


def _layerwise(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    weights: Mapping[str, Tensor | float],
    x1: Tensor,
    x2: Tensor,
    same: bool,
    plan: KernelPlan,
) -> tuple[Tensor, Tensor]:
    """The kernel and f(x1), in blocks of rows."""
    b = plan.rows_per_block
    if b >= max(len(x1), len(x2)):
        left = factorize(model, dict(parameters), x1)
        right = left if same else factorize(model, dict(parameters), x2)
        return _arrange(contract(left, right, parameters, weights), left.outputs.shape[1]), left.outputs.detach()
    K: Tensor | None = None
    outputs = []
    for i in range(0, len(x1), b):
        left = factorize(model, dict(parameters), x1[i : i + b])
        outputs.append(left.outputs.detach())
        for j in range(i if same else 0, len(x2), b):
            right = left if same and i == j else factorize(model, dict(parameters), x2[j : j + b])
            block = _arrange(contract(left, right, parameters, weights), left.outputs.shape[1])
            if K is None:
                K = block.new_empty((len(x1), len(x2), *block.shape[2:]))
            K[i : i + b, j : j + b] = block
            if same and i != j:
                K[j : j + b, i : i + b] = block.permute(1, 0, 3, 2)
    assert K is not None
    return K, torch.cat(outputs)


def _jacobian(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    weights: Mapping[str, Tensor | float],
    x1: Tensor,
    x2: Tensor,
    same: bool,
    plan: KernelPlan,
) -> Tensor:
    def rows(x: Tensor, i: int) -> tuple[Tensor, Tensor]:
        grads = per_example_gradients(model, parameters, x[i : i + plan.rows_per_block])
        flat = torch.cat([g.reshape(*g.shape[:2], -1) for g in grads.values()], dim=2)
        scaled = torch.cat([(g * weights[n]).reshape(*g.shape[:2], -1) for n, g in grads.items()], dim=2)
        return flat, scaled

    b = plan.rows_per_block
    out = []
    for i in range(0, len(x1), b):
        flat, scaled = rows(x1, i)
        C, n1, _ = flat.shape
        blocks = []
        for j in range(0, len(x2), b):
            right = flat if same and i == j else rows(x2, j)[0]
            product = scaled.reshape(C * n1, -1) @ right.reshape(C * right.shape[1], -1).T
            blocks.append(_arrange(product, C))
        out.append(torch.cat(blocks, dim=1))
    return torch.cat(out)


def _arrange(K: Tensor, C: int) -> Tensor:
    """(C·n1, C·n2), output-major → (n1, n2, C, C)."""
    n1, n2 = K.shape[0] // C, K.shape[1] // C
    return K.detach().view(C, n1, C, n2).permute(1, 3, 0, 2).contiguous()


def agrees(
    model: nn.Module,
    looked: Probe,
    parameters: Mapping[str, Tensor],
    weights: Mapping[str, Tensor | float],
    K: Tensor,
) -> bool:
    """Whether the kernel K of a few rows is what plain autograd says, for ‖Jᵀc‖² with mixed outputs c.

    A model that was found right is not asked again while it uses its parameters in the same way.
    """
    structure = (looked.structure, *((n, isinstance(w, Tensor)) for n, w in weights.items()))
    known = _FOUND_RIGHT.setdefault(model, set())
    if structure in known:
        return True
    outputs = looked.outputs
    n, C = outputs.shape
    c = torch.tensor([[(-1.0) ** (i + d) * (1 + 0.5 * d) for d in range(C)] for i in range(n)]).to(K)
    grads = torch.autograd.grad(outputs, list(parameters.values()), c, allow_unused=True)
    plain = 0.0
    for name, g in zip(parameters, grads, strict=True):
        if g is not None:
            weight = weights[name]
            moved = g * weight if isinstance(weight, Tensor) else g
            plain += float(moved.flatten() @ g.flatten()) * (1.0 if isinstance(weight, Tensor) else weight)
    told = float(torch.einsum("ic,ijcd,jd->", c, K, c))
    scale = float(torch.einsum("ic,iicc->", c * c, K))
    right = abs(plain - told) <= torch.finfo(K.dtype).eps ** 0.5 * max(scale, 1e-300)
    if right:
        known.add(structure)
    return right
