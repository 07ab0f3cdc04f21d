"""The part of a network's outputs that its buffers put there, such as the running statistics of a normalization."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from whichmin.dynamics.paths.linearized import flat
from whichmin.inputs import AnyInputs
from whichmin.tangent.model import evaluate, finite
from whichmin.training.recording import moved_buffers


def statistics_term(model: nn.Module, X: AnyInputs, final: Mapping[str, Tensor], test: Tensor) -> Tensor | None:
    """f(θ_T, s_T) − f(θ_T, s₀) with the buffers s, (n·C,); None where no buffer that matters moved.

    Args:
        model: the network at θ₀ and s₀, in evaluation mode; it is left at θ_T and s₀.
        X: the test inputs.
        final: θ_T and s_T.
        test: f(θ_T, s_T) on them.
    """
    initial = model.state_dict()
    moved = moved_buffers(model, initial, final)
    if not moved:
        return None
    model.load_state_dict({name: initial[name] if name in moved else value for name, value in final.items()})
    with torch.no_grad():
        term = flat(test) - flat(finite(evaluate(model, X), "X_test"))
    return term if bool(term.any()) else None
