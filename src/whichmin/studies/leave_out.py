"""``leave_out``: where training would end without some of its rows, without training again."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from whichmin.dynamics.paths.predictor import Relinearize
from whichmin.dynamics.predict import check_relinearize
from whichmin.errors import InputError
from whichmin.jobs.store import Question, Store
from whichmin.recipe.build import OptimizerFactory, SchedulerFactory
from whichmin.recipe.describe import Unknown, digest
from whichmin.recipe.recipe import Recipe
from whichmin.studies.initializations import check_test, few_threads
from whichmin.studies.leaving_out.answers import Answer, answer_groups, answered
from whichmin.studies.leaving_out.groups import Group, Groups, read_groups
from whichmin.studies.leaving_out.plan import Plan, make_plan
from whichmin.studies.leaving_out.solver import Asked, Solver
from whichmin.studies.left_out import GroupFailure, LeftOut
from whichmin.studies.subject import Subject, not_kept
from whichmin.tangent.context import own_context
from whichmin.tangent.copying import private_copy
from whichmin.task import Task

_DELAY = 2.0
#: Groups that are predicted together, by the way it is done: where all follow from one inverse, and else.
TOGETHER = {"inverse": 4096, "linearized": 64}
#: Groups of other ways that one job of an executor predicts, which has to linearize all rows once.
A_JOB = 8


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
        executor: any ``concurrent.futures.Executor``; jobs of a few groups are submitted to it, with copies of model,
            task and recipe, which have to be picklable where it has other processes. None for this one.
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
            without a budget; a task without test inputs; whatever ``predict`` refuses.
        OutputError: ``out`` cannot be written to.
    """
    check_test(task)
    check_relinearize(relinearize, tol)
    _check(steps, batches, budget)
    task.check_until(until)
    started = time.perf_counter()
    rows = read_groups(groups, task, group_seed, budget)
    recipe = Recipe.of(optimizer, batch_size, seed, scheduler)
    asked = Asked(until, steps, relinearize, tol, batches == "redrawn")
    deadline = math.inf if budget is None else started + budget
    with few_threads(model, task):
        work = _Work(model, task, recipe, asked, rows, None if out is None else Store.open(out))
        work.run(executor, deadline, progress)
    settings = {"until": until, "steps": steps, "tol": tol, "relinearize": relinearize}
    return work.result(time.perf_counter() - started, batches, settings)


def _check(steps: Any, batches: Any, budget: Any) -> None:
    if batches not in ("kept", "redrawn"):
        raise InputError(f'batches is {batches!r}; expected "kept" or "redrawn".')
    if budget is not None and not budget > 0:
        raise InputError(f"budget is {budget}; expected a positive number of seconds, or None.")
    is_number = isinstance(steps, int | float) and not isinstance(steps, bool)
    if steps is not None and not (is_number and steps >= 0 and (math.isinf(steps) or steps == int(steps))):
        raise InputError(f"steps is {steps!r}; expected a whole number of steps, or None.")


class _Work:
    """The groups, their plan, and the answers so far; each kept as soon as it is there."""

    def __init__(
        self, model: nn.Module, task: Task, recipe: Recipe, asked: Asked, groups: list[Group], store: Store | None
    ) -> None:
        self.task, self.asked, self.groups, self.store = task, asked, groups, store
        self.solver = Solver(model, task, recipe, asked)
        for number, group in enumerate(groups):
            self.solver.check_rank(number, group)
        self.recipe = self.solver.problem.recipe  # its learning rate settled
        self._model = model
        self.notes: list[str] = []
        self._subject = self._described()
        self.plan = self._planned()
        self.answers: list[Answer | None] = [None] * len(groups)

    def run(self, executor: Executor | None, deadline: float, progress: bool) -> None:
        """Answer the groups that are not answered yet, until the deadline."""
        if self._is_kept:
            self.answers = [self._read(group) for group in self.groups]
        left = [i for i, answer in enumerate(self.answers) if answer is None]
        with tqdm(total=len(left), unit="group", delay=_DELAY, leave=False, disable=not progress) as bar:
            for numbers, answers in self._answered(left, executor, deadline):
                for number, answer in zip(numbers, answers, strict=True):
                    self.answers[number] = answer
                    self._keep(self.groups[number], answer)
                bar.update(len(numbers))

    def result(self, seconds: float, batches: str, settings: dict[str, Any]) -> LeftOut:
        """In the network's type."""
        C, like = self.task.outputs, next(iter(self.solver.problem.origin.values.values()))
        missing = torch.full((self.task.n_test, C), math.nan).to(like)
        tests = [missing if a is None else torch.from_numpy(a.test).reshape(-1, C).to(like) for a in self.answers]
        failures = [GroupFailure(i, a.failure) for i, a in enumerate(self.answers) if a is not None and a.failure]
        unfinished = sum(a is None for a in self.answers)
        if unfinished:
            self.notes.append(f"the budget ran out: {unfinished} of {len(self.groups)} groups are not predicted.")
        notes = [*self.plan.notes, *self.notes]
        notes += [f"without group {i}: {note}" for i, a in enumerate(self.answers) if a is not None for note in a.notes]
        return LeftOut(
            task=self.task,
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

    def _answered(
        self, left: Sequence[int], executor: Executor | None, deadline: float
    ) -> Iterator[tuple[Sequence[int], list[Answer]]]:
        """The numbers of some groups with their answers, until the deadline."""
        size = TOGETHER.get(self.plan.way, 1 if executor is None else A_JOB)
        chunks = [left[i : i + size] for i in range(0, len(left), size)]
        if executor is None or self.plan.way == "inverse":
            for numbers in chunks:
                if time.perf_counter() > deadline:
                    return
                yield numbers, answered(self.solver, self.plan, [self.groups[i] for i in numbers])
            return
        # Copies: what goes to another process is moved into shared memory, away from arrays that look at it.
        model, task = private_copy(self._model), self.task.to(self.task.X.device, copy=True)
        jobs: dict[Future[list[Answer]], Sequence[int]] = {}
        for numbers in chunks:
            part = [self.groups[i] for i in numbers]
            job = executor.submit(answer_groups, model, task, self.recipe, self.asked, self.plan, part)
            jobs[job] = numbers
        try:
            yield from self._collected(jobs, deadline)
        finally:
            for job in jobs:
                job.cancel()

    @staticmethod
    def _collected(
        jobs: dict[Future[list[Answer]], Sequence[int]], deadline: float
    ) -> Iterator[tuple[Sequence[int], list[Answer]]]:
        left = set(jobs)
        while left:
            timeout = None if math.isinf(deadline) else max(deadline - time.perf_counter(), 0.0)
            done, left = wait(left, timeout, return_when="FIRST_COMPLETED")
            if not done:
                return
            for job in done:
                yield jobs[job], job.result()

    def _planned(self) -> Plan:
        """The plan for these groups, as it is kept or made now."""
        rows = torch.tensor([row for group in self.groups for row in (*group, -1)])
        question = self._question("leave-out-plan", {"groups": digest([rows])})
        if question is None or self.store is None:
            return make_plan(self.solver, self.groups)
        kept = self.store.read(question, _plan_of)
        if kept is None:
            kept = make_plan(self.solver, self.groups)
            arrays = {"full": torch.from_numpy(kept.full), "coarse": torch.from_numpy(kept.coarse)}
            self.store.write(question, {"plan": kept.values}, arrays)
        return kept

    def _described(self) -> Subject | Unknown | None:
        return None if self.store is None else Subject.of(self._model, self.task)

    def _question(self, kind: str, settings: dict[str, Any]) -> Question | None:
        """What is asked, as the store knows it; None where nothing is kept."""
        if self._subject is None:
            return None
        asked = self._subject
        if not isinstance(asked, Unknown):
            asked = asked.asked(kind, self.recipe, self.asked.values | settings)
        if isinstance(asked, Question):
            return asked
        note = not_kept(asked)
        self.notes += [] if note in self.notes else [note]
        return None

    @property
    def _is_kept(self) -> bool:
        return self.store is not None and self.plan.way not in ("inverse", "linearized")

    def _of_group(self, group: Group) -> Question | None:
        return self._question("leave-out", {"group": list(group), "plan": self.plan.values})

    def _read(self, group: Group) -> Answer | None:
        question = self._of_group(group)
        return None if question is None or self.store is None else self.store.read(question, Answer.of)

    def _keep(self, group: Group, answer: Answer) -> None:
        if not self._is_kept or self.store is None or answer.failure is not None:
            return
        question = self._of_group(group)
        if question is not None:
            about = {"left_out": list(group)} | answer.numbers
            self.store.write(question, about, {"test": torch.from_numpy(answer.test)})


def _plan_of(_: Path, config: dict[str, Any], arrays: dict[str, Tensor]) -> Plan:
    return Plan.of(config["plan"], arrays["full"].numpy(), arrays["coarse"].numpy())
