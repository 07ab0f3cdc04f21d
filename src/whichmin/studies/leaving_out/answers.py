"""The plan and the answers for groups, as jobs, and what they have in common in each process."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whichmin.errors import WhichminError
from whichmin.jobs.store import Question, Store
from whichmin.losses import Array, root_mean_square
from whichmin.recipe.recipe import Recipe
from whichmin.studies.leaving_out.groups import Group
from whichmin.studies.leaving_out.plan import Plan, make_plan
from whichmin.studies.leaving_out.solver import Asked, Solver
from whichmin.tangent.context import own_context
from whichmin.task import Task


@dataclass(frozen=True, eq=False)
class Answer:
    """Where training without a group ends.

    Attributes:
        test: test outputs, (n·C,).
        error: their estimated error, root mean square.
        steps: how many steps training makes.
        method: ``"linearized"``, ``"relinearized"`` or ``"trained"``.
        seconds: what it took.
        notes: remarks.
    """

    test: Array
    error: float
    steps: float
    method: str
    seconds: float
    notes: tuple[str, ...] = field(default=())

    @property
    def numbers(self) -> dict[str, Any]:
        """All but the outputs, as plain values."""
        numbers = {"error": repr(self.error), "steps": repr(self.steps), "seconds": self.seconds}
        return numbers | {"method": self.method, "notes": list(self.notes)}


class Source:
    """Training on all rows: linearized once in each process that has jobs about it.

    Args:
        model: the network.
        task: all rows.
        recipe: what trains it.
        asked: how it is predicted.
    """

    def __init__(self, model: nn.Module, task: Task, recipe: Recipe, asked: Asked) -> None:
        self.model, self.task, self.asked = model, task, asked
        self._recipe, self._name = recipe, uuid.uuid4().hex

    @cached_property
    def solver(self) -> Solver:
        """The linearization."""
        return Solver(self.model, self.task, self._recipe, self.asked)

    @property
    def recipe(self) -> Recipe:
        """What trains it, its learning rate settled on all rows."""
        return self.solver.problem.recipe

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self._name, self.model, self.task, self.recipe, self.asked)


#: The last source that came to this process.
_last: dict[str, Source] = {}


def _received(name: str, *parts: Any) -> Source:
    """A source that another process sent, with the linearization of it that this process has."""
    if name not in _last:
        _last.clear()
        _last[name] = Source(*parts)
    return _last[name]


@dataclass(frozen=True, eq=False)
class Planning:
    """How all groups are predicted, as a job.

    Attributes:
        source: training on all rows.
        groups: all of them.
        question: what is asked, as a store knows it; None where the plan is not kept.
    """

    source: Source
    groups: Sequence[Group]
    question: Question | None
    failures = ()

    def compute(self) -> Plan:
        """Find it out on a few groups."""
        return make_plan(self.source.solver, self.groups)

    def keep(self, store: Store, question: Question, answer: Plan) -> None:
        """A folder with the plan and the outputs of all rows."""
        arrays = {"full": torch.from_numpy(answer.full), "coarse": torch.from_numpy(answer.coarse)}
        store.write(question, {"plan": answer.values}, arrays)

    def read(self, place: Path, config: dict[str, Any], arrays: dict[str, Tensor]) -> Plan:
        """What :meth:`keep` wrote."""
        return Plan.of(config["plan"], arrays["full"].numpy(), arrays["coarse"].numpy())


@dataclass(frozen=True, eq=False)
class LeavingOut:
    """Training without a group, as a job; without each of several, where all follow from one inverse.

    Attributes:
        source: training on all rows.
        plan: how it is predicted.
        groups: the group.
        question: what is asked, as a store knows it; None where the answer is not kept.
    """

    source: Source
    plan: Plan
    groups: Sequence[Group]
    question: Question | None
    failures = (WhichminError,)

    @own_context()
    def compute(self) -> list[Answer]:
        """An answer for each group."""
        solver, plan, started = self.source.solver, self.plan, time.perf_counter()
        if plan.way == "inverse":
            pairs = list(zip(self.groups, solver.converged(self.groups), strict=True))
            seconds = (time.perf_counter() - started) / len(pairs)
            return [
                _predicted(solver, plan, group, one.test.numpy(), one.steps, "linearized", seconds)
                for group, one in pairs
            ]
        (group,) = self.groups
        return [_answer(solver, plan, group)]

    def keep(self, store: Store, question: Question, answer: list[Answer]) -> None:
        """A folder with the numbers and the test outputs."""
        (group,), (one,) = self.groups, answer
        store.write(question, {"left_out": list(group)} | one.numbers, {"test": torch.from_numpy(one.test)})

    def read(self, place: Path, config: dict[str, Any], arrays: dict[str, Tensor]) -> list[Answer]:
        """What :meth:`keep` wrote."""
        error, steps = float(config["error"]), float(config["steps"])
        notes = tuple(config["notes"])
        return [Answer(arrays["test"].numpy(), error, steps, config["method"], config["seconds"], notes)]


def _answer(solver: Solver, plan: Plan, group: Group) -> Answer:
    started = time.perf_counter()
    if plan.way == "trained":
        run = solver.trained(group, plan.is_chaotic)
        assert run.test is not None
        test = run.test.double().reshape(-1).cpu().numpy()
        return Answer(test, plan.full_error, float(run.steps), "trained", time.perf_counter() - started)
    if plan.way == "itself":
        outcome = solver.by_itself(group)
        seconds = time.perf_counter() - started
        notes = () if outcome.method == "trained" else outcome.notes
        return Answer(outcome.test[-1].numpy(), outcome.error, outcome.steps, outcome.method, seconds, notes)
    solved = solver.linearized(group) if plan.way == "linearized" else solver.path(group, plan.ends)
    return _predicted(solver, plan, group, solved.test.numpy(), solved.steps, plan.way, time.perf_counter() - started)


def _predicted(
    solver: Solver, plan: Plan, group: Group, test: Array, steps: float, method: str, seconds: float
) -> Answer:
    """With an error no less than the rounding of the outputs."""
    corrected = plan.corrected(group, test)
    rounding = solver.problem.network.eps * root_mean_square(corrected)
    return Answer(corrected, max(plan.error(group, corrected), rounding), steps, method, seconds)
