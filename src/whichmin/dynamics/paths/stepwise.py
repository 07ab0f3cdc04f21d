"""Predictions of optimizers that have no rule: the linearized run step by step, and paths of such runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from whichmin.dynamics.motion.motion import mean_square
from whichmin.dynamics.paths.adaptive import FASTEST, AdaptivePath
from whichmin.dynamics.paths.job import AIM, Found, Job, Relinearize
from whichmin.dynamics.paths.linearized import flat
from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.dynamics.paths.relinearized import Goal
from whichmin.dynamics.paths.warm_start import EXACT, Begun, begin
from whichmin.dynamics.paths.weight_space import WeightSpace
from whichmin.dynamics.prediction import Certificate
from whichmin.dynamics.rules.adaptive_rule import AdaptiveRule
from whichmin.kernels.spectrum import Spectrum
from whichmin.optimizers.metric import last_metric
from whichmin.recipe.schedule import Batches, GivenBatches

#: Without a number of steps or a training error to stop at, a run ends at this part of its first training error.
CONVERGED = 1e-9
#: Steps after which a run without a number of steps gives up.
LONGEST = 100_000
#: By what part of the steps made before an interval of a stepwise path grows at first,
GROWTH = 0.25
#: and no less than this.
FINEST = 0.02
#: The error of an adaptive path grows like this root of what its intervals are allowed,
ORDER = 1.2
#: which falls by no more than so much from one path to the next.
FINER = 0.1
#: The most intervals of an adaptive path.
MOST = 512


class StepJob(Job):
    """A prediction of an optimizer by running it on the linearized network.

    Args:
        network: a private copy at θ₀.
        goal: where to end.
        spectrum: of K at θ₀.
        build: makes the optimizer of a list of parameters.
        schedule: makes its scheduler, or None.
        batches: the rows of each step, or None.
        every: after how many steps the training error is looked at.
    """

    def __init__(
        self,
        network: MovingNetwork,
        goal: Goal,
        spectrum: Spectrum,
        build: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
        schedule: Callable[[torch.optim.Optimizer], Any],
        batches: Batches | GivenBatches | None,
        every: int,
    ) -> None:
        network.release()
        made = build(list(network.parameters.values()))
        super().__init__(network, goal, spectrum, float(made.param_groups[0].get("lr", math.nan)))
        self._build, self._schedule, self._batches, self._every = build, schedule, batches, every
        self._name = type(made).__name__
        scheduled = schedule(made) is not None
        self._adaptive = None if batches is not None or scheduled else AdaptiveRule.of(made)
        self._decoupled = _decoupled(made)
        self._lazy: WeightSpace | None = None
        self._lazy_end: tuple[int, Tensor, Tensor] | None = None
        self._decayed: dict[str, Tensor] | None = None
        self.features, self.features_test = network.features(), network.features(network.X)

    @property
    def _limits(self) -> tuple[float, float | None]:
        """The last step and the training error to stop at."""
        if math.isinf(self.goal.steps) and self.goal.until is None:
            first = (self.features.outputs.detach() - self.network.task.y).double().square().mean()
            return LONGEST, CONVERGED * float(first)
        return (self.goal.steps if math.isfinite(self.goal.steps) else LONGEST), self.goal.until

    def predict(self, relinearize: Relinearize, tol: float) -> Found:
        """The linearized run, or a path that is followed."""
        if relinearize == "never":
            return self.linearized()
        if self._adaptive is not None and len(self.goal.times) == 1:
            return self._followed_fast(self._adaptive, relinearize, tol)
        found = self.linearized()
        if relinearize == "auto" and found.error <= tol * self.spread:
            return found
        growth, found = GROWTH, self._followed_stepwise(relinearize, GROWTH)
        while relinearize == "auto" and found.error > tol * self.spread and growth > FINEST:
            growth /= 4
            found = self._followed_stepwise(relinearize, growth)
        if relinearize == "auto" and found.error > tol * self.spread:
            found.notes.append(
                f"the estimated error {found.error:.2g} did not come down to tol = {tol:g} of the spread "
                f"{self.spread:.3g} with {found.intervals} intervals: train it for real with whichmin.train."
            )
        return found

    def linearized(self) -> Found:
        """The optimizer itself on the network linearized at θ₀, with its certificate."""
        network = self.network
        network.put(self.origin)
        steps, until = self._limits
        space = WeightSpace(network, self._build, self._schedule, self._batches, self._every)
        decayed = {n: torch.zeros_like(v) for n, v in space.values.items()} if self._decoupled else None
        train, test, curve = [], [], []

        def keep() -> None:
            train.append(flat(space.outputs()))
            test.append(space.outputs_at(self.features_test))

        for stop in [*(t for t in self.goal.times[:-1] if t < steps), steps]:
            for k, mse in space.run(stop, until, before_step=lambda: _take_off(decayed, space)):
                if not curve or k > curve[-1][0]:
                    curve.append((float(k), mse))
            keep()
        self._lazy, self._decayed = space, decayed
        self._lazy_end = (space.steps, train[-1], test[-1])
        state = self._at(space.state())
        there, at_training = flat(network.outputs(network.X)), flat(network.outputs(network.task.X))
        self.certificate = Certificate(
            float((at_training - flat(network.task.y)).square().mean()), float((there - test[-1]).square().mean())
        )
        error = math.sqrt(self.certificate.test_deviation)
        notes = self._stopped(curve, steps, until)
        network.put(self.origin)
        return Found("linearized", train, test, float(space.steps), 1, error, curve, state, notes)

    def _at(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put the network there; its state dict."""
        for name, p in self.network.parameters.items():
            p.data.copy_(values[name])
        return self.network.state()

    def _stopped(self, curve: list[tuple[float, float]], steps: float, until: float | None) -> list[str]:
        """What is to be said of where a run stopped."""
        came, mse = curve[-1]
        if until is not None and mse >= until and came >= steps and math.isinf(self.goal.steps):
            return [
                f"{self._name} came to a training MSE of {mse:.3g} in {came:.0f} steps, above {until:.3g}; after half "
                f"of them it was at {curve[len(curve) // 2][1]:.3g}."
            ]
        if self.goal.until is None and math.isinf(self.goal.steps):
            return [f"ended at a training MSE of {mse:.2g} after {came:.0f} steps: later ones change next to nothing."]
        return []

    def _followed_stepwise(self, relinearize: Relinearize, growth: float) -> Found:
        """The optimizer itself, linearized again and again; the error is how far the outputs jump there, added up.

        Not so after an interval of one step, which is training itself.
        """
        network = self.network
        network.put(self.origin)
        steps, until = self._limits
        if isinstance(relinearize, int):
            assert self._lazy_end is not None
            growth = max((max(self._lazy_end[0], 2) / 2.0) ** (1.0 / relinearize) - 1.0, 1e-3)
        space = WeightSpace(network, self._build, self._schedule, self._batches, self._every)
        train, test, curve = [], [], []
        wanted = [t for t in self.goal.times[:-1] if t < steps]
        intervals, jumps, arrived = 0, torch.zeros(()), False
        while not arrived:
            features_test, begun = network.features(network.X), space.steps
            intervals += 1
            end = max(space.steps + 1, math.ceil(space.steps * (1 + growth)))
            for k, mse in space.run(min([end, steps, *wanted]), until):
                if not curve or k > curve[-1][0]:
                    curve.append((float(k), mse))
            expected = space.outputs_at(features_test)
            space.linearize()
            missed = (space.steps - begun - 1) / (space.steps - begun)  # an interval of one step is training itself
            jumps = jumps + missed * (flat(network.outputs(network.X)) - expected)
            reached = until is not None and space.steps % self._every == 0 and space.mse() < until
            arrived = space.steps >= steps or reached
            if wanted and (space.steps == wanted[0] or arrived):
                wanted.pop(0)
                train.append(flat(network.outputs(network.task.X)))
                test.append(flat(network.outputs(network.X)))
        train.append(flat(network.outputs(network.task.X)))
        test.append(flat(network.outputs(network.X)))
        error = math.sqrt(float(jumps.square().mean()))
        notes, state = self._stopped(curve, steps, until), self._at(space.state())
        return Found("followed", train, test, float(space.steps), intervals, error, curve, state, notes)

    def _followed_fast(self, rule: AdaptiveRule, relinearize: Relinearize, tol: float) -> Found:
        """Paths of Krylov intervals, until two of them are near enough to each other."""
        network, (steps, until) = self.network, self._limits
        network.put(self.origin)
        begun = begin(network, rule, self._build(list(network.parameters.values())), steps, until)
        if isinstance(relinearize, int):
            end = steps if until is None else self._adaptive_path(rule, begun, 1.0, math.inf).steps
            growth = max((max(end, EXACT + 1.0) / EXACT) ** (1.0 / relinearize) - 1.0, 1e-3)
            return self._adaptive_path(rule, begun, growth, math.inf)
        accepted = aim = tol * self.spread
        while True:
            found = self._adaptive_path(rule, begun, FASTEST * math.sqrt(aim / accepted), aim)
            finest = found.intervals >= min(MOST // 2, found.steps - begun.steps)  # no interval is shorter than a step
            if found.error <= accepted or finest or not found.steps > begun.steps:
                return found
            aim *= min(max((AIM * accepted / found.error) ** ORDER, FINER), 0.6)

    def _adaptive_path(self, rule: AdaptiveRule, begun: Begun, growth: float, aim: float) -> Found:
        network, (steps, until) = self.network, self._limits
        path = AdaptivePath(network, rule, begun, growth=growth, aim=aim)
        arrived = path.follow(steps, until, MOST)
        train, test = [flat(network.outputs(network.task.X))], [flat(network.outputs(network.X))]
        notes = self._stopped(path.curve, steps, until)
        if not arrived:
            came = f"{path.intervals} intervals, at a training MSE of {path.mse:.3g}"
            notes.append(f"the path was given up after {came}.")
        error, state = (math.sqrt(mean_square(path.error().numpy())) if arrived else math.inf), network.state()
        return Found("followed", train, test, float(path.steps), path.intervals + 1, error, path.curve, state, notes)

    def terms(self, found: Found) -> dict[str, Tensor]:
        """All of them with the linearized run at hand, else what is not the linearized theory's in one."""
        if found.method == "linearized":
            return self.lazy_terms()
        if self._lazy_end is None or self._lazy_end[0] != found.steps:
            base = self._base_terms(found.train[-1])
            return base | {"trajectory": found.test[-1] - _sum(base)}
        return self.lazy_terms() | self.later_terms(found.test[-1], found.steps, found.state)

    def later_terms(self, test: Tensor, steps: float, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """``curvature`` and ``drift`` of a network at ``state`` with these outputs after as many steps."""
        network = self.network
        assert self._lazy_end is not None
        assert self._lazy_end[0] == steps
        network.put(self.origin)
        moved = network.difference(state, self.origin)
        straight = flat(self.features_test.outputs) + flat(self.features_test.push(moved))
        return {"curvature": test - straight, "drift": straight - self._lazy_end[2]}

    def lazy_terms(self) -> dict[str, Tensor]:
        """Those of the linearized run: with ``geometry``, the last metric against the identity, and ``path``."""
        network, space, end = self.network, self._lazy, self._lazy_end
        assert space is not None
        assert end is not None
        terms = self._base_terms(end[1])
        network.put(self.origin)
        changed = end[1] - flat(self.features.outputs)
        metric = last_metric(space.optimizer, space.values.items())
        by = plain = self._carrier(None)
        if metric is not None:
            by = self._carrier(metric)
            terms["geometry"] = by(changed) - plain(changed)
        if self._decayed is not None:
            at_training, at_test = (flat(f.push(self._decayed)) for f in (self.features, self.features_test))
            terms["decay"] = at_test - by(at_training)
        return terms | {"path": end[2] - _sum(terms)}

    def _base_terms(self, train: Tensor) -> dict[str, Tensor]:
        """K(x',X)K⁺Y, f₀(x') − K(x',X)K⁺f₀(X) and K(x',X)K⁺(f(X) − Y)."""
        self.network.put(self.origin)
        carried, y = self._carrier(None), flat(self.network.task.y)
        return {
            "interpolant": carried(y),
            "initialization": flat(self.features_test.outputs) - carried(flat(self.features.outputs)),
            "unconverged": carried(train - y),
        }

    def _carrier(self, metric: dict[str, Tensor] | None) -> Callable[[Tensor], Tensor]:
        """V ↦ K_D(x',X) K_D⁺ v."""
        network = self.network
        cross = self.features_test.gram(self.features, metric).double().cpu()
        spectrum = self.spectrum
        if metric is not None:
            spectrum = network.spectrum(self.features.gram(metric=metric))
        return lambda v: cross @ torch.from_numpy(spectrum.solve(v.numpy()))


def _sum(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum(0)


def _decoupled(optimizer: torch.optim.Optimizer) -> bool:
    """Whether weight decay takes from the parameters themselves, θ ← (1 − lr·λ) θ."""
    group = optimizer.param_groups[0]
    decoupled = isinstance(optimizer, torch.optim.AdamW) or bool(group.get("decoupled_weight_decay"))
    return decoupled and any(g["weight_decay"] for g in optimizer.param_groups)


def _take_off(decayed: dict[str, Tensor] | None, space: WeightSpace) -> None:
    """Add what weight decay takes off in the coming step."""
    if decayed is None:
        return
    names = {id(p): n for n, p in space.values.items()}
    for group in space.optimizer.param_groups:
        for p in group["params"]:
            decayed[names[id(p)]].sub_(p.detach(), alpha=float(group["lr"]) * float(group["weight_decay"]))
