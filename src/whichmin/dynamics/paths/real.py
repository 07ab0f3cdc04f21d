"""Real training of a copy, where it is the cheapest way that is right, and how long other ways may take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice, pairwise
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from whichmin.dynamics.paths.linearized import flat
from whichmin.dynamics.paths.outcome import Outcome
from whichmin.dynamics.paths.problem import Problem
from whichmin.dynamics.paths.twin import ROWS, Growth, Stand, Stands, Stretch, nudge, rises
from whichmin.errors import DivergenceError, TrainingError
from whichmin.inputs import AnyInputs, in_types_of
from whichmin.loop.training_loop import Loop, state_of
from whichmin.losses import root_mean_square
from whichmin.tangent.model import evaluate

#: Steps that are made to see how long one takes.
TIMED_STEPS = 4
#: Real training without a number of steps gives up after this many.
LONGEST = 100_000
#: Seconds that other ways may take whatever training takes.
FREE = 0.35
#: The part of training's time that other ways may take besides.
SHARE = 0.3
#: Seconds of a step and of a linearization that are not timed: about those of 100 points and a hidden layer of 2048.
STEP, LINEARIZATION = 2e-3, 2e-2
#: What is said of a prediction by real training.
BY_TRAINING = "by real training of a copy: a path of linearizations would take longer, or be less sure."
#: How a second training begins, in notes.
APART = "begun again from parameters a few roundings apart,"
#: What is said where there was no time for one.
UNCHECKED = "the budget ran out before it was seen how far rounding carries this training away."
#: Where two trainings end further apart than this part of the targets' scale, or of their steps, it is said.
CHAOTIC = 0.01
#: Points of a training curve that are kept.
DRAWN = 240


_is_timed: ContextVar[bool] = ContextVar("is_timed", default=True)


@contextmanager
def untimed() -> Iterator[None]:
    """Choose the way of a prediction without looking at a clock, so that it is the same on a busy machine.

    A training step then counts as ``STEP`` seconds, and a linearization as ``LINEARIZATION``.
    """
    token = _is_timed.set(False)
    try:
        yield
    finally:
        _is_timed.reset(token)


def seconds_of_linearization(timed: float) -> float:
    """What a linearization took, or within :func:`untimed` what it counts as."""
    return timed if _is_timed.get() else LINEARIZATION


class PatienceError(Exception):
    """Another way than training has taken too long."""


class BudgetError(Exception):
    """The seconds that a prediction may take are over."""


class RealTraining:
    """Training from θ₀ by the recipe itself, as :func:`whichmin.train` does it.

    Args:
        problem: what is predicted.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    @cached_property
    def seconds_per_step(self) -> float:
        """How long one step takes, the fastest of a few that are made on a copy; ``STEP`` within :func:`untimed`."""
        if not _is_timed.get():
            return STEP
        times: list[float] = []

        def watch(step: int) -> str | None:
            times.append(time.perf_counter())
            return None

        loop = self._loop(self.problem.first + TIMED_STEPS, None, watch)
        with suppress(TrainingError):  # it diverges at once, which takes no longer
            loop.run(progress=False)
        if loop.interrupted:
            raise KeyboardInterrupt
        return min((b - a for a, b in pairwise(times)), default=math.inf)

    @cached_property
    def lost(self) -> float:
        """The part of the parameters' movement in the first steps that half precision swallows; 0 in other types."""
        if not self.problem.network.is_coarse:
            return 0.0
        origin = self.problem.origin.values
        moved: list[dict[str, Tensor]] = []
        for fine in (True, False):
            loop = self._loop(self.problem.first + TIMED_STEPS, None, lambda _: None, fine=fine)
            with suppress(TrainingError):
                loop.run(progress=False)
            state = state_of(loop.network)
            moved.append({n: state[n].double() - p.double() for n, p in origin.items()})
        exact, coarse = moved
        whole = sum(float(d.square().sum()) for d in exact.values())
        off = sum(float((coarse[n] - d).square().sum()) for n, d in exact.items())
        return math.sqrt(off / whole) if whole > 0 else 0.0

    def run(self, patience: Patience, *, or_part: bool = False) -> Outcome:
        """Train to the goal; the error is how far a second training ends from it, see ``whichmin.dynamics.paths.twin``.

        Args:
            patience: when to stop.
            or_part: whether what was trained by the deadline will do: an outcome of unknown error, with a note.

        Raises:
            DivergenceError: training diverges.
            BudgetError: the deadline passed.
        """
        problem, goal = self.problem, self.problem.goal
        wanted = [t for t in goal.times[:-1] if t < goal.steps]
        train: list[Tensor] = []
        test: list[Tensor] = []
        limit = problem.first + LONGEST if math.isinf(goal.steps) else int(goal.steps)
        stands, began = Stands(self._probe), time.perf_counter()

        def watch(step: int) -> str | None:
            stands.look(loop)
            if step in wanted:
                train.append(self._outputs(loop, problem.network.task.X))
                test.append(self._outputs(loop, problem.network.X))
            patience.progress.advance(step)
            if time.perf_counter() <= patience.deadline:
                return None
            if not or_part:
                raise BudgetError
            return "the budget ran out"

        patience.progress.say("by real training", min(goal.steps, problem.first + patience.expected))
        loop = self._loop(limit, goal.until, watch)
        try:
            loop.run(progress=False)
        except TrainingError as error:
            label = problem.loss_label
            raise DivergenceError(
                f"training diverges: real steps of {problem.optimizer} at lr = {problem.learning_rate:.6g} lead to a "
                f"training {label} that is no longer finite, though the linearized network at θ₀ would train. Lower "
                "the learning rate.",
                math.nan,
            ) from error
        if loop.interrupted:
            raise KeyboardInterrupt
        curve = list(zip(map(float, loop.measured), loop.losses, strict=True))
        stride = max(1, len(curve) // DRAWN)
        kept = curve[::stride] if (len(curve) - 1) % stride == 0 else [*curve[::stride], curve[-1]]
        reached = goal.until is None or loop.losses[-1] < goal.until
        notes = (BY_TRAINING,) if reached else (BY_TRAINING, self._short_of(goal.until, loop))
        is_whole = loop.done >= limit or loop.has_stalled or (goal.until is not None and reached)
        if not is_whole:
            notes = (*notes, f"the budget ran out after {loop.done} steps: these are the outputs there.")
        missing = len(wanted) + 1 - len(train) if loop.has_stalled or not is_whole else 1
        train += missing * [self._outputs(loop, problem.network.task.X)]
        test += missing * [self._outputs(loop, problem.network.X)]
        outcome = Outcome("trained", train, test, float(loop.done), 0, math.inf, kept, self._state(loop), notes=notes)
        seconds = time.perf_counter() - began
        if not _is_timed.get():
            seconds, began = (loop.done - problem.first) * STEP, patience.started
        if not is_whole:
            return outcome
        stretches = stands.stretches(loop.done, seconds, began - patience.started)
        return self._with_twin(outcome, stretches, stands, loop, patience)

    def _with_twin(
        self, outcome: Outcome, stretches: list[Stretch], stands: Stands, trained: Loop, patience: Patience
    ) -> Outcome:
        """With how far training ends from itself that begins again from parameters a few roundings apart.

        Where only parts of it are made again and the loss does not fall steadily: as far as what is apart would grow in
        all, or as outputs wander anyhow.
        """
        made, grown, steps_error = trained.done - self.problem.first, [], 0.0
        for stretch in stretches:
            try:
                growth, steps = self._again(stretch, trained, patience)
            except TrainingError:
                return replace(outcome, notes=(*outcome.notes, f"{APART} training diverges."))
            if growth is None:
                return replace(outcome, notes=(*outcome.notes, UNCHECKED))
            grown.append(growth)
            steps_error = abs(steps - stretch.end) / made
        error = max((growth.end for growth in grown), default=0.0)
        if len(grown) > 1 and rises(trained.losses):
            wander = stands.wander(trained.done, self._probe(trained))
            error = max(error, min(wander, max(growth.over(made) for growth in grown)))
        error = error if math.isfinite(error) else math.inf
        notes, share = outcome.notes, error / self.problem.scale(outcome.train[-1])
        if share > CHAOTIC or steps_error > CHAOTIC:
            notes = (
                *notes,
                f"rounding carries this training away: {APART} it ends about {share:.1%} of the targets' scale and "
                f"{steps_error:.1%} of the steps away from itself, and nobody can know it better.",
            )
        return replace(outcome, error=error, unknowable=error, steps_error=steps_error, notes=notes)

    def _again(self, stretch: Stretch, trained: Loop, patience: Patience) -> tuple[Growth | None, int]:
        """Train a stretch once more, a few roundings apart: what became of them, None where the deadline passes.

        Beside it the step at which it ended.
        """
        start, end = stretch.start.step, stretch.end
        patience.progress.say("once more, a few roundings apart", end)

        def watch(step: int) -> str | None:
            patience.progress.advance(step)
            return None if time.perf_counter() <= patience.deadline else "the budget ran out"

        until = None if trained.has_stalled or end >= trained.limit or end < trained.done else trained.until
        twin = self._loop(end if until is None else 2 * end - start, until, watch, stand=stretch.start)
        nudged = self._probe(twin)
        twin.run(progress=False)
        if twin.interrupted:
            raise KeyboardInterrupt
        if time.perf_counter() > patience.deadline:
            return None, twin.done
        there = self._probe(trained) if stretch.outputs is None else stretch.outputs
        apart = (root_mean_square(a - b) for a, b in ((nudged, stretch.start.outputs), (self._probe(twin), there)))
        return Growth(end - start, *apart), twin.done

    def _probe(self, loop: Loop) -> Tensor:
        """Outputs where errors are looked at, of some of the rows."""
        return self._outputs(loop, self.problem.network.X[:ROWS])

    def _short_of(self, until: float | None, loop: Loop) -> str:
        ends = "stalls" if loop.has_stalled else "ends"
        return (
            f"training {ends} at a training {self.problem.loss_label} of {loop.losses[-1]:.3g} after {loop.done} "
            f"steps, above until = {until:g}."
        )

    def _loop(
        self, limit: int, until: float | None, watch: Callable[[int], str | None], *, fine: bool = False,
        stand: Stand | None = None,
    ) -> Loop:  # fmt: skip
        problem, recipe, first = self.problem, self.problem.recipe, self.problem.recipe.first_step
        network, task = problem.network.copy_at(problem.origin, fine=fine)
        optimizer = recipe.build([p for p in network.parameters() if p.requires_grad])
        scheduler, batches = recipe.build_scheduler(optimizer), recipe.batches(task.n)
        if stand is not None:
            stand.put(network, optimizer, scheduler)
            nudge(network)
            batches = None if batches is None else islice(batches, stand.step - first, None)
            first = stand.step
        return Loop(
            network, task, optimizer, scheduler, until=until, limit=limit, batches=batches,
            epoch=recipe.steps_per_epoch(task.n), watch=watch, first=first, halts=math.isinf(problem.goal.steps),
        )  # fmt: skip

    @staticmethod
    def _outputs(loop: Loop, X: AnyInputs) -> Tensor:
        with torch.no_grad():
            return flat(evaluate(loop.network, in_types_of(X, loop.task.X)))

    def _state(self, loop: Loop) -> dict[str, Tensor]:
        """The state dict, in the type of the network that predicts."""
        own = self.problem.network.model.state_dict()
        return {n: v.to(own[n].dtype) for n, v in state_of(loop.network).items()}


class Progress:
    """A progress bar that says by which way a prediction is made, and what is expected of it.

    Args:
        problem: what is predicted.
        is_shown: whether there is one.
    """

    def __init__(self, problem: Problem, is_shown: bool) -> None:
        self._problem, self._is_shown = problem, is_shown
        self._bar: Any = None

    def __enter__(self) -> Self:
        """Open it."""
        if self._is_shown:
            from whichmin._bars import tqdm

            self._bar = tqdm(unit="step", desc="predicting", leave=False, mininterval=0.2)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        if self._bar is not None:
            self._bar.close()

    def say(self, way: str, steps: float, seconds: float = math.nan) -> None:
        """What is done now, and how many steps and seconds it may take."""
        if self._bar is not None:
            about = f", about {seconds:.1f} s" if math.isfinite(seconds) else ""
            self._bar.set_description(f"predicting {way}{about}")
            self._bar.reset(total=round(steps) if math.isfinite(steps) else None)

    def advance(self, steps: float) -> None:
        """How far it came."""
        if self._bar is not None:
            self._bar.update(max(0.0, steps - self._bar.n))


@dataclass
class Patience:
    """How long a prediction may take before real training takes its place.

    Args:
        real: training; None where nothing takes its place.
        deadline: when everything stops, on the clock of ``time.perf_counter``.
        progress: where it is told how far things came.

    Attributes:
        expected: the steps that training is expected to take from θ₀ on; infinity where that is not known.
    """

    real: RealTraining | None
    deadline: float
    progress: Progress
    expected: float = math.inf
    started: float = field(default_factory=time.perf_counter)
    _spent: float = field(default=0.0, init=False)
    _checked: bool = field(default=False, init=False)

    def check(self, steps: float, loss: float, first: float) -> None:
        """Called as a path goes on.

        Args:
            steps: how far the path came, from the beginning of training.
            loss: the training loss there.
            first: the training loss at the start.

        Raises:
            PatienceError: with the next interval, as long as the last one, it would take longer than training lets it.
            BudgetError: the deadline passed.
        """
        now = time.perf_counter()
        self.progress.advance(steps)
        if now > self.deadline:
            raise BudgetError
        before, self._spent = self._spent, now - self.started if _is_timed.get() else self._spent + LINEARIZATION
        after_next = self._spent + (self._spent - before if self._checked else 0.0)
        self._checked = True
        if self.real is None or after_next < FREE:
            return
        made = steps - self.real.problem.first
        if after_next > FREE + SHARE * self.real.seconds_per_step * self._steps(made, loss, first):
            raise PatienceError

    def is_training_cheaper(self, seconds: float) -> bool:
        """Whether real training takes no longer than that."""
        real = self.real
        return real is not None and math.isfinite(self.expected) and real.seconds_per_step * self.expected <= seconds

    def _steps(self, steps: float, loss: float, first: float) -> float:
        """How many steps training takes from θ₀ on, as far as the path tells."""
        if math.isfinite(self.expected):
            return max(self.expected, steps)
        assert self.real is not None
        goal = self.real.problem.goal
        most = goal.steps - self.real.problem.first if math.isfinite(goal.steps) else float(LONGEST)
        if goal.until is None:
            return most
        first, loss, until = map(self.real.problem.objective.excess, (first, loss, goal.until))
        if not (0 < loss < first and until > 0):
            return min(most, max(steps, 1.0))
        share = math.log(first / until) / math.log(first / loss)
        return min(most, max(steps, 1.0) * max(share, 1.0))
