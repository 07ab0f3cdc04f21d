"""The trajectory of the training outputs under a preconditioner that is held, with K_D = J D Jᵀ known on few vectors.

The gradient of a quadratic loss stays in a Krylov space of K_D, and so does the residual. Other gradients do not: the
outputs move by K_D times the part of the gradient in a space of few vectors, which takes up what is missing of the
gradient along the trajectory until that no longer matters.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from whichmin.dynamics.rules.adaptive_rule import AdaptiveRule
from whichmin.losses import Array, Objective

#: An interval takes at most this many products with K_D.
PRODUCTS = 32
#: The space is large enough when two more products move the residual at the end by less than this part of it.
SETTLED = 0.02
#: The space is also large enough when two more products move that by less than this part of the residual at the start.
SMALL = 2e-4
#: A space of gradients is large enough when it lacks this part of them, on average.
MISSING = 2e-3
#: What lacks is added up over so many parts of the steps.
WINDOWS = 3
#: The numbers of the steps at which it is looked at grow by this factor.
SPACED = 1.2
#: What is new of a vector counts as zero below this part of the vector.
DEPENDENT = 1e-6


@dataclass(frozen=True)
class Moving:
    """What moves the training outputs when an interval begins, (N·C,) each.

    Attributes:
        r: the outputs, counted from the objective's origin.
        mu: J D m.
        pull: Jθ, for weight decay.
    """

    r: Array
    mu: Array
    pull: Array


class Space(ABC):
    """Few vectors that K_D is known on, and the trajectory of the outputs over an interval with them.

    Attributes:
        basis: B, (p, N·C), orthonormal.
        energy: B K Bᵀ, (p, p): γ̂·energy·γ̂ = ‖Jᵀ g‖² for a gradient g of coordinates γ̂ in the basis.
        objective: the loss on the training set.
    """

    basis: Array
    energy: Array
    objective: Objective

    @abstractmethod
    def _start(self, moving: Moving) -> tuple[Array, Array, Array]:
        """Outputs, J D m and Jθ, in the coordinates that steps are made in."""

    @abstractmethod
    def _look(self, r: Array) -> tuple[float, Array]:
        """The loss at outputs in these coordinates, and the gradient in the basis."""

    @abstractmethod
    def _moved(self, a: Array) -> Array:
        """K_D Bᵀ a in these coordinates."""

    @abstractmethod
    def _whole(self, r: Array) -> Array:
        """Outputs in these coordinates as (N·C,)."""

    @abstractmethod
    def image(self, g: Array) -> Array:
        """K_D times the part of a gradient g, (N·C,), in the basis."""

    @abstractmethod
    def steepness(self, r: Array) -> float:
        """λ_max of K_D ∂²L/∂f² at the outputs r, (N·C,), as far as the space shows it."""

    def run(
        self, rule: AdaptiveRule, done: int, n: int, moving: Moving, v: float, v_mid: float, until: float | None
    ) -> Trajectory:
        """Steps number done, …, done + n − 1.

        Args:
            rule: the rule.
            done: steps made before.
            n: how many steps.
            moving: what moves the outputs at the start.
            v: the sum of the second moments.
            v_mid: the same where D was taken (corrected).
            until: stop where the training loss falls below this.
        """
        first, second = rule.correction(np.arange(done + 1, done + n + 1, dtype=float))
        r, mu, pull = self._start(moving)
        loss, g = self._look(r)
        gradients, losses = [g], [loss]
        a = np.zeros_like(g)  # m = β₁^τ m(0) + Jᵀ B a
        c, momentum, kept = np.zeros_like(g), 0.0, 1.0
        later, later_momentum, rates = np.zeros_like(g), 0.0, 0.0
        E, b1 = self.energy, rule.beta1
        for k in range(n):
            square = float(g @ E @ g)
            v = v + square if rule.beta2 is None else rule.beta2 * v + (1 - rule.beta2) * square
            of_middle = math.sqrt(v_mid / (v / second[k])) if v > 0 else 1.0  # without a gradient ever nothing moves
            rate = rule.lr * of_middle / first[k]
            a = b1 * a + (1 - b1) * g
            kept *= b1
            momentum -= rate * kept
            c -= rate * a
            later -= (2 * k + 1) * rate * a
            later_momentum -= (2 * k + 1) * rate * kept
            rates += rate
            r = r - rate * (self._moved(a) + kept * mu) - rule.lr * rule.decay * pull
            loss, g = self._look(r)
            gradients.append(g)
            losses.append(loss)
            if (until is not None and loss < until) or not math.isfinite(loss):
                break
        made = len(losses) - 1
        late, late_momentum = later - made * c, later_momentum - made * momentum
        span = max(made - 1, 1)
        return Trajectory(
            self,
            made,
            np.array(gradients),
            self._whole(r),
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
    """The training outputs over an interval.

    Attributes:
        space: what they move in.
        steps: how many were made.
        gradients: ∂L/∂f, (steps + 1, p), in the basis.
        after: the outputs at the end, (N·C,), counted from the objective's origin.
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

    space: Space
    steps: int
    gradients: Array
    after: Array
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
        """The gradient ∂L/∂f that the step at that time uses, (N·C,)."""
        return self.gradients[max(min(int(time), self.steps - 1), 0)] @ self.space.basis


class KrylovSpace(Space):
    """Of a quadratic loss: the residual stays in a Krylov space of K_D.

    Args:
        basis: orthonormal, (p, N·C).
        matrix: K_D in it, (p, p).
        energy: K in it, (p, p).
        objective: the loss on the training set.
    """

    def __init__(self, basis: Array, matrix: Array, energy: Array, objective: Objective) -> None:
        self.basis, self.matrix, self.energy, self.objective = basis, matrix, energy, objective

    def _start(self, moving: Moving) -> tuple[Array, Array, Array]:
        return self.basis @ moving.r, self.basis @ moving.mu, self.basis @ moving.pull

    def _look(self, r: Array) -> tuple[float, Array]:
        return self.objective.value(r), self.objective.gamma * r

    def _moved(self, a: Array) -> Array:
        return self.matrix @ a

    def _whole(self, r: Array) -> Array:
        return r @ self.basis

    def image(self, g: Array) -> Array:
        """From the matrix."""
        return (self.matrix @ (self.basis @ g)) @ self.basis

    def steepness(self, r: Array) -> float:
        """Γ times the largest eigenvalue."""
        return self.objective.gamma * float(np.linalg.eigvalsh(self.matrix)[-1])


class GradientSpace(Space):
    """Of any loss: steps are made on the outputs themselves, which K_D times vectors of gradients moves.

    Args:
        basis: orthonormal, (p, N·C).
        images: K_D times each of them, (p, N·C).
        energy: K in the basis, (p, p).
        objective: the loss on the training set.
    """

    def __init__(self, basis: Array, images: Array, energy: Array, objective: Objective) -> None:
        self.basis, self.images, self.energy, self.objective = basis, images, energy, objective
        self._looks, self._seen = 0, [(0, basis[0])]

    def _start(self, moving: Moving) -> tuple[Array, Array, Array]:
        self._looks, self._seen = 0, []
        return moving.r, moving.mu, moving.pull

    def _look(self, r: Array) -> tuple[float, Array]:
        loss, g = self.objective.value_and_gradient(r)
        if not self._seen or self._looks >= SPACED * self._seen[-1][0] + 1:
            self._seen.append((self._looks, g))
        self._looks += 1
        return loss, self.basis.dot(g)

    def missing(self) -> tuple[float, list[Array]]:
        """What the basis lacked of the gradients of the last run.

        Returns:
            The sum of the gradients' norms, and what lacks of their sum over the early, the middle and the late steps,
            (N·C,) each.
        """
        times = np.array([*(k for k, _ in self._seen), self._looks], float)
        G = np.stack([g for _, g in self._seen])
        weighted = np.diff(times)[:, None] * G
        lacking = weighted - (weighted @ self.basis.T) @ self.basis
        parts = [part.sum(axis=0) for part in np.array_split(lacking, WINDOWS) if len(part)]
        return float(np.linalg.norm(weighted, axis=1).sum()), parts

    def _moved(self, a: Array) -> Array:
        return a.dot(self.images)

    def _whole(self, r: Array) -> Array:
        return r

    def image(self, g: Array) -> Array:
        """From the images."""
        return (self.basis @ g) @ self.images

    def steepness(self, r: Array) -> float:
        """The largest eigenvalue of the Hessian times K_D, from the space into itself."""
        curved = np.stack([self.objective.curve(r, image) for image in self.images])
        return float(np.abs(np.linalg.eigvals(self.basis @ curved.T)).max())


def gradient_space(
    apply: Callable[[Array], Array],
    objective: Objective,
    moving: Moving,
    kernel: Array,
    run: Callable[[Space], Trajectory],
    negligible: float,
) -> GradientSpace:
    """A space that holds the gradients along an interval.

    Args:
        apply: a product with K_D.
        objective: the loss on the training set.
        moving: what moves the outputs at the start.
        kernel: K, (N·C, N·C).
        run: the trajectory in a space.
        negligible: a change of the outputs' norm that does not matter.
    """
    basis: list[Array] = []
    images: list[Array] = []
    _append(basis, objective.gradient(moving.r))
    _append_any(basis, len(moving.r))
    while True:
        images += [apply(w) for w in basis[len(images) :]]
        B = np.array(basis)
        space = GradientSpace(B, np.array(images), B @ kernel @ B.T, objective)
        trajectory = run(space)
        whole, missed = space.missing()
        change = float(np.linalg.norm(trajectory.after - moving.r))
        lacking = sum(float(np.linalg.norm(m)) for m in missed) / max(whole, 1e-300) * change
        if len(basis) >= min(PRODUCTS, B.shape[1]) or lacking <= MISSING * change + negligible:
            return space
        before = len(basis)
        for m in missed:
            _append(basis, m)
        if len(basis) == before or not math.isfinite(lacking):
            return space


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
    _append_any(basis, len(starts[0]))
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


def _append_any(basis: list[Array], size: int) -> None:
    """Add some vector to a basis that is empty, where nothing moves."""
    if not basis:
        _append(basis, np.ones(size))
