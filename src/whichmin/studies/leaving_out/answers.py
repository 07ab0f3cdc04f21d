"""The answers for groups, one after the other or many at once in another process."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from whichmin.errors import WhichminError
from whichmin.losses import Array
from whichmin.recipe.recipe import Recipe
from whichmin.studies.leaving_out.groups import Group
from whichmin.studies.leaving_out.plan import Plan
from whichmin.studies.leaving_out.solver import Asked, Solver
from whichmin.task import Task


@dataclass(frozen=True, eq=False)
class Answer:
    """Where training without a group ends.

    Attributes:
        test: test outputs, (n·C,); not a number where the prediction failed. An array, which other processes return
            without a file left open for each.
        error: their estimated error, root mean square.
        steps: how many steps training makes.
        method: ``"linearized"``, ``"relinearized"`` or ``"trained"``; empty where it failed.
        seconds: what it took.
        notes: remarks.
        failure: why there is none; None where there is.
    """

    test: Array
    error: float
    steps: float
    method: str
    seconds: float
    notes: tuple[str, ...] = field(default=())
    failure: str | None = None

    @property
    def numbers(self) -> dict[str, Any]:
        """All but the outputs, as plain values."""
        numbers = {"error": repr(self.error), "steps": repr(self.steps), "seconds": self.seconds}
        return numbers | {"method": self.method, "notes": list(self.notes)}

    @classmethod
    def of(cls, _: Path, config: dict[str, Any], arrays: dict[str, Tensor]) -> Self:
        """The answer that a folder of the store holds."""
        error, steps = float(config["error"]), float(config["steps"])
        return cls(arrays["test"].numpy(), error, steps, config["method"], config["seconds"], tuple(config["notes"]))


def answer_groups(
    model: nn.Module, task: Task, recipe: Recipe, asked: Asked, plan: Plan, groups: Sequence[Group]
) -> list[Answer]:
    """The answers for some groups, in a process of their own: the linearization of all rows is made there again."""
    torch.set_num_threads(1)
    return answered(Solver(model, task, recipe, asked), plan, groups)


def answered(solver: Solver, plan: Plan, groups: Sequence[Group]) -> list[Answer]:
    """The answers for some groups, in the same order; one that fails says why."""
    started = time.perf_counter()
    if plan.way == "inverse":
        pairs = list(zip(groups, solver.converged(groups), strict=True))
        seconds = (time.perf_counter() - started) / max(len(pairs), 1)
        return [_predicted(plan, group, one.test.numpy(), one.steps, "linearized", seconds) for group, one in pairs]
    return [_answer(solver, plan, group) for group in groups]


def _answer(solver: Solver, plan: Plan, group: Group) -> Answer:
    started = time.perf_counter()
    try:
        if plan.way in ("trained", "itself"):
            outcome = solver.trained(group) if plan.way == "trained" else solver.by_itself(group)
            seconds = time.perf_counter() - started
            notes = () if outcome.method == "trained" else outcome.notes
            return Answer(outcome.test[-1].numpy(), outcome.error, outcome.steps, outcome.method, seconds, notes)
        solved = solver.linearized(group) if plan.way == "linearized" else solver.path(group, plan.ends)
        return _predicted(plan, group, solved.test.numpy(), solved.steps, plan.way, time.perf_counter() - started)
    except WhichminError as error:
        nothing = np.full_like(plan.full, math.nan)
        return Answer(nothing, math.inf, math.nan, "", time.perf_counter() - started, failure=str(error))


def _predicted(plan: Plan, group: Group, test: Array, steps: float, method: str, seconds: float) -> Answer:
    corrected = plan.corrected(group, test)
    return Answer(corrected, plan.error(group, corrected), steps, method, seconds)
