"""``compare``: where several ways to train take the same initializations, and whether the difference is significant."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from whichmin.dynamics.predict import predict
from whichmin.errors import InputError, WhichminError
from whichmin.recipe.recipe import Recipe
from whichmin.studies.choices import Choices, check_choices
from whichmin.studies.comparison import Comparison, Failure, filled, notices
from whichmin.studies.initializations import ModelFactory, check_seeds, check_test, few_threads, initializations
from whichmin.studies.store import Answer, keep, kept, place, prepare
from whichmin.task import Task
from whichmin.training.train import train

_DELAY = 2.0

Asked = Callable[[str, Recipe, int, nn.Module], Answer]


def compare(
    model_factory: ModelFactory,
    task: Task,
    choices: Choices,
    seeds: int = 10,
    *,
    trained: bool = False,
    until: float | None = 1e-5,
    max_steps: int | None = None,
    tol: float = 1e-2,
    level: float = 0.05,
    progress: bool = False,
    out: str | os.PathLike[str] | None = None,
) -> Comparison:
    """Whether the optimizer, the batch size or a schedule changes the minimizer: the same initializations, each way.

    With d_s = f_A,s − f_B,s the difference of two choices' test outputs at initialization s, and ⟨·,·⟩ the mean
    over test points and outputs, the systematic effect is estimated by T = mean over s ≠ s' of ⟨d_s, d_s'⟩, whose
    expectation is the mean square of E d. Its p is the share of sign patterns ε for which the T of ε_s d_s is no
    smaller: exact, by enumeration, up to 15 seeds. An effect is called significant where p ≤ ``level`` and √T exceeds
    the estimated error of the two predictions together; :class:`Comparison` says what that means, and what it does not.

    Args:
        model_factory: called with the seeds 0, 1, …; a network of its own for each. torch's global generator is seeded
            alike during the call.
        task: the data, with test inputs.
        choices: two or more by name, a dict or (name, choice) pairs; each an optimizer factory or a
            :class:`whichmin.Recipe` with batches and a scheduler.
        seeds: how many initializations. p cannot fall below 2^−(seeds − 1): a level of 0.05 needs 6.
        trained: whether to train each for real as well; the effect is then also that of the trained networks.
        until: training mean square error to stop at, as for ``predict`` and ``train``; None: no such aim.
        max_steps: the number of steps to stop at; None: none, and 100,000 where networks are trained.
        tol: of the predictions, as for ``predict``.
        level: of the test of each pair, and 1 − level the coverage of the confidence intervals over seeds.
        progress: show a bar on standard error if it takes longer than two seconds.
        out: a folder in whose ``runs`` each finished choice and seed is kept, and read from when it is there already.
            What a result belongs to is told by the data, the network as drawn, the choice's name, its factories' names
            and keywords and the optimizer that is built; the code of a factory of your own is not looked at.

    Returns:
        A :class:`Comparison`: outputs (seeds, n_test, C) by choice, distances, effects, flips. A choice that fails at a
        seed, such as one that diverges, is among its ``failures`` and nan in its outputs.

    Cost: a prediction per choice and seed. Adaptive optimizers in mini-batches cost about a training run each.

    Raises:
        InputError: fewer than two choices or seeds, a name that comes twice, a task without test inputs, a level
            outside (0, 1).
        ModelError: not a factory; one that returns one object twice or ignores its seed.
        OptimizerError: a choice whose factory fails.
        OutputError: ``out`` cannot be written to.
        WhichminError: the first failure, if there is nothing but failures.
    """
    count = check_seeds(seeds, "seeds")
    check_test(task)
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
        raise InputError(f"level is {level!r}; expected a number between 0 and 1, such as 0.05.")
    if until is None and trained and max_steps is None:
        raise InputError("until and max_steps are both None, so training would have no end: pass one of them.")
    runs = None if out is None else prepare(out)
    started = time.perf_counter()
    ways: dict[str, tuple[Asked, Any]] = {
        "predicted": (_predictor(task, until, max_steps, tol), [until, max_steps, tol])
    }
    if trained:
        ways["trained"] = (_trainer(task, until, max_steps), [until, max_steps])
    work = _Work(task, ways, runs)
    chosen: dict[str, Recipe] = {}
    with tqdm(total=0, unit="run", delay=_DELAY, leave=False, disable=not progress) as bar:
        for seed, model in enumerate(initializations(model_factory, count)):
            chosen = chosen or check_choices(choices, task, model)
            bar.total = count * len(chosen)
            for name, choice in chosen.items():
                work.do(name, choice, seed, model)
                bar.update()
    if work.failures and not any(answers for answers in work.answers.values()):
        raise work.raised[0]
    asked = {"until": until, "max_steps": max_steps, "tol": tol}
    return _package(work, tuple(chosen), count, level, time.perf_counter() - started, asked)


class _Work:
    """The answers so far, by kind, choice and seed; each kept as soon as it is there."""

    def __init__(self, task: Task, ways: dict[str, tuple[Asked, Any]], runs: Path | None) -> None:
        self.task, self.ways, self.runs = task, ways, runs
        self.answers: dict[str, dict[tuple[str, int], Answer]] = {kind: {} for kind in ways}
        self.failures: list[Failure] = []
        self.raised: list[WhichminError] = []

    def do(self, name: str, choice: Recipe, seed: int, model: nn.Module) -> None:
        for kind, (ask, how) in self.ways.items():
            path = None
            if self.runs is not None:
                path = place(self.runs, kind, name, choice, seed, model, self.task, how)
            answer = None if path is None else kept(path)
            if answer is None:
                try:
                    with few_threads(model, self.task):
                        answer = ask(name, choice, seed, model)
                except WhichminError as error:
                    self.failures.append(Failure(name, seed, kind, str(error)))
                    self.raised.append(error)
                    continue
                if path is not None:
                    keep(path, answer, {"choice": name, "seed": seed, "how": kind})
            self.answers[kind][name, seed] = answer


def _predictor(task: Task, until: float | None, max_steps: int | None, tol: float) -> Asked:
    steps = math.inf if max_steps is None else max_steps

    def ask(name: str, choice: Recipe, seed: int, model: nn.Module) -> Answer:
        found = predict(model, task, choice.at_initialization(seed), steps=steps, until=until, tol=tol)
        assert found.test is not None
        assert isinstance(found.steps, float | int)
        return Answer(found.test, found.error, float(found.steps), found.seconds, found.notes)

    return ask


def _trainer(task: Task, until: float | None, max_steps: int | None) -> Asked:
    def ask(name: str, choice: Recipe, seed: int, model: nn.Module) -> Answer:
        run = train(model, task, choice.at_initialization(seed), until=until, max_steps=max_steps)
        if run.reason.startswith("interrupted"):
            raise KeyboardInterrupt
        assert run.test is not None
        stopped = () if run.converged or until is None else (f"training stopped short of its aim: {run.reason}",)
        return Answer(run.test, 0.0, float(run.steps), run.seconds, stopped)

    return ask


def _package(
    work: _Work, names: tuple[str, ...], count: int, level: float, seconds: float, asked: dict[str, Any]
) -> Comparison:
    some = next(answer for answers in work.answers.values() for answer in answers.values())

    def outputs(kind: str) -> dict[str, torch.Tensor]:
        answers = work.answers[kind]
        found = {name: [answers.get((name, seed)) for seed in range(count)] for name in names}
        return {name: filled([a and a.test for a in row], some.test) for name, row in found.items()}

    def numbers(of: str) -> dict[str, torch.Tensor]:
        answers = work.answers["predicted"]
        rows = {name: [answers.get((name, seed)) for seed in range(count)] for name in names}
        return {
            name: torch.tensor([math.nan if a is None else getattr(a, of) for a in row], dtype=torch.float64)
            for name, row in rows.items()
        }

    return Comparison(
        work.task,
        outputs("predicted"),
        numbers("error"),
        outputs("trained") if "trained" in work.ways else None,
        numbers("steps"),
        level,
        seconds,
        tuple(work.failures),
        tuple(notices(level, count) + _remarks(work)),
        asked,
    )


def _remarks(work: _Work) -> list[str]:
    """What answers remarked: of remarks that differ by their numbers alone the first, and how many there are."""
    told: dict[tuple[str, str], list[str]] = {}
    for answers in work.answers.values():
        for (name, seed), answer in answers.items():
            for note in answer.notes:
                told.setdefault((name, re.sub(r"[-+]?\d[\d.,e+-]*", "#", note)), []).append(f"seed {seed}: {note}")
    remarks = []
    for (name, _), said in told.items():
        others = f" The like at {len(said) - 1} more of the seeds." if len(said) > 1 else ""
        remarks.append(f"{name}, {said[0]}{others}")
    return remarks
