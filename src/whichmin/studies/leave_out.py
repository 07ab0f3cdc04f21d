"""``leave_out``: where training would end without some of its rows, without training again."""

from __future__ import annotations

import math
import os
import time
from concurrent.futures import Executor
from typing import Any, Literal

import torch
from torch import nn

from whichmin.checkpoint import Checkpoint
from whichmin.dynamics.paths.predictor import Relinearize
from whichmin.dynamics.predict import check_relinearize
from whichmin.errors import InputError
from whichmin.jobs.perform import Terms, perform
from whichmin.jobs.progress import performed, progress_bar
from whichmin.jobs.store import Question, Store
from whichmin.recipe.build import OptimizerFactory, SchedulerFactory
from whichmin.recipe.describe import Unknown, digest
from whichmin.recipe.recipe import Recipe
from whichmin.studies.initializations import check_steps, check_test, few_threads
from whichmin.studies.leaving_out.answers import Answer, LeavingOut, Planning, Source
from whichmin.studies.leaving_out.groups import Group, Groups, read_groups
from whichmin.studies.leaving_out.plan import Plan
from whichmin.studies.leaving_out.solver import Asked
from whichmin.studies.left_out import GroupFailure, LeftOut
from whichmin.studies.subject import Subject, not_kept
from whichmin.tangent.context import own_context
from whichmin.task import Task

#: Groups that are predicted together where all follow from one inverse.
TOGETHER = 4096


@own_context()
def leave_out(
    model: nn.Module,
    task: Task,
    optimizer: OptimizerFactory | Recipe,
    groups: Groups = "each",
    *,
    until: float | None = None,
    steps: float | None = None,
    relinearize: Relinearize = "auto",
    tol: float = 1e-2,
    batch_size: int | None = None,
    seed: int = 0,
    scheduler: SchedulerFactory | None = None,
    batches: Literal["kept", "redrawn"] = "kept",
    group_seed: int = 0,
    budget: float | None = None,
    executor: Executor | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> LeftOut:
    """What would be without these rows: for each group, where the same network, trained on the rest, would end.

    The network starts from the same initialization, and nothing but the rows changes: learning rates are those of all
    rows, a loss that is a mean divides by the rows that are left.

    Along one linearization the kernel of the rest is a block of K. To the limit all groups follow from one inverse
    B = K⁻¹: with c = −B r₀, leaving out S makes c₋S = c − B[:, S] (B[S, S])⁻¹ c[S]. A finite network is followed along
    a path for each group, which starts from the blocks of the kernel of all rows and linearizes at the steps where the
    path of all rows does; how many intervals are needed is found on a few groups. Where few rows are left out, a path
    on the rest misses the same as that of all rows, which is known better: that part is added to it.

    Args:
        model: any ``nn.Module``; it is copied, not changed.
        task: the data, with test inputs.
        optimizer: a factory or a recipe, as for :func:`whichmin.predict`; ``lr="best"`` is settled on all rows.
        groups: ``"each"`` for every row alone, a number k of random halves (each keeps a row of every class), or a
            list of groups of row numbers; a row number alone is a group of one.
        until: as for ``predict``.
        steps: as for ``predict``; a single number.
        relinearize: as for ``predict``. ``"auto"`` is a path for each group, one linearization where that is enough,
            or real training of a copy where paths would take longer, do not meet the tolerance, or run into an edge of
            stability. Optimizers without a motion in function space, such as Adam, are predicted as ``predict`` does,
            each group by itself.
        tol: the estimated error of a prediction, relative to ``Prediction.target_std``, as for ``predict``.
            With paths it is also held below an eighth of what leaving a group out changes.
        batch_size: rows per step, as for ``predict``.
        seed: of the order of the batches.
        scheduler: as for ``predict``.
        batches: ``"kept"``: mini-batches are those of all rows and the same seed with the left-out rows taken out, so
            that nothing else changes; one of which nothing is left is a step with a gradient of zero. ``"redrawn"``:
            drawn from the rest, with the same seed.
        group_seed: of the draw of random halves.
        budget: seconds after which it stops with the groups that are finished, training on all rows and a few groups
            being predicted in any case; None for no end.
        executor: any ``concurrent.futures.Executor``; the job of each group is sent model, task and recipe, which have
            to be picklable where it has other processes, each of which linearizes all rows once. None for this one.
        out: a folder in whose ``runs`` each finished group is kept, and read from when it is there already, as for
            :func:`whichmin.compare`. Groups that cost no path are not kept.
        progress: show a bar on standard error if it takes longer than two seconds.

    Returns:
        A :class:`LeftOut`: outputs (groups, n_test, C), an error for each, test losses, labels that flip, influences.
        A group that fails, such as one without which training diverges, is among its ``failures``.

    Cost: one prediction of training on all rows; then for g groups of s outputs along one linearization to the limit
    g·s³ and g·s·(N·C) multiplications, to a finite time an eigendecomposition of the rest each; else a path each.
    Ctrl-C leaves finished groups in ``out``.

    Raises:
        InputError: no groups, one that is empty, holds every row or all rows of a class, or without which the problem
            is underdetermined where it was not; row numbers out of range or twice in a group; more than 10,000 groups
            without a budget; a task without test inputs; a checkpoint in place of a network; whatever ``predict``
            refuses.
        OutputError: ``out`` cannot be written to.
    """
    if isinstance(model, Checkpoint):
        raise InputError(
            f"model is a checkpoint of step {model.step}, up to which all rows were trained on; expected a network. "
            "Pass checkpoint.model() to begin anew from its parameters."
        )
    check_test(task)
    check_relinearize(relinearize, tol)
    check_steps(steps)
    _check(batches, budget)
    task.check_until(until)
    started = time.perf_counter()
    rows = read_groups(groups, task, group_seed, budget)
    recipe = Recipe.of(optimizer, batch_size, seed, scheduler)
    asked = Asked(until, steps, relinearize, tol, batches == "redrawn")
    deadline = math.inf if budget is None else started + budget
    with few_threads(model, task):
        work = _Work(Source(model, task, recipe, asked), rows, None if out is None else Store.open(out))
        work.run(executor, deadline, progress)
    settings = {"until": until, "steps": steps, "tol": tol, "relinearize": relinearize}
    return work.result(time.perf_counter() - started, batches, settings)


def _check(batches: Any, budget: Any) -> None:
    if batches not in ("kept", "redrawn"):
        raise InputError(f'batches is {batches!r}; expected "kept" or "redrawn".')
    if budget is not None and not budget > 0:
        raise InputError(f"budget is {budget}; expected a positive number of seconds, or None.")


class _Work:
    """The groups, their plan, and the answers so far."""

    def __init__(self, source: Source, groups: list[Group], store: Store | None) -> None:
        self.source, self.groups, self.store = source, groups, store
        for number, group in enumerate(groups):
            source.solver.check_rank(number, group)
        self.notes: list[str] = []
        self._subject = None if store is None else Subject.of(source.model, source.task)
        self.plan = self._planned()
        self.answers: list[Answer | None] = [None] * len(groups)
        self.failures: dict[int, str] = {}

    def run(self, executor: Executor | None, deadline: float, progress: bool) -> None:
        """Answer the groups, until the deadline."""
        size = TOGETHER if self.plan.way == "inverse" else 1
        starts = range(0, len(self.groups), size)
        jobs = (self._job(self.groups[start : start + size]) for start in starts)
        terms = Terms(
            self.store, retry=True, executor=None if self.plan.way == "inverse" else executor, deadline=deadline
        )
        with progress_bar(len(starts), "group" if size == 1 else "part", progress) as bar:
            for number, attempt in performed(jobs, terms, bar):
                numbers = range(len(self.groups))[starts[number] :][:size]
                if attempt.answer is None:
                    self.failures |= dict.fromkeys(numbers, str(attempt.failure))
                for i, answer in zip(numbers, attempt.answer or (), strict=False):
                    self.answers[i] = answer

    def result(self, seconds: float, batches: str, settings: dict[str, Any]) -> LeftOut:
        """In the network's type."""
        task = self.source.task
        C, like = task.outputs, next(iter(self.source.solver.problem.origin.values.values()))
        missing = torch.full((task.n_test, C), math.nan).to(like)
        tests = [missing if a is None else torch.from_numpy(a.test).reshape(-1, C).to(like) for a in self.answers]
        failures = [GroupFailure(i, said) for i, said in sorted(self.failures.items())]
        unfinished = sum(a is None for a in self.answers) - len(failures)
        if unfinished:
            self.notes.append(f"the budget ran out: {unfinished} of {len(self.groups)} groups are not predicted.")
        notes = [*self.plan.notes, *self.notes]
        notes += [f"without group {i}: {note}" for i, a in enumerate(self.answers) if a is not None for note in a.notes]
        return LeftOut(
            task=task,
            members=torch.tensor([row for group in self.groups for row in group]),
            sizes=torch.tensor([len(group) for group in self.groups]),
            full=torch.from_numpy(self.plan.full).reshape(-1, C).to(like),
            full_error=self.plan.full_error,
            test=torch.stack(tests),
            error=torch.tensor([math.inf if a is None else a.error for a in self.answers], dtype=torch.float64),
            steps=torch.tensor([math.nan if a is None else a.steps for a in self.answers], dtype=torch.float64),
            method=tuple("" if a is None else a.method for a in self.answers),
            batches=batches,
            seconds=seconds,
            failures=tuple(failures),
            notes=tuple(notes),
            settings=settings,
        )

    def _job(self, groups: list[Group]) -> LeavingOut:
        question = None
        if self.plan.way not in ("inverse", "linearized"):
            question = self._question("leave-out", {"group": list(groups[0]), "plan": self.plan.values})
        return LeavingOut(self.source, self.plan, groups, question)

    def _planned(self) -> Plan:
        """The plan for these groups, as it is kept or made now."""
        rows = torch.tensor([row for group in self.groups for row in (*group, -1)])
        question = self._question("leave-out-plan", {"groups": digest([rows])})
        ((_, attempt),) = perform([Planning(self.source, self.groups, question)], Terms(self.store))
        assert attempt.answer is not None
        return attempt.answer

    def _question(self, kind: str, settings: dict[str, Any]) -> Question | None:
        """What is asked, as the store knows it; None where nothing is kept."""
        if self._subject is None:
            return None
        asked = self._subject
        if not isinstance(asked, Unknown):
            asked = asked.asked(kind, self.source.recipe, self.source.asked.values | settings)
        if isinstance(asked, Question):
            return asked
        note = not_kept(asked)
        self.notes += [] if note in self.notes else [note]
        return None
