"""Rules that are linear in their state: gradient descent with memory, weight decay, batches or a schedule."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from whichmin.dynamics.motion.closed_form import ClosedFormMotion
from whichmin.dynamics.motion.edge import driven_share
from whichmin.dynamics.motion.integrated import IntegratedFlow
from whichmin.dynamics.motion.lanczos import LanczosMotion
from whichmin.dynamics.motion.motion import Motion, Start
from whichmin.dynamics.motion.recursion import RecursionMotion
from whichmin.dynamics.motion.stabilized import StabilizedMotion, largest_product
from whichmin.dynamics.rules.rule import Convergence, Rule
from whichmin.kernels.large import LargeSpectrum
from whichmin.kernels.modes import Spectrum
from whichmin.losses import Array
from whichmin.recipe.schedule import Schedule

#: A rule whose steps never become alike is judged by this late step.
LATE = 10**6
#: The best rate of gradient descent is taken while it is below this part of the rule's own limit of stability.
SAFE = 0.75


@dataclass(frozen=True)
class LinearRule(Rule, ABC):
    """S ← A_k S + B_k g with the state S = (θ, s₁, …), the state vectors s zero before the first step, and g = ∇L.

    A new rule gives ``state_vectors`` and ``remembered``, where it has any, and ``matrices``; closed forms, batches,
    schedules, weight decay, checkpoints, the limit of stability and the convergence follow.

    Attributes:
        lr: the learning rate.
        flow: whether time is continuous.
        schedule: batches and learning rates of the steps.
        weight_decay: λ of g = ∇L + λθ.
        rtol: to what part of ‖Δθ‖ motions may be approximated where that makes them cheaper; 0 for exactly.
    """

    lr: float
    flow: bool = False
    schedule: Schedule = field(default_factory=Schedule)
    weight_decay: float = 0.0
    rtol: float = 0.0

    @property
    def state_vectors(self) -> int:
        """How many vectors the optimizer remembers."""
        return 0

    def remembered(self, state: Mapping[str, Any]) -> tuple[Tensor | None, ...]:
        """The state vectors of one parameter, from the optimizer's state of it; None for one that is still zero."""
        return ()

    @property
    def constant_from_step(self) -> int | None:
        """From which step on all steps are alike; None if they never are."""
        return 0

    @property
    def is_closed(self) -> bool:
        """Whether every step is the same, so that any time is one formula."""
        return self.flow or (self.constant_from_step is not None and self.schedule.is_constant)

    def rate(self, k: float) -> float:
        """The learning rate of step number k."""
        return self.lr if self.schedule.lr is None else self.schedule.lr(int(k))

    @abstractmethod
    def matrices(self, k: int, lr: float) -> tuple[Array, Array]:
        """A, (1 + state vectors, 1 + state vectors), and B, (1 + state vectors,), of step k, without weight decay."""

    def generator(self, t: float) -> tuple[Array, Array]:
        """A and B of the flow dS/dt = A S + B g at time t."""
        return self.step(0)

    def step(self, k: int) -> tuple[Array, Array]:
        """A and B of step number k from 0 with its learning rate and weight decay."""
        A, B = self.matrices(k, self.rate(k))
        if self.weight_decay:
            A = A.copy()
            A[:, 0] += self.weight_decay * B
        return A, B

    def _steps(self) -> Callable[[int], tuple[Array, Array]]:
        """:meth:`step`, made once where all steps from some on are alike."""
        first = self.constant_from_step
        if first is None or self.schedule.lr is not None:
            return self.step
        constant = self.step(first)
        return lambda k: constant if k >= first else self.step(k)

    def limit(self, largest: float, gamma: float) -> float:
        """The learning rate from which the mode of the largest eigenvalue no longer converges."""
        return math.inf if self.flow or not gamma else self._largest_product / (gamma * largest)

    @cached_property
    def _largest_product(self) -> float:
        """The lr·γ·λ at which a step, after many, no longer contracts."""
        late = LATE if self.constant_from_step is None else self.constant_from_step
        if self.schedule.momentum is not None:
            late = 0
        return self._product_at(late)

    def _product_at(self, late: int) -> float:
        """The lr·γ·λ at which a step like number ``late``, made again and again, no longer contracts."""

        def radius(z: float) -> float:
            A, B = self.matrices(late, z)
            step = A.copy()
            step[:, 0] += B
            return float(np.abs(np.linalg.eigvals(step)).max())

        lo, hi = 1e-6, 16.0
        if radius(hi) <= 1 + 1e-12:  # the gradient is not taken
            return math.inf
        while hi - lo > 1e-12 * hi:
            mid = (lo + hi) / 2
            lo, hi = (mid, hi) if radius(mid) < 1 else (lo, mid)
        return lo

    def largest_stable(self, k: float, gamma: float) -> float:
        """The eigenvalue at the limit of stability of step number k."""
        rate = self.rate(k)
        if rate == 0.0 or not gamma:
            return math.inf
        momentum = None if self.schedule.momentum is None else self.schedule.momentum(int(k))
        if momentum is None or self.flow:
            return self.limit(1.0, gamma) / rate
        if momentum not in self._products:
            self._products[momentum] = self._product_at(int(k))
        return self._products[momentum] / gamma / rate

    @cached_property
    def _products(self) -> dict[float, float]:
        """The largest product of steps with each momentum that a schedule came to."""
        return {}

    def drift(self, k: int) -> float:
        """How far a step like number k takes θ against a gradient that stays 1: its learning rate, over 1 − μ."""
        A, B = self.matrices(k, self.rate(k))
        remembered = np.linalg.solve(np.eye(len(B) - 1) - A[1:, 1:], B[1:])
        return -float(B[0] + A[0, 1:] @ remembered)

    def best_rate(self, spectrum: Spectrum, gamma: float) -> float:
        """The best rate of gradient descent, 2/(γ(λ_max + λ_min)), or half of the rule's own limit if that is near."""
        rate, limit = spectrum.best_lr, self.limit(spectrum.largest, gamma)
        return rate if rate < SAFE * limit or not self.state_vectors else limit / 2

    def convergence(self, spectrum: Spectrum, gamma: float) -> Convergence | None:
        """Of full batches with one learning rate and without weight decay; else None.

        A mode of eigenvalue λ is a linear recursion whose spectral radius ρ(λ) is what a step leaves of its residual in
        the end; the loss falls like max ρ².
        """
        if not self.schedule.is_constant or self.weight_decay:
            return None
        values = spectrum.extremes
        radii = self._radii(gamma * values)
        slowest = int(radii.argmax())
        return Convergence("linear", float(radii[slowest] ** 2), math.inf, float(values[slowest]))

    def _radii(self, curvatures: Array) -> Array:
        """What a step (a unit of time, for a flow) leaves in the end of the mode of each γλ."""
        A, B = self.step(self.constant_from_step or 0)
        steps = np.repeat(A[None], len(curvatures), 0)
        steps[:, :, 0] += curvatures[:, None] * B
        eigenvalues = np.linalg.eigvals(steps)
        return np.exp(eigenvalues.real).max(1) if self.flow else np.abs(eigenvalues).max(1)

    def correction(self, motion: Motion, change: Array, t: float) -> Array:
        """The coefficients by which training until t takes a change of the residual at the start back, (N·C,).

        Args:
            motion: of this rule, without the change.
            change: of the residual at its start, (N·C,).
            t: the time.
        """
        changed = self.motion(replace(motion.start, residual=motion.start.residual + change))
        return np.asarray(changed.coefficients(t)[0] - motion.coefficients(t)[0])

    def motion(self, start: Start) -> Motion:
        """The motion from there, in closed form where every step is the same, else step by step."""
        of_modes = start.objective.loss.is_quadratic and (self.flow or self.schedule.batches is None)
        if of_modes and isinstance(start.spectrum, LargeSpectrum):
            return LanczosMotion(start, start.spectrum, self._motion)
        return self._motion(start)

    def _approximated(self, start: Start, exact: RecursionMotion) -> Motion:
        """With many steps at a time, where an error is allowed and all steps are those of gradient descent."""
        if not (self.rtol and self.is_closed) or self.state_vectors or self.weight_decay:
            return exact
        product = largest_product(start, self.lr)
        return exact if product is None else StabilizedMotion(start, exact, self.lr, product, self.rtol)

    def _motion(self, start: Start) -> Motion:
        """:meth:`motion` where all modes of the kernel are known, or none matter."""
        gamma = start.objective.gamma
        if self.is_closed and start.objective.loss.is_quadratic:
            assert self.constant_from_step is not None
            share = driven_share(start.spectrum.eigenvalues.numpy(), self.largest_stable(start.steps, gamma))
            before = None if self.flow or start.steps >= self.constant_from_step else self.step(0)
            A, B = self.step(self.constant_from_step)
            return ClosedFormMotion(start, A, B, first=before, share=share, flow=self.flow)
        if self.flow:
            return IntegratedFlow(start, self.generator)
        if not start.objective.loss.is_quadratic:  # beyond its limit of stability it may well train
            exact = RecursionMotion(
                start, self._steps(), self.schedule.batches, eval_every=self.schedule.eval_every,
                dies_out=self.schedule.dies_out,
            )  # fmt: skip
            return self._approximated(start, exact)
        constant = None if self.schedule.lr is not None else self.largest_stable(0, gamma)
        return RecursionMotion(
            start,
            self._steps(),
            self.schedule.batches,
            eval_every=self.schedule.eval_every,
            limit=lambda k: self.largest_stable(k, gamma) if constant is None else constant,
            dies_out=self.schedule.dies_out,
        )
