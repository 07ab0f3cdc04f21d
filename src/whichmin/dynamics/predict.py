"""``predict``: where training goes, without training."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from whichmin.dynamics.paths.job import Job, LinearJob, Relinearize
from whichmin.dynamics.paths.linearized import Linearization
from whichmin.dynamics.paths.position import Network
from whichmin.dynamics.paths.relinearized import Goal
from whichmin.dynamics.paths.stepwise import StepJob
from whichmin.dynamics.prediction import Prediction
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.dynamics.rules.registry import resolve_best_rate, rule_of
from whichmin.errors import DivergenceError, InputError, SingularKernelError
from whichmin.recipe.batches import steps_per_epoch
from whichmin.recipe.build import OptimizerFactory, SchedulerFactory, check_optimizer
from whichmin.recipe.recipe import Recipe
from whichmin.recipe.schedule import Batches, GivenBatches, Schedule
from whichmin.task import Task

#: How many steps of a scheduler are looked at before training starts.
LOOKED_AHEAD = 10_000


def predict(
    model: nn.Module,
    task: Task,
    optimizer: OptimizerFactory | Recipe,
    *,
    steps: float | Sequence[float] = math.inf,
    until: float | None = None,
    flow: bool = False,
    relinearize: Relinearize = "auto",
    tol: float = 1e-2,
    batch_size: int | None = None,
    seed: int = 0,
    scheduler: SchedulerFactory | None = None,
) -> Prediction:
    """Which minimizer training reaches, from tangent kernels, without a training loop.

    One linearization at θ₀ is the linearized theory, f(x') = f₀(x') − K(x',X) Q (1 − m(t))Λ⁻¹ Qᵀ r₀ with
    m(t) = (1 − lr·γ·Λ)^t for gradient descent and γ = 2/(N·C). A followed path keeps the tangent features J over an
    interval, runs the rule exactly in function space, moves the parameters by the accumulated coefficients, evaluates
    the real network there and linearizes again: it predicts the finite network.

    Args:
        model: any ``nn.Module`` (see :func:`whichmin.tangent_kernel`); it is copied, not changed.
        task: the data. The loss is ``torch.nn.MSELoss()``.
        optimizer: a factory, such as ``partial(torch.optim.Adam, lr=…)``, or a :class:`whichmin.Recipe`, which brings
            batches and scheduler. ``lr="best"`` takes 2/(γ(λ_min + λ_max)) at θ₀, the best rate of gradient descent.
            SGD (with momentum, dampening, Nesterov, weight decay), ``whichmin.optimizers`` and their mini-batches are
            recursions in function space, closed where every step is the same. AdaGrad, RMSprop, Adam and AdamW in full
            batches are followed through Krylov spaces of J D Jᵀ. Any other optimizer runs step by step on the
            linearized network.
        steps: an integer, ``math.inf`` for the limit, or an ascending sequence: outputs then have a leading time axis.
            With ``flow=True`` any non-negative real numbers.
        until: stop where the training mean square error falls below this, as ``train`` does.
        flow: gradient flow at time lr·steps.
        relinearize: ``"never"`` (one linearization at θ₀), ``"auto"`` (as many as ``tol`` needs; one where the network
            is lazy enough), or a number of intervals to divide the path into.
        tol: the estimated root mean square error on the test points, relative to the spread (standard deviation) of the
            targets, that ``"auto"`` aims at. With several steps, rules with a motion in function space aim at 2 % of
            the training errors there as well, down to 1e-5 of the targets' variance.
        batch_size: rows per step, in the very order of ``train``; None for all of them.
        seed: the seed of the batches.
        scheduler: a factory of a learning-rate scheduler, stepped after every step, as for ``train``.

    Returns:
        A :class:`Prediction`.

    Cost: a kernel and an eigendecomposition, O((N·C)³), per linearization, and about three training steps; of an
    adaptive rule about eight training steps per linearization, of any other optimizer its steps.

    Raises:
        DivergenceError: a learning rate at or beyond the limit of stability, which it names.
        SingularKernelError: targets that cannot be reached, such as identical inputs with different targets.
        ModelError, MemoryPlanError: see :func:`whichmin.tangent_kernel`.
        OptimizerError: a factory that fails, an optimizer that needs a closure or leaves parameters out, a flow that is
            not known.
        InputError: steps, until, tol or relinearize out of range.

    Nonnenmacher, Reeb, Steinwart, "Which Minimizer Does My Neural Network Converge To?" (2020), Thm. 3.1.
    """
    started = time.perf_counter()
    times, several = _check_times(steps, until, flow)
    _check_relinearize(relinearize, tol)
    job = prepare(
        model,
        task,
        optimizer,
        times,
        until=until,
        flow=flow,
        batch_size=batch_size,
        seed=seed,
        scheduler=scheduler,
        stay=relinearize == "never",
    )
    found = job.predict(relinearize, tol)
    return job.package(found, time.perf_counter() - started, several)


def prepare(
    model: nn.Module,
    task: Task,
    optimizer: OptimizerFactory | Recipe,
    times: tuple[float, ...],
    *,
    until: float | None = None,
    flow: bool = False,
    batch_size: int | None = None,
    seed: int = 0,
    scheduler: SchedulerFactory | None = None,
    rows: Sequence[Tensor] | None = None,
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
        batch_size: as for :func:`predict`.
        seed: as for :func:`predict`.
        scheduler: as for :func:`predict`.
        rows: the rows of the data that each step uses, in place of batch_size and seed.
        stay: whether θ₀ is the only point of linearization, so that ``until`` must be reached from there.
        stable: whether a rate beyond the limit of stability is an error; else its oscillation is damped.
    """
    recipe = Recipe.of(optimizer, batch_size, seed, scheduler)
    size = recipe.check(task.n)
    network = Network(model, task)
    factors, K = network.first()
    spectrum = network.spectrum(network.row_major(K))
    recipe = resolve_best_rate(recipe, spectrum)
    made = recipe.build(network.named.values())
    check_optimizer(made, network.named)
    rule = rule_of(made, flow=flow)
    goal = Goal(times[-1], until, times)
    if flow and (size is not None or recipe.scheduler is not None):
        raise InputError("flow=True is the limit of small steps in full batches: leave out batch_size and scheduler.")
    batches: Batches | GivenBatches | None = None if size is None else Batches(task, size, recipe.seed)
    every = 1 if size is None else steps_per_epoch(task.n, size)
    if rows is not None:
        batches, every = GivenBatches(rows, task.outputs), len(rows)
    scheduled = recipe.build_scheduler(made)
    if rule is None:
        _check_targets(network, until, times[-1])
        return StepJob(network, goal, spectrum, recipe.build, recipe.build_scheduler, batches, every)
    rule = replace(rule, schedule=Schedule.of(made, scheduled, batches, every))
    lazy = Linearization.of(network, rule, factors, spectrum)
    if stable:
        _check_stable(rule, float(lazy.spectrum.eigenvalues[0]), spectrum.gamma, times[-1])
    end = _end(lazy, times, until, network, stay)
    return LinearJob(network, rule, lazy, goal, end, spectrum)


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


def _check_stable(rule: LinearRule, largest: float, gamma: float, steps: float) -> None:
    limit = rule.limit(largest, gamma)
    product = f"{limit * gamma * largest:.3g}/(γ λ_max)"
    if rule.lr >= limit:
        raise DivergenceError(
            f"lr = {rule.lr:.6g} diverges: the limit of stability for this network, data and MSELoss is {limit:.6g} "
            f'({product}). Take lr below it, or lr="best".',
            limit,
        )
    if rule.schedule.lr is None:
        return
    for k in range(int(min(steps, LOOKED_AHEAD))):
        if rule.rate(k) >= limit:
            raise DivergenceError(
                f"the scheduler raises lr to {rule.rate(k):.6g} at step {k}, past the limit of stability {limit:.6g} "
                f"({product}). Give it a lower top.",
                limit,
            )


def _check_targets(network: Network, until: float | None, last: float) -> None:
    """Refuse targets that no network fits where they are to be fitted."""
    if network.size < network.task.y.numel() or (until is None and not math.isinf(last)):
        return
    pair = contradiction(network.task)
    if pair is not None:
        raise SingularKernelError(
            f"rows {pair[0]} and {pair[1]} of X are identical and their targets differ "
            f"({network.task.y[pair[0]].tolist()} and {network.task.y[pair[1]].tolist()}): no network fits "
            "both, the tangent kernel is singular. Drop one, or average their targets."
        )


def _end(
    lazy: Linearization,
    times: tuple[float, ...],
    until: float | None,
    network: Network,
    stay: bool,
) -> float:
    """The last step count on the linearized network, with a clear error where the targets cannot be reached."""
    last = times[-1]
    _check_targets(network, until, last)
    if until is None:
        return last
    t = lazy.time_below(until)
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
