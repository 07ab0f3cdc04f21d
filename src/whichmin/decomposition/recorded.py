"""``explain`` for a :class:`whichmin.Recorder`: the terms that can be known without the loop's batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from whichmin.decomposition.explanation import Explanation
from whichmin.decomposition.statistics import statistics_term
from whichmin.dynamics.paths.linearized import flat
from whichmin.dynamics.predict import predict
from whichmin.dynamics.prediction import Prediction
from whichmin.errors import InputError, ResultError
from whichmin.kernels.kernel import tangent_kernel
from whichmin.kernels.layout import to_matrix
from whichmin.kernels.linearize import Tangent
from whichmin.kernels.spectrum import lazy_spectrum
from whichmin.task import Task
from whichmin.terms import Interpolator, linearized_terms
from whichmin.training.recording import Recording


def explain_recorder(recorder: Recording, from_step: int | None = None) -> Explanation:
    """Take apart the test outputs of a network that was trained in a loop of the user's own.

    With J₀ the tangent features at θ₀, A = K(x', X) K⁺ and K = J₀J₀ᵀ; A_D = K_D(x', X) K_D⁺ and K_D = J₀ D J₀ᵀ for the
    optimizer's last metric D; f₀ and f_T the outputs before and after the loop, Y the targets:

    ==============  =============================================================================================
    interpolant     A Y; A f_T(X) for losses that are not least at one vector of outputs, as cross-entropy
    initialization  f₀(x') − A f₀(X)
    geometry        (A_D − A) (f_T(X) − f₀(X)); left out where D is not known, as for plain SGD, where it is 0
    unconverged     A (f_T(X) − Y), where there is Y: what the training residual that is left would still change
    curvature       f(θ_T, s₀)(x') − [f₀(x') + J₀(x')(θ_T − θ₀)], with the buffers s₀ before the loop
    trajectory      J₀(x')(θ_T − θ₀) − A_D (f_T(X) − f₀(X)), with A for A_D where D is not known
    statistics      f_T(x') − f(θ_T, s₀)(x'); left out where no buffer moved, or none that matters
    ==============  =============================================================================================

    Their sum is f_T(x'). The first four are where a linearized network with f_T's training outputs and the metric D
    from start to end would be, whatever the batches, momentum and learning rates. The trajectory is what is left of the
    way: metrics before the last one (``history`` of a run), features that turned (``drift``), weight decay, batches of
    other data than X. A step hook does not see the batches, so these cannot be told apart. On x' = X, for a K of full
    rank, it is −curvature, as drift is.

    Buffers, such as the running statistics of a normalization, are those on entering in all terms but the last one: f₀
    and J₀ are of the network in evaluation mode with them.

    Args:
        recorder: after its with block, or loaded with a model.
        from_step: the step whose checkpoint takes the place of θ₀; None for where the loop began.

    Returns:
        An :class:`Explanation`; its ``prediction`` is the limit of gradient descent on the linearized network, which
        the first two terms add up to; its ``run`` is what was recorded.

    Cost: two kernels and an eigendecomposition, and as many again with a metric.

    Raises:
        InputError: a task without test inputs.
        ResultError: nothing to explain: no step was made, the loop ended with outputs that are not finite, or the
            recorder was loaded without a model.
    """
    task = recorder.task
    if task.X_test is None:
        raise InputError("an explanation is about test outputs: pass a Task with X_test.")
    run, model = recorder.run(), recorder.initial_model
    if from_step is not None:
        model = recorder.checkpoint(from_step).model()
    assert run.test is not None
    train, test = flat(run.train), flat(run.test)
    if not bool(torch.isfinite(train).all() and torch.isfinite(test).all()):
        raise ResultError(f"the outputs at the end are not finite, there is nothing to explain: {run.reason}")
    tangent = Tangent(model)
    f0, f0_test, least = flat(tangent.f0(task.X)), flat(tangent.f0(task.X_test)), task.objective.minimizer
    y = None if least is None else torch.from_numpy(least)
    moved = {name: run.final[name].to(p) - p for name, p in tangent.parameters.items()}
    straight = f0_test + flat(tangent.jvp(task.X_test, moved))
    plain, in_metric = _interpolator(model, task), None
    notes, metric = [_NO_BATCHES if task.objective.gamma else _NO_CURVATURE], recorder.metric
    if metric is not None and not _is_positive(metric):
        notes.append("the optimizer's last metric is not positive and finite everywhere: no geometry term.")
    elif metric is not None:
        in_metric = _interpolator(model, task, metric)
        if in_metric.spectrum.rank < plain.spectrum.rank:
            notes.append(
                f"with the optimizer's last metric the kernel has rank {in_metric.spectrum.rank} of "
                f"{in_metric.spectrum.size}: what it does to the other directions is part of the "
                "trajectory."
            )
    terms = linearized_terms(plain, y=y, f0=f0, f0_test=f0_test, train=train, in_metric=in_metric)
    trajectory = straight - torch.stack(list(terms.values())).sum(0)
    statistics = statistics_term(model, task.X_test, run.final, test)
    still = test if statistics is None else test - statistics
    terms |= {"curvature": still - straight, "trajectory": trajectory}
    if statistics is not None:
        terms["statistics"] = statistics
    shaped = {name: term.reshape(-1, task.outputs) for name, term in terms.items()}
    limit = _limit(model, task, run.steps, run.learning_rate)
    return Explanation(shaped, task, replace(limit, notes=(*limit.notes, *notes)), run=run, from_step=from_step or 0)


_NO_BATCHES = (
    "recorded in a loop of one's own: the linearized prediction is the limit of gradient descent at its best rate."
)
_NO_CURVATURE = (
    "recorded in a loop of one's own, with a loss that has no curvature and no best rate: the linearized prediction is "
    "gradient descent at the loop's first rate, as many steps."
)


def _interpolator(model: nn.Module, task: Task, metric: Mapping[str, Tensor] | None = None) -> Interpolator:
    """A = K(x', X)K⁺, or that of K_D in a metric."""
    assert task.X_test is not None
    cross = to_matrix(tangent_kernel(model, task.X_test, task.X, metric=metric)).double().cpu()
    return Interpolator(cross, lazy_spectrum(tangent_kernel(model, task.X, metric=metric)))


def _is_positive(metric: Mapping[str, Tensor]) -> bool:
    return all(bool((torch.isfinite(m) & (m > 0)).all()) for m in metric.values())


def _limit(model: nn.Module, task: Task, steps: int, rate: float) -> Prediction:
    """The linearized theory's limit; after so many steps where the targets have none.

    Args:
        model: at θ₀.
        task: the data and the loss.
        steps: those of the loop.
        rate: the loop's, for losses without curvature, of which no rate is best.
    """
    last = math.inf if task.objective.minimizer is not None and task.contradiction() is None else steps
    return predict(
        model, task, partial(_sgd, lr="best" if task.objective.gamma else rate), steps=last, relinearize="never"
    )


def _sgd(parameters: Any, lr: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr)
