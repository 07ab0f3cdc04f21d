"""Which steps of a training are kept as checkpoints, and how one of them is asked for."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from whichmin.checkpoint import Checkpoint
from whichmin.errors import InputError, ResultError
from whichmin.training.spacing import Spacing

Steps = int | Sequence[int]


class Keeper:
    """Keeps checkpoints while a network trains: the first, those that are asked for, and the last.

    Args:
        steps: the steps after which checkpoints are kept, or how many at most, spaced by themselves.

    Raises:
        InputError: a step that is not a whole number of 0 or more, or a number of checkpoints below 3.
    """

    def __init__(self, steps: Steps) -> None:
        wanted, most = check_steps(steps)
        self._wanted = set(wanted)
        self._spacing = None if most is None else Spacing(most)
        self.kept: list[Checkpoint] = []

    @property
    def is_idle(self) -> bool:
        """Whether none are asked for."""
        return not self._wanted and self._spacing is None

    def look(self, step: int, make: Callable[[], Checkpoint]) -> None:
        """Called after every step, and before the first."""
        if self.is_idle or self._is_there(step):
            return
        if not self.kept or step in self._wanted or self._is_due(step):
            self.kept.append(make())

    def end(self, step: int, make: Callable[[], Checkpoint]) -> None:
        """Called where training ended."""
        if not self.is_idle and not self._is_there(step):
            self.kept.append(make())

    def _is_due(self, step: int) -> bool:
        spacing = self._spacing
        return spacing is not None and step >= spacing.due and spacing.admits(self.kept)

    def _is_there(self, step: int) -> bool:
        return bool(self.kept) and self.kept[-1].step == step


def check_steps(steps: Any) -> tuple[tuple[int, ...], int | None]:
    """The steps that are asked for, and how many at most where their number is.

    Raises:
        InputError: see :class:`Keeper`.
    """
    expected = "expected the steps to keep, such as (0, 100, 1000), or how many at most, 3 or more"
    is_several = isinstance(steps, Sequence) and not isinstance(steps, str)
    several: Any = steps if is_several else [steps]
    try:
        wanted = tuple(operator.index(step) for step in several)
    except TypeError as error:
        raise InputError(f"checkpoints is {steps!r}; {expected}.") from error
    if isinstance(steps, bool) or any(step < (0 if is_several else 3) for step in wanted):
        raise InputError(f"checkpoints is {steps!r}; {expected}.")
    return (wanted, None) if is_several else ((), wanted[0])


def checkpoint_of(kept: Sequence[Checkpoint], step: Any, last: int, network: nn.Module | None, of: str) -> Checkpoint:
    """The checkpoint that was kept after some step.

    Args:
        kept: all that were, in order.
        step: which one.
        last: where training ended.
        network: a copy of what was trained, which nobody moves; None where that is not known.
        of: what kept them, such as ``train``, for the message.

    Raises:
        InputError: a step beyond the end, or none at all.
        ResultError: a step that was not kept.
    """
    try:
        wanted = operator.index(step)
    except TypeError as error:
        raise InputError(f"step is {step!r}; expected a whole number of steps.") from error
    first = kept[0].step if kept else 0
    if not first <= wanted <= last:
        raise InputError(f"there is no checkpoint after step {wanted}: training went from step {first} to {last}.")
    for checkpoint in kept:
        if checkpoint.step == wanted:
            return replace(checkpoint, _network=network)
    raise ResultError(
        f"step {wanted} was not kept; kept are {', '.join(str(checkpoint.step) for checkpoint in kept) or 'none'}. "
        f"Take one of these, or train again with {of}(…, checkpoints=[{wanted}])."
    )
