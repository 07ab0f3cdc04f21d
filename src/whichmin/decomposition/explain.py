"""``explain``: a network's test outputs as a sum of named terms."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

import torch
from torch import nn

from whichmin.decomposition.explanation import Explanation
from whichmin.dynamics.linearized import flat
from whichmin.dynamics.predict import predict, prepare
from whichmin.dynamics.rules import OptimizerFactory
from whichmin.errors import InputError, ResultError
from whichmin.task import Task
from whichmin.training.run import Run
from whichmin.training.train import train


def explain(
    subject: Run | nn.Module,
    task: Task | None = None,
    optimizer: OptimizerFactory | None = None,
    *,
    until: float | None = 1e-5,
    max_steps: int | None = None,
    trained: bool = True,
    tol: float = 1e-2,
    progress: bool = False,
) -> Explanation:
    """Take a trained network's test outputs apart into terms that add up exactly.

    f(θ_T, x') = interpolant + initialization + unconverged + drift + curvature, with
    interpolant K(x',X)K⁻¹Y, initialization f₀(x') − K(x',X)K⁻¹f₀(X), unconverged what T steps left undone on the
    linearized network, drift f₀ + J₀(θ_T − θ₀) minus the linearized run, and curvature f(θ_T) minus f₀ + J₀(θ_T − θ₀).

    Args:
        subject: a run of :func:`whichmin.train`, or a model, which is then trained.
        task: the data; only with a model.
        optimizer: a factory; only with a model.
        until: as for ``train``.
        max_steps: as for ``train``.
        trained: with False the followed path takes the place of training, in a fraction of the time.
        tol: the followed path's tolerance.
        progress: show a progress bar while training.

    Returns:
        An :class:`Explanation`; its ``total`` is the network's own test output.

    Cost: the training, and one linearization.

    Raises:
        InputError: arguments that do not go together; a task without test inputs.
        ResultError: a run that was loaded from disk and holds no network.
    """
    if isinstance(subject, Run):
        if task is not None or optimizer is not None:
            raise InputError(
                "a run brings its own task and optimizer: pass explain(run), or explain(model, task, optimizer)."
            )
        return _explain_run(subject)
    if task is None or optimizer is None:
        raise InputError(
            "explain a model with its task and optimizer, explain(model, task, optimizer), or explain(run)."
        )
    _check_test(task)
    if trained:
        return _explain_run(train(subject, task, optimizer, until=until, max_steps=max_steps, progress=progress))
    steps = math.inf if max_steps is None else max_steps
    followed = predict(subject, task, optimizer, steps=steps, until=until, tol=tol)
    settled = partial(_sgd, lr=followed.learning_rate)
    lazy = predict(subject, task, settled, steps=followed.steps, relinearize="never")  # type: ignore[arg-type]
    return Explanation(followed.terms, task, lazy, followed=followed)


def _sgd(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr)


def _check_test(task: Task) -> None:
    if task.X_test is None:
        raise InputError("an explanation is about test outputs: pass a Task with X_test.")


def _explain_run(run: Run) -> Explanation:
    _check_test(run.task)
    factory = run._factory
    if factory is None:
        raise ResultError("a loaded run holds no optimizer: explain it before it is saved, or train again.")
    started = time.perf_counter()
    job = prepare(run.initial_model, run.task, factory, (float(run.steps),), stable=False)
    lazy = job.package(job.linearized(), time.perf_counter() - started)
    assert run.test is not None
    terms = lazy.terms | job.later_terms(flat(run.test), run.steps, run.final)
    return Explanation(terms, run.task, lazy, run=run)
