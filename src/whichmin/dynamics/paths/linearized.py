"""The linearized theory of rules that move the parameters by Jᵀ times something: one linearization at θ₀."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from whichmin.dynamics.motion.motion import Motion, Start, mean_square
from whichmin.dynamics.paths.position import Network
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.dynamics.rules.preconditioned import PreconditionedDescent
from whichmin.kernels.spectrum import Spectrum
from whichmin.tangent.factors import Factors

#: How far a training curve is drawn at most where there is no end.
DRAWN = 20_000


@dataclass(frozen=True, eq=False)
class Linearization:
    """The network linearized where it started, and how a rule moves it.

    Attributes:
        factors: of the training set at θ₀.
        spectrum: of K(X, X).
        rule: the rule.
        motion: what it does from rest.
        f0: f₀(X), (N·C,), float64.
        y: the targets, (N·C,), float64.
        cross: K(x', X), (n·C, N·C), float64, at the points looked at.
        f0_test: f₀(x'), (n·C,), float64.
        looked_at: the factors of x'.
        theta: Jθ₀ at X and at x', (N·C,) and (n·C,), for rules that decay the weights; else None.
        plain: K(X, X) decomposed and K(x', X) where ``spectrum`` and ``cross`` are those of K_D; else None.
    """

    factors: Factors
    spectrum: Spectrum
    rule: LinearRule
    motion: Motion
    f0: Tensor
    y: Tensor
    cross: Tensor
    f0_test: Tensor
    looked_at: Factors
    theta: tuple[Tensor, Tensor] | None = None
    plain: tuple[Spectrum, Tensor] | None = None

    @classmethod
    def of(cls, network: Network, rule: LinearRule, factors: Factors, spectrum: Spectrum) -> Linearization:
        """At the place where the network stands; ``spectrum`` is that of K."""
        plain = None
        if rule.weight_decay:
            network.let_go()
        if isinstance(rule, PreconditionedDescent):
            network.measure(dict(zip(network.named, rule.metric, strict=True)))
            factors = network.factors()
        looked_at = factors if network.X is network.task.X else network.factors(network.X)
        if isinstance(rule, PreconditionedDescent):
            plain = (spectrum, network.kernel_in(looked_at, factors, None).double().cpu())
            spectrum = network.spectrum(network.kernel(factors, factors))
        f0 = flat(factors.outputs)
        y = flat(network.task.y)
        theta = None
        if rule.weight_decay:
            values = network.values()
            theta = (
                flat(network.push_forward(factors, network.task.X, values)),
                flat(network.push_forward(looked_at, network.X, values)),
            )
        decayed = None if theta is None else theta[0].numpy()
        return cls(
            factors,
            spectrum,
            rule,
            rule.motion(Start.at_rest(spectrum, (f0 - y).numpy(), rule.slots, decayed)),
            f0,
            y,
            network.kernel(looked_at, factors).double().cpu(),
            flat(looked_at.outputs),
            looked_at,
            theta,
            plain,
        )

    def mse(self, t: float) -> float:
        """The training mean square error at time t."""
        return self.motion.mse(t)

    def train(self, t: float) -> Tensor:
        """f_lin(X) at time t, (N·C,)."""
        return self.y + torch.from_numpy(self.motion.residual(t))

    def coefficients(self, t: float) -> Tensor:
        """c(t), (N·C,): θ(t) = (1 − d)θ₀ + Jᵀc(t), d what weight decay took off θ₀."""
        return torch.from_numpy(self.motion.coefficients(t)[0])

    def kept(self, t: float) -> float:
        """What weight decay has left of θ₀; 1 without it."""
        return 1.0 if self.theta is None else float(self.motion.weights(t)[0, 0])

    def test(self, t: float) -> Tensor:
        """f_lin(x') at time t, (n·C,)."""
        moved = self.f0_test + self.cross @ self.coefficients(t)
        return moved if self.theta is None else moved + (self.kept(t) - 1.0) * self.theta[1]

    def terms(self, t: float) -> dict[str, Tensor]:
        """Interpolant, initialization, decay and what is left unconverged; they add up to ``test(t)``.

        K(x',X)K⁺Y, f₀(x') − K(x',X)K⁺f₀(X), −d [J(x')θ₀ − K(x',X)K⁺J(X)θ₀] with d what weight decay took off θ₀, and
        the rest, K(x',X)K⁺(f_lin(X) − Y).
        """
        if self.plain is not None:
            return self._terms_in_metric(t, *self.plain)
        terms = {
            "interpolant": self.cross @ self._solve(self.y),
            "initialization": self.f0_test - self.cross @ self._solve(self.f0),
        }
        if self.theta is not None:
            at_training, at_test = self.theta
            terms["decay"] = (self.kept(t) - 1.0) * (at_test - self.cross @ self._solve(at_training))
        return terms | {"unconverged": self.test(t) - torch.stack(list(terms.values())).sum(0)}

    def _terms_in_metric(self, t: float, spectrum: Spectrum, cross: Tensor) -> dict[str, Tensor]:
        """With A = K(x',X)K⁺ and A_D = K_D(x',X)K_D⁺: the geometry is (A_D − A)(r(t) − r₀)."""
        left = self.train(t) - self.y
        terms = {
            "interpolant": cross @ torch.from_numpy(spectrum.solve(self.y.numpy())),
            "initialization": self.f0_test - cross @ torch.from_numpy(spectrum.solve(self.f0.numpy())),
            "unconverged": cross @ torch.from_numpy(spectrum.solve(left.numpy())),
        }
        return terms | {"geometry": self.test(t) - torch.stack(list(terms.values())).sum(0)}

    def floor(self) -> float:
        """The training mean square error that no number of steps gets below: the residual outside K's range."""
        q = self.spectrum.rotate(self.motion.start.residual)
        return mean_square(np.where(self.spectrum.eigenvalues.numpy() > 0, 0.0, q))

    def undone(self, change: Tensor, t: float) -> Tensor:
        """The coefficients by which training until t takes a change of the residual back.

        Where steps differ, so that all of them would have to be made again, as much as it took of the residual itself.
        """
        if not self.rule.is_closed:
            begun, left = self.motion.start.residual, self.motion.residual(t)
            return torch.from_numpy(self.spectrum.suppressed(change.numpy(), begun, left))
        start = Start.at_rest(self.spectrum, change.numpy(), self.rule.slots)
        return torch.from_numpy(self.rule.motion(start).coefficients(t)[0])

    def time_below(self, until: float) -> float:
        """The first time with a training mean square error below ``until``; 0 if it is there, inf if never."""
        return 0.0 if self.mse(0) < until else self.motion.first_below(until)

    def curve_times(self, t: float) -> list[float]:
        """Times at which to draw the training curve up to time t."""
        if t == float("inf"):
            t = self.time_below(1e-12 * self.mse(0) + self.floor()) if self.rule.is_closed else DRAWN
        return drawn_times(min(t, 2.0**60))

    def _solve(self, v: Tensor) -> Tensor:
        return torch.from_numpy(self.spectrum.solve(v.numpy()))


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
