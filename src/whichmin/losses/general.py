"""Any function (f, y) → a scalar that is a mean or a sum over rows, through torch's derivatives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whichmin.devices import callers_default_device
from whichmin.errors import InputError, ResultError
from whichmin.losses.loss import Array, Loss, Objective

#: Rows that a loss is tried on.
TRIED = 6
#: A loss on rows may differ from the mean or the sum of that on each by this part.
SAME = 1e-6
#: Gradients are so far apart, in units of the outputs, whose difference is a product with the Hessian.
APART = 1e-5
#: What to do with losses that take only some outputs.
ANY = (
    "Outputs of a linearized network may be any numbers: where the model ends in a sigmoid, a softplus or the like, "
    "leave that out and put it into the loss, lambda f, y: loss(f.sigmoid(), y), or take torch's loss that has it "
    "already, such as BCEWithLogitsLoss."
)
#: Products with the Hessian that find its largest eigenvalue.
PRODUCTS = 30


@dataclass(frozen=True, repr=False)
class General(Loss):
    """A loss of the user's own, such as ``lambda f, y: (f - y).abs().mean()``.

    Its derivatives are torch's, so that a step in function space costs a call of it and a backward pass. Whether it has
    a minimizer is not known.

    Attributes:
        function: (f, y) → scalar; f is (n, C), y as the task holds it.
        called: its name.
    """

    takes_classes = True
    label = "loss"

    called: str
    function: Callable[[Tensor, Tensor], Tensor] | None = None

    def __repr__(self) -> str:
        return self.called

    @property
    def takes_log_probabilities(self) -> bool:
        """Those of torch's ``NLLLoss`` and ``KLDivLoss``."""
        return isinstance(self.function, nn.NLLLoss | nn.KLDivLoss)

    @property
    def name(self) -> str:
        """As it is called."""
        return self.called

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The function's value.

        Raises:
            InputError: it fails, or gives no scalar.
            ResultError: it was loaded with a saved result, which holds no functions.
        """
        if self.function is None:
            raise ResultError(
                f"a loaded task holds no loss {self.called}: make the Task again with loss={self.called}."
            )
        try:
            with callers_default_device():
                value: Any = self.function(outputs, targets)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise InputError(
                f"the loss {self.called} fails on outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}, "
                f"{targets.dtype}: {error}"
            ) from error
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = (
                f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            )
            raise InputError(f"the loss {self.called} gives {got}; expected a scalar tensor: add .mean().")
        return value.reshape(())

    def objective(self, targets: Tensor, outputs: int) -> Objective:
        """On outputs counted from zero."""
        return _General(self, targets, outputs)

    def check_rows(self, targets: Tensor, outputs: int) -> None:
        """Refuse a loss that is neither a mean nor a sum over rows, not finite, or without a gradient.

        Args:
            targets: of a training set.
            outputs: C.

        Raises:
            InputError: says which.
        """
        y = targets[:TRIED]
        y = y.double() if y.is_floating_point() else y
        f = torch.randn(len(y), outputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(y.device)
        with torch.enable_grad():
            moving = f.requires_grad_()
            try:
                whole = self(moving, y)
            except InputError as error:
                self(torch.full_like(f, 0.5), y)  # a loss that fails on these too fails for another reason
                raise InputError(f"{error}. {ANY}") from error
            gradient = torch.autograd.grad(whole, moving, allow_unused=True)[0] if whole.requires_grad else None
            whole = whole.detach()
        if not bool(torch.isfinite(whole)):
            raise InputError(
                f"the loss {self.called} is {float(whole)} on outputs of about 1; expected a finite number. {ANY}"
            )
        if gradient is None:
            raise InputError(f"the loss {self.called} has no gradient: compute it with torch from the outputs.")
        with torch.no_grad():
            rows = torch.stack([self(f[i : i + 1], y[i : i + 1]) for i in range(len(y))])
            if not bool(torch.isfinite(rows).all()):
                row = int((~torch.isfinite(rows)).nonzero()[0, 0])
                raise InputError(
                    f"the loss {self.called} is {float(rows[row])} on row {row} alone. Where rows do not count, as "
                    "those of an ignored class number, take torch.nn.CrossEntropyLoss(), which is NLLLoss() for a "
                    "model that ends in log_softmax."
                )
            pairs = [(i, j, self(f[[i, j]], y[[i, j]])) for i, j in itertools.combinations(range(len(y)), 2)]
        for share in (1.0 / len(y), 1.0):
            part = 0.5 if share < 1 else 1.0
            apart = [abs(float(share * rows.sum() - whole))]
            apart += [abs(float(part * (rows[i] + rows[j]) - both)) for i, j, both in pairs]
            if max(apart) <= SAME * (float(rows.abs().max()) + float(whole.abs())):
                return
        raise InputError(
            f"the loss {self.called} is neither the mean nor the sum of the losses of its rows: on {len(y)} rows it is "
            f"{float(whole):.6g}, their mean is {float(rows.mean()):.6g}. A loss that mixes rows has no per-row "
            "gradient; take one that adds up over rows."
        )


class _General(Objective):
    def __init__(self, loss: General, targets: Tensor, outputs: int) -> None:
        targets = targets.detach().cpu()
        self.loss, self._outputs = loss, outputs
        self._y = targets.double() if targets.is_floating_point() else targets
        self.origin = np.zeros(len(targets) * outputs)
        self.lowest, self.is_bounded = -np.inf, False
        self.gamma, self.has_largest_curvature = self._largest_curvature(), False

    def _largest_curvature(self) -> float:
        """That at outputs of zero; at random ones where the loss has no curvature there, as one of directions."""
        draw = np.random.default_rng(0)
        size = self._curvature_at(np.zeros(len(self.origin)), draw)
        return size if math.isfinite(size) else self._curvature_at(draw.standard_normal(len(self.origin)), draw)

    def _curvature_at(self, r: Array, draw: np.random.Generator) -> float:
        v = draw.standard_normal(len(r))
        size = 0.0
        for _ in range(PRODUCTS):
            v = self.curve(r, v / (np.linalg.norm(v) or 1.0))
            size = float(np.linalg.norm(v))
            if not math.isfinite(size):
                return math.inf
        return size

    def _shaped(self, r: Array) -> Tensor:
        return torch.from_numpy(r).reshape(-1, self._outputs)

    def value(self, r: Array) -> float:
        """By the function."""
        with torch.no_grad():
            return float(self.loss(self._shaped(r), self._y))

    def gradient(self, r: Array, rows: NDArray[np.int64] | None = None) -> Array:
        """By a backward pass."""
        if rows is None:
            return self.loss.gradient(self._shaped(r), self._y).reshape(-1).numpy()
        at = torch.from_numpy(rows[:: self._outputs] // self._outputs)
        return self.loss.gradient(self._shaped(r[rows]), self._y[at]).reshape(-1).numpy()

    def curve(self, r: Array, v: Array) -> Array:
        """By two backward passes, or by differences of gradients where torch has one alone; zero of a straight loss."""
        with torch.enable_grad():
            f = self._shaped(r).requires_grad_()
            (g,) = torch.autograd.grad(self.loss(f, self._y), f, create_graph=True)
            if not g.requires_grad:
                return np.zeros_like(r)
            try:
                (h,) = torch.autograd.grad(g, f, self._shaped(v), allow_unused=True)
            except RuntimeError:  # a loss whose backward pass is not differentiable
                step = APART * max(1.0, float(np.abs(r).max())) / (float(np.abs(v).max()) or 1.0)
                return (self.gradient(r + step * v) - self.gradient(r - step * v)) / (2.0 * step)
        return np.zeros_like(r) if h is None else h.reshape(-1).numpy(force=True)
