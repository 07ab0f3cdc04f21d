"""Frozen tangent features J written out, and optimizers run on them in parameter space, beside the rules in function
space that describe them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from whichmin.dynamics.motion.motion import Motion, Start
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.dynamics.rules.registry import rule_of
from whichmin.kernels.spectrum import decompose
from whichmin.losses import MeanSquaredError, Objective
from whichmin.optimizers import HigherMomentum, Nesterov
from whichmin.recipe.schedule import Schedule

LR = 0.2
SGD = partial(torch.optim.SGD, lr=LR)
RULES: dict[str, Callable] = {
    "descent": SGD,
    "heavy ball": partial(SGD, momentum=0.9),
    "dampened": partial(SGD, momentum=0.8, dampening=0.4),
    "constant nesterov": partial(SGD, momentum=0.9, nesterov=True),
    "nesterov": partial(Nesterov, lr=LR),
    "nesterov r=5": partial(Nesterov, lr=LR, r=5.0),
    "two terms": partial(HigherMomentum, lr=LR, betas=(0.6, 0.2)),
    "negative terms": partial(HigherMomentum, lr=LR, betas=(0.4, -0.3)),
}
DECAYED: dict[str, Callable] = {
    "descent λ": partial(SGD, weight_decay=0.3),
    "heavy ball λ": partial(SGD, momentum=0.9, weight_decay=0.05),
    "dampened λ": partial(SGD, momentum=0.8, dampening=0.4, weight_decay=0.1),
    "constant nesterov λ": partial(SGD, momentum=0.9, nesterov=True, weight_decay=0.05),
    "nesterov λ": partial(Nesterov, lr=LR, weight_decay=0.02),
    "two terms λ": partial(HigherMomentum, lr=LR, betas=(0.6, 0.2), weight_decay=0.1),
}
BATCHES = [torch.tensor([0, 3, 4]), torch.tensor([5, 1]), torch.tensor([2, 6])]


def batch(k: int) -> Tensor:
    return BATCHES[k % 3]


def shrinking(k: int) -> float:
    return 1.0 / (1.0 + 0.05 * k)


#: What differs from step to step: batches, and the factor of the learning rate.
COURSES: dict[str, tuple[Callable[[int], Tensor] | None, Callable[[int], float] | None]] = {
    "full": (None, None),
    "batches": (batch, None),
    "scheduled": (None, shrinking),
    "both": (batch, shrinking),
}


class Quadratic(Objective):
    """γ/2 |f − y|², whatever γ is."""

    def __init__(self, targets: np.ndarray, gamma: float) -> None:
        self.loss, self.origin, self.gamma = MeanSquaredError(), targets, gamma
        self.minimizer = targets

    def value(self, r):
        return 0.5 * self.gamma * float(r @ r)

    def gradient(self, r, rows=None):
        return self.gamma * r if rows is None else self.gamma * len(r) / len(rows) * r[rows]

    def curve(self, r, v):
        return self.gamma * v


@dataclass(frozen=True)
class Frozen:
    """f = J(θ − θ₀) + r₀ + Y on seven outputs."""

    J: Tensor
    theta: Tensor
    r0: Tensor

    @classmethod
    def make(cls, seed: int = 0, *, rank: int = 7, parameters: int = 12, largest: float = 1.6) -> Frozen:
        """The largest γ·λ is ``largest``; the smallest of those that are not zero a twentieth of it."""
        g = torch.Generator().manual_seed(seed)
        drawn = torch.randn(7, parameters, generator=g, dtype=torch.float64)
        U, _, V = torch.linalg.svd(drawn, full_matrices=False)
        values = torch.logspace(0, -1.3, rank, dtype=torch.float64) * largest * 7 / 2
        J = (U[:, :rank] * values.sqrt()) @ V[:rank]
        theta, r0 = (torch.randn(k, generator=g, dtype=torch.float64) for k in (parameters, 7))
        return cls(J, theta, r0)

    @property
    def spectrum(self):
        return decompose(self.J @ self.J.T, 2.0 / 7.0, torch.finfo(torch.float64).eps)

    @property
    def objective(self) -> Objective:
        return MeanSquaredError().objective(torch.zeros(7, 1, dtype=torch.float64), 1)

    def residual(self, theta: Tensor) -> Tensor:
        return self.r0 + self.J @ (theta - self.theta)

    def train(self, factory: Callable, steps: int, course: str = "full") -> Tensor:
        """θ before every step and at the end, (steps + 1, P), by the optimizer itself."""
        batches, factor = COURSES[course]
        theta = nn.Parameter(self.theta.clone())
        optimizer = factory([theta])
        scheduler = None if factor is None else torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        kept = [self.theta]
        for k in range(steps):
            rows = torch.arange(7) if batches is None else batches(k)
            theta.grad = 2.0 / len(rows) * self.J[rows].T @ self.residual(theta.detach())[rows]
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            kept.append(theta.detach().clone())
        return torch.stack(kept)

    def at_rest(self, rule: LinearRule) -> Motion:
        pushed = (self.J @ self.theta).numpy() if rule.weight_decay else None
        return rule.motion(Start.at_rest(self.spectrum, self.objective, self.r0.numpy(), rule.state_vectors, pushed))

    def state(self, motion: Motion, t: float, before: Tensor) -> Tensor:
        """S(t), (1 + state vectors, P), from S where the motion starts."""
        C, phi = (torch.from_numpy(np.ascontiguousarray(a)) for a in (motion.coefficients(t), motion.weights(t)))
        return phi @ before + C @ self.J

    def origin(self, rule: LinearRule) -> Tensor:
        return torch.cat([self.theta[None], torch.zeros(rule.state_vectors, len(self.theta), dtype=torch.float64)])

    def going_on(self, rule: LinearRule, motion: Motion, t: float, state: Tensor) -> Motion:
        """The same rule from S(t) on."""
        pushed = (state @ self.J.T).numpy()
        if not rule.weight_decay:
            pushed[0] = 0.0
        gram = (state[1:] @ state[1:].T).numpy()
        return rule.motion(
            Start(self.spectrum, self.objective, motion.residual(t), motion.start.steps + t, pushed, gram)
        )


def rule(factory: Callable, course: str = "full") -> LinearRule:
    """The rule of the optimizer, with batches and rates."""
    batches, factor = COURSES[course]
    return replace(
        rule_of(factory([nn.Parameter(torch.ones(1))])),
        schedule=Schedule(
            None if batches is None else lambda k: batches(k).numpy(),
            1 if batches is None else 3,
            None if factor is None else lambda k: LR * factor(k),
        ),
    )
