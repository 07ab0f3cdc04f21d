"""Cross-entropy, ``torch.nn.CrossEntropyLoss``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from whichmin.errors import DataError
from whichmin.losses.loss import Array, Loss, Objective, Reduction, check_range, count_of

#: Outputs that span less than this have exponentials that neither over- nor underflow beside each other.
RANGE = 600.0
#: Probabilities of a row may add up to one up to this.
SUM = 1e-4


@dataclass(frozen=True, repr=False)
class CrossEntropy(Loss):
    """``torch.nn.CrossEntropyLoss()``: L = −(1/D) Σ_i Σ_c T_ic log softmax(f_i)_c.

    T_i is the probability of each class, with smoothing ε mixed with 1/C, times the classes' weights. D is the number
    of rows, or for class numbers the sum of their classes' weights; 1 for a sum.

    Targets are class numbers, (n,), or (n, positions) for networks whose outputs (n, positions, C) are flattened, or
    probabilities, (n, C).

    Attributes:
        weight: of each class; None for 1.
        ignored: the class number that does not count.
        reduction: mean or sum.
        smoothing: ε.
    """

    takes_classes = True
    label = "cross-entropy"

    weight: tuple[float, ...] | None = None
    ignored: int = -100
    reduction: Reduction = "mean"
    smoothing: float = 0.0

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Torch's own."""
        if not targets.is_floating_point():
            targets = targets.reshape(-1)
            outputs = outputs.reshape(len(targets), -1)
        return functional.cross_entropy(
            outputs,
            targets,
            weight=None
            if self.weight is None
            else torch.tensor(self.weight, dtype=outputs.dtype, device=outputs.device),
            ignore_index=self.ignored,
            reduction=self.reduction,
            label_smoothing=self.smoothing,
        )

    def objective(self, targets: Tensor, outputs: int) -> Objective:
        """On outputs counted from zero."""
        return _CrossEntropy(self, targets.detach().cpu(), outputs)

    def check(self, targets: Tensor, name: str) -> None:
        """Probabilities that add up to one, or class numbers from 0."""
        if not targets.is_floating_point():
            counted = targets[targets != self.ignored]
            if not len(counted):
                raise DataError(f"all of {name} is {self.ignored}, which does not count: nothing is to be fitted.")
            check_range(counted, name, 0, torch.inf, "class numbers from 0")
            return
        if targets.shape[1] == 1:
            whole = bool((targets == targets.round()).all())
            numbers = f"class numbers are integers: {name}.long()" if whole else "expected probabilities, (N, C)"
            raise DataError(
                f"{name} has one floating-point number a row, which is no probability of classes: {numbers}. For one "
                "output take torch.nn.BCEWithLogitsLoss()."
            )
        check_range(targets, name, 0.0, 1.0, "probabilities from 0 to 1")
        sums = targets.double().sum(1)
        off = (sums - 1.0).abs() > SUM
        if bool(off.any()):
            row = int(off.nonzero()[0, 0])
            raise DataError(
                f"the probabilities in row {row} of {name} add up to {float(sums[row]):.6g}; expected 1: divide each "
                f"row by its sum, {name} / {name}.sum(1, keepdim=True)."
            )


class _CrossEntropy(Objective):
    def __init__(self, loss: CrossEntropy, targets: Tensor, outputs: int) -> None:
        self.loss, self.origin = loss, np.zeros(len(targets) * outputs)
        is_class = not targets.is_floating_point()
        self._classes = C = outputs if not is_class else outputs * len(targets) // targets.numel()
        weight = np.ones(C) if loss.weight is None else np.array(loss.weight)
        if is_class:
            numbers = targets.reshape(-1).numpy()
            counts = numbers != loss.ignored
            at = np.where(counts, numbers, 0)
            self._T = np.zeros((len(numbers), C))
            self._T[np.arange(len(numbers)), at] = (1.0 - loss.smoothing) * weight[at]
            self._T += loss.smoothing / C * weight
            self._T *= counts[:, None]
            self._parts = weight[at] * counts
        else:
            probabilities = targets.double().numpy()
            self._T = ((1.0 - loss.smoothing) * probabilities + loss.smoothing / C) * weight
            self._parts = np.ones(len(targets))
        self._s = self._T.sum(axis=1)
        self._ones, self._whole = np.ones(C), float(self._s.sum())
        self._D = self._divisor(self._parts)
        self.gamma = 0.5 * float(self._s.max()) / self._D
        counted = self._s > 0
        share = self._T[counted] / self._s[counted, None]
        entropy = -np.where(share > 0, share * np.log(np.where(share > 0, share, 1.0)), 0.0).sum(axis=1)
        self.lowest = float(self._s[counted] @ entropy) / self._D
        self.is_bounded = bool((share > 0).all())

    def _divisor(self, parts: Array) -> float:
        return count_of(self.loss.reduction, float(parts.sum()))  # type: ignore[attr-defined]

    def value(self, r: Array) -> float:
        """By the logarithm of the sum of exponentials."""
        f = r.reshape(-1, self._classes)
        top = f.max(axis=1)
        total = top + np.log(np.exp(f - top[:, None]).sum(axis=1))
        return float(self._s @ total - np.vdot(self._T, f)) / self._D

    def value_and_gradient(self, r: Array) -> tuple[float, Array]:
        """With one exponential for both."""
        f = r.reshape(-1, self._classes)
        top = r.max()
        if not top - r.min() < RANGE:
            return self.value(r), self.gradient(r)
        p = np.exp(f - top)
        total = p.dot(self._ones)
        value = float(self._s.dot(np.log(total)) + top * self._whole - self._T.reshape(-1).dot(r)) / self._D
        p *= (self._s / total)[:, None]
        p -= self._T
        p /= self._D
        return value, p.reshape(-1)

    def gradient(self, r: Array, rows: NDArray[np.int64] | None = None) -> Array:
        """(s p − T)/D with p = softmax(f) and s = Σ_c T_c."""
        C = self._classes
        if rows is None:
            f, T, s, D = r.reshape(-1, C), self._T, self._s, self._D
        else:
            at = rows[::C] // C
            f, T, s = r[rows].reshape(-1, C), self._T[at], self._s[at]
            D = self._divisor(self._parts[at]) or 1.0  # torch's mean over nothing is not a number
        p = np.exp(f - f.max(axis=1, keepdims=True))
        p *= (s / p.sum(axis=1))[:, None]
        p -= T
        p /= D
        return p.reshape(-1)

    def curve(self, r: Array, v: Array) -> Array:
        """S (diag p − p pᵀ) v/D, row by row."""
        f, v = r.reshape(-1, self._classes), v.reshape(-1, self._classes)
        p = np.exp(f - f.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        pv = p * v
        return (self._s[:, None] / self._D * (pv - p * pv.sum(axis=1, keepdims=True))).reshape(-1)

    def limit(self, start: Array, K: Array) -> Array | None:
        """Where softmax(f) = T/s: f is fixed up to a constant in each row, along which no gradient points."""
        if not self.is_bounded:
            return None
        n, C = self._T.shape
        with np.errstate(divide="ignore"):
            aim = np.where(self._s[:, None] > 0, np.log(self._T / np.maximum(self._s, 1e-300)[:, None]), 0.0)
        P = np.kron(np.eye(n) * (self._s > 0), np.eye(C) - 1.0 / C)
        return P @ np.linalg.lstsq(P @ K @ P, P @ (aim.reshape(-1) - start), rcond=1e-13)[0]
