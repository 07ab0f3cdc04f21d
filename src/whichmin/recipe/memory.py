"""What an optimizer remembers after some steps, apart from the parameters that it moves."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from whichmin.errors import OptimizerError

#: Settings that are equal to this part of themselves are the same: a schedule may come to them by other roundings.
SAME = 1e-9
#: What a parameter group holds besides settings and what the optimizer remembers.
_LABELS = ("params", "param_names", "initial_lr")


@dataclass(frozen=True, eq=False)
class RememberedGroup:
    """A parameter group.

    Attributes:
        names: of its parameters, in order.
        settings: those that the optimizer's constructor takes, such as ``lr``, as they were for the next step.
        counters: what else the group holds, which some optimizers keep there from step to step.
        initial_rate: the learning rate before a scheduler; None without one.
    """

    names: tuple[str, ...]
    settings: dict[str, Any]
    counters: dict[str, Any] = field(default_factory=dict)
    initial_rate: float | None = None


@dataclass(frozen=True, eq=False)
class OptimizerMemory:
    """What an optimizer has beside the parameters after some steps: its ``state_dict``, by the parameters' names.

    Attributes:
        step: how many steps were made; with it the place of a recipe's batches and scheduler is known.
        optimizer: the optimizer's class name.
        groups: its parameter groups.
        values: what it remembers of each parameter, such as a momentum buffer; none of those without a gradient so far.
    """

    step: int
    optimizer: str
    groups: tuple[RememberedGroup, ...]
    values: dict[str, dict[str, Any]] = field(repr=False)

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer, named: Mapping[str, Tensor], step: int) -> OptimizerMemory:
        """A copy of what it remembers now.

        Args:
            optimizer: the optimizer.
            named: the parameters that it holds, by name.
            step: how many steps it has made.
        """
        names = {id(p): name for name, p in named.items()}
        groups = tuple(_group(optimizer, group, names) for group in optimizer.param_groups)
        values = {
            name: {key: _copy(value) for key, value in optimizer.state[p].items()}
            for name, p in named.items()
            if p in optimizer.state
        }
        return cls(step, type(optimizer).__name__, groups, values)

    def settled(self, optimizer: torch.optim.Optimizer, named: Mapping[str, Tensor]) -> OptimizerMemory:
        """The same with the optimizer's present settings, where a scheduler has changed them after the step."""
        names = {id(p): name for name, p in named.items()}
        return replace(self, groups=tuple(_group(optimizer, group, names) for group in optimizer.param_groups))

    def load(self, optimizer: torch.optim.Optimizer) -> None:
        """Give an optimizer of the same parameters, in the same groups, this memory; its settings stay.

        Raises:
            OptimizerError: another class, or other groups.
        """
        kind, sizes = type(optimizer).__name__, [len(group["params"]) for group in optimizer.param_groups]
        if kind != self.optimizer:
            raise OptimizerError(
                f"the checkpoint after step {self.step} is of training with {self.optimizer}, and the recipe that is "
                f"asked for has {kind}, which cannot go on from what {self.optimizer} remembered. {self._remedy}"
            )
        if sizes != [len(group.names) for group in self.groups]:
            raise OptimizerError(
                f"the checkpoint after step {self.step} is of parameter groups of "
                f"{[len(group.names) for group in self.groups]} parameters, and the recipe's {kind} has {sizes}. "
                f"{self._remedy}"
            )
        names = [name for group in self.groups for name in group.names]
        state = {
            i: {key: _copy(value) for key, value in self.values[name].items()}
            for i, name in enumerate(names)
            if name in self.values
        }
        groups = [
            own | group.counters for own, group in zip(optimizer.state_dict()["param_groups"], self.groups, strict=True)
        ]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for i, values in state.items():  # torch brings numbers, such as step counters, to the parameters' type
            scalars = {key: v for key, v in values.items() if isinstance(v, Tensor) and v.ndim == 0}
            optimizer.state[parameters[i]].update(scalars)

    def check(self, optimizer: torch.optim.Optimizer, named: Mapping[str, Tensor]) -> None:
        """Refuse an optimizer, scheduled as for the next step, that is not the one whose memory this is.

        Raises:
            OptimizerError: its groups hold other parameters, or have other settings; the message names them.
        """
        names = {id(p): name for name, p in named.items()}
        for i, (mine, built) in enumerate(zip(self.groups, optimizer.param_groups, strict=True)):
            asked = _group(optimizer, built, names)
            if asked.names != mine.names:
                raise OptimizerError(
                    f"parameter group {i} of the recipe's {self.optimizer} holds other parameters than that of the "
                    f"checkpoint after step {self.step}. {self._remedy}"
                )
            differing = [key for key, value in asked.settings.items() if not _same(mine.settings.get(key), value)]
            if differing:
                said = "; ".join(f"{k} = {asked.settings[k]!r}, not {mine.settings.get(k)!r}" for k in differing)
                raise OptimizerError(
                    f"the recipe that is asked for is not the one that the checkpoint after step {self.step} is of: "
                    f"there its {self.optimizer} has {said}. Pass the optimizer and the scheduler of that training. "
                    f"{self._remedy}"
                )

    @property
    def initial_rate(self) -> float:
        """The learning rate of the first group before any scheduler."""
        group = self.groups[0]
        return group.initial_rate if group.initial_rate is not None else float(group.settings["lr"])

    @property
    def _remedy(self) -> str:
        return "To start another optimizer there, with nothing remembered, pass checkpoint.model()."


def _group(optimizer: torch.optim.Optimizer, group: Mapping[str, Any], names: Mapping[int, str]) -> RememberedGroup:
    accepted = inspect.signature(type(optimizer).__init__).parameters
    held = {key: _copy(value) for key, value in group.items() if key not in _LABELS}
    settings = {key: value for key, value in held.items() if key in accepted}
    counters = {key: value for key, value in held.items() if key not in accepted}
    inside = tuple(names[id(p)] for p in group["params"] if id(p) in names)
    initial = group.get("initial_lr")
    return RememberedGroup(inside, settings, counters, None if initial is None else float(initial))


def _copy(value: Any) -> Any:
    """A value that later steps do not change."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: _copy(inside) for key, inside in value.items()}
    return type(value)(_copy(inside) for inside in value) if isinstance(value, list | tuple) else value


def _same(one: Any, other: Any) -> bool:
    """Whether two settings are; numbers may differ by rounding."""
    pair = (one, other)
    if all(isinstance(value, list | tuple) for value in pair):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    if all(isinstance(value, int | float) or (isinstance(value, Tensor) and value.ndim == 0) for value in pair):
        return math.isclose(float(one), float(other), rel_tol=SAME)
    if all(isinstance(value, Tensor) for value in pair):
        return one.shape == other.shape and bool(torch.isclose(one, other.to(one)).all())
    return bool(one is other or one == other)
