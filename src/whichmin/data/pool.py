"""What every reader hands over: all examples of a source, before any are chosen."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs and what belongs to them.

    Attributes:
        X: inputs, (n, …); pixels as uint8 stay so until examples are chosen.
        y: integer class labels, (n,), or floating-point targets, (n,) or (n, C); None where they are unknown.
    """

    X: Tensor
    y: Tensor | None

    def __len__(self) -> int:
        return len(self.X)


@dataclass(frozen=True, eq=False)
class Pool:
    """A source of examples.

    Attributes:
        source: what messages call it.
        train: the part to train on; also the part to test on where there is no ``test``.
        test: a part of its own to test on.
        flat: whether inputs are flattened unless the caller says otherwise.
        names: the classes' names, by label.
        white: what a pixel is divided by: 255, or 16 for the digits.
    """

    source: str
    train: Examples
    test: Examples | None = None
    flat: bool = False
    names: tuple[str, ...] = ()
    white: float = 255.0
