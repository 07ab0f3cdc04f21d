"""``explain``: a network's test outputs as a sum of named terms."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from whichmin.checkpoint import Checkpoint, begin
from whichmin.decomposition.explanation import Explanation, ordered
from whichmin.decomposition.later import linearize_later
from whichmin.decomposition.recorded import explain_recorder
from whichmin.decomposition.replay import replay
from whichmin.decomposition.statistics import statistics_term
from whichmin.dynamics.paths.linearized import flat
from whichmin.dynamics.paths.real import Patience, Progress
from whichmin.dynamics.predict import predict
from whichmin.dynamics.prediction import Prediction
from whichmin.dynamics.prepare import prepare
from whichmin.errors import InputError, ResultError
from whichmin.jobs.threads import few_blas_threads
from whichmin.recipe.build import OptimizerFactory, SchedulerFactory
from whichmin.recipe.recipe import Recipe
from whichmin.tangent.context import own_context
from whichmin.tangent.copying import private_copy
from whichmin.task import Task, Until
from whichmin.training.recording import Recording
from whichmin.training.run import Run
from whichmin.training.train import train as _train

#: What progress bars say.
EXPLAINING = "explaining"


@own_context()
def explain(
    subject: Run | Recording | nn.Module | Checkpoint,
    task: Task | None = None,
    optimizer: OptimizerFactory | Recipe | None = None,
    *,
    until: Until = "auto",
    steps: int | None = None,
    train: bool = True,
    tol: float = 1e-2,
    batch_size: int | None = None,
    seed: int = 0,
    scheduler: SchedulerFactory | None = None,
    loader: Iterable[Any] | None = None,
    from_step: int | None = None,
    progress: bool = False,
) -> Explanation:
    """Take a trained network's test outputs apart into terms that add up exactly.

    The terms, with A = K(x',X)K⁺, A_D the same of the metric K_D = J D Jᵀ, all at θ₀, and T steps:

    - interpolant A Y, initialization f₀(x') − A f₀(X);
    - unconverged: A (f_lin(X) − Y), what T steps leave undone on the linearized network. Losses that are not least at
      one vector of outputs Y, as cross-entropy, have f_lin(X) in place of Y in the interpolant, and no such term;
    - geometry: (A_D − A)(f_lin(X) − f₀(X)), D the optimizer's last preconditioner (optimizers that have one);
    - decay: what decoupled weight decay, and that of SGD, does that the training outputs do not see;
    - history: the rest of the linearized run, which comes from a preconditioner that changes, and so from the batches;
    - drift: f₀ + J₀(θ_T − θ₀) minus the linearized run;
    - curvature: f(θ_T) minus f₀ + J₀(θ_T − θ₀);
    - statistics: where buffers s moved, such as the running statistics of a normalization, f(θ_T, s_T) − f(θ_T, s₀);
      all other terms have s₀.

    A loop of your own (:class:`whichmin.Recorder`) has ``trajectory`` in place of history, drift and decay, unless its
    loader is handed over: then it is replayed, on a copy of the network, which must end where the loop ended, and on
    the linearized network.

    Args:
        subject: a run of :func:`whichmin.train`, a recorder of your own loop, or a model, which is then trained; or a
            checkpoint, from which it is trained on.
        task: the data; only with a model.
        optimizer: a factory or a :class:`whichmin.Recipe`; only with a model.
        until: as for ``train``.
        steps: as for ``train``.
        train: with False a predicted path takes the place of training, in a fraction of the time.
        tol: the tolerance of that path.
        batch_size: as for ``train``.
        seed: as for ``train``.
        scheduler: as for ``train``.
        loader: only with a recorder: what gave the loop its batches, one a step, of the task's loss; a
            ``DataLoader`` with a new generator of the loop's seed, or any iterable of batches, (x, y) or x, that is
            iterated again for each epoch.
        from_step: T₀, only with a run or a recorder that kept a checkpoint there: the network is linearized at T₀ in
            place of 0, and what happened before is its initialization. θ₀ and f₀ above are then those at T₀, and
            history has what the optimizer remembered there. The explanation tells how the error of one linearization
            falls with T₀, at all checkpoints that were kept (``later``; not of a recorder without its loader).
        progress: show progress bars on standard error: of training or the predicted path, and of the steps on the
            linearized network.

    Returns:
        An :class:`Explanation`; its ``total`` is the network's own test output.

    Cost: the training, and one linearization; for optimizers without a rule also a run on the linearized network, of
    about the training's cost, and for a metric a kernel K_D, N²·P multiplications. With ``from_step`` as much again for
    each checkpoint that was kept.

    Raises:
        InputError: arguments that do not go together; a task without test inputs; a step beyond the end.
        ResultError: a run that was loaded from disk and holds no network; a replay that ends elsewhere than the loop; a
            step that was not kept.
    """
    if isinstance(subject, Run | Recording):
        if task is not None or optimizer is not None:
            raise InputError(
                "a run brings its own task and optimizer: pass explain(run), or explain(model, task, optimizer)."
            )
        if isinstance(subject, Recording) and loader is not None:
            return _explain_replayed(subject, loader, from_step, progress)
        if loader is not None:
            raise InputError("a run of whichmin.train knows its batches: loader is for a recorder.")
        if isinstance(subject, Recording):
            return explain_recorder(subject, from_step)
        return _explain_run(subject, from_step, progress)
    if loader is not None:
        raise InputError("loader is for a recorder; here whichmin trains, with batch_size and seed.")
    if from_step is not None:
        raise InputError(
            "from_step is for a run or a recorder that kept a checkpoint there: pass explain(train(…, "
            f"checkpoints=[{from_step}]), from_step={from_step})."
        )
    if task is None or optimizer is None or not isinstance(subject, nn.Module | Checkpoint):
        raise InputError(
            "explain a model with its task and optimizer, explain(model, task, optimizer), or explain(run)."
        )
    _check_test(task)
    until = task.aim(until)
    model, recipe = begin(subject, Recipe.of(optimizer, batch_size, seed, scheduler))
    if train:
        return _explain_run(_train(model, task, recipe, until=until, steps=steps, progress=progress), None, progress)
    path = predict(model, task, recipe, steps=steps, until=until, tol=tol, progress=progress)
    if recipe.names_rate:
        recipe = recipe.with_learning_rate(path.learning_rate)
    assert path.test is not None
    assert isinstance(path.steps, float | int)
    with Progress(progress, EXPLAINING) as bar:
        patience = Patience(None, math.inf, bar)
        linearized, terms = _terms(model, task, recipe, path.steps, path.test, path.parameters(), patience)
    return Explanation(terms, task, linearized, relinearized=path, from_step=recipe.first_step)


def _check_test(task: Task) -> None:
    if task.X_test is None:
        raise InputError("an explanation is about test outputs: pass a Task with X_test.")


def _explain_run(run: Run, from_step: int | None, progress: bool) -> Explanation:
    _check_test(run.task)
    recipe = run._recipe
    if recipe is None:
        raise ResultError("a loaded run holds no optimizer: explain it before it is saved, or train again.")
    return _explain_known(run, recipe, from_step, progress)


def _explain_replayed(recorder: Recording, loader: Iterable[Any], from_step: int | None, progress: bool) -> Explanation:
    _check_test(recorder.task)
    run = recorder.run()
    recipe, rows = replay(recorder, loader)
    return _explain_known(run, recipe, from_step, progress, rows)


def _explain_known(
    run: Run, recipe: Recipe, from_step: int | None, progress: bool, rows: Sequence[Tensor] | None = None
) -> Explanation:
    """Of a training whose recipe is known, linearized where it began or at a checkpoint that it kept."""
    task, later = run.task, None
    model, begun = run.initial_model, recipe
    assert run.test is not None
    with (
        few_blas_threads(task.n * task.outputs, scipy=not task.objective.loss.is_quadratic),
        Progress(progress, EXPLAINING) as bar,
    ):
        patience = Patience(None, math.inf, bar)
        if from_step is not None:
            model, begun = begin(run.checkpoint(from_step), recipe)
            kept = [run.checkpoint(checkpoint.step) for checkpoint in run.checkpoints or (run.checkpoint(0),)]
            later = linearize_later(kept, task, recipe, run.steps, run.test, rows, patience)
        linearized, terms = _terms(model, task, begun, run.steps, run.test, run.final, patience, rows)
    return Explanation(terms, task, linearized, run=run, from_step=begun.first_step, later=later)


def _terms(
    model: nn.Module,
    task: Task,
    recipe: Recipe,
    steps: float,
    test: Tensor,
    state: dict[str, Tensor],
    patience: Patience,
    rows: Sequence[Tensor] | None = None,
) -> tuple[Prediction, dict[str, Tensor]]:
    """The linearized run of as many steps, and all terms of a network at ``state`` whose test outputs are ``test``."""
    started = time.perf_counter()
    predictor = prepare(model, task, recipe, (float(steps),), rows=rows, require_stable=False)
    outcome = predictor.linearized(patience)
    linearized = predictor.package(outcome, time.perf_counter() - started, needs_terms=True)
    assert task.X_test is not None
    statistics = statistics_term(private_copy(model).eval(), task.X_test, state, test)
    still = flat(test) if statistics is None else flat(test) - statistics
    nonlinear = predictor.nonlinear_terms(outcome, still, state)
    if statistics is not None:
        nonlinear |= {"statistics": statistics}
    terms = linearized.terms | {name: term.reshape(-1, task.outputs) for name, term in nonlinear.items()}
    return linearized, ordered(terms)
