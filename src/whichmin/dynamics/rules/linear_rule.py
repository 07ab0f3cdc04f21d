"""Rules that are linear in their state: gradient descent with memory, weight decay, batches or a schedule."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from whichmin.dynamics.motion.closed_form import SteadyMotion
from whichmin.dynamics.motion.motion import Array, Motion, Start
from whichmin.dynamics.motion.recursion import RecursionMotion
from whichmin.recipe.schedule import Schedule

#: To what part of the limit of stability eigenvalues beyond it are cut off.
BELOW_LIMIT = 0.98


@dataclass(frozen=True)
class LinearRule(ABC):
    """S ← A_k S + B_k g with the state S = (θ, s₁, …), the slots s zero at the start, and g = ∇L.

    Attributes:
        lr: the learning rate.
        flow: whether time is continuous.
        schedule: batches, learning rates and momenta of each step.
        weight_decay: λ of g = ∇L + λθ.
    """

    lr: float
    flow: bool = False
    schedule: Schedule = field(default_factory=Schedule)
    weight_decay: float = 0.0

    @property
    def slots(self) -> int:
        """How many vectors the optimizer remembers."""
        return 0

    @property
    def steady(self) -> int | None:
        """From which step on all steps are alike; None if they never are."""
        return 0

    @property
    def is_closed(self) -> bool:
        """Whether every step is the same, so that any time is one formula."""
        return self.flow or (self.steady is not None and self.schedule.is_constant)

    def rate(self, k: float) -> float:
        """The learning rate of step number k."""
        return self.lr if self.schedule.lr is None else self.schedule.lr(int(k))

    @abstractmethod
    def matrices(self, k: int, lr: float) -> tuple[Array, Array]:
        """A, (1 + slots, 1 + slots), and B, (1 + slots,), of step number k from 0, without weight decay."""

    def decayed(self, k: int) -> tuple[Array, Array]:
        """A and B of step number k with its learning rate and weight decay."""
        A, B = self.matrices(k, self.rate(k))
        if self.weight_decay:
            A = A.copy()
            A[:, 0] += self.weight_decay * B
        return A, B

    def _remembered(self) -> Callable[[int], tuple[Array, Array]]:
        """:meth:`decayed`, made once where all steps from some on are alike."""
        first = self.steady
        if first is None or self.schedule.lr is not None:
            return self.decayed
        always = self.decayed(first)
        return lambda k: always if k >= first else self.decayed(k)

    def limit(self, largest: float, gamma: float) -> float:
        """The learning rate from which the mode of the largest eigenvalue no longer converges."""
        return math.inf if self.flow else self._largest_product / (gamma * largest)

    @cached_property
    def _largest_product(self) -> float:
        """The lr·γ·λ at which a step, after many, no longer contracts."""
        late = 10**6 if self.steady is None else self.steady

        def radius(z: float) -> float:
            A, B = self.matrices(late, z)
            step = A.copy()
            step[:, 0] += B
            return float(np.abs(np.linalg.eigvals(step)).max())

        lo, hi = 1e-6, 16.0
        while hi - lo > 1e-12 * hi:
            mid = (lo + hi) / 2
            lo, hi = (mid, hi) if radius(mid) < 1 else (lo, mid)
        return lo

    def motion(self, start: Start) -> Motion:
        """The motion from there, in closed form where every step is the same, else step by step."""
        edge = self.limit(1.0, start.spectrum.gamma) / self.lr
        largest = BELOW_LIMIT * edge if float(start.spectrum.eigenvalues[0]) > edge else math.inf
        if self.is_closed:
            assert self.steady is not None
            before = None if self.flow or start.steps >= self.steady else self.decayed(0)
            A, B = self.decayed(self.steady)
            return SteadyMotion(start, A, B, first=before, largest=largest, flow=self.flow)
        schedule = self.schedule
        return RecursionMotion(start, self._remembered(), schedule.batches, every=schedule.eval_every, largest=largest)
