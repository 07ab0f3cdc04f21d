"""Directions in parameter space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction in parameter space.

    Attributes:
        tensors: by parameter, of its shape, or of its columns that move (see ``Coordinates``).
        steps: of cached layers, (n, out): the weight's direction is stepᵀ A, A the layer's training inputs.
    """

    tensors: dict[str, Tensor]
    steps: dict[str, Tensor] = field(default_factory=dict)

    def minus(self, other: Direction) -> Direction:
        """The difference of two directions of one form."""
        return Direction(
            {n: t - other.tensors[n] for n, t in self.tensors.items()},
            {n: t - other.steps[n] for n, t in self.steps.items()},
        )

    def square(self, metric: Mapping[str, Tensor | float] | None = None) -> float:
        """⟨·, D ·⟩ of a direction without steps; D is the identity by default."""
        assert not self.steps
        D = dict.fromkeys(self.tensors, 1.0) if metric is None else metric
        return sum(float((t.double().square() * D[n]).sum()) for n, t in self.tensors.items())

    @staticmethod
    def combined(parts: Sequence[tuple[float, Direction]]) -> Direction:
        """The sum of directions of one form, each times a number; one alone times 1 is itself."""
        (weight, first), *others = parts
        if weight == 1.0 and not others:
            return first
        tensors, steps = ({n: t * weight for n, t in d.items()} for d in (first.tensors, first.steps))
        for weight, other in others:
            if weight:
                for total, d in ((tensors, other.tensors), (steps, other.steps)):
                    for name, t in d.items():
                        total[name].add_(t, alpha=weight)
        return Direction(tensors, steps)
