"""``predict``: where training goes, without training."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import nn

from whichmin.checkpoint import Checkpoint, begin
from whichmin.dynamics.paths.predictor import Relinearize
from whichmin.dynamics.prediction import Prediction
from whichmin.dynamics.prepare import prepare
from whichmin.errors import InputError
from whichmin.jobs.threads import few_blas_threads
from whichmin.recipe.build import OptimizerFactory, SchedulerFactory
from whichmin.recipe.recipe import Recipe
from whichmin.tangent.context import own_context
from whichmin.tangent.memory import Memory, parse_size
from whichmin.task import Task

logger = logging.getLogger(__name__)


@own_context()
def predict(
    model: nn.Module | Checkpoint,
    task: Task,
    optimizer: OptimizerFactory | Recipe,
    *,
    steps: float | Sequence[float] | None = None,
    until: float | None = None,
    flow: bool = False,
    relinearize: Relinearize = "auto",
    tol: float = 1e-2,
    batch_size: int | None = None,
    seed: int = 0,
    scheduler: SchedulerFactory | None = None,
    budget: float | None = None,
    row_span: bool = False,
    memory: float | str | None = None,
    tiles: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    progress: bool = False,
) -> Prediction:
    """Which minimizer training reaches, from tangent kernels, and without a training loop wherever that is cheaper.

    One linearization at θ₀ is the linearized theory, f(x') = f₀(x') − K(x',X) Q (1 − m(t))Λ⁻¹ Qᵀ r₀ with
    m(t) = (1 − lr·γ·Λ)^t for gradient descent and γ = 2/(N·C). A path keeps the tangent features J over an
    interval, runs the rule exactly in function space, moves the parameters by the accumulated coefficients, evaluates
    the real network there and linearizes again: it predicts the finite network.

    Args:
        model: any ``nn.Module`` (see :func:`whichmin.tangent_kernel`); it is copied, not changed. Or a checkpoint of a
            run: then θ₀ is where that stood, and training goes on from there with what the optimizer remembers.
        task: the data and the loss.
        optimizer: a factory, such as ``partial(torch.optim.Adam, lr=…)``, or a :class:`whichmin.Recipe`, which brings
            batches and scheduler. ``lr="best"`` takes 2/(γ(λ_min + λ_max)) at θ₀, the best rate of gradient descent;
            ``lr="half"`` half of the rule's limit of stability there, which leaves room for a kernel that grows;
            ``lr="monotone"``, of any optimizer, the largest at which the training loss falls at every step, up to 5 %:
            bisected on predicted curves where they are known in function space, and confirmed by real steps.
            SGD (with momentum, dampening, Nesterov, weight decay), ``whichmin.optimizers`` and their mini-batches are
            recursions in function space, closed where every step is the same. AdaGrad, RMSprop, Adam and AdamW in full
            batches are followed through Krylov spaces of J D Jᵀ. Any other optimizer runs step by step on the
            linearized network.
        steps: an integer, None (or ``math.inf``) for any number, which without ``until`` is the limit, or an ascending
            sequence: outputs then have a leading time axis. They are counted from the beginning of training, with those
            made before a checkpoint. With ``flow=True`` any non-negative real numbers.
        until: stop where the training loss falls below this, as ``train`` does: with mini-batches it is looked at
            where an epoch starts.
        flow: gradient flow at time lr·steps.
        relinearize: ``"auto"``, the cheapest way that meets ``tol``: one linearization at θ₀ where the network is lazy
            enough, a path of several, or real training of a copy, where a few steps that are timed say that it is
            cheaper, or where the kernel comes close to the limit of stability or begins beyond it. ``"never"`` forces
            one linearization, ``"path"`` a path of as many as ``tol`` needs, a number a path of so many intervals.
        tol: the estimated root mean square error on the test points, relative to the standard deviation of the
            targets (with other losses as ``Prediction.target_std`` says), that ``"auto"`` aims at. With several
            steps, rules with a motion in function space aim at 2 % of the training losses there as well, down to 1e-5
            of the targets' variance.
        batch_size: rows per step, in the very order of ``train``; None for all of them.
        seed: the seed of the batches.
        scheduler: a factory of a learning-rate scheduler, stepped after every step, as for ``train``.
        budget: seconds after which it stops with what it has; None for no end.
        row_span: where it is by real training, train in the coordinates of the span of the training inputs' rows, as
            ``train(row_span=True)`` does: faster, the same up to rounding.
        memory: bytes that it may take, or a text such as ``"6 GiB"``; None for what is free. A kernel that does not fit
            is kept on disk where a folder is given. One linearization (``relinearize="never"``) of gradient descent in
            full batches on the mean square error, momentum included, multiplies by J(Jᵀv) else, a backward and a
            forward pass each, and says so in ``notes``; all others are refused before anything is allocated.
        tiles: a folder for the kernel's tiles where it does not fit into memory, for one linearization
            (``relinearize="never"``) of a rule that is known in function space. A process that is killed goes on from
            the tiles that are there.
        executor: any ``concurrent.futures.Executor``, such as a process pool or ``dask.distributed``'s
            ``Client.get_executor()``, whose workers make the tiles and multiply with them, in the folder of ``tiles``,
            which all of them see. Each job is sent the network and some rows of the inputs.
        progress: show a progress bar on standard error, with the way that is taken.

    Returns:
        A :class:`Prediction`.

    Cost: a kernel per linearization, some dozens to hundreds of products with it (up to 512 training outputs an
    eigendecomposition), and about three training steps; terms take a Cholesky factor, (N·C)³/3, once. Where making a
    kernel takes more than twice as long as the products J(Jᵀv) that one linearization (``relinearize="never"``) of
    gradient descent in full batches on the mean square error takes, momentum included, none is made, which ``notes``
    say. Of an adaptive rule about eight training steps per linearization, of any other optimizer its steps. Real
    training is made one and a half times at most, and without a kernel.

    Raises:
        DivergenceError: a learning rate at or beyond the limit of stability, which it names; with ``"auto"`` and an end
            that training reaches only where real training does not lower the loss there.
        SingularKernelError: targets that cannot be reached, such as identical inputs with different targets.
        ModelError, MemoryPlanError: see :func:`whichmin.tangent_kernel`.
        OptimizerError: a factory that fails, an optimizer that needs a closure or leaves parameters out, a flow that is
            not known; another optimizer than that of a checkpoint's training.
        InputError: steps, until, tol or relinearize out of range; infinitely many steps of a loss without a finite
            minimizer or of learning rates that die out, or a loss that no outputs have.

    Nonnenmacher, Reeb, Steinwart, "Which Minimizer Does My Neural Network Converge To?" (2020), Thm. 3.1.
    """
    started = time.perf_counter()
    model, recipe = begin(model, Recipe.of(optimizer, batch_size, seed, scheduler))
    times, several = _check_times(steps, until, flow)
    _check_first(recipe, times, flow)
    task.check_until(until)
    check_relinearize(relinearize, tol)
    if budget is not None and not budget > 0:
        raise InputError(f"budget is {budget}; expected a positive number of seconds, or None.")
    if tiles is not None and relinearize != "never":
        raise InputError('tiles hold one kernel, that at θ₀: pass relinearize="never" with them.')
    if executor is not None and tiles is None:
        raise InputError("an executor makes the tiles of a kernel on disk: pass tiles=FOLDER with it.")
    limit, only_linearized = math.inf if budget is None else budget, relinearize == "never"
    folder = None if tiles is None else Path(tiles)
    where = Memory(parse_size(memory, "memory"), folder, progress, executor, products=only_linearized)
    with few_blas_threads(task.n * task.outputs, scipy=not task.objective.loss.is_quadratic):
        predictor = prepare(
            model, task, recipe, times, until=until, flow=flow, only_linearized=only_linearized,
            train_first=relinearize == "auto", memory=where,
        )  # fmt: skip
        outcome = predictor.predict(
            relinearize, tol, budget=limit, row_span=row_span, progress=progress, started=started
        )
        prediction = predictor.package(outcome, time.perf_counter() - started, several)
    logger.info(
        "%s in %.2g s, linearizations: %d, estimated error: %.2g",
        *(prediction.method, prediction.seconds, prediction.intervals, prediction.error),
    )
    return prediction


def _check_times(steps: Any, until: float | None, flow: bool) -> tuple[tuple[float, ...], bool]:
    """The step counts, and whether a sequence of them was asked for."""
    several = not isinstance(steps, str) and hasattr(steps, "__len__") and getattr(steps, "ndim", 1) == 1
    try:
        times = tuple(float(s) for s in (steps if several else [math.inf if steps is None else steps]))
    except (TypeError, ValueError):
        times = ()
    if not times or any(math.isnan(s) or s < 0 for s in times) or any(b <= a for a, b in pairwise(times)):
        raise InputError(
            f"steps is {steps!r}; expected a non-negative number, None for the limit, or an ascending sequence."
        )
    if not flow and any(math.isfinite(s) and s != int(s) for s in times):
        raise InputError(f"steps is {steps!r}; gradient descent makes whole steps. Pass integers, or flow=True.")
    if until is not None and several:
        raise InputError("got both a sequence of steps and until: ask for one of them.")
    return times, several


def _check_first(recipe: Recipe, times: tuple[float, ...], flow: bool) -> None:
    """Refuse what a checkpoint has behind it."""
    if recipe.memory is None:
        return
    if flow:
        raise InputError(
            "flow=True is the limit of small steps from rest, and a checkpoint remembers the steps before: pass "
            "checkpoint.model()."
        )
    if times[0] < recipe.first_step:
        raise InputError(
            f"steps begins at {times[0]:.0f}, and the checkpoint is after step {recipe.first_step}: steps are counted "
            f"from the beginning of training. Pass {recipe.first_step} or more."
        )


def check_relinearize(relinearize: Any, tol: float) -> None:
    """Refuse methods and tolerances that there are not.

    Raises:
        InputError: says what was expected.
    """
    ok = relinearize in ("auto", "path", "never") or (isinstance(relinearize, int) and relinearize >= 1)
    if not ok or isinstance(relinearize, bool):
        raise InputError(
            f'relinearize is {relinearize!r}; expected "auto", "path", "never" or a positive number of intervals.'
        )
    if not (math.isfinite(tol) and tol > 0):
        raise InputError(f"tol is {tol}; expected a positive number, such as 1e-2.")
