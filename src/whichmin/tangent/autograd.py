"""Products with J by plain automatic differentiation: right for every network, slower than what layers know."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from whichmin.errors import ModelError
from whichmin.inputs import AnyInputs, called, from_tree, mapped, tree_of
from whichmin.tangent.model import evaluate

logger = logging.getLogger(__name__)

#: Forward derivatives are compared with those of ``backward`` on so many rows at most, spread over all.
COMPARED = 4096
#: Products of so many roundings of their factors are rounding themselves.
ROUNDINGS = 64
#: Whether the forward derivatives of a model by its parameters are those of ``backward``.
_FORWARD: WeakKeyDictionary[nn.Module, dict[str, bool]] = WeakKeyDictionary()


def with_parameters(model: nn.Module, parameters: Mapping[str, Tensor]) -> Callable[..., Any]:
    """The model as a function of its arguments, with these parameters (and buffers) in place of its own.

    ``functional_call`` leaves them in modules that stand in the model twice: the model's own are put back here.
    """
    values = dict(parameters)

    def run(*args: Any, **kwargs: Any) -> Any:
        own = dict(model.named_parameters()) | dict(model.named_buffers())
        replaced = {id(own[name]) for name in values if name in own}
        tables: list[dict[str, Any]] = [table for m in model.modules() for table in (m._parameters, m._buffers)]
        places = [(table, name, t) for table in tables for name, t in table.items() if id(t) in replaced]
        try:
            return torch.func.functional_call(model, values, args, kwargs)
        finally:
            for table, name, t in places:
                table[name] = t

    return run


def call(model: nn.Module, parameters: Mapping[str, Tensor], x: AnyInputs) -> Tensor:
    """f(x) with these parameters in place of the model's own, (n, C)."""
    return evaluate(with_parameters(model, parameters), x)


def jvp(model: nn.Module, parameters: Mapping[str, Tensor], x: AnyInputs, v: Mapping[str, Tensor]) -> Tensor:
    """J(x) v at these parameters, (n, C); J is the derivative by those that are given, the model's others are fixed.

    Forward derivatives know nothing of what hooks do to gradients: whether they are those of ``backward`` is seen on a
    few rows, once for each model.
    """
    at = {n: p.detach() for n, p in parameters.items()}
    with sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels have no forward derivatives
        try:
            if _is_forward_right(model, at, x, v):
                return _jvp_forward(model, at, x, v)
        except (ModelError, RuntimeError):
            pass
        try:
            return _jvp_by_transposition(model, at, x, v)
        except (ModelError, RuntimeError) as error:
            logger.info("the network has no second derivatives (%s): gradients of each row", str(error)[:120])
            return _jvp_by_rows(model, at, x, v)


def _jvp_forward(model: nn.Module, parameters: Mapping[str, Tensor], x: AnyInputs, v: Mapping[str, Tensor]) -> Tensor:
    """J v by forward derivatives."""
    at = dict(parameters)
    with torch.enable_grad(), _AsBackward():
        return torch.func.jvp(lambda p: call(model, p, x), (at,), ({n: v[n] for n in at},))[1]


def _is_forward_right(
    model: nn.Module, parameters: Mapping[str, Tensor], x: AnyInputs, v: Mapping[str, Tensor]
) -> bool:
    """Whether forward derivatives by these parameters are those of ``backward``; looked at where it is not known.

    Hooks may act on some rows alone: many are looked at.
    """
    known = _FORWARD.setdefault(model, {})
    if not known.keys() >= parameters.keys():
        few = x if len(x) <= COMPARED else x[:: math.ceil(len(x) / COMPARED)]
        right = _is_transpose(_jvp_forward(model, parameters, few, v).detach(), model, parameters, few, v)
        known.update({n: right for n in parameters if not right or bool(v[n].any())})
    return all(known.get(n, True) for n in parameters)


def _is_transpose(
    Jv: Tensor, model: nn.Module, parameters: Mapping[str, Tensor], x: AnyInputs, v: Mapping[str, Tensor]
) -> bool:
    """Whether ⟨u, J v⟩ = ⟨Jᵀu, v⟩ for some u, Jᵀu by ``backward``."""
    leaves, out = leaves_of(model, parameters, x)
    u = torch.randn(out.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(out)
    if not out.requires_grad:
        return not bool(Jv.any())
    grads = torch.autograd.grad(out, list(leaves.values()), u, allow_unused=True)
    pairs = [(g, v[n]) for n, g in zip(leaves, grads, strict=True) if g is not None]
    back = sum(float((g * w).sum(dtype=torch.float64)) for g, w in pairs)
    eps = torch.finfo(out.dtype).eps
    rounding = math.prod(math.hypot(*(float(t.double().norm()) for t in side)) for side in zip(*pairs, strict=True))
    slack = eps**0.5 * float(u.double().norm() * Jv.double().norm()) + ROUNDINGS * eps * rounding
    return abs(float((u * Jv).sum(dtype=torch.float64)) - back) <= slack


def leaves_of(model: nn.Module, parameters: Mapping[str, Tensor], x: AnyInputs) -> tuple[dict[str, Tensor], Tensor]:
    """Leaves of a graph with the values of the parameters, and f(x) as it depends on them.

    A scripted module has no functional form: there the leaves are its own parameters, which must have these values.
    """
    with torch.enable_grad():
        if any(isinstance(m, torch.jit.ScriptModule) for m in model.modules()):
            own = dict(model.named_parameters())
            return {n: own[n] for n in parameters}, evaluate(model, x)
        leaves = {n: p.detach().requires_grad_() for n, p in parameters.items()}
        return leaves, call(model, leaves, x)


class _AsBackward(TorchFunctionMode):
    """Forward derivatives as ``backward`` has them: none under ``no_grad``, and none of an embedding's padding row."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the call, with what ``backward`` does not see taken out of the graph."""
        out = func(*args, **(kwargs or {}))
        if not torch.is_grad_enabled():
            if isinstance(out, Tensor):
                return out.detach()
            return type(out)(o.detach() if isinstance(o, Tensor) else o for o in out) if type(out) is tuple else out
        return _detach_padding(out, *args, **(kwargs or {})) if func is F.embedding else out


def _detach_padding(
    out: Tensor, input: Tensor, weight: Tensor, padding_idx: int | None = None, *_: Any, **__: Any
) -> Tensor:
    if padding_idx is None:
        return out
    return torch.where((input == padding_idx % len(weight)).unsqueeze(-1), out.detach(), out)


def _jvp_by_transposition(
    model: nn.Module, parameters: Mapping[str, Tensor], x: AnyInputs, v: Mapping[str, Tensor]
) -> Tensor:
    """J v as the derivative of u ↦ ⟨Jᵀu, v⟩, for operations that have no forward derivative."""
    leaves, out = leaves_of(model, parameters, x)
    with torch.enable_grad():
        u = torch.zeros_like(out, requires_grad=True)
        grads = torch.autograd.grad(out, list(leaves.values()), u, create_graph=True, allow_unused=True)
        pairs = [(g * v[n]).sum() for n, g in zip(leaves, grads, strict=True) if g is not None]
        return torch.autograd.grad(torch.stack(pairs).sum(), u)[0]


def _jvp_by_rows(model: nn.Module, parameters: Mapping[str, Tensor], x: AnyInputs, v: Mapping[str, Tensor]) -> Tensor:
    """J v from gradients of each row, for operations that are differentiable once."""
    own = dict(model.named_parameters())
    rows = _one_by_one(model, {n: own[n] for n in parameters}, x)
    return torch.stack([(J * v[n]).flatten(2).sum(2) for n, J in rows.items()]).sum(0).T


def per_example_gradients(
    model: nn.Module, parameters: Mapping[str, Tensor], X: AnyInputs, *, one_by_one: bool = False
) -> dict[str, Tensor]:
    """∂f_c(x_i)/∂θ for the named parameters, each (C, n, *shape).

    Cost: n·C backward passes, vectorized by ``vmap`` where the network allows it and one by one where it does not, or
    where that is asked for.
    """
    if one_by_one:
        return _one_by_one(model, parameters, X)
    try:
        return _vectorized(model, parameters, X)
    except Exception as error:  # vmap's refusals have no type of their own
        logger.info("vmap cannot vectorize the network (%s): gradients one by one", str(error).split("\n")[0][:120])
        return _one_by_one(model, parameters, X)


def _vectorized(model: nn.Module, parameters: Mapping[str, Tensor], X: AnyInputs) -> dict[str, Tensor]:
    fixed = {n: p.detach() for n, p in model.named_parameters() if n not in parameters}
    fixed |= dict(model.named_buffers())

    def single(values: dict[str, Tensor], x: Any) -> Tensor:
        one = mapped(from_tree(X, x), lambda t: t.unsqueeze(0))
        return called(with_parameters(model, {**fixed, **values}), one).reshape(-1)

    values = {n: p.detach() for n, p in parameters.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*performance drop.*batching rule.*")
        jacobians = torch.func.vmap(torch.func.jacrev(single), in_dims=(None, 0))(values, tree_of(X))
    for name, j in jacobians.items():
        if len(j) != len(X) or j.shape[2:] != values[name].shape:  # as of linalg.solve with a matrix for all rows
            raise RuntimeError(f"gradients of {name} have shape {tuple(j.shape)}")
    return {n: j.transpose(0, 1) for n, j in jacobians.items()}


def _one_by_one(model: nn.Module, parameters: Mapping[str, Tensor], X: AnyInputs) -> dict[str, Tensor]:
    names, values = list(parameters), list(parameters.values())
    rows: list[list[tuple[Tensor, ...]]] = []
    nothing = tuple(torch.zeros_like(v) for v in values)
    for i in range(len(X)):
        out = evaluate(model, X[i : i + 1])[0]
        grads = []
        for c in range(len(out) if out.requires_grad else 0):
            g = torch.autograd.grad(out[c], values, retain_graph=c + 1 < len(out), allow_unused=True)
            grads.append(tuple(torch.zeros_like(v) if d is None else d for v, d in zip(values, g, strict=True)))
        rows.append(grads or [nothing] * len(out))
    outputs = range(len(rows[0]))
    return {
        name: torch.stack([torch.stack([row[c][k] for row in rows]) for c in outputs]) for k, name in enumerate(names)
    }
