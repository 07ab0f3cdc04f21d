"""Real training of a copy, where it is the cheapest way that is right, and how long other ways may take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import islice, pairwise
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from whichmin.dynamics.paths.clock import LINEARIZATION, STEP, is_timed
from whichmin.dynamics.paths.linearized import flat
from whichmin.dynamics.paths.outcome import Outcome
from whichmin.dynamics.paths.problem import Problem
from whichmin.dynamics.paths.twin import (
    ROWS,
    Growth,
    Stand,
    Stands,
    Stretch,
    is_affordable,
    leeway_of,
    nudge,
    rises,
    spikes,
    uncertain,
)
from whichmin.errors import DivergenceError, TrainingError
from whichmin.inputs import AnyInputs, in_types_of
from whichmin.loop.row_span import RowSpan, row_span
from whichmin.loop.stopping import remedy
from whichmin.loop.training_loop import Loop, state_of
from whichmin.losses import root_mean_square
from whichmin.recipe.build import fuse
from whichmin.tangent.copying import private_copy
from whichmin.tangent.model import evaluate, trainable
from whichmin.task import Task

#: Steps that are made to see how long one takes.
TIMED_STEPS = 4
#: Real training without a number of steps gives up after this many.
LONGEST = 100_000
#: Seconds that other ways may take whatever training takes.
FREE = 0.35
#: The part of training's time that other ways may take besides.
SHARE = 0.2
#: The part that a path may take which will be there by then, if its intervals go on as the last one did.
SHARE_TO_END = 0.33
#: What is said of a prediction by real training.
BY_TRAINING = "by real training of a copy: a path of linearizations would take longer, or be less sure."
#: What is said where it ended too early.
STOPPED = "the budget ran out after {} steps: these are the outputs there."
#: How a second training begins, in notes.
APART = "begun again from parameters a few roundings apart,"
#: What is said where there was no time for one.
UNCHECKED = "the budget ran out before it was seen how far rounding carries this training away."
#: What is said where only parts were made again ...
PARTLY = "how far rounding carries this training was seen on {} of {} steps: what it does between is not in the error."
#: ... and where the loss rises between them.
LIKELY = "how far rounding carries this training was seen on {} of {} steps: between, it may be as far as {:.2g}."
#: Where two trainings end further apart than this part of the targets' scale, or of their steps, it is said.
CHAOTIC = 0.01
#: Training that rounding carries away may come to a loss when it has come to so many times that loss.
LEEWAY = 2.0
#: Points of a training curve that are kept.
DRAWN = 240


class PatienceError(Exception):
    """Another way than training has taken too long."""


class BudgetError(Exception):
    """The seconds that a prediction may take are over.

    Attributes:
        outcome: what is known where it stopped, of unknown error; None where somebody else knows.
    """

    def __init__(self, outcome: Outcome | None = None) -> None:
        super().__init__()
        self.outcome = outcome


class RealTraining:
    """Training from θ₀ by the recipe itself, as :func:`whichmin.train` does it.

    Args:
        problem: what is predicted.
        row_span: whether in the coordinates of the span of the rows, where that is the same training up to rounding.
        every_epoch: whether the training error of mini-batches is measured at every epoch, else ever more rarely.

    Attributes:
        made: the training that was made to the end; None before.
    """

    def __init__(self, problem: Problem, row_span: bool = False, *, every_epoch: bool = False) -> None:
        self.problem, self._row_span, self._every_epoch = problem, row_span, every_epoch
        self.made: Loop | None = None

    @cached_property
    def span(self) -> RowSpan | None:
        """The coordinates in which the network is trained; None for its own."""
        return self._find_span() if self._row_span else None

    @cached_property
    def seconds_per_step(self) -> float:
        """How long one step takes, the fastest of a few that are made on a copy; ``STEP`` within :func:`untimed`."""
        return self._timed(self.span)

    def _timed(self, span: RowSpan | None) -> float:
        if not is_timed():
            return STEP
        times: list[float] = []

        def watch(step: int) -> str | None:
            times.append(time.perf_counter())
            return None

        loop = self._loop(self.problem.first + TIMED_STEPS, None, watch, span=span)
        with suppress(TrainingError):  # it diverges at once, which takes no longer
            loop.run(progress=False)
        self._raise_if_stopped(loop)
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

    def first_outputs(self, count: int) -> list[Tensor]:
        """Outputs where errors are looked at, (n·C,), after each of the first steps from θ₀ on, on a copy.

        Args:
            count: how many steps; fewer where training diverges before.
        """
        outputs: list[Tensor] = []

        def watch(step: int) -> str | None:
            if step > self.problem.first:
                outputs.append(self._outputs(loop, self.problem.network.X, None))
            return None

        loop = self._loop(self.problem.first + count, None, watch, fine=True)
        with suppress(TrainingError):
            loop.run(progress=False)
        self._raise_if_stopped(loop)
        return outputs

    def run(
        self, patience: Patience, *, or_part: bool = False, is_lost: Callable[[Loop], bool] | None = None
    ) -> Outcome:
        """Train to the goal; the error is how far a second training ends from it, see ``whichmin.dynamics.paths.twin``.

        Args:
            patience: when to stop.
            or_part: whether what was trained by the deadline will do: an outcome of unknown error, with a note.
            is_lost: whether the training so far, asked before each step, will never get anywhere.

        Raises:
            DivergenceError: training diverges, or is lost.
            BudgetError: the deadline passed.
        """
        problem, goal = self.problem, self.problem.goal
        wanted = [t for t in goal.times[:-1] if t < goal.steps]
        train: list[Tensor] = []
        test: list[Tensor] = []
        limit = problem.first + LONGEST if math.isinf(goal.steps) else int(goal.steps)
        stands = Stands(partial(self._probe, span=self.span), problem.objective.excess)
        began = time.perf_counter()

        def keep(times: int) -> None:
            train.extend(times * [self._outputs(loop, problem.network.task.X, self.span)])
            test.extend(times * [self._outputs(loop, problem.network.X, self.span)])

        def watch(step: int) -> str | None:
            stands.look(loop)
            if step in wanted:
                keep(1)
            patience.progress.advance(step)
            if is_lost is not None and is_lost(loop):
                raise DivergenceError(f"training gets nowhere: it is given up after {step} steps.", math.nan)
            if time.perf_counter() <= patience.deadline:
                return None
            if not or_part:
                raise BudgetError
            return "the budget ran out"

        patience.progress.say("by real training", min(goal.steps, problem.first + patience.expected))
        errors = "every epoch" if self._every_epoch or is_lost is not None else "rarely"
        loop = self._loop(limit, goal.until, watch, span=self.span, errors=errors)
        try:
            loop.run(progress=False)
        except TrainingError as error:
            label = problem.loss_label
            raise DivergenceError(
                f"training diverges: real steps of {problem.optimizer} at lr = {problem.learning_rate:.6g} lead to a "
                f"training {label} that is no longer finite, though the linearized network at θ₀ would train. "
                f"{remedy(loop.task)}",
                math.nan,
            ) from error
        self._raise_if_stopped(loop)
        curve = list(zip(map(float, loop.measured), loop.losses, strict=True))
        stride = max(1, len(curve) // DRAWN)
        kept = curve[::stride] if (len(curve) - 1) % stride == 0 else [*curve[::stride], curve[-1]]
        reached = goal.until is None or loop.losses[-1] < goal.until
        notes = (BY_TRAINING,) if reached else (BY_TRAINING, self._short_of(goal.until, loop))
        is_whole = loop.done >= limit or loop.has_stalled or (goal.until is not None and reached)
        if not is_whole:
            notes = (*notes, STOPPED.format(loop.done))
        keep(len(wanted) + 1 - len(train) if loop.has_stalled or not is_whole else 1)
        seconds = time.perf_counter() - began
        outcome = Outcome(
            "trained", train, test, float(loop.done), 0, math.inf, kept, self._state(loop), notes=notes,
            training_seconds=seconds,
        )  # fmt: skip
        if not is_whole:
            return outcome
        self.made = loop
        if not is_timed():
            seconds, began = (loop.done - problem.first) * STEP, patience.started
        spent = began - patience.started
        span, part = (self.span, 1.0) if is_affordable(seconds, spent) else self._faster_span()
        stretches = stands.stretches(loop.done, seconds, spent, part)
        spans = [span] if len(stretches) == 1 else [self.span] * len(stretches)
        stretches = [replace(stretch, span=each) for stretch, each in zip(stretches, spans, strict=True)]
        return self._with_twin(outcome, stretches, stands, loop, patience)

    def _faster_span(self) -> tuple[RowSpan | None, float]:
        """Coordinates in which a second training is fastest, and the part of the time of the first that it takes."""
        if self.span is not None:
            return self.span, 1.0
        span = self._find_span()
        part = 1.0 if span is None else self._timed(span) / self.seconds_per_step
        return (span, part) if part < 1.0 else (None, 1.0)

    @cached_property
    def _whole(self) -> tuple[nn.Module, Task]:
        """The network in its own coordinates, for outputs of one that is trained in others."""
        return self.problem.network.copy_at(self.problem.origin)

    def _find_span(self) -> RowSpan | None:
        if self.problem.recipe.memory is not None:
            return None
        network, task = self.problem.network.copy_at(self.problem.origin)
        return row_span(network, task, self.problem.recipe.build(trainable(network).values()))

    def _with_twin(
        self, outcome: Outcome, stretches: list[Stretch], stands: Stands, trained: Loop, patience: Patience
    ) -> Outcome:
        """With how far training ends from itself that begins again from parameters a few roundings apart.

        Where the loss does not fall steadily, chance may bring both together again at the end, and which step is the
        last one may hang on roundings: then it is as far as they were apart on the way, and as the next step leads, at
        least. Where only parts are made again, what grew much in one grows on. Where the loss climbed in what is not
        made again, or rises now and then, outputs may be apart as far as they wander anyhow: the error is that where
        what is apart was seen to grow, else the geometric mean of that and of what was seen.
        """
        made, grown, steps_error = trained.done - self.problem.first, [], 0.0
        for stretch in stretches:
            try:
                growth, steps = self._again(stretch, stands, trained, patience)
            except TrainingError:
                return outcome.with_notes(f"{APART} training diverges.")
            if growth is None:
                return outcome.with_notes(UNCHECKED)
            grown.append(growth)
            steps_error = abs(steps - stretch.end) / made
        scale, last = self.problem.scale(outcome.train[-1]), self._probe(trained, self.span)
        wander = stands.wander(trained.done, last)
        within = [stands.wander(trained.done, last, min(stretch.end, trained.done // 2)) for stretch in stretches]
        ends = [growth.end if stretch.end == trained.done else min(growth.end, most)  # much of it passes by the end
                for growth, stretch, most in zip(grown, stretches, within, strict=True)]  # fmt: skip
        pairs = zip(grown, within, strict=True)
        again = sum(stretch.end - stretch.start.step for stretch in stretches)
        is_partial = again < made
        carried = [min(most, growth.carried(made)) for growth, most in pairs if is_partial and growth.is_chaotic]
        seen = max([*ends, *carried], default=0.0)
        most = seen if stands.is_seen(stretches) else max(seen, wander)
        is_rising = bool(grown) and rises(trained.losses)
        if is_rising:
            seen = max(seen, *(growth.widest for growth in grown))
            if is_partial:
                is_spiky = trained.epoch == 1 and spikes(list(self._excess(trained).values()))
                most = max(most, min(wander, math.inf if is_spiky else max(growth.over(made) for growth in grown)))
        grows = any(growth.grows for growth in grown)
        error = math.sqrt(seen * most) if most > seen > 0 and not grows else max(seen, most)
        if is_rising and trained.until is not None and self._is_first_below(trained):
            leeway = LEEWAY if most > CHAOTIC * scale else max(growth.leeway for growth in grown)
            until = self.problem.objective.excess(trained.until)
            off = uncertain(self._excess(trained), until, leeway, trained.epoch)
            if off:
                steps_error = max(steps_error, off / made)
                error = max(error, *(growth.following for growth in grown))
        error = error if math.isfinite(error) else math.inf
        notes, share = outcome.notes, error / scale
        if (seen if is_partial and not grows else error) > CHAOTIC * scale or steps_error > CHAOTIC:
            steps = f" and {steps_error:.1%} of the steps" if steps_error > 0 else ""
            notes = (
                *notes,
                f"rounding carries this training away: {APART} it ends about {share:.1%} of the targets' scale{steps} "
                "away from itself, and nobody can know it better.",
            )
        elif is_partial:
            notes = (*notes, (LIKELY if most > CHAOTIC * scale else PARTLY).format(again, made, most))
        return replace(outcome, error=error, unknowable=error, steps_error=steps_error, notes=notes)

    def _again(self, stretch: Stretch, stands: Stands, trained: Loop, patience: Patience) -> tuple[Growth | None, int]:
        """Train a stretch once more, a few roundings apart: what became of them, None where the deadline passes.

        Beside it the step at which it ended.
        """
        start, end, span = stretch.start.step, stretch.end, stretch.span
        passed, way = stands.passed(start, end), list[tuple[int, float]]()
        patience.progress.say("once more, a few roundings apart", end)

        def watch(step: int) -> str | None:
            patience.progress.advance(step)
            if step in passed:
                way.append((step - start, root_mean_square(self._probe(twin, span) - passed[step])))
            return None if time.perf_counter() <= patience.deadline else "the budget ran out"

        until = trained.until if end == trained.done and self._is_first_below(trained) else None
        twin = self._loop(end if until is None else 2 * end - start, until, watch, stand=stretch.start, span=span)
        still = self._probe(twin, span)
        nudge(twin.network)
        first = root_mean_square(self._probe(twin, span) - still)
        twin.run(progress=False)
        self._raise_if_stopped(twin)
        if time.perf_counter() > patience.deadline:
            return None, twin.done
        there = self._probe(trained, self.span) if stretch.outputs is None else stretch.outputs
        done, last, following, leeway = twin.done, self._probe(twin, span), 0.0, 1.0
        if until is not None:
            leeway = leeway_of(self._excess(trained), self._excess(twin))
            twin.go_on(1)
            self._raise_if_stopped(twin)
            following = root_mean_square(self._probe(twin, span) - last)
        return Growth(end - start, first, root_mean_square(last - there), tuple(way), following, leeway), done

    @staticmethod
    def _raise_if_stopped(loop: Loop) -> None:
        """Ctrl-C in training is that of the prediction."""
        if loop.interrupted:
            raise KeyboardInterrupt

    def _excess(self, loop: Loop) -> dict[int, float]:
        """The training losses that a loop measured, by the step, above the lowest one that there is."""
        excess = self.problem.objective.excess
        return {step: excess(loss) for step, loss in zip(loop.measured, loop.losses, strict=True)}

    @staticmethod
    def _is_first_below(trained: Loop) -> bool:
        """Whether training ended where its loss fell below ``until``, before its last step."""
        return trained.until is not None and not trained.has_stalled and trained.done < trained.limit

    def _probe(self, loop: Loop, span: RowSpan | None) -> Tensor:
        """Outputs where errors are looked at, of no more rows than a step has, or a few."""
        size = self.problem.recipe.batch_size or ROWS[1]
        return self._outputs(loop, self.problem.network.X[: min(max(size, ROWS[0]), ROWS[1])], span)

    def _short_of(self, until: float | None, loop: Loop) -> str:
        ends = "stalls" if loop.has_stalled else "ends"
        return (
            f"training {ends} at a training {self.problem.loss_label} of {loop.losses[-1]:.3g} after {loop.done} "
            f"steps, above until = {until:g}."
        )

    def _loop(
        self, limit: int, until: float | None, watch: Callable[[int], str | None], *, fine: bool = False,
        stand: Stand | None = None, span: RowSpan | None = None,
        errors: Literal["every epoch", "rarely", "never"] = "never",
    ) -> Loop:  # fmt: skip
        """Training from θ₀ on, or from a stand, in coordinates of its own from θ₀ only."""
        problem, recipe, first = self.problem, self.problem.recipe, self.problem.recipe.first_step
        if span is None:
            network, task = problem.network.copy_at(problem.origin, fine=fine)
        else:
            network, task = private_copy(span.network), span.task
        optimizer = recipe.build([p for p in network.parameters() if p.requires_grad])
        if (self._row_span or span is not None) and recipe.memory is None:
            fuse(optimizer)
        scheduler, batches = recipe.build_scheduler(optimizer), recipe.batches(task.n)
        if stand is not None:
            if span is self.span:
                stand.put(network, optimizer, scheduler)
            batches = None if batches is None else islice(batches, stand.step - first, None)
            first = stand.step
        return Loop(
            network, task, optimizer, scheduler, until=until, limit=limit, batches=batches,
            epoch=recipe.steps_per_epoch(task.n), watch=watch, first=first, halts=math.isinf(problem.goal.steps),
            errors=errors,
        )  # fmt: skip

    def _outputs(self, loop: Loop, X: AnyInputs, span: RowSpan | None) -> Tensor:
        """Of the network where a loop in the coordinates of a span stands."""
        network, task = loop.network, loop.task
        if span is not None:
            network, task = self._whole
            network.load_state_dict(span.state_of_all(state_of(loop.network)))
        with torch.no_grad():
            return flat(evaluate(network, in_types_of(X, task.X)))

    def _state(self, loop: Loop) -> dict[str, Tensor]:
        """The state dict, in the type of the network that predicts."""
        own, state = self.problem.network.model.state_dict(), state_of(loop.network)
        whole = state if self.span is None else self.span.state_of_all(state)
        return {n: v.to(own[n].dtype) for n, v in whole.items()}


class Progress:
    """A progress bar that says by which way something is done, and what is expected of it.

    Args:
        is_shown: whether there is one.
        doing: what is done.
    """

    def __init__(self, is_shown: bool, doing: str = "predicting") -> None:
        self._is_shown, self._doing = is_shown, doing
        self._bar: Any = None

    def __enter__(self) -> Self:
        """Open it."""
        if self._is_shown:
            from whichmin._bars import tqdm

            self._bar = tqdm(unit="step", desc=self._doing, leave=False, mininterval=0.2)
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
            self._bar.set_description(f"{self._doing} {way}{about}", refresh=False)
            self._bar.reset(total=round(steps) if math.isfinite(steps) else None)

    def advance(self, steps: float) -> None:
        """How far it came."""
        if self._bar is not None:
            self._bar.update(max(0, steps - self._bar.n))


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
    _at_last_check: float = field(default=0.0, init=False)
    _steps_at_last_check: float = field(default=0.0, init=False)
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
        self.progress.advance(steps)
        self.check_deadline()
        before, now = self._at_last_check, self.spent if is_timed() else self._at_last_check + LINEARIZATION
        last, lasted = now - before if self._checked else 0.0, steps - self._steps_at_last_check
        self._at_last_check, self._steps_at_last_check, self._checked = now, steps, True
        if self.real is None or now + last < FREE:
            return
        made = steps - self.real.problem.first
        whole = self._steps(made, loss, first)
        training = self.real.seconds_per_step * whole
        if now + last <= FREE + SHARE * training:
            return
        to_end = last * max((whole - made) / lasted, 1.0) if last and lasted > 0 else math.inf
        if now + to_end > FREE + SHARE_TO_END * training:
            raise PatienceError

    @property
    def spent(self) -> float:
        """The seconds since the beginning; none where nothing is timed."""
        return time.perf_counter() - self.started if is_timed() else 0.0

    @property
    def is_over(self) -> bool:
        """Whether the deadline passed."""
        return time.perf_counter() > self.deadline

    def check_deadline(self) -> None:
        """Called where there is nothing to tell.

        Raises:
            BudgetError: the deadline passed.
        """
        if self.is_over:
            raise BudgetError

    def check_within(self) -> None:
        """Called within an interval, where it takes long.

        Raises:
            PatienceError: more time has passed than training lets other ways have.
        """
        if is_timed() and self.spent > FREE + SHARE * self._training:
            raise PatienceError

    def is_training_cheaper(self, seconds: float) -> bool:
        """Whether real training takes no longer than that."""
        return self._training <= seconds

    def is_training_first(self, seconds: float) -> bool:
        """Whether another way that takes so long before anything is known of it takes too much of training's time."""
        return FREE + SHARE * self._training <= seconds

    @property
    def _training(self) -> float:
        """The seconds of real training; infinity where they are not known, or nothing takes another way's place."""
        real = self.real
        return math.inf if real is None or math.isinf(self.expected) else real.seconds_per_step * self.expected

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
