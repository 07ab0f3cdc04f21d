"""``train``: the real thing, on a copy of the model."""

from __future__ import annotations

import copy
import math
import time
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from whichmin.dynamics.rules import OptimizerFactory, build, learning_rate_is_best, with_learning_rate
from whichmin.errors import InputError, ModelError, TrainingError
from whichmin.tangent.capture import looked_up
from whichmin.tangent.module import check_inputs, check_modules, check_rows, evaluate, finite, trainable
from whichmin.task import Task
from whichmin.training.run import Run

#: Steps after which training gives up unless told otherwise.
MAX_STEPS = 100_000
#: How often, in steps, the last good parameters are kept.
KEEP_EVERY = 100


def train(
    model: nn.Module,
    task: Task,
    optimizer: OptimizerFactory,
    *,
    until: float | None = 1e-5,
    max_steps: int | None = None,
    progress: bool = False,
) -> Run:
    """Train a copy of the model, full batch, with ``torch.nn.MSELoss()``.

    Args:
        model: the network; it is not changed.
        task: the data.
        optimizer: a factory, such as ``partial(torch.optim.SGD, lr=…)``; ``lr="best"`` takes the theoretical rate of
            gradient descent at θ₀.
        until: stop before the step at which the training mean square error is below this; None trains to ``max_steps``.
        max_steps: stop after so many steps; 100,000 unless told.
        progress: show a progress bar on standard error.

    Returns:
        A :class:`Run`; ``converged`` and ``reason`` say whether ``until`` was reached. Ctrl-C ends training with what
        there is: a run whose reason says so.

    Raises:
        TrainingError: the loss is no longer finite; it carries the last good state.
        ModelError: a model that does not fit the task, or is random or mixes rows.
        OptimizerError: a factory that fails.
    """
    if until is not None and not (math.isfinite(until) and until > 0):
        raise InputError(f"until is {until}; expected a positive training mean square error, or None.")
    limit = MAX_STEPS if max_steps is None else max_steps
    if limit < 0 or limit != int(limit):
        raise InputError(f"max_steps is {max_steps}; expected a whole number of steps.")
    check_modules(model)
    trainable(model)
    network = copy.deepcopy(model)
    if learning_rate_is_best(optimizer):
        optimizer = with_learning_rate(optimizer, _best_rate(network, task))
    made = build(optimizer, [p for p in network.parameters() if p.requires_grad])
    initial = _state(network)
    _check_network(network, task)
    loop = _Loop(network, task, made, until, int(limit))
    started = time.perf_counter()
    reason = loop.run(progress)
    seconds = time.perf_counter() - started
    with torch.no_grad():
        train_outputs = evaluate(network, task.X)
        test_outputs = None if task.X_test is None else finite(evaluate(network, task.X_test), "X_test")
    return Run(
        task=task,
        train=train_outputs,
        test=test_outputs,
        steps=len(loop.losses) - 1,
        losses=torch.tensor(loop.losses, dtype=torch.float64),
        converged=until is not None and loop.losses[-1] < until,
        reason=reason,
        optimizer=type(made).__name__,
        learning_rate=float(made.param_groups[0]["lr"]),
        until=until,
        seconds=seconds,
        initial=initial,
        final=_state(network),
        _network=network,
        _factory=optimizer,
    )


class _Loop:
    """The training loop and what it remembers."""

    def __init__(
        self, network: nn.Module, task: Task, optimizer: torch.optim.Optimizer, until: float | None, limit: int
    ) -> None:
        self.network, self.task, self.optimizer, self.until, self.limit = network, task, optimizer, until, limit
        self.losses: list[float] = []
        self.done = 0
        self._kept: tuple[int, dict[str, Tensor]] = (0, _state(network))

    def run(self, progress: bool) -> str:
        """Train; returns why it stopped."""
        bar = tqdm(total=self.limit, unit="step", desc="training", disable=not progress, leave=False, mininterval=0.5)
        try:
            return self._steps(bar)
        except KeyboardInterrupt:
            if len(self.losses) <= self.done:  # the loss where the parameters are now
                with torch.no_grad():
                    self.losses.append(float(nn.functional.mse_loss(self._outputs(), self.task.y)))
            return f"interrupted after {self.done} steps at a training MSE of {self.losses[-1]:.3g}."
        finally:
            bar.close()

    def _steps(self, bar: Any) -> str:
        y, criterion = self.task.y, nn.MSELoss()
        for step in range(self.limit + 1):
            self.optimizer.zero_grad()
            loss = criterion(self._outputs(), y)
            value = loss.item()
            if not math.isfinite(value):
                self._fail(step)
            self.losses.append(value)
            if self.until is not None and value < self.until:
                return f"the training MSE fell below {self.until:g} after {step} steps."
            if step == self.limit:
                break
            if step % KEEP_EVERY == 0:
                self._kept = (step, _state(self.network))
                bar.set_postfix_str(f"mse {value:.2e}", refresh=False)
            loss.backward()
            self.optimizer.step()
            self.done += 1
            bar.update()
        aim = "" if self.until is None else f", above until = {self.until:g}"
        return f"stopped at max_steps = {self.limit} with a training MSE of {self.losses[-1]:.3g}{aim}."

    def _outputs(self) -> Tensor:
        return self.network(self.task.X).reshape(self.task.y.shape)

    def _fail(self, step: int) -> None:
        kept, state = self._kept
        raise TrainingError(
            f"the training loss is no longer finite after {step} steps; the last values were "
            f"{', '.join(f'{v:.3g}' for v in self.losses[-3:])}. Lower the learning rate. The parameters after step "
            f"{kept} are kept in the error's state.",
            state=state,
            step=kept,
            losses=self.losses,
        )


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in network.state_dict().items()}


def _check_network(network: nn.Module, task: Task) -> None:
    with torch.no_grad():
        out, alone = finite(evaluate(network, task.X[:3]), "X"), evaluate(network, task.X[:1])
    check_inputs(network, task.X, looked_up(network, task.X[:1]))
    check_rows(network, task.X[:3], out, [0], alone)
    if out.shape[1] != task.outputs:
        raise ModelError(
            f"the model has {out.shape[1]} outputs per row and the targets have {task.outputs}: change the last layer "
            "or encode the targets alike."
        )


def _best_rate(network: nn.Module, task: Task) -> float:
    from whichmin.eigen import spectrum
    from whichmin.tangent.kernel import tangent_kernel

    return spectrum(tangent_kernel(network, task.X)).best_lr
