"""Errors: each says what was got, what was expected and what to do.

Everything that a caller can mend by changing the input is an :class:`InputError`, which is also a ``ValueError``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class WhichminError(Exception):
    """The base of all errors that whichmin raises on purpose."""


class InputError(WhichminError, ValueError):
    """What was passed in cannot be used."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Of classes with another built-in base, such as OSError, others' ways to copy errors do not know which to make.
        return type(self), self.args


class DataError(InputError):
    """Data that cannot be used: not finite, of the wrong shape, an unreadable file, an unknown set."""


class ModelError(InputError):
    """A model whose tangent kernel is not defined: rows that mix, outputs that vary, nothing to train."""


class OptimizerError(InputError):
    """An optimizer, or a setting of one, that cannot be predicted or used."""


class DivergenceError(OptimizerError):
    """A learning rate beyond the limit of stability; ``limit`` is the largest that converges."""

    def __init__(self, message: str, limit: float) -> None:
        super().__init__(message)
        self.limit = limit

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.limit)


class SingularKernelError(InputError):
    """Targets that no parameters reach on the linearized network, such as identical inputs with different labels."""


class MemoryPlanError(InputError, MemoryError):
    """A computation that would not fit in memory; the message says what would."""


class ConfigError(InputError):
    """A configuration file or a command-line option that cannot be used."""


class OutputError(InputError, OSError):
    """A place that cannot be written to."""


class ResultError(InputError):
    """A saved result that cannot be read back, or a result asked for something that it does not hold."""


class TrainingError(WhichminError, RuntimeError):
    """Training met a number that is not finite.

    Attributes:
        state: the last parameters that were kept, a state dict; their loss was finite.
        step: the number of steps that led to ``state``.
        losses: the training mean square errors up to the step that failed.
    """

    def __init__(self, message: str, *, state: dict[str, Tensor], step: int, losses: list[float] | Any) -> None:
        super().__init__(message)
        self.state = state
        self.step = step
        self.losses = losses

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), state=self.state, step=self.step, losses=self.losses), self.args
