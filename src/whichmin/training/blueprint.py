"""How an optimizer was set up, so that another one like it can be made of other tensors."""

from __future__ import annotations

import copy
import inspect
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from whichmin.errors import ResultError

#: How many numbers the learning rates of a loop may take, two megabytes; where they change more often, they are let go.
MOST_RATES = 2**18


@dataclass(eq=False)
class Blueprint:
    """An optimizer without its parameters.

    Attributes:
        kind: its class.
        arguments: of its constructor.
        groups: the settings of each parameter group, and the names of its parameters.
        names: of all parameters of the network, in order.
        fresh: whether it had made no step.
        rates: (call, learning rate of each group) one after the other, wherever a rate changed; None if too often.
    """

    kind: type[torch.optim.Optimizer]
    arguments: dict[str, Any]
    groups: list[tuple[dict[str, Any], list[str]]]
    names: list[str]
    fresh: bool
    rates: array[float] | None = field(default_factory=lambda: array("d"))
    _last: tuple[float, ...] = ()

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter]) -> Blueprint:
        """Of an optimizer that holds these parameters."""
        kind, by_id = type(optimizer), {id(p): n for n, p in named.items()}
        accepted = inspect.signature(kind.__init__).parameters
        open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values())
        arguments = {k: copy.copy(v) for k, v in optimizer.defaults.items() if open_ended or k in accepted}
        groups = []
        for group in optimizer.param_groups:
            settings = {k: copy.copy(v) for k, v in group.items() if k not in ("params", "initial_lr", "param_names")}
            groups.append((settings, [by_id[id(p)] for p in group["params"] if id(p) in by_id]))
        return cls(kind, arguments, groups, list(named), _is_fresh(optimizer))

    def note(self, call: int, rates: Iterable[float]) -> None:
        """The learning rates that step number ``call`` uses."""
        now = tuple(rates)
        if now == self._last or self.rates is None:
            return
        self._last = now
        self.rates.extend((call, *now))
        if len(self.rates) > MOST_RATES:
            self.rates = None

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """An optimizer like it, of the parameters in the order of ``names``.

        Raises:
            ResultError: its class cannot be built from its settings.
        """
        by_name = dict(zip(self.names, parameters, strict=True))
        groups = [{**settings, "params": [by_name[n] for n in names]} for settings, names in self.groups]
        try:
            return self.kind(groups, **self.arguments)  # pyright: ignore[reportCallIssue, reportArgumentType]
        except Exception as error:
            raise ResultError(
                f"another {self.kind.__name__} cannot be built from the settings of the recorded one, so its loop "
                f"cannot be replayed: {error}"
            ) from error

    def schedule(self, optimizer: torch.optim.Optimizer) -> LRScheduler:
        """Sets the recorded learning rates."""
        assert self.rates is not None
        return _AsRecorded(optimizer, self.rates)


class _AsRecorded(LRScheduler):
    def __init__(self, optimizer: torch.optim.Optimizer, rates: array[float]) -> None:
        size = 1 + len(optimizer.param_groups)
        self._changes = {int(rates[i]): list(rates[i + 1 : i + size]) for i in range(0, len(rates), size)}
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        return list(self._changes.get(self.last_epoch, [group["lr"] for group in self.optimizer.param_groups]))


def _is_fresh(optimizer: torch.optim.Optimizer) -> bool:
    """Whether its state is that before the first step: counters at zero, or else nothing but zeros."""
    for state in optimizer.state.values():
        counted = [state["step"]] if "step" in state else list(state.values())
        if any(bool(torch.as_tensor(v).any()) for v in counted if isinstance(v, Tensor | int | float)):
            return False
    return True
