"""The training loop: steps, what is measured along the way, and where it stops."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from whichmin._bars import tqdm
from whichmin.errors import TrainingError
from whichmin.inputs import AnyInputs
from whichmin.loop.stopping import Halt, halted, remedy, stalled
from whichmin.recipe.build import take_step
from whichmin.tangent.model import forward, trainable
from whichmin.task import Task

#: How often, in steps, the last good parameters are kept.
KEEP_EVERY = 100
#: Training errors that are measured ever more rarely are so after this part of the steps made more, and some epochs.
RARER, EPOCHS_APART = 0.4, 5


class Loop:
    """Training of a network in place, and what is remembered of it.

    In full batches the loss of every step is the training error, and it is measured at every step; with mini-batches it
    is measured, over all rows, at the start of every epoch and at the end.

    Args:
        network: what is trained.
        task: the data.
        optimizer: a built optimizer of its parameters.
        scheduler: stepped after every step; None for none.
        until: the training loss to stop below; None for none.
        limit: the number of the last step.
        batches: the rows of each step, endless; None where a step is all rows. A batch without rows is a step with a
            gradient of zero.
        epoch: how many steps an epoch has.
        watch: called with the number of steps made before each next one and at the end; a reason to stop, or None.
        first: how many steps were made before the loop; batches, scheduler and optimizer stand there. All numbers of
            steps are counted with them.
        halts: whether training that stalls above ``until`` stops, see :class:`whichmin.loop.stopping.Halt`.
        errors: when the training error of mini-batches is measured where nothing hangs on it, that is without
            ``until``: every epoch, which takes as long as a third of its steps, ever more rarely, or never.

    Attributes:
        losses: the training losses that were measured.
        measured: the step of each.
        done: steps made.
        interrupted: whether Ctrl-C ended the loop.
        has_stalled: whether it stopped because it stalled.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        optimizer: torch.optim.Optimizer,
        scheduler: LRScheduler | None,
        *,
        until: float | None,
        limit: int,
        batches: Iterator[Tensor] | None,
        epoch: int,
        watch: Callable[[int], str | None] | None = None,
        first: int = 0,
        halts: bool = False,
        errors: Literal["every epoch", "rarely", "never"] = "every epoch",
    ) -> None:
        self.network, self.task, self.optimizer, self.scheduler = network, task, optimizer, scheduler
        self.until, self.limit, self.epoch = until, limit, epoch
        self.losses: list[float] = []
        self.measured: list[int] = []
        self.done = self._first = first
        self._due: float = first
        self._is_rare = errors == "rarely" and until is None
        self._is_blind = errors == "never" and until is None and batches is not None
        self.reason = ""
        self.interrupted = self.has_stalled = False
        self._halt = Halt(first, task.objective.lowest) if halts and until is not None else None
        self._batch_order, self._watch = batches, watch
        self._kept: tuple[int, dict[str, Tensor]] = (first, state_of(network))
        self._rates = _rates(optimizer)

    def run(self, progress: bool | float) -> str:
        """Train; returns why it stopped.

        Args:
            progress: whether there is a bar, or after how many steps training is expected to end.

        Raises:
            TrainingError: the loss or a parameter is no longer finite.
        """
        bar = tqdm(
            total=self._expected(progress), initial=self._first, unit="step", desc="training", disable=not progress,
            leave=False, mininterval=0.5,
        )  # fmt: skip
        try:
            self.reason = self._full(bar) if self._batch_order is None else self._batches(bar, self._batch_order)
        except KeyboardInterrupt:
            self.interrupted = True
            self._stop("")
            label = self.task.loss.label
            self.reason = f"interrupted after {self.done} steps at a training {label} of {self.losses[-1]:.3g}."
        finally:
            bar.close()
        return self.reason

    def go_on(self, steps: int) -> None:
        """Make so many steps more, whatever the loss.

        Raises:
            TrainingError: the loss or a parameter is no longer finite.
        """
        self._first, self.limit, self.until, self._halt = self.done, self.done + steps, None, None
        self.run(progress=False)

    def _expected(self, progress: bool | float) -> int | None:
        """The step at which training ends, as far as it is known."""
        if self._halt is None:
            return self.limit
        return None if isinstance(progress, bool) or not math.isfinite(progress) else round(progress)

    def _full(self, bar: Any) -> str:
        y, criterion = self.task.y, self.task.loss
        for step in range(self._first, self.limit + 1):
            if self._watch is not None and (reason := self._watch(step)) is not None:
                return self._stop(reason)
            loss = criterion(self._outputs(self.task.X), y)
            reason = self._look(step, loss.item(), bar)
            if reason is not None:
                return reason
            self.optimizer.zero_grad()
            self._step(loss, bar)
        raise AssertionError("the last step ends the loop")

    def _batches(self, bar: Any, batches: Iterator[Tensor]) -> str:
        for step in range(self._first, self.limit + 1):
            if self._watch is not None and (reason := self._watch(step)) is not None:
                return self._stop(reason)
            if self._is_blind:
                if step == self.limit:
                    self._check_parameters(step)
                    return ""
            elif (step % self.epoch == 0 and step >= self._due) or step == self.limit:
                if self._is_rare:
                    self._due = step + max(RARER * (step - self._first), EPOCHS_APART * self.epoch)
                reason = self._look(step, self._error(), bar)
                if reason is not None:
                    return reason
            elif step == self._first:  # within an epoch
                self._note(step, self._error())
            self.optimizer.zero_grad()
            self._step(self._loss_on(next(batches)), bar)
        raise AssertionError("the last step ends the loop")

    def _loss_on(self, rows: Tensor) -> Tensor:
        """The loss on some rows; zero, with gradients of zero, on none."""
        X, y = self.task.X, self.task.y
        if not len(rows):
            return 0.0 * self._outputs(X[:1]).sum()
        return self.task.loss(self._outputs(X[rows.to(X.device)]), y[rows.to(y.device)])

    def _stop(self, reason: str) -> str:
        """Stop where the parameters are now, with the loss there."""
        if not self._is_blind and (not self.measured or self.measured[-1] != self.done):
            self._note(self.done, self._error())
        return reason

    def _look(self, step: int, value: float, bar: Any) -> str | None:
        """Take a training error down; why to stop here, or None."""
        if not math.isfinite(value):
            self._fail(step, "the training loss")
        self._note(step, value)
        if self.until is not None and value < self.until:
            self._check_parameters(step)
            return f"the training {self.task.loss.label} fell below {self.until:g} after {step} steps."
        if step == self.limit:
            self._check_parameters(step)
            return self._at_limit()
        if self._halt is not None and self._halt.has_come(step, value, _rates(self.optimizer)):
            self._check_parameters(step)
            self.has_stalled = True
            return self._at_halt()
        if step == self._first or step - self._kept[0] >= KEEP_EVERY:
            self._check_parameters(step)
            self._kept = (step, state_of(self.network))
            bar.set_postfix_str(f"{self.task.loss.label} {value:.2e}", refresh=False)
        return None

    def _step(self, loss: Tensor, bar: Any) -> None:
        loss.backward()
        take_step(self.optimizer)
        self.done += 1
        if self.scheduler is not None:
            self.scheduler.step()
        bar.update()

    def _note(self, step: int, value: float) -> None:
        self.losses.append(value)
        self.measured.append(step)

    def _error(self) -> float:
        with torch.no_grad():
            return float(self.task.loss(self._outputs(self.task.X), self.task.y))

    def _outputs(self, X: AnyInputs) -> Tensor:
        return forward(self.network, X)

    def _at_limit(self) -> str:
        ended = f"stopped at steps = {self.limit} with a training {self.task.loss.label} of {self.losses[-1]:.3g}"
        if self.until is None:
            return f"{ended}."
        why = stalled(self.losses, self.measured, self._rates, _rates(self.optimizer), self.optimizer, self.task)
        return f"{ended}, above until = {self.until:g}" + (f": {why}" if why else ".")

    def _at_halt(self) -> str:
        why = halted(self.losses, self.measured, self._rates, _rates(self.optimizer), self.optimizer, self.task)
        return (
            f"stopped after {self.done} steps with a training {self.task.loss.label} of {self.losses[-1]:.3g}, above "
            f"until = {self.until:g}, because training stalls: {why} With steps= it goes on regardless."
        )

    def _check_parameters(self, step: int) -> None:
        name = _not_finite(self.network)
        if name is not None:
            self._fail(step, f"parameter {name!r}")

    def _fail(self, step: int, what: str) -> None:
        kept, state = self._kept
        name = _not_finite(self.network)
        where = f" Parameter {name!r} holds NaN or infinity." if name is not None and "parameter" not in what else ""
        last = (
            f"; the last training errors were {', '.join(f'{v:.3g}' for v in self.losses[-3:])}" if self.losses else ""
        )
        raise TrainingError(
            f"{what} is no longer finite after {step} steps{last}.{where} {remedy(self.task)} The "
            f"parameters after step {kept} are kept in the error's state.",
            state=state,
            step=kept,
            losses=self.losses,
        )


def state_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of the network's state dict."""
    return {k: v.detach().clone() for k, v in network.state_dict().items()}


def _rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [float(group.get("lr", math.nan)) for group in optimizer.param_groups]


def _not_finite(network: nn.Module) -> str | None:
    """The first trainable parameter that holds NaN or infinity."""
    for name, p in trainable(network).items():
        if not bool(torch.isfinite(p.detach()).all()):
            return name
    return None
