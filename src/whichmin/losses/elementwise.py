"""Losses that add up over single outputs: logistic, Huber's, Poisson's, and Gauss's with a fixed variance."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from whichmin.losses.loss import Array, Loss, Objective, Reduction, check_range, count_of

PerOutput = float | tuple[float, ...]


@dataclass(frozen=True, repr=False)
class Elementwise(Loss):
    """L = (1/D) Σ ℓ(f, y) over outputs, D their number, or 1 for a sum. Each loss gives ℓ and its derivatives in f.

    Attributes:
        reduction: mean or sum.
        has_largest_bend: whether ∂²ℓ/∂f² has a bound.
    """

    has_largest_bend: ClassVar[bool] = True

    reduction: Reduction = "mean"

    def objective(self, targets: Tensor, outputs: int) -> Objective:
        """On outputs counted from the targets where the loss is least there."""
        return _Elementwise(self, targets.detach().double().reshape(-1).cpu().numpy(), outputs)

    @abstractmethod
    def each(self, d: Array, y: Array, column: NDArray[np.int64]) -> Array:
        """ℓ; ``d`` is f − y of losses that are least at y, else f; ``column`` is each output's number in its row."""

    @abstractmethod
    def slope(self, d: Array, y: Array, column: NDArray[np.int64]) -> Array:
        """∂ℓ/∂f."""

    @abstractmethod
    def bend(self, d: Array, y: Array, column: NDArray[np.int64]) -> Array:
        """∂²ℓ/∂f²."""

    @abstractmethod
    def largest_bend(self, y: Array, column: NDArray[np.int64]) -> float:
        """The largest ∂²ℓ/∂f², over all f where that has a bound."""

    def least(self, y: Array, column: NDArray[np.int64]) -> Array | None:
        """Where ℓ is least, infinite where that is at infinity; None for at y."""
        return None

    def infimum(self, y: Array, column: NDArray[np.int64]) -> Array:
        """The ℓ that no f gets below."""
        least = self.least(y, column)
        return self.each(np.zeros_like(y) if least is None else least, y, column)


class _Elementwise(Objective):
    def __init__(self, loss: Elementwise, y: Array, outputs: int) -> None:
        self.loss, self._each, self._y = loss, loss, y
        self._column = np.arange(len(y)) % outputs
        least = loss.least(y, self._column)
        self.origin = y if least is None else np.zeros_like(y)
        self._D = count_of(loss.reduction, len(y))
        self.gamma = loss.largest_bend(y, self._column) / self._D
        self.has_largest_curvature = loss.has_largest_bend
        self.lowest = float(loss.infimum(y, self._column).sum()) / self._D
        self.minimizer = y if least is None else least
        if not np.isfinite(self.minimizer).all():
            self.minimizer, self.is_bounded = None, False

    def value(self, r: Array) -> float:
        """Σ ℓ/D."""
        return float(self._each.each(r, self._y, self._column).sum()) / self._D

    def gradient(self, r: Array, rows: NDArray[np.int64] | None = None) -> Array:
        """ℓ'/D."""
        if rows is None:
            return self._each.slope(r, self._y, self._column) / self._D
        D = count_of(self._each.reduction, len(rows))
        return self._each.slope(r[rows], self._y[rows], self._column[rows]) / D

    def curve(self, r: Array, v: Array) -> Array:
        """ℓ'' v/D."""
        return self._each.bend(r, self._y, self._column) * v / self._D


def _column_values(values: PerOutput | None, column: NDArray[np.int64]) -> Array:
    """A number for each output, given one for all or one for each column; None is 1."""
    if values is None:
        return np.ones(len(column))
    return np.array(values)[column] if isinstance(values, tuple) else np.full(len(column), values)


def _tensor(values: PerOutput | None, like: Tensor) -> Tensor | None:
    return None if values is None else torch.tensor(values, dtype=like.dtype, device=like.device)


def _sigmoid(f: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * f))


@dataclass(frozen=True, repr=False)
class BinaryCrossEntropy(Elementwise):
    """``torch.nn.BCEWithLogitsLoss()``: ℓ = w [(1 − y) f + (1 − y + p y) log(1 + e^{−f})], y from 0 to 1.

    Attributes:
        weight: w, one for all outputs or for each column.
        positive: p, the weight of positive targets, one for all or for each column.
    """

    label = "binary cross-entropy"

    weight: PerOutput | None = None
    positive: PerOutput | None = None

    @property
    def name(self) -> str:
        """``BCEWithLogitsLoss``."""
        return "BCEWithLogitsLoss"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Torch's own."""
        return functional.binary_cross_entropy_with_logits(
            outputs,
            targets,
            weight=_tensor(self.weight, outputs),
            pos_weight=_tensor(self.positive, outputs),
            reduction=self.reduction,
        )

    def check(self, targets: Tensor, name: str) -> None:
        """Probabilities."""
        what = "0, 1 or probabilities between: for targets of ±1 pass (y > 0).float()"
        check_range(targets, name, 0.0, 1.0, what)

    def _weights(self, y: Array, column: NDArray[np.int64]) -> tuple[Array, Array]:
        """w, and 1 − y + p y."""
        return _column_values(self.weight, column), 1.0 - y + _column_values(self.positive, column) * y

    def each(self, d: Array, y: Array, column: NDArray[np.int64]) -> Array:
        """ℓ; at infinite f its limit."""
        w, both = self._weights(y, column)
        finite = np.where(np.isfinite(d), d, 0.0)
        value = (1.0 - y) * finite + both * np.logaddexp(0.0, -finite)
        return w * np.where(np.isfinite(d), value, 0.0)

    def slope(self, d: Array, y: Array, column: NDArray[np.int64]) -> Array:
        """W [(1 − y) − (1 − y + p y) σ(−f)]."""
        w, both = self._weights(y, column)
        return w * ((1.0 - y) - both * _sigmoid(-d))

    def bend(self, d: Array, y: Array, column: NDArray[np.int64]) -> Array:
        """W (1 − y + p y) σ(f) σ(−f)."""
        w, both = self._weights(y, column)
        return w * both * _sigmoid(d) * _sigmoid(-d)

    def largest_bend(self, y: Array, column: NDArray[np.int64]) -> float:
        """At f = 0."""
        w, both = self._weights(y, column)
        return float((w * both).max()) / 4.0

    def least(self, y: Array, column: NDArray[np.int64]) -> Array:
        """Log(p y/(1 − y))."""
        with np.errstate(divide="ignore"):
            return np.log(_column_values(self.positive, column) * y) - np.log(1.0 - y)


@dataclass(frozen=True, repr=False)
class Huber(Elementwise):
    """``torch.nn.HuberLoss``, and with ``smooth`` ``torch.nn.SmoothL1Loss``, which is divided by δ.

    ℓ = d²/2 for |d| ≤ δ and δ (|d| − δ/2) beyond, d = f − y.

    Attributes:
        delta: δ, called beta by ``SmoothL1Loss``.
        smooth: whether ℓ is divided by δ.
    """

    label = "Huber loss"

    delta: float = 1.0
    smooth: bool = False

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Torch's own; its derivative takes no targets of another type than the outputs."""
        targets = targets.to(outputs.dtype)
        if self.smooth:
            return functional.smooth_l1_loss(outputs, targets, reduction=self.reduction, beta=self.delta)
        return functional.huber_loss(outputs, targets, reduction=self.reduction, delta=self.delta)

    @property
    def name(self) -> str:
        """``SmoothL1Loss`` where it is divided."""
        return "SmoothL1Loss" if self.smooth else "HuberLoss"

    @property
    def _scale(self) -> float:
        return 1.0 / self.delta if self.smooth else 1.0

    def each(self, d: Array, y: Array, column: NDArray[np.int64]) -> Array:
        """ℓ."""
        inside = np.minimum(np.abs(d), self.delta)
        return self._scale * inside * (np.abs(d) - 0.5 * inside)

    def slope(self, d: Array, y: Array, column: NDArray[np.int64]) -> Array:
        """D, at most δ."""
        return self._scale * np.clip(d, -self.delta, self.delta)

    def bend(self, d: Array, y: Array, column: NDArray[np.int64]) -> Array:
        """1 inside, 0 beyond."""
        return np.where(np.abs(d) <= self.delta, self._scale, 0.0)

    def largest_bend(self, y: Array, column: NDArray[np.int64]) -> float:
        """1."""
        return self._scale


@dataclass(frozen=True, repr=False)
class Poisson(Elementwise):
    """``torch.nn.PoissonNLLLoss()`` with ``log_input``: ℓ = e^f − y f, y ≥ 0.

    Attributes:
        full: whether Stirling's approximation of log y! is added.
    """

    label = "Poisson loss"
    has_largest_bend = False

    full: bool = False

    @property
    def name(self) -> str:
        """``PoissonNLLLoss``."""
        return "PoissonNLLLoss"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Torch's own."""
        return functional.poisson_nll_loss(outputs, targets, full=self.full, reduction=self.reduction)

    def check(self, targets: Tensor, name: str) -> None:
        """Counts."""
        check_range(targets, name, 0.0, math.inf, "counts, from 0")

    def _constant(self, y: Array) -> Array:
        if not self.full:
            return np.zeros_like(y)
        large = np.where(y > 1, y, 1.0)
        return np.where(y > 1, large * np.log(large) - large + 0.5 * np.log(2 * math.pi * large), 0.0)

    def each(self, d: Array, y: Array, column: NDArray[np.int64]) -> Array:
        """ℓ; at f of minus infinity its limit."""
        finite = np.where(np.isfinite(d), d, 0.0)
        return np.exp(d) - y * finite + self._constant(y)

    def slope(self, d: Array, y: Array, column: NDArray[np.int64]) -> Array:
        """E^f − y."""
        return np.exp(d) - y

    def bend(self, d: Array, y: Array, column: NDArray[np.int64]) -> Array:
        """E^f."""
        return np.exp(d)

    def largest_bend(self, y: Array, column: NDArray[np.int64]) -> float:
        """That at f = 0 or at the minimizer; it has no bound."""
        return max(1.0, float(y.max()))

    def least(self, y: Array, column: NDArray[np.int64]) -> Array:
        """Log y."""
        with np.errstate(divide="ignore"):
            return np.log(y)


@dataclass(frozen=True, repr=False)
class Gaussian(Elementwise):
    """``torch.nn.GaussianNLLLoss()`` with a fixed variance v: ℓ = ((f − y)²/v + log v)/2.

    Attributes:
        variance: v, one for all outputs or for each column.
        full: whether log(2π)/2 is added.
    """

    label = "Gaussian loss"

    variance: PerOutput = 1.0
    full: bool = False

    @property
    def name(self) -> str:
        """``GaussianNLLLoss``."""
        return "GaussianNLLLoss"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Torch's own."""
        variance = torch.tensor(self.variance, dtype=outputs.dtype, device=outputs.device).expand_as(outputs)
        return functional.gaussian_nll_loss(outputs, targets, variance, full=self.full, reduction=self.reduction)

    def each(self, d: Array, y: Array, column: NDArray[np.int64]) -> Array:
        """ℓ."""
        v = _column_values(self.variance, column)
        return 0.5 * (d * d / v + np.log(v)) + (0.5 * math.log(2 * math.pi) if self.full else 0.0)

    def slope(self, d: Array, y: Array, column: NDArray[np.int64]) -> Array:
        """(f − y)/v."""
        return d / _column_values(self.variance, column)

    def bend(self, d: Array, y: Array, column: NDArray[np.int64]) -> Array:
        """1/v."""
        return 1.0 / _column_values(self.variance, column)

    def largest_bend(self, y: Array, column: NDArray[np.int64]) -> float:
        """1/v of the smallest v."""
        return float((1.0 / _column_values(self.variance, column)).max())
