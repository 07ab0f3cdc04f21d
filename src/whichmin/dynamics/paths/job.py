"""One prediction at work: the linearized theory, the path, how far each may be off, and the result."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from whichmin.dynamics.paths.linearized import Linearization, flat, metric_of
from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.dynamics.paths.relinearized import Goal, follow
from whichmin.dynamics.prediction import Certificate, Curve, Prediction
from whichmin.dynamics.rules.convergence import Rates, rates_of
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.kernels.spectrum import Spectrum
from whichmin.tangent.direction import Direction
from whichmin.tangent.features import Features

Relinearize = Literal["auto", "never"] | int

#: What part of ``tol`` a path aims at, so that the estimate still meets it when it comes out larger than planned.
AIM = 0.75
#: The intervals of the first path that is tried where one linearization is far from enough,
FIRST = 4
#: or as many as its error asks for, if they are no more than this.
DIRECT = 16
#: Where outputs at several times are asked for, the training errors there are to be right to this part of themselves,
LOSS = 0.02
#: or of this part of the targets' variance, where they are less.
LOW = 1e-5
#: The most intervals that ``relinearize="auto"`` plans; a path longer than planned takes more.
MOST = 512


@dataclass(eq=False)
class Found:
    """What a method found, before it is packaged."""

    method: str
    train: list[Tensor]
    test: list[Tensor]
    steps: float
    intervals: int
    error: float
    curve: list[tuple[float, float]]
    state: dict[str, Tensor]
    notes: list[str]
    edge: float | None = None
    loss_error: float = 0.0  # of the training errors at several times, relative


class Job(ABC):
    """One prediction at work.

    Attributes:
        network: a private copy at θ₀.
        goal: where to end.
        spectrum: of K at θ₀.
        learning_rate: with ``"best"`` resolved.
        flow: whether time is continuous.
        rates: how fast training converges on the linearized network; None where that is not known.
        certificate: see :class:`Certificate`; None before it is made.
        origin: θ₀.
        spread: the standard deviation of the targets.
    """

    flow: bool = False
    rates: Rates | None = None

    def __init__(self, network: MovingNetwork, goal: Goal, spectrum: Spectrum, learning_rate: float) -> None:
        self.network, self.goal, self.spectrum, self.learning_rate = network, goal, spectrum, learning_rate
        self.origin = network.position()
        self.certificate: Certificate | None = None
        y = network.task.y.double()
        spread = float(y.std(dim=0, correction=0).square().mean().sqrt())
        self.spread = spread or float(y.abs().max()) or 1.0

    @abstractmethod
    def predict(self, relinearize: Relinearize, tol: float) -> Found:
        """The outputs, by the method that is asked for."""

    @abstractmethod
    def linearized(self) -> Found:
        """Those of one linearization at θ₀."""

    @abstractmethod
    def terms(self, found: Found) -> dict[str, Tensor]:
        """Parts of the test outputs that add up to them, (n·C,) each."""

    @abstractmethod
    def later_terms(self, test: Tensor, steps: float, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """``curvature`` f(θ_T) − f₀ − J₀(θ_T − θ₀) and ``drift``, the rest, so that all terms add up to ``test``.

        Args:
            test: f(θ_T, x'), (n·C,).
            steps: T.
            state: θ_T.
        """

    def package(self, found: Found, seconds: float, several: bool = False) -> Prediction:
        """The result, in the network's type."""
        network, C = self.network, self.network.task.outputs
        like = next(iter(self.origin.values.values()))

        def shaped(outputs: list[Tensor]) -> Tensor:
            stacked = torch.stack([o.reshape(-1, C) for o in outputs]).to(like)
            return stacked if several else stacked[-1]

        terms = {}
        if network.task.X_test is not None:
            terms = {name: term.reshape(-1, C) for name, term in self.terms(found).items()}
        return Prediction(
            train=shaped(found.train),
            test=None if network.task.X_test is None else shaped(found.test),
            steps=torch.tensor(self.goal.times, dtype=torch.float64) if several else found.steps,
            learning_rate=self.learning_rate,
            flow=self.flow,
            method=found.method,
            intervals=found.intervals,
            error=found.error,
            spread=self.spread,
            terms=terms,
            certificate=self.certificate,
            eigenvalues=self.spectrum.eigenvalues,
            max_lr=self.spectrum.max_lr,
            rates=self.rates,
            curve=Curve(*torch.tensor(found.curve, dtype=torch.float64).T.contiguous()),
            seconds=seconds,
            notes=tuple(found.notes) + self._notes(),
            _state=found.state,
            _network=network.model,
        )

    def _notes(self) -> tuple[str, ...]:
        notes = []
        spectrum, size = self.spectrum, self.network.size
        if size < len(spectrum.eigenvalues):
            unique = "the linearized minimizer is unique: it does not depend on the optimizer or the batches."
            free = f"the kernel has rank {spectrum.rank}: some directions have no effect on the training outputs."
            notes.append(
                f"underparameterized: {size} parameters for {len(spectrum.eigenvalues)} training outputs; "
                + (unique if spectrum.rank == size else free)
            )
        elif spectrum.rank < len(spectrum.eigenvalues):
            notes.append(
                f"the kernel has rank {spectrum.rank} of {len(spectrum.eigenvalues)}: eigenvalues up to "
                f"{spectrum.discarded:.2g} were taken for zero."
            )
        return tuple(notes)


class LinearJob(Job):
    """A prediction of a rule whose motion is known in function space.

    Args:
        network: a private copy at θ₀.
        rule: the rule.
        lazy: the linearization at θ₀.
        goal: where to end.
        end: where the linearized network ends.
        spectrum: of K at θ₀.
    """

    def __init__(
        self, network: MovingNetwork, rule: LinearRule, lazy: Linearization, goal: Goal, end: float, spectrum: Spectrum
    ) -> None:
        super().__init__(network, goal, spectrum, rule.lr)
        self.rule, self.lazy, self.end, self.flow = rule, lazy, end, rule.flow
        self.rates = rates_of(rule, lazy.spectrum)

    def predict(self, relinearize: Relinearize, tol: float) -> Found:
        """One linearization, and the path if that is not enough."""
        found = self.linearized()
        enough = relinearize == "auto" and found.error <= tol * self.spread and found.loss_error <= LOSS
        if relinearize != "never" and self.end > 0 and not enough:
            return self.followed(relinearize, tol, found)
        return found

    def terms(self, found: Found) -> dict[str, Tensor]:
        """Those of the linearized theory, and curvature and drift of a followed path."""
        terms = self.lazy.terms(found.steps)
        if found.method == "followed":
            terms |= self.later_terms(found.test[-1], found.steps, found.state)
        return terms

    def linearized(self) -> Found:
        """One linearization, its certificate and its estimated error."""
        network, lazy, end = self.network, self.lazy, self.end
        times = [*self.goal.times[:-1], end]
        train, test = [lazy.train(t) for t in times], [lazy.test(t) for t in times]
        c = lazy.coefficients(end)
        metric = metric_of(self.rule, network)
        step = lazy.features.pull(c, metric=metric)
        if lazy.theta is not None:
            network.decay(lazy.kept(end))
        network.shift(step, 1.0)
        features = network.features()
        there = flat(network.outputs(network.X))
        at_training = flat(features.outputs)
        self.certificate = Certificate(
            float((at_training - lazy.y).square().mean()), float((there - test[-1]).square().mean())
        )
        state = network.state()
        error = self._one_shot_error(features, c, step, train[-1], test[-1])
        network.put(self.origin)
        curve = [(t, lazy.mse(t)) for t in lazy.curve_times(end)]
        off = self._loss_error([at_training], train[-1:]) if len(times) > 1 else 0.0
        return Found("linearized", train, test, end, 1, error, curve, state, [], loss_error=off)

    def _loss_error(self, one: list[Tensor], other: list[Tensor]) -> float:
        """How far apart the training errors of two predictions are, relative to themselves; below a floor, to that."""
        y, floor = self.lazy.y, LOW * self.spread**2
        losses = torch.stack([torch.stack([(f - y).square().mean() for f in train]) for train in (one, other)])
        off = float(((losses[0] - losses[1]).abs() / losses[0].clamp_min(floor)).max())
        return off if math.isfinite(off) else math.inf

    def _one_shot_error(self, features: Features, c: Tensor, step: Direction, train: Tensor, test: Tensor) -> float:
        """The distance to a prediction that is right to the next order, the network standing at θ* = θ₀ + J₀ᵀc.

        With frozen features the parameters are off by δ = ½(J* − J₀)ᵀc to first order in J's turn. The network is
        evaluated at θ* + δ, what that changes on the training set is trained away again, and what remains at the test
        points is the estimate. Cost: two backward and two forward passes.
        """
        network = self.network
        here = network.position()
        metric = metric_of(self.rule, network)
        turned = features.pull(c, metric=metric).minus(step)
        network.shift(turned, 0.5)
        changed = flat(network.outputs(network.task.X)) - train
        network.put(here)
        back = features.pull(self.lazy.undone(changed, self.end), metric=metric)
        network.shift(turned, 0.5)
        network.shift(back, 1.0)
        error = float((flat(network.outputs(network.X)) - test).square().mean().sqrt())
        return error if math.isfinite(error) else math.inf

    def followed(self, relinearize: Relinearize, tol: float, lazy: Found) -> Found:
        """The path, in as many intervals as were asked for or as the tolerance needs."""
        if isinstance(relinearize, int):
            coarse = self._path(relinearize // 2) if relinearize > 1 else lazy
            found = self._judged(self._path(relinearize), coarse, 2.0)
            return self._at_the_edge(found, relinearize, None)
        accepted, aim = tol * self.spread, AIM * tol * self.spread
        motion = self.lazy.motion
        length = float(motion.travelled(self.end)[1][-1]) if self.rule.slots else motion.displacement(self.end)
        count, found = 1, lazy
        while (found.error > accepted or found.loss_error > LOSS) and count < MOST:
            if count == 1:
                direct = found.error <= DIRECT * accepted
                wanted = max(2, math.ceil(found.error / accepted)) if direct else FIRST
            else:
                missing = max(found.error / aim, found.loss_error / (AIM * LOSS))
                wanted = math.ceil(count * min(missing, 4))
                wanted = min(MOST, max(math.ceil(1.5 * count), wanted))
            found = self._judged(self._path(wanted, length / wanted), found, wanted / count)
            count = wanted
        far = f"with {MOST} planned intervals: this network is far from its linearizations."
        if found.error > accepted:
            found.notes.append(
                f"the estimated error {found.error:.2g} did not come down to tol = {tol:g} of the spread "
                f"{self.spread:.3g} {far}"
            )
        if found.loss_error > LOSS:
            found.notes.append(
                f"the training errors on the way may be off by {found.loss_error:.0%} of themselves, more than "
                f"{LOSS:.0%}, {far}"
            )
        return self._at_the_edge(found, count, length / count)

    def _judged(self, found: Found, coarse: Found, ratio: float) -> Found:
        """With the error as it shows in comparison with a path of fewer intervals.

        The error e of a path of n intervals falls like 1/n. Two paths of ratio ρ = n/n' differ by (ρ − 1) e where their
        errors have one direction, and by (ρ² + 1)^½ e where they have nothing in common, as those of the kinks of
        rectifiers; what was measured lies between, and so does the geometric mean.
        """
        if math.isfinite(found.error):
            difference = float((found.test[-1] - coarse.test[-1]).square().mean().sqrt())
            between = math.sqrt((ratio - 1) * math.hypot(ratio, 1))
            found.error = difference / between if math.isfinite(difference) else math.inf
            if len(found.train) > 1 and len(found.train) == len(coarse.train):
                found.loss_error = self._loss_error(found.train, coarse.train) / between
        return found

    def _at_the_edge(self, found: Found, count: int, stride: float | None) -> Found:
        """With an error no smaller than what keeping to the edge of stability made of the path.

        There only the average of an oscillation is known: how much the projection moves the prediction tells how much
        is at stake.
        """
        if found.edge is not None and math.isfinite(found.error):
            free = self._path(count, stride, project=False)
            difference = float((found.test[-1] - free.test[-1]).square().mean().sqrt())
            found.error = max(found.error, difference if math.isfinite(difference) else math.inf)
        return found

    def _path(self, count: int, stride: float | None = None, *, project: bool = True) -> Found:
        network, goal = self.network, self.goal
        network.put(self.origin)
        start = network.features()
        path = follow(network, self.rule, start, self.lazy.spectrum, goal, count, stride=stride, project=project)
        path.train.append(network.outputs(network.task.X))
        path.test.append(network.outputs(network.X))
        train, test = ([flat(t) for t in outputs] for outputs in (path.train, path.test))
        notes = []
        if not path.arrived:
            came = f"{path.intervals} intervals, at a training MSE of {path.mse:.3g}"
            notes.append(f"the path was given up after {came}.")
        elif stride is not None and goal.until is not None and path.mse >= goal.until and path.steps < goal.steps:
            notes.append(f"the path ends at a training MSE of {path.mse:.3g}, above until = {goal.until:g}.")
        if path.edge is not None:
            notes.append(
                f"from step {path.edge:.0f} on the kernel has grown to the limit of stability of "
                f"lr = {self.rule.lr:.4g}: real training oscillates at the edge of stability there, and the prediction "
                "follows its average."
            )
        error = 0.0 if path.arrived else math.inf
        state = network.state()
        return Found(
            "followed", train, test, path.steps, path.intervals, error, path.curve, state, notes, edge=path.edge
        )

    def later_terms(self, test: Tensor, steps: float, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """From the linearization at θ₀."""
        network, lazy = self.network, self.lazy
        network.put(self.origin)
        moved = network.difference(state, self.origin)
        straight = lazy.f0_test + flat(lazy.features_test.push(moved))
        return {"curvature": test - straight, "drift": straight - lazy.test(steps)}
