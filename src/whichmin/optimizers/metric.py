"""The preconditioner that an optimizer used last, read from its state."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from whichmin.optimizers.registry import facts_of, resolve

_State = dict[str, Any]


def last_metric(
    optimizer: torch.optim.Optimizer, named_parameters: Iterable[tuple[str, Tensor]]
) -> dict[str, Tensor] | None:
    """D of the last step θ ← θ − lr · D∘c, for each trainable parameter by name, where the state tells it.

    c is the gradient, or an average of gradients for a rule with momentum (Adam's with its bias corrected).

    ========================  ===============================================================================
    Adagrad                   1/(√sum + ε)
    RMSprop                   1/(√v + ε); centered: 1/(√(v − m²) + ε)
    Adam, AdamW, NAdam        1/(√(v/(1 − β₂ᵗ)) + ε); amsgrad: with the largest v so far
    RAdam, once rectified     ρ √(1 − β₂ᵗ)/(√v + ε), ρ the rectification
    Adamax                    1/u
    Preconditioned            its metric
    ========================  ===============================================================================

    Args:
        optimizer: after at least one step.
        named_parameters: such as ``model.named_parameters()``; those without ``requires_grad`` are left out.

    Returns:
        Tensors of the parameters' shapes, copies. A parameter that never had a gradient has D = 1, which nothing is
        multiplied by. None for any other optimizer (plain SGD has no preconditioner, a third party's is unknown), and
        as long as no step was made.
    """
    facts = facts_of(type(optimizer))
    if facts is None or facts.metric is None:
        return None
    read: Callable[[_State, _State], Tensor | None] = resolve(facts.metric)
    groups = {p: group for group in optimizer.param_groups for p in group["params"]}
    parameters = {name: p for name, p in named_parameters if p.requires_grad}
    if not all(p in groups for p in parameters.values()):
        return None
    states = {name: optimizer.state.get(p) or {} for name, p in parameters.items()}
    if not any(_begun(state) for state in states.values()):
        return None
    found: dict[str, Tensor] = {}
    for name, p in parameters.items():
        metric = read(states[name], groups[p]) if _begun(states[name]) else torch.ones_like(p)
        if metric is None:
            return None
        found[name] = metric.detach().clone()
    return found


def _begun(state: _State) -> bool:
    return bool(state) and float(state.get("step", 1)) > 0


def adagrad(state: _State, group: _State) -> Tensor:
    """1/(√sum + ε)."""
    return 1 / (state["sum"].sqrt() + group["eps"])


def rmsprop(state: _State, group: _State) -> Tensor:
    """1/(√v + ε); centered: 1/(√(v − m²) + ε)."""
    v = state["square_avg"]
    if group["centered"]:
        v = v.addcmul(state["grad_avg"], state["grad_avg"], value=-1)
    return 1 / (v.sqrt() + group["eps"])


def adam(state: _State, group: _State) -> Tensor:
    """1/(√(v/(1 − β₂ᵗ)) + ε); amsgrad: with the largest v so far."""
    v = state["max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"]
    return 1 / ((v / _correction(state, group)).sqrt() + group["eps"])


def radam(state: _State, group: _State) -> Tensor | None:
    """ρ √(1 − β₂ᵗ)/(√v + ε) once rectified, else None."""
    t, beta = float(state["step"]), float(group["betas"][1])
    longest = 2 / (1 - beta) - 1
    length = longest - 2 * t * beta**t / (1 - beta**t)
    if length <= 5:  # torch takes plain momentum as long as the average is this short
        return None
    rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    return (rectified * _correction(state, group)) ** 0.5 / (state["exp_avg_sq"].sqrt() + group["eps"])


def adamax(state: _State, _: _State) -> Tensor:
    """1/u."""
    return 1 / state["exp_inf"]


def stored(state: _State, _: _State) -> Tensor:
    """The metric that the state holds."""
    return state["metric"]


def _correction(state: _State, group: _State) -> float:
    return 1 - float(group["betas"][1]) ** float(state["step"])
