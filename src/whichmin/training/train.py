"""``train``: the real thing, on a copy of the model."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from whichmin.checkpoint import Checkpoint, begin
from whichmin.dynamics.monotone import resolve_rate
from whichmin.errors import InputError, TrainingError
from whichmin.kernels.kernel import tangent_kernel
from whichmin.kernels.modes import Spectrum
from whichmin.kernels.spectrum import lazy_spectrum
from whichmin.loop.row_span import row_span as find_row_span
from whichmin.loop.training_loop import Loop, state_of
from whichmin.optimizers.metric import last_metric
from whichmin.recipe.build import OptimizerFactory, SchedulerFactory, check_optimizer, fuse
from whichmin.recipe.memory import OptimizerMemory
from whichmin.recipe.recipe import Recipe
from whichmin.tangent.checks import check_modules
from whichmin.tangent.context import own_context
from whichmin.tangent.copying import check_independent, private_copy
from whichmin.tangent.examine import examine
from whichmin.tangent.model import evaluate, finite, trainable
from whichmin.task import Task, Until
from whichmin.training.checkpoints import Keeper, Steps
from whichmin.training.run import Run

#: Steps after which training gives up unless told otherwise.
MAX_STEPS = 100_000


@own_context()
def train(
    model: nn.Module | Checkpoint,
    task: Task,
    optimizer: OptimizerFactory | Recipe,
    *,
    until: Until = "auto",
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    scheduler: SchedulerFactory | None = None,
    budget: float | None = None,
    checkpoints: Steps = (),
    row_span: bool = False,
    progress: bool | float = False,
) -> Run:
    """Train a copy of the model with the task's loss, in full batches or mini-batches.

    A step's loss is that of its batch; ``until`` and the losses of the run are about all of the training data.

    Args:
        model: the network; it is not changed. Or a checkpoint of a run, from which training goes on as if it had never
            stopped: with the recipe of that run it ends where that ended.
        task: the data.
        optimizer: a factory, such as ``partial(torch.optim.SGD, lr=…)``, or a :class:`whichmin.Recipe`, which brings
            batches and scheduler. ``lr="best"`` takes the theoretical rate of gradient descent at θ₀,
            ``lr="monotone"`` the largest at which the training loss falls at every step (several trainings more).
        until: stop before the step at which the training loss is below this; None trains to ``steps``. ``"auto"`` is
            1e-5 above the lowest loss that any outputs have, which is 0 for the mean square error and class numbers;
            of a function of your own, whose lowest loss is not known, it is None. With mini-batches the loss is
            measured at the start of every epoch, and looked at there.
        steps: stop after so many steps, from the beginning of training. Unless told it is 100,000 more, and training
            that stalls above ``until`` stops before: where the training loss, measured at every step or epoch, has
            found no new lowest value, by 0.01 %, in the last max(1000, half of all) steps.
        batch_size: rows per step; None for all. The batches are those of
            ``DataLoader(TensorDataset(X, y), batch_size=batch_size, shuffle=True,
            generator=torch.Generator().manual_seed(seed))``, epoch after epoch; N or more is all rows.
        seed: the seed of the batches; without mini-batches nothing is random.
        scheduler: a factory optimizer → ``torch.optim.lr_scheduler.LRScheduler``, such as
            ``partial(StepLR, step_size=…)``; it is stepped after every optimizer step, so that its epochs are steps.
        budget: seconds after which training stops with what it has; None for no end.
        checkpoints: the steps after which ``run.checkpoint(step)`` is kept, or how many at most (3 or more), which are
            then spaced by a growing distance: 0, 1, 2, 4, 8, …, every other one where there are too many. The first and
            the last are kept with them. Each is a copy of the network's state and of what the optimizer remembers: of
            plain SGD one, with momentum or AdaGrad two, of Adam three times its parameters.
        row_span: train in the coordinates of the span of the training inputs' rows where that is the same training:
            gradient descent, with momentum and in mini-batches too, without weight decay or checkpoints, of a network
            whose first layer is dense and has 2N inputs or more; a step costs N/d as much in that layer of d inputs.
            Adam and other rules that look at each number by itself train without the inputs that are zero in all rows,
            where these are a fifth or more; Adam and AdamW make their steps in one pass over the parameters, as
            torch's ``fused=True`` does. Right up to rounding, which training at the edge of stability amplifies, as
            it does that of any other order of sums. Elsewhere it changes nothing.
        progress: show a progress bar on standard error. It goes up to ``steps``; a number, such as that of a
            prediction, ``predicted.steps``, is where it ends without.

    Returns:
        A :class:`Run`; ``converged``, ``stalled`` and ``reason`` say whether ``until`` was reached, and what may have
        kept it from there. Ctrl-C ends training with what there is: a run that is ``interrupted``.

    Cost: a forward and a backward pass per step; with mini-batches also a forward pass over all rows per epoch.

    Raises:
        TrainingError: the loss or a parameter is no longer finite; it carries the last good state.
        InputError: an ``until``, ``steps``, ``batch_size``, ``seed``, ``budget`` or ``checkpoints`` that cannot be
            used.
        ModelError: a model that does not fit the task, or is random or mixes rows.
        OptimizerError: a factory that fails; an optimizer that needs a closure, leaves trainable parameters out or has
            a group with lr = 0; a scheduler that needs a metric; another optimizer than that of a checkpoint.
    """
    keeper = Keeper(checkpoints)
    until = task.aim(until)
    check_budget(budget)
    model, recipe = begin(model, Recipe.of(optimizer, batch_size, seed, scheduler))
    limit = _check_limits(steps, recipe.first_step)
    recipe.check(task.n)
    check_modules(model)
    trainable(model)
    network = private_copy(model)
    check_independent(network, model, task.X)
    recipe = resolve_rate(network, task, recipe, partial(_spectrum, network, task), until, limit)
    parameters = trainable(network)
    built = recipe.build(parameters.values())
    check_optimizer(built, parameters)
    learning_rate = float(built.param_groups[0].get("lr", math.nan))  # before a scheduler's first word
    scheduled = recipe.build_scheduler(built)
    initial = state_of(network)
    examine(network, task.X, **task.axes).check_rows()
    started = time.perf_counter()

    def here() -> Checkpoint:
        state = initial if loop.done == recipe.first_step else state_of(network)
        return Checkpoint(loop.done, state, OptimizerMemory.of(built, parameters, loop.done))

    def watch(step: int) -> str | None:
        keeper.look(step, here)
        if budget is None or time.perf_counter() - started <= budget:
            return None
        return f"the budget of {budget:.3g} s ran out after {step} steps."

    span = None
    is_up_to_rounding = row_span and recipe.memory is None and keeper.is_idle
    if is_up_to_rounding:
        span = find_row_span(network, task, built)
    trained, data = network, task
    if span is not None:
        trained, data = span.network, span.task
        built = recipe.build(trainable(trained).values())
        scheduled = recipe.build_scheduler(built)
    if is_up_to_rounding:
        fuse(built)
    loop = Loop(
        trained, data, built, scheduled, until=until, limit=limit, batches=recipe.batches(task.n),
        epoch=recipe.steps_per_epoch(task.n), watch=watch, first=recipe.first_step, halts=steps is None,
    )  # fmt: skip
    try:
        loop.run(progress)
    except TrainingError as error:
        if span is None:
            raise
        raise span.error_of_all(error) from None
    if span is not None:
        network.load_state_dict(span.state_of_all(state_of(trained)))
    keeper.end(loop.done, here)
    kept = keeper.kept
    if not kept and recipe.memory is not None:
        kept = [Checkpoint(recipe.first_step, initial, recipe.memory)]
    seconds = time.perf_counter() - started
    return run_of(loop, network, task, recipe, initial, learning_rate, seconds, kept)


def run_of(
    loop: Loop,
    network: nn.Module,
    task: Task,
    recipe: Recipe,
    initial: dict[str, Tensor],
    learning_rate: float,
    seconds: float,
    kept: Sequence[Checkpoint] = (),
) -> Run:
    """The result of a training that was made.

    Args:
        loop: the training.
        network: what was trained, in its own coordinates.
        task: the data.
        recipe: what trained.
        initial: the state of the network at the start.
        learning_rate: that of the first step.
        seconds: what training took.
        kept: the checkpoints.
    """
    with torch.no_grad():
        train_outputs = evaluate(network, task.X)
        test_outputs = None if task.X_test is None else finite(evaluate(network, task.X_test), "X_test")
    return Run(
        task=task,
        train=train_outputs,
        test=test_outputs,
        steps=loop.done,
        losses=torch.tensor(loop.losses, dtype=torch.float64),
        converged=loop.until is not None and loop.losses[-1] < loop.until,
        reason=loop.reason,
        optimizer=type(loop.optimizer).__name__,
        learning_rate=learning_rate,
        until=loop.until,
        seconds=seconds,
        initial=initial,
        final=kept[-1].state if kept and kept[-1].step == loop.done else state_of(network),
        batch_size=recipe.check(task.n),
        interrupted=loop.interrupted,
        stalled=loop.has_stalled,
        seed=recipe.seed,
        loss_steps=torch.tensor(loop.measured, dtype=torch.int64),
        metric=last_metric(loop.optimizer, network.named_parameters()),
        checkpoints=tuple(kept),
        _network=network,
        _recipe=recipe,
    )


def _spectrum(network: nn.Module, task: Task) -> Spectrum:
    """Of the tangent kernel where the network stands."""
    return replace(lazy_spectrum(tangent_kernel(network, task.X)), gamma=task.objective.gamma)


def check_budget(budget: float | None) -> None:
    """Refuse a number of seconds that nothing can be done in.

    Raises:
        InputError: it is not positive.
    """
    if budget is not None and not (isinstance(budget, int | float) and budget > 0):
        raise InputError(f"budget is {budget!r}; expected a positive number of seconds, or None.")


def _check_limits(steps: int | None, first: int) -> int:
    limit = first + MAX_STEPS if steps is None else steps
    if not (math.isfinite(limit) and limit >= 0 and limit == int(limit)):
        raise InputError(f"steps is {steps}; expected a whole number of steps.")
    if limit < first:
        raise InputError(
            f"steps is {steps}, and the checkpoint is after step {first}: steps are counted from the beginning of "
            f"training. Pass {first} or more."
        )
    return int(limit)
