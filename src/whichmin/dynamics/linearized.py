"""The linearized theory: one linearization at θ₀, every time in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from whichmin.dynamics.network import Network
from whichmin.dynamics.rules import Array, Modes, Rule
from whichmin.dynamics.search import first_time
from whichmin.eigen import Spectrum
from whichmin.tangent.layerwise import Factors


@dataclass(frozen=True, eq=False)
class Linearization:
    """The network linearized where it started, with its modes under a rule.

    Attributes:
        factors: of the training set at θ₀.
        spectrum: of K(X, X).
        modes: the rule's dynamics.
        f0: f₀(X), (N·C,), float64.
        y: the targets, (N·C,), float64.
        q: the residual in the eigenbasis, Qᵀ(f₀ − y).
        cross: K(x', X), (n·C, N·C), float64, at the points looked at.
        f0_test: f₀(x'), (n·C,), float64.
    """

    factors: Factors
    spectrum: Spectrum
    modes: Modes
    f0: Tensor
    y: Tensor
    q: Array
    cross: Tensor
    f0_test: Tensor

    @classmethod
    def of(cls, network: Network, rule: Rule, factors: Factors, spectrum: Spectrum) -> Linearization:
        """At the place where the network stands."""
        looked_at = factors if network.X is network.task.X else network.factors(network.X)
        f0 = flat(factors.outputs)
        y = flat(network.task.y)
        return cls(
            factors,
            spectrum,
            rule.modes(spectrum.eigenvalues.numpy(), spectrum.gamma),
            f0,
            y,
            spectrum.project(f0 - y),
            network.kernel(looked_at, factors).double().cpu(),
            flat(looked_at.outputs),
        )

    def mse(self, t: float) -> float:
        """The training mean square error at time t."""
        return mean_square(self.modes.residual(t) * self.q)

    def train(self, t: float) -> Tensor:
        """f_lin(X) at time t, (N·C,)."""
        return self.y + self.spectrum.combine(self.modes.residual(t) * self.q)

    def coefficients(self, t: float) -> Tensor:
        """c(t), (N·C,): θ(t) = θ₀ − Jᵀc(t)."""
        return self.spectrum.combine(self.modes.coefficient(t) * self.q)

    def test(self, t: float) -> Tensor:
        """f_lin(x') at time t, (n·C,)."""
        return self.f0_test - self.cross @ self.coefficients(t)

    def displacement(self, t: float) -> float:
        """‖θ(t) − θ₀‖."""
        return displacement(self.spectrum, self.modes, self.q, t)

    def terms(self, t: float) -> dict[str, Tensor]:
        """``interpolant`` K(x',X)K⁺Y, ``initialization`` f₀(x') − K(x',X)K⁺f₀(X), ``unconverged`` the rest."""
        interpolant = self.cross @ self._solve(self.y)
        initialization = self.f0_test - self.cross @ self._solve(self.f0)
        return {
            "interpolant": interpolant,
            "initialization": initialization,
            "unconverged": self.test(t) - interpolant - initialization,
        }

    def floor(self) -> float:
        """The training mean square error that no number of steps gets below: the residual outside K's range."""
        return mean_square(np.where(self.spectrum.eigenvalues.numpy() > 0, 0.0, self.q))

    def time_below(self, until: float, flow: bool) -> float:
        """The first time with a training mean square error below ``until``; 0 if it is there, inf if never."""
        if self.mse(0) < until:
            return 0.0
        return first_time(lambda t: self.mse(t) < until, flow)

    def curve_times(self, t: float) -> list[float]:
        """Times at which to draw the training curve up to time t."""
        return drawn_times(t if t < float("inf") else self.time_below(1e-12 * self.mse(0) + self.floor(), True))

    def _solve(self, v: Tensor) -> Tensor:
        return self.spectrum.combine(self.modes.coefficient(math.inf) * self.spectrum.project(v))


def displacement(spectrum: Spectrum, modes: Modes, q: Array, t: float) -> float:
    """‖Jᵀc(t)‖ = (cᵀKc)^{1/2}."""
    c = modes.coefficient(t) * q
    return math.sqrt(float(np.dot(c * c, spectrum.eigenvalues.numpy())))


def mean_square(r: Array) -> float:
    """Its mean square."""
    return float(np.dot(r, r)) / len(r)


def flat(outputs: Tensor) -> Tensor:
    """Outputs (n, C) as (n·C,), float64, on the CPU."""
    return outputs.detach().double().reshape(-1).cpu()


def drawn_times(t: float, points: int = 60) -> list[float]:
    """0 and up to ``points`` times to t, spaced by a factor."""
    if not 0 < t < float("inf"):
        return [0.0]
    first = min(1.0, t)
    times: Sequence[float] = torch.logspace(0, 1, points, base=max(t / first, 1.0), dtype=torch.float64).tolist()
    whole = [float(round(first * s)) if t == round(t) and t >= 1 else first * s for s in times]
    return [0.0, *sorted(set(whole))]
