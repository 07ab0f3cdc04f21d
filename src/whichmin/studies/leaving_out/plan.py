"""How finely the paths on the rest are divided: found on a few groups, for all of them.

A path of n intervals is off by e(n), which falls with n. A few groups, the pilots, are followed with more and more
intervals, and so are all rows, whose intervals the paths on the rest share. What a finer path changes of a group,
Δ₋S, and of all rows, Δ, have much in common where few rows are left out: the part β = ⟨Δ₋S, Δ⟩/⟨Δ, Δ⟩ of what the
coarse path of all rows is known to miss is added to a group's outputs. The rest of Δ₋S tells the error.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from whichmin.dynamics.paths.function_space import FunctionSpacePredictor
from whichmin.dynamics.paths.outcome import Outcome
from whichmin.dynamics.paths.real import CHAOTIC, Patience, Progress, RealTraining
from whichmin.errors import WhichminError
from whichmin.losses import Array, root_mean_square
from whichmin.studies.leaving_out.groups import Group
from whichmin.studies.leaving_out.solver import Solved, Solver

#: The numbers of intervals that are tried, each compared with the one before.
RUNGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
#: From one rung to the next the number of intervals grows by at most this factor, where it may grow by less.
MOST_GROWTH = 4
#: So many groups tell how many intervals are needed.
PILOTS = 4
#: The error of a group is to be at most this part of what leaving it out changes.
PART = 0.125
#: A correction by less than this part of what the path of all rows misses needs no finer path of all rows.
NEGLIGIBLE = 0.1
#: What a finer path changes is taken to have at least this much in common with what the one before it changed.
IN_COMMON = 0.25
#: The same where no path came before.
UNKNOWN = 0.5
#: No group counts as less than this part of the root mean square of all.
LEAST = 0.1


@dataclass(frozen=True)
class Pilot:
    """What groups of about one size have in common.

    Attributes:
        size: how many rows a group has.
        shared: β, the part of what the path of all rows misses that a path on the rest misses as well.
        error: of the outputs of a typical group, root mean square, after the correction by it.
        effect: how far leaving a typical group out moves the outputs, root mean square.
    """

    size: int
    shared: float
    error: float
    effect: float


@dataclass(frozen=True, eq=False)
class Plan:
    """How every group is predicted.

    Attributes:
        way: ``"inverse"``, ``"linearized"``, ``"relinearized"``, ``"trained"``, or ``"itself"``: each as ``predict``
            would.
        full: f(x') of training on all rows, as well as it is known, (n·C,).
        full_error: its estimated error.
        full_steps: how many steps that makes.
        coarse: the same as a path like those of the groups gives it.
        ends: the steps at which the intervals of such a path end.
        pilots: what the pilots told, by size; none where the groups tell their errors themselves.
        is_chaotic: whether training on all rows is, of which rounding changes more than a small part.
        notes: what the caller should know.
    """

    way: str
    full: Array
    full_error: float
    full_steps: float
    coarse: Array
    ends: tuple[float, ...] = ()
    pilots: tuple[Pilot, ...] = ()
    is_chaotic: bool = False
    notes: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, Any]:
        """What the answer of a group depends on, and what makes the plan again with the two outputs, plain values."""
        pilots = [[p.size, p.shared, p.error, p.effect] for p in self.pilots]
        numbers = {"full_error": self.full_error, "full_steps": self.full_steps, "ends": list(self.ends)}
        told = {"way": self.way, "pilots": pilots, "is_chaotic": self.is_chaotic, "notes": list(self.notes)}
        return told | {name: repr(value) if isinstance(value, float) else value for name, value in numbers.items()}

    @classmethod
    def of(cls, values: dict[str, Any], full: Array, coarse: Array) -> Plan:
        """From what :attr:`values` gave."""
        pilots = tuple(Pilot(int(size), *map(float, rest)) for size, *rest in values["pilots"])
        error, steps = float(values["full_error"]), float(values["full_steps"])
        ends, notes = tuple(values["ends"]), tuple(values["notes"])
        return cls(values["way"], full, error, steps, coarse, ends, pilots, values["is_chaotic"], notes)

    def corrected(self, group: Group, test: Array) -> Array:
        """The outputs of a group's path with what it is known to miss, (n·C,)."""
        return test + self._pilot(group).shared * (self.full - self.coarse) if self.pilots else test

    def error(self, group: Group, test: Array) -> float:
        """The estimated error of the corrected outputs.

        That of the pilots of the nearest size, by the square root of the effect: errors are neither all alike nor in
        proportion to what is left out.
        """
        if not self.pilots:
            return self.full_error
        pilot = self._pilot(group)
        relative = root_mean_square(test - self.full) / pilot.effect if pilot.effect > 0 else 1.0
        return math.hypot(pilot.shared * self.full_error, pilot.error * math.sqrt(relative))

    def _pilot(self, group: Group) -> Pilot:
        return min(self.pilots, key=lambda pilot: abs(math.log(pilot.size / len(group))))


def make_plan(solver: Solver, groups: Sequence[Group]) -> Plan:
    """Predict training on all rows, and find out on a few groups how finely the others have to be followed.

    Raises:
        WhichminError: whatever ``predict`` raises of training on all rows.
    """
    asked, predictor = solver.asked, solver.predictor
    full = predictor.predict(asked.relinearize, asked.tol, row_span=True)
    solver.network.put(solver.problem.origin)
    if full.method == "trained":
        return _trained(solver, full)
    if not isinstance(predictor, FunctionSpacePredictor):
        return _plain("itself", full)
    scale = solver.problem.scale(full.train[-1])
    ladder = _Ladder(solver, _pilots(groups), scale, full)
    plan = ladder.climb()
    shared = max((pilot.shared for pilot in plan.pilots), default=0.0)
    wanted = ladder.accepted / (2 * max(shared, 1e-9))
    if asked.relinearize in ("auto", "path") and shared > NEGLIGIBLE and plan.full_error > wanted:
        finer = predictor.predict(asked.relinearize, wanted / scale)
        solver.network.put(solver.problem.origin)
        plan = replace(plan, full=finer.test[-1].numpy(), full_error=finer.error, full_steps=finer.steps)
    return plan


def _trained(solver: Solver, full: Outcome) -> Plan:
    """Every group by real training, as all rows were."""
    chaotic = full.error > CHAOTIC * solver.problem.scale(full.train[-1])
    return replace(_plain("trained", full), is_chaotic=chaotic)


def _plain(way: str, full: Outcome) -> Plan:
    test = full.test[-1].numpy()
    return Plan(way, test, full.error, full.steps, test, notes=_notes_of(full))


def _notes_of(full: Outcome) -> tuple[str, ...]:
    return tuple(f"all rows: {note}" for note in full.notes)


def _typical(vectors: list[Tensor]) -> float:
    """The geometric mean of root mean squares: some groups are far from the others, in effect and in error.

    One without which nothing changes counts as :data:`LEAST` of all together.
    """
    sizes = torch.tensor([root_mean_square(vector) for vector in vectors], dtype=torch.float64)
    least = LEAST * float(sizes.square().mean().sqrt())
    return float(sizes.clamp(min=least).log().mean().exp()) if least > 0 else 0.0


def _apart(ratio: float, in_common: float) -> float:
    """How far apart paths of n and n' intervals are, ρ = n/n', in units of the error e of the first.

    Errors that fall like 1/n differ by (ρ − 1) e where they have one direction, and by (ρ² + 1)^½ e where they have
    nothing in common, as those of a rectifier's kinks. In between it is taken to be their weighted geometric mean.
    """
    return (ratio - 1) ** in_common * math.hypot(ratio, 1) ** (1 - in_common)


def _in_common(before: dict[Group, Tensor], after: dict[Group, Tensor], groups: Iterable[Group]) -> float:
    """The mean cosine between what two finer paths in turn changed, from :data:`IN_COMMON` to 1."""
    cosines = [float(torch.cosine_similarity(before[g], after[g], 0)) for g in groups if g in before]
    return min(max(sum(cosines) / len(cosines), IN_COMMON), 1.0) if cosines else UNKNOWN


def _pilots(groups: Sequence[Group]) -> list[Group]:
    """A few groups, spread over their sizes."""
    ordered = sorted(groups, key=len)
    count = min(PILOTS, len(ordered))
    return [ordered[(2 * i + 1) * len(ordered) // (2 * count)] for i in range(count)]


@dataclass(eq=False)
class _Rung:
    """All rows and the pilots along paths of so many intervals.

    Besides what that changed of each pilot but for what all rows share, and the errors by the pilots' size.
    """

    count: int
    full: Solved
    pilots: list[Solved]
    seconds: float
    left: dict[Group, Tensor] = field(default_factory=dict)
    errors: dict[int, float] = field(default_factory=dict)


class _Ladder:
    """Paths of more and more intervals, until those of the pilots are good enough."""

    def __init__(self, solver: Solver, groups: list[Group], scale: float, full: Outcome) -> None:
        self.solver, self.groups, self.outcome = solver, groups, full
        self._scale, self.accepted = scale, math.inf

    def climb(self) -> Plan:
        """The plan of the first rung that is good enough, or of the one that is asked for."""
        relinearize = self.solver.asked.relinearize
        if relinearize in ("never", 1):
            first = self._rung(1)
            return self._plan(first, self._told(first, self._rung_or_none(2), finer=True))
        if isinstance(relinearize, int):
            before, rung = self._rung(relinearize // 2), self._rung(relinearize)
            return self._plan(rung, self._told(before, rung))
        rung = self._rung(1)
        told = self._told(rung, None)
        while rung.count < RUNGS[-1]:
            before, after = rung, self._rung_or_none(self._next(rung.count, told))
            if after is None:
                break
            rung = after
            if before.count == 1 and self._is_enough(coarse := self._told(before, rung, finer=True)):
                return self._plan(before, coarse)
            told = self._told(before, rung)
            if self._is_enough(told):
                return self._plan(rung, told)
            if self._is_training_cheaper(rung):
                break
        if relinearize == "auto" and self._can_train:
            return _trained(self.solver, self._trained())
        plan = self._plan(rung, told)
        note = (
            f"the estimated error {self._error(told):.2g} did not come down to {self.accepted:.2g} with {rung.count} "
            "intervals: this network is far from its linearizations."
        )
        return replace(plan, notes=(*plan.notes, note))

    def _next(self, count: int, told: tuple[Pilot, ...]) -> int:
        """The rung after one of so many intervals: the last that is not finer than needed, if errors fall like 1/n."""
        error = self._error(told)
        missing = min(error / self.accepted, MOST_GROWTH) if math.isfinite(error) else 1.0
        first = RUNGS[RUNGS.index(count) + 1]
        return max(first, *(rung for rung in RUNGS if rung <= count * missing))

    def _rung(self, count: int) -> _Rung:
        """All rows first, then the pilots with the same intervals."""
        solver = self.solver
        full = solver.full_linearized() if count == 1 else solver.full_path(count)
        started = time.perf_counter()
        pilots = [self._pilot(group, count, full) for group in self.groups]
        return _Rung(count, full, pilots, (time.perf_counter() - started) / len(pilots))

    def _pilot(self, group: Group, count: int, full: Solved) -> Solved:
        """One that fails is not a number, which no rung is good enough for."""
        try:
            return self.solver.linearized(group) if count == 1 else self.solver.path(group, full.ends)
        except WhichminError:
            return Solved(torch.full_like(full.test, math.nan), math.nan)

    def _rung_or_none(self, count: int) -> _Rung | None:
        try:
            return self._rung(count)
        except WhichminError:
            return None

    def _told(self, before: _Rung, after: _Rung | None, *, finer: bool = False) -> tuple[Pilot, ...]:
        """What two rungs tell of the error of the second; of that of the first for ``finer``."""
        sizes = sorted({len(group) for group in self.groups})
        if after is None:
            return tuple(Pilot(size, 0.0, math.inf, 0.0) for size in sizes)
        ratio = after.count / before.count
        of_full = after.full.test - before.full.test
        told = []
        for size in sizes:
            pairs = {
                group: (one.test - other.test, one.test - after.full.test)
                for group, one, other in zip(self.groups, after.pilots, before.pilots, strict=True)
                if len(group) == size and not (math.isnan(one.steps) or math.isnan(other.steps))
            }
            if not pairs:
                told.append(Pilot(size, 0.0, math.inf, 0.0))
                continue
            shared = self._shared(torch.stack([change for change, _ in pairs.values()]), of_full)
            after.left |= {group: change - shared * of_full for group, (change, _) in pairs.items()}
            in_common = _in_common(before.left, after.left, pairs)
            error = _typical([after.left[group] for group in pairs]) / _apart(ratio, in_common)
            if (known := before.errors.get(size)) is not None:  # two paths may agree by chance
                error = math.sqrt(error * known / ratio)
            after.errors[size] = error
            effect = _typical([moved for _, moved in pairs.values()])
            told.append(Pilot(size, shared, error * ratio if finer else error, effect))
        return tuple(told)

    def _shared(self, changes: Tensor, of_full: Tensor) -> float:
        """β by least squares, from 0 to 1; 0 where one linearization, of all rows too, is what is asked for."""
        square = float(of_full.square().sum())
        if self.solver.asked.relinearize == "never" or square == 0:
            return 0.0
        return min(max(float((changes @ of_full).mean()) / square, 0.0), 1.0)

    def _is_enough(self, told: tuple[Pilot, ...]) -> bool:
        effect = math.sqrt(sum(pilot.effect**2 for pilot in told) / len(told))
        self.accepted = min(self.solver.asked.tol * self._scale, PART * effect)
        return self._error(told) <= self.accepted

    @staticmethod
    def _error(told: tuple[Pilot, ...]) -> float:
        return math.sqrt(sum(pilot.error**2 for pilot in told) / len(told))

    def _plan(self, rung: _Rung, told: tuple[Pilot, ...]) -> Plan:
        full, way = self.outcome, "linearized" if rung.count == 1 else "relinearized"
        notes = _notes_of(full)
        if rung.count == 1 and self.solver.has_inverse:
            way = "inverse"
        best, coarse = full.test[-1].numpy(), rung.full.test.numpy()
        return Plan(way, best, full.error, full.steps, coarse, rung.full.ends, told, notes=notes)

    @property
    def _can_train(self) -> bool:
        return self.solver.problem.goal.is_reached_by_training

    def _is_training_cheaper(self, rung: _Rung) -> bool:
        """Whether real training of a group takes no longer than a path of the next rung."""
        if self.solver.asked.relinearize != "auto" or not self._can_train:
            return False
        steps = max((pilot.steps for pilot in rung.pilots if math.isfinite(pilot.steps)), default=math.inf)
        after = RUNGS[min(RUNGS.index(rung.count) + 1, len(RUNGS) - 1)]
        return RealTraining(self.solver.problem).seconds_per_step * steps < rung.seconds * after / rung.count

    def _trained(self) -> Outcome:
        """All rows, by real training."""
        problem = self.solver.problem
        return RealTraining(problem).run(Patience(None, math.inf, Progress(False)))
