"""The residual's trajectory under a preconditioner that is held, in a Krylov space of K_D = J D Jᵀ."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from whichmin.dynamics.rules.adaptive_rule import AdaptiveRule
from whichmin.losses import Array

#: An interval takes at most this many products with K_D.
PRODUCTS = 32
#: The space is large enough when two more products move the residual at the end by less than this part of it.
SETTLED = 0.02
#: The space is also large enough when two more products move that by less than this part of the residual at the start.
SMALL = 2e-4
#: What is new of a vector counts as zero below this part of the vector.
DEPENDENT = 1e-6


class KrylovSpace:
    """The residual in a Krylov space of K_D, and its trajectory there over an interval.

    Attributes:
        basis: (p, N·C), orthonormal.
        matrix: K_D in it, (p, p).
        energy: γ² K in it: ρ·energy·ρ = ‖g‖².
    """

    def __init__(self, basis: Array, matrix: Array, energy: Array, gamma: float) -> None:
        self.basis, self.matrix, self.energy, self.gamma = basis, matrix, energy, gamma

    def run(self, rule: AdaptiveRule, done: int, n: int, r: Array, mu: Array, pull: Array, v: float, v_mid: float,
            until: float | None) -> Trajectory:  # fmt: skip
        """Steps number done, …, done + n − 1.

        Args:
            rule: the rule.
            done: steps made before.
            n: how many steps.
            r: the residual in the basis.
            mu: J D m in the basis.
            pull: Jθ in the basis, for weight decay.
            v: the sum of the second moments.
            v_mid: the same where D was taken (corrected).
            until: stop where the training loss falls below this.
        """
        size = self.basis.shape[1]
        first, second = rule.correction(np.arange(done + 1, done + n + 1, dtype=float))
        rs, losses = [r], [float(r @ r) / size]
        a = np.zeros_like(r)  # m = β₁^τ m(0) + Jᵀ B a
        c, momentum, kept = np.zeros_like(r), 0.0, 1.0
        later, later_momentum, rates = np.zeros_like(r), 0.0, 0.0
        H, E, b1 = self.matrix, self.energy, rule.beta1
        for k in range(n):
            square = float(r @ E @ r)
            v = v + square if rule.beta2 is None else rule.beta2 * v + (1 - rule.beta2) * square
            rate = rule.lr * math.sqrt(v_mid / (v / second[k])) / first[k]
            a = b1 * a + (1 - b1) * self.gamma * r
            kept *= b1
            momentum -= rate * kept
            c -= rate * a
            later -= (2 * k + 1) * rate * a
            later_momentum -= (2 * k + 1) * rate * kept
            rates += rate
            r = r - rate * (H @ a + kept * mu) - rule.lr * rule.decay * pull
            rs.append(r)
            losses.append(float(r @ r) / size)
            if (until is not None and losses[-1] < until) or not math.isfinite(losses[-1]):
                break
        made = len(rs) - 1
        late, late_momentum = later - made * c, later_momentum - made * momentum
        span = max(made - 1, 1)
        return Trajectory(
            self,
            made,
            np.array(rs),
            np.array(losses),
            c,
            late / span,
            rates,
            momentum,
            late_momentum / span,
            a,
            b1**made,
            v,
        )


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The residual over an interval.

    Attributes:
        space: what it moves in.
        steps: how many were made.
        residuals: (steps + 1, p), in the basis.
        losses: training losses, (steps + 1,).
        c: the parameters moved by D∘(Jᵀ B c + momentum·m(0)).
        late: the same with steps weighted from −1, the first, to 1, the last.
        rates: the sum of lr, in units of D.
        momentum: see ``c``.
        late_momentum: as ``late``.
        a: m = kept·m(0) + Jᵀ B a.
        kept: see ``a``.
        v: the sum of the second moments at the end.
    """

    space: KrylovSpace
    steps: int
    residuals: Array
    losses: Array
    c: Array
    late: Array
    rates: float
    momentum: float
    late_momentum: float
    a: Array
    kept: float
    v: float

    def during(self, time: float) -> Array:
        """The residual that the step at that time uses, (N·C,)."""
        return self.residuals[max(min(int(time), self.steps - 1), 0)] @ self.space.basis

    @property
    def after(self) -> Array:
        """The residual at the end, (N·C,)."""
        return self.residuals[-1] @ self.space.basis


def lanczos_basis(
    apply: Callable[[Array], Array], starts: Sequence[Array], rate: float, negligible: float
) -> tuple[Array, Array]:
    """An orthonormal basis (p, N·C) that holds the starts, and K_D in it, (p, p).

    Args:
        apply: a product with K_D.
        starts: the residual, and what else drives it.
        rate: lr·γ·steps: the space is built for exp(−rate·K_D) r.
        negligible: a change of the residual's norm that does not matter.
    """
    basis: list[Array] = []
    for start in starts:
        _append(basis, start)
    first, images = len(basis), []
    r = starts[0]
    before: Array | None = None
    while len(images) < min(len(basis), PRODUCTS, len(r)):
        images.append(apply(basis[len(images)]))
        _append(basis, images[-1])
        p = len(images)
        if p >= first + 2 and (p - first) % 2 == 0:
            B = np.array(basis[:p])
            H = B @ np.array(images).T
            values, vectors = np.linalg.eigh((H + H.T) / 2)
            reached = (vectors @ (np.exp(-np.clip(rate * values, 0.0, 700.0)) * (vectors.T @ (B @ r)))) @ B
            if before is not None:
                change = float(np.linalg.norm(reached - before))
                enough = SMALL * float(np.linalg.norm(r)) + SETTLED * float(np.linalg.norm(reached)) + negligible
                if change <= enough:
                    break
            before = reached
    B = np.array(basis[: len(images)])
    H = B @ np.array(images).T
    return B, (H + H.T) / 2


def _append(basis: list[Array], v: Array) -> None:
    """Add what of v is new, normalized."""
    norm = float(np.linalg.norm(v))
    if norm == 0:
        return
    w = v / norm
    for _ in range(2):
        for b in basis:
            w = w - (b @ w) * b
    left = float(np.linalg.norm(w))
    if left > DEPENDENT:
        basis.append(w / left)
