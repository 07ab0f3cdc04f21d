"""Jᵀc and J v of a parameter that meets every row once, as matrix products of its inputs and output gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Tensor

#: After so many products with Jᵀ by all rows transposes are kept for the next ones; making them costs about one.
FEW = 3


class MatrixProducts(ABC):
    """The part of J of one use of a parameter.

    Rows are those of the inputs: None for all of them, or a tensor of row numbers.

    Args:
        gradient: G = ∂f_c/∂(output of the call), (C, n, out).
    """

    def __init__(self, gradient: Tensor) -> None:
        self.gradient = gradient
        self._pulls = 0

    def pull(self, c: Tensor, rows: Tensor | None = None) -> Tensor:
        """Jᵀc, of the parameter's shape, for c (rows, C)."""
        self._pulls += rows is None
        if rows is not None or self._pulls <= FEW:
            return self._sum(self.step(c, rows).T, rows, keep=False)
        g = self._across
        step = g[0] * c[:, 0] if len(g) == 1 else torch.einsum("nc,con->on", c, g)
        return self._sum(step, None, keep=True)

    def step(self, c: Tensor, rows: Tensor | None = None) -> Tensor:
        """Σ_c c_ic G_ci, (rows, out): Jᵀc in the space of the call's outputs."""
        g = self.gradient if rows is None else self.gradient[:, rows]
        return g[0] * c if len(g) == 1 else torch.einsum("nc,cno->no", c, g)

    @abstractmethod
    def addend(self, value: Tensor, rows: Tensor | None = None) -> Tensor:
        """What a parameter of this value adds to the call's output, (rows, out), or (1, out) where rows are alike."""

    def push(self, addend: Tensor, rows: Tensor | None = None) -> Tensor:
        """J v, (rows, C), for what v adds to the call's output."""
        g = self.gradient if rows is None else self.gradient[:, rows]
        return (g * addend).sum(-1).T

    @abstractmethod
    def _sum(self, step: Tensor, rows: Tensor | None, keep: bool) -> Tensor:
        """The parameter's gradient for a step (out, rows); ``keep`` says whether to keep transposes for later."""

    @cached_property
    def _across(self) -> Tensor:
        """G as (C, out, n)."""
        return self.gradient.transpose(1, 2).contiguous()


class FormedProducts:
    """The same for a parameter whose per-example gradients are kept.

    Args:
        gradient: ∂f_c(x_i)/∂parameter, (C, n, *shape).
    """

    def __init__(self, gradient: Tensor) -> None:
        self._shape = gradient.shape[2:]
        self._J = gradient.reshape(*gradient.shape[:2], -1).transpose(0, 1).contiguous()  # (n, C, P)

    def pull(self, c: Tensor, rows: Tensor | None = None) -> Tensor:
        """Jᵀc, of the parameter's shape, for c (rows, C)."""
        J = self._of(rows)
        return (c.reshape(-1).to(J) @ J.flatten(0, 1)).view(self._shape)

    def addend(self, value: Tensor, rows: Tensor | None = None) -> Tensor:
        """J v, (rows, C), already."""
        J = self._of(rows)
        return (J.flatten(0, 1) @ value.reshape(-1).to(J)).view(J.shape[:2])

    def push(self, addend: Tensor, rows: Tensor | None = None) -> Tensor:
        """What :meth:`addend` returned."""
        return addend

    def _of(self, rows: Tensor | None) -> Tensor:
        """(rows, C, P)."""
        return self._J if rows is None else self._J[rows]
