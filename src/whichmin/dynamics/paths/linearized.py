"""The linearized theory of rules that move the parameters by Jᵀ times something: one linearization at θ₀."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from whichmin.dynamics.motion.motion import Motion, Start
from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.dynamics.paths.start import start_at
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.dynamics.rules.preconditioned import PreconditionedDescent
from whichmin.kernels.modes import Spectrum
from whichmin.losses import Objective
from whichmin.tangent.direction import Direction
from whichmin.tangent.features import Features
from whichmin.terms import Interpolator, linearized_terms

#: A training curve without an end is drawn up to this step.
DRAWN = 20_000


@dataclass(frozen=True, eq=False)
class Linearization:
    """The network linearized where it started, and how a rule moves it.

    Attributes:
        rule: the rule.
        objective: the loss on the training set.
        features: J(X) at θ₀.
        test_features: J(x') there, at the points where test outputs are wanted.
        spectrum: of K(X, X), in the rule's metric.
        cross: K(x', X) in the rule's metric, (n·C, N·C), float64.
        motion: what the rule does from there.
        f0: f₀(X), (N·C,), float64.
        f0_test: f₀(x'), (n·C,), float64.
        metric: D of a rule that moves by D Jᵀ, by parameter; None for the identity.
        plain: A = K(x', X)K⁺ without a metric.
        theta: Jθ₀ at X and at x', (N·C,) and (n·C,), for rules that decay the weights; else None.
        remembered: the rule's state vectors at θ₀, where training goes on from a checkpoint; none at rest.
        remembered_test: J(x') times each of them, (state vectors, n·C), float64.

    Times are steps from the beginning of training: those of the motion, and the steps made before it.
    """

    rule: LinearRule
    objective: Objective
    features: Features
    test_features: Features
    spectrum: Spectrum
    cross: Tensor
    motion: Motion
    f0: Tensor
    f0_test: Tensor
    metric: dict[str, Tensor] | None
    plain: Interpolator
    theta: tuple[Tensor, Tensor] | None = None
    remembered: tuple[Direction, ...] = ()
    remembered_test: Tensor | None = None

    @classmethod
    def of(
        cls,
        network: MovingNetwork,
        rule: LinearRule,
        objective: Objective,
        features: Features,
        spectrum: Spectrum,
        steps: float = 0.0,
        remembered: tuple[Direction, ...] = (),
    ) -> Linearization:
        """At the position where the network stands; ``features`` and ``spectrum`` are those of K there.

        Args:
            network: stands there.
            rule: what trains it.
            objective: the loss on the training set.
            features: J(X) there.
            spectrum: of K(X, X) there.
            steps: how many were made before.
            remembered: the rule's state vectors there; none at rest.
        """
        metric = None
        if isinstance(rule, PreconditionedDescent):
            metric = dict(zip(network.parameters, rule.metric, strict=True))
        if rule.weight_decay or metric is not None or remembered:  # these move first layers in another way than by Jᵀ
            network.release()
            features = network.features()
        test_features = features if network.X is network.task.X else network.features(network.X)
        f0, f0_test = flat(features.outputs), flat(test_features.outputs)
        plain = Interpolator(test_features.gram(features).double().cpu(), spectrum)
        cross = plain.cross
        if metric is not None:
            cross = test_features.gram(features, metric).double().cpu()
            spectrum = network.spectrum(features, metric)
        theta = None
        if rule.weight_decay:
            values = network.values()
            theta = flat(features.push(values)), flat(test_features.push(values))
        pushed = torch.stack([flat(test_features.push(vector)) for vector in remembered]) if remembered else None
        motion = rule.motion(start_at(network, rule, objective, features, spectrum, steps, remembered))
        return cls(
            rule, objective, features, test_features, spectrum, cross, motion, f0, f0_test, metric, plain, theta,
            remembered, pushed,
        )  # fmt: skip

    @cached_property
    def exact(self) -> Linearization:
        """With motions that are exact; the same where these are."""
        if not self.rule.rtol:
            return self
        rule = replace(self.rule, rtol=0.0)
        return replace(self, rule=rule, motion=rule.motion(self.motion.start))

    @property
    def first(self) -> float:
        """How many steps were made before."""
        return self.motion.start.steps

    def loss(self, t: float) -> float:
        """The training loss at time t."""
        return self.motion.loss(t - self.first)

    def train(self, t: float) -> Tensor:
        """f_lin(X) at time t, (N·C,)."""
        return torch.from_numpy(self.objective.origin + self.motion.residual(t - self.first))

    def coefficients(self, t: float) -> Tensor:
        """c(t), (N·C,): θ(t) = (1 − d)θ₀ + Σ φ_k s_k + D Jᵀc(t), d what weight decay took off θ₀.

        s_k are the vectors that were remembered at θ₀.
        """
        return torch.from_numpy(self.motion.coefficients(t - self.first)[0])

    def kept(self, t: float) -> float:
        """What weight decay has left of θ₀; 1 without it."""
        return 1.0 if self.theta is None else float(self.motion.weights(t - self.first)[0, 0])

    def carried(self, t: float) -> list[float]:
        """φ(t), one for each vector that was remembered: by how much of it the parameters have moved."""
        return self.motion.weights(t - self.first)[0, 1:].tolist() if self.remembered else []

    def _by_memory(self, t: float) -> tuple[Tensor, Tensor] | None:
        """What the vectors that were remembered have moved the outputs by, at X and at x'; None at rest."""
        if self.remembered_test is None:
            return None
        phi = torch.tensor(self.carried(t), dtype=torch.float64)
        return phi @ torch.from_numpy(self.motion.start.pushed[1:]), phi @ self.remembered_test

    def test(self, t: float) -> Tensor:
        """f_lin(x') at time t, (n·C,)."""
        moved, by_memory = self.f0_test + self.cross @ self.coefficients(t), self._by_memory(t)
        if by_memory is not None:
            moved = moved + by_memory[1]
        return moved if self.theta is None else moved + (self.kept(t) - 1.0) * self.theta[1]

    def terms(self, t: float, outputs: tuple[Tensor, Tensor] | None = None) -> dict[str, Tensor]:
        """The terms of ``whichmin.terms.linearized_terms``, which add up to the test outputs.

        Args:
            t: the time.
            outputs: ``train(t)`` and ``test(t)``, where a motion of another exactness has told them.
        """
        train, test = (self.train(t), self.test(t)) if outputs is None else outputs
        decay = None
        if self.theta is not None:
            taken = self.kept(t) - 1.0
            decay = taken * self.theta[0], taken * self.theta[1]
        least = self.objective.minimizer
        remainder = "interpolant" if least is None else "unconverged"
        return linearized_terms(
            self.plain,
            y=None if least is None else torch.from_numpy(least),
            f0=self.f0,
            f0_test=self.f0_test,
            train=train,
            in_metric=None if self.metric is None else Interpolator(self.cross, self.spectrum),
            decay=decay,
            memory=self._by_memory(t),
            test=test,
            remainder=remainder if self.metric is None else "geometry",
        )

    def floor(self) -> float:
        """The training loss that no number of steps gets below: that of the residual outside K's range.

        Of a loss that is not quadratic the lowest that any outputs have; where rates die out, the last one.
        """
        if self.rule.schedule.dies_out(int(self.first)):
            return self.loss(math.inf)
        if not self.objective.loss.is_quadratic:
            return self.objective.lowest
        return self.objective.value(self.spectrum.outside(self.motion.start.residual))

    def correction_for(self, change: Tensor, t: float) -> Tensor:
        """The coefficients by which training until t takes a change of the residual back, (N·C,).

        Where steps differ, so that all of them would have to be made again, as much as it took of the residual itself.
        Where the loss is not quadratic, by training from there again.
        """
        start = self.motion.start
        if not self.objective.loss.is_quadratic:
            return torch.from_numpy(self.rule.correction(self.motion, change.numpy(), t - self.first))
        if not self.rule.is_closed:
            left = self.motion.residual(t - self.first)
            return torch.from_numpy(self.spectrum.suppressed(change.numpy(), start.residual, left))
        begin = Start.at_rest(self.spectrum, self.objective, change.numpy(), self.rule.state_vectors)
        return torch.from_numpy(self.rule.motion(begin).coefficients(t - self.first)[0])

    def time_below(self, until: float, most: float = math.inf) -> float:
        """The first time with a training loss below ``until``; that of θ₀ if it is there, infinity if never.

        Args:
            until: a training loss.
            most: later times may be infinity.
        """
        is_looked_at = self.rule.flow or self.first % self.rule.schedule.eval_every == 0
        if is_looked_at and self.loss(self.first) < until:
            return self.first
        return self.first + self.motion.first_below(until, most - self.first)

    def curve_times(self, t: float) -> list[float]:
        """Times at which to draw the training curve up to time t."""
        if t == float("inf"):
            is_closed = self.rule.is_closed and self.objective.loss.is_quadratic
            fitted = 1e-12 * self.loss(self.first) + self.floor()
            t = self.time_below(fitted) if is_closed else self.first + DRAWN
        return [self.first + s for s in drawn_times(min(t - self.first, 2.0**60))]


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
