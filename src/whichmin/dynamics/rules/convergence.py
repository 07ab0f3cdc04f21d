"""How fast training converges on the linearized network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.dynamics.rules.nesterov import ScheduledNesterov
from whichmin.kernels.spectrum import Spectrum


@dataclass(frozen=True)
class Rates:
    """The convergence of the training loss on the linearized network, once its slowest mode is left.

    Attributes:
        kind: ``"linear"``, the loss falls like factor^t in t steps, or ``"sublinear"``, like t^{−exponent}.
        factor: what a step (a unit of time, for a flow) leaves of the loss; 1 where it is sublinear.
        exponent: of t for a sublinear rate; infinity for a linear one.
        slowest: the eigenvalue of the kernel whose mode is the slowest.
    """

    kind: Literal["linear", "sublinear"]
    factor: float
    exponent: float
    slowest: float


def rates_of(rule: LinearRule, spectrum: Spectrum) -> Rates | None:
    """The rates of a rule; None with mini-batches, a schedule of learning rates or weight decay.

    A mode of eigenvalue λ is a linear recursion whose spectral radius ρ(λ) is what a step leaves of its residual in the
    end; the loss falls like max ρ². Nesterov's schedule leads to t^{−r} for the flow (Su, Boyd and Candès 2016), which
    discrete steps follow while t √(lr γ λ) is moderate.
    """
    if not rule.schedule.is_constant or rule.weight_decay:
        return None
    values = spectrum.eigenvalues.numpy()
    values = values[values > 0]
    if isinstance(rule, ScheduledNesterov):
        return Rates("sublinear", 1.0, rule.r, float(values[-1]))
    if rule.flow and not rule.slots:
        radii = np.exp(-rule.lr * spectrum.gamma * values)
    else:
        A, B = rule.decayed(rule.steady or 0)
        steps = np.repeat(A[None], len(values), 0)
        steps[:, :, 0] += spectrum.gamma * values[:, None] * B
        eigenvalues = np.linalg.eigvals(steps)
        radii = np.exp(eigenvalues.real).max(1) if rule.flow else np.abs(eigenvalues).max(1)
    slowest = int(radii.argmax())
    return Rates("linear", float(radii[slowest] ** 2), math.inf, float(values[slowest]))
