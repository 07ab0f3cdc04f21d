"""A prediction and the training that it is about, of one training where the prediction is by real training."""

from __future__ import annotations

import math
import time

from torch import nn

from whichmin.dynamics.paths.real import RealTraining
from whichmin.dynamics.prediction import Prediction
from whichmin.dynamics.prepare import prepare
from whichmin.jobs.threads import few_blas_threads
from whichmin.loop.training_loop import state_of
from whichmin.recipe.recipe import Recipe
from whichmin.tangent.context import own_context
from whichmin.task import Task
from whichmin.training.run import Run
from whichmin.training.train import MAX_STEPS, run_of

#: What is said of a prediction whose training is also the one that it is about.
SHARED = "real training is wanted anyway: it was made once, for the prediction and for itself."


@own_context()
def predict_before_training(
    model: nn.Module,
    task: Task,
    recipe: Recipe,
    *,
    until: float | None,
    steps: int | None,
    tol: float,
    progress: bool = False,
) -> tuple[Prediction, Run | None]:
    """What :func:`whichmin.predict` says, and the run of :func:`whichmin.train` where it has made that on the way.

    Args:
        model: the network; it is not changed.
        task: the data.
        recipe: what trains, from the beginning.
        until: the training loss to stop at, as for ``train``.
        steps: at most so many, as for ``train``.
        tol: of the prediction.
        progress: whether to show a bar.

    Returns:
        The prediction; and the run, to the last bit that of ``train``, where the prediction is by real training to the
        end that ``train`` has, else None.

    Raises:
        WhichminError: as :func:`whichmin.predict`.
    """
    started = time.perf_counter()
    times = (math.inf if steps is None else float(steps),)
    with few_blas_threads(task.n * task.outputs, scipy=not task.objective.loss.is_quadratic):
        predictor = prepare(model, task, recipe, times, until=until, only_linearized=False, train_first=True)
        real = RealTraining(predictor.problem, every_epoch=True)
        outcome = predictor.predict("auto", tol, progress=progress, started=started, real=real)
        made, limit = real.made, MAX_STEPS if steps is None else steps
        is_shared = outcome.method == "trained" and made is not None and made.limit == limit
        outcome = outcome.with_notes(SHARED) if is_shared else outcome
        prediction = predictor.package(outcome, time.perf_counter() - started)
    if made is None or not is_shared:
        return prediction, None
    resolved = recipe.with_learning_rate(prediction.learning_rate) if recipe.names_rate else recipe
    run = run_of(
        made, made.network, task, resolved, state_of(model), prediction.learning_rate, prediction.training_seconds
    )
    return prediction, run
