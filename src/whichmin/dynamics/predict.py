"""``predict``: where training goes, without training."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from whichmin.dynamics.job import Job, Relinearize
from whichmin.dynamics.linearized import Linearization
from whichmin.dynamics.network import Network
from whichmin.dynamics.path import Goal
from whichmin.dynamics.prediction import Prediction
from whichmin.dynamics.rules import (
    OptimizerFactory,
    Rule,
    build,
    learning_rate_is_best,
    rule_of,
    with_learning_rate,
)
from whichmin.errors import DivergenceError, InputError, SingularKernelError
from whichmin.task import Task


def predict(
    model: nn.Module,
    task: Task,
    optimizer: OptimizerFactory,
    *,
    steps: float | Sequence[float] = math.inf,
    until: float | None = None,
    flow: bool = False,
    relinearize: Relinearize = "auto",
    tol: float = 1e-2,
) -> Prediction:
    """Which minimizer training reaches, from tangent kernels, without a training loop.

    One linearization at θ₀ is the linearized theory, f(x') = f₀(x') − K(x',X) Q (1 − m(t))Λ⁻¹ Qᵀ r₀ with
    m(t) = (1 − lr·γ·Λ)^t for gradient descent and γ = 2/(N·C). A followed path keeps the tangent features J over an
    interval, runs the rule exactly in function space, moves the parameters by the accumulated coefficients, evaluates
    the real network there and linearizes again: it predicts the finite network.

    Args:
        model: any ``nn.Module`` (see :func:`whichmin.tangent_kernel`); it is copied, not changed.
        task: the data. The loss is ``torch.nn.MSELoss()``.
        optimizer: a factory, ``partial(torch.optim.SGD, lr=…)``; ``lr="best"`` takes 2/(γ(λ_min + λ_max)) at θ₀.
        steps: an integer, ``math.inf`` for the limit, or an ascending sequence: outputs then have a leading time axis.
            With ``flow=True`` any non-negative real numbers.
        until: stop where the training mean square error falls below this, as ``train`` does.
        flow: gradient flow at time lr·steps.
        relinearize: ``"never"`` (one linearization at θ₀), ``"auto"`` (as many as ``tol`` needs; one where the network
            is lazy enough), or a number of intervals to divide the path into.
        tol: the estimated root mean square error on the test points, relative to the spread (standard deviation) of the
            targets, that ``"auto"`` aims at.

    Returns:
        A :class:`Prediction`.

    Cost: a kernel and an eigendecomposition, O((N·C)³), per linearization, and about three training steps.

    Raises:
        DivergenceError: a learning rate at or beyond the limit of stability, which it names.
        SingularKernelError: targets that cannot be reached, such as identical inputs with different targets.
        ModelError, MemoryPlanError: see :func:`whichmin.tangent_kernel`.
        OptimizerError: an optimizer no rule describes.
        InputError: steps, until, tol or relinearize out of range.

    Nonnenmacher, Reeb, Steinwart, "Which Minimizer Does My Neural Network Converge To?" (2020), Thm. 3.1.
    """
    started = time.perf_counter()
    times, several = _check_times(steps, until, flow)
    _check_relinearize(relinearize, tol)
    job = prepare(model, task, optimizer, times, until=until, flow=flow, stay=relinearize == "never")
    found = job.linearized()
    if relinearize != "never" and job.end > 0 and (relinearize != "auto" or found.error > tol * job.spread):
        found = job.followed(relinearize, tol, found)
    return job.package(found, time.perf_counter() - started, several)


def prepare(
    model: nn.Module,
    task: Task,
    optimizer: OptimizerFactory,
    times: tuple[float, ...],
    *,
    until: float | None = None,
    flow: bool = False,
    stay: bool = True,
    stable: bool = True,
) -> Job:
    """Copy and check the network, linearize it, and find where to end.

    Args:
        model: as for :func:`predict`.
        task: as for :func:`predict`.
        optimizer: as for :func:`predict`.
        times: step counts.
        until: as for :func:`predict`.
        flow: as for :func:`predict`.
        stay: whether θ₀ is the only point of linearization, so that ``until`` must be reached from there.
        stable: whether a rate beyond the limit of stability is an error; else its oscillation is damped.
    """
    network = Network(model, task)
    factors, K = network.first()
    spectrum = network.spectrum(network.row_major(K))
    if learning_rate_is_best(optimizer):
        optimizer = with_learning_rate(optimizer, spectrum.best_lr)
    rule = rule_of(build(optimizer, network.model.parameters()), flow=flow)
    if stable:
        _check_stable(rule, float(spectrum.eigenvalues[0]), spectrum.gamma)
    lazy = Linearization.of(network, rule, factors, spectrum)
    end = _end(lazy, times, until, network, rule, stay)
    return Job(network, rule, lazy, Goal(times[-1], until, times), end)


def _check_times(steps: Any, until: float | None, flow: bool) -> tuple[tuple[float, ...], bool]:
    """The step counts, and whether a sequence of them was asked for."""
    several = not isinstance(steps, str) and hasattr(steps, "__len__") and getattr(steps, "ndim", 1) == 1
    try:
        times = tuple(float(s) for s in (steps if several else [steps]))
    except (TypeError, ValueError):
        times = ()
    if not times or any(math.isnan(s) or s < 0 for s in times) or any(b <= a for a, b in pairwise(times)):
        raise InputError(
            f"steps is {steps!r}; expected a non-negative number, math.inf, or an ascending sequence of them."
        )
    if not flow and any(math.isfinite(s) and s != int(s) for s in times):
        raise InputError(f"steps is {steps!r}; gradient descent makes whole steps. Pass integers, or flow=True.")
    if until is not None:
        if not (isinstance(until, int | float) and math.isfinite(until) and until > 0):
            raise InputError(f"until is {until}; expected a positive training mean square error, such as 1e-5.")
        if several:
            raise InputError("got both a sequence of steps and until: ask for one of them.")
    return times, several


def _check_relinearize(relinearize: Any, tol: float) -> None:
    ok = relinearize in ("auto", "never") or (isinstance(relinearize, int) and relinearize >= 1)
    if not ok or isinstance(relinearize, bool):
        raise InputError(f'relinearize is {relinearize!r}; expected "auto", "never" or a positive number of intervals.')
    if not (math.isfinite(tol) and tol > 0):
        raise InputError(f"tol is {tol}; expected a positive number, such as 1e-2.")


def _check_stable(rule: Rule, largest: float, gamma: float) -> None:
    limit = rule.limit(largest, gamma)
    if rule.lr >= limit:
        raise DivergenceError(
            f"lr = {rule.lr:.6g} diverges: the limit of stability for this network, data and MSELoss is {limit:.6g} "
            f'(2/(γ λ_max)). Take lr below it, or lr="best".',
            limit,
        )


def _end(
    lazy: Linearization,
    times: tuple[float, ...],
    until: float | None,
    network: Network,
    rule: Rule,
    stay: bool,
) -> float:
    """The last step count on the linearized network, with a clear error where the targets cannot be reached."""
    last = times[-1]
    overparameterized = network.size >= len(lazy.y)
    if overparameterized and (until is not None or math.isinf(last)):
        pair = contradiction(network.task)
        if pair is not None:
            raise SingularKernelError(
                f"rows {pair[0]} and {pair[1]} of X are identical and their targets differ "
                f"({network.task.y[pair[0]].tolist()} and {network.task.y[pair[1]].tolist()}): no network fits "
                "both, the tangent kernel is singular. Drop one, or average their targets."
            )
    if until is None:
        return last
    t = lazy.time_below(until, rule.flow)
    if math.isinf(t) and math.isinf(last) and stay:
        raise SingularKernelError(
            f"until = {until:g} is never reached: the linearized training MSE stays above {lazy.floor():.3g}. "
            "Raise until, widen the network, or pass a number of steps; the real network may reach it, "
            'relinearize="auto" looks.'
        )
    return min(t, last)


def contradiction(task: Task) -> tuple[int, int] | None:
    """Two rows of identical inputs with different targets, or None."""
    flat = task.X.reshape(task.n, -1)
    _, group = torch.unique(flat, dim=0, return_inverse=True)
    first: dict[int, int] = {}
    for row, g in enumerate(group.tolist()):
        other = first.setdefault(g, row)
        if other != row and not torch.equal(task.y[other], task.y[row]):
            return other, row
    return None
