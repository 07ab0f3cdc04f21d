"""Layers that several benchmarks build networks from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Adapted(nn.Module):
    """A frozen linear layer with a trained update of rank four that starts at zero."""

    def __init__(self, m: int, n: int) -> None:
        super().__init__()
        self.base = nn.Linear(m, n).requires_grad_(False)
        self.A, self.B = nn.Linear(m, 4, bias=False), nn.Linear(4, n, bias=False)
        nn.init.zeros_(self.B.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + 2 * self.B(self.A(x))


def routed(tokens: Tensor, gate: nn.Module, experts: Sequence[nn.Module] | nn.ModuleList) -> Tensor:
    """Tokens, (n, d), plus what the expert that the gate prefers makes of each, times its share."""
    p = gate(tokens).softmax(-1)
    chosen, out = p.argmax(-1), torch.zeros_like(tokens)
    for e, expert in enumerate(experts):
        i = (chosen == e).nonzero()[:, 0]
        if len(i):
            out[i] = expert(tokens[i]) * p[i, e : e + 1]
    return tokens + out
