"""Whether one network has a lower loss than another on the same points, and how sure a predicted loss is."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whichmin.task import Task

Array = NDArray[np.float64]

#: The cosine between the deviations of predicted outputs and the gradient of the validation loss: seen were .16 to .51.
ALIGNED = 0.4


def row_losses(task: Task, outputs: Tensor) -> Array:
    """The loss of each row of outputs, (n, C), against ``task.y_test``, (n,); rows that do not count are left out."""
    y = task.y_test
    assert y is not None
    f = outputs.detach().double().to(y.device)
    if task.loss.is_quadratic:
        square = (f - y.double()).square()
        return (square.sum(1) if getattr(task.loss, "reduction", "mean") == "sum" else square.mean(1)).cpu().numpy()
    losses = np.array([task.loss.value(f[i : i + 1], y[i : i + 1]) for i in range(len(y))])
    return losses[np.isfinite(losses)]


def standard_error(task: Task, outputs: Tensor) -> float:
    """The standard error of ``task.test_loss(outputs)`` over its points; not a number for fewer than two."""
    losses = row_losses(task, outputs)
    if len(losses) < 2 or losses.mean() == 0:
        return math.nan if len(losses) < 2 else 0.0
    whole = task.test_loss(outputs.double()) / losses.mean()  # 1 for a mean over rows, n for a sum
    return float(abs(whole) * losses.std(ddof=1) / math.sqrt(len(losses)))


def paired_p(before: Array, after: Array) -> float:
    """The p of a one-sided paired t-test whether losses of the same points fall, t = d̄ √n / s of d = before − after."""
    from scipy.special import stdtr

    d = before - after
    n, mean, spread = len(d), float(d.mean()), float(d.std(ddof=1)) if len(d) > 1 else math.nan
    if spread == 0:
        return 0.0 if mean > 0 else 1.0
    return float(stdtr(n - 1, -mean * math.sqrt(n) / spread)) if n > 1 else math.nan


def loss_error(task: Task, outputs: Tensor, error: float) -> float:
    """How far the loss of predicted outputs may be from the trained network's.

    Deviations of root mean square e over n·C outputs move the mean of the loss by c e ‖∂L/∂f‖ √(n·C), c the cosine
    between them and the gradient, and shift it by about its second difference of step e along the gradient: for the
    mean square error by 2 c e √L + e². Those of a prediction do not have independent signs, c ≈ 1/√(n·C): a path that
    is too coarse lags behind training everywhere. So ``ALIGNED`` is taken, if that is more.

    Args:
        task: its ``y_test`` are the targets.
        outputs: (n, C).
        error: e, in the units of the outputs; infinity where it is not known.
    """
    y = task.y_test
    assert y is not None
    if error == 0 or not math.isfinite(error):
        return error
    f = outputs.detach().double().to(y.device)
    exact = y.double() if y.is_floating_point() else y
    g = task.loss.gradient(f, exact)
    norm = float(g.norm())
    ahead = torch.full_like(f, error) if norm == 0 else g * (error * math.sqrt(g.numel()) / norm)
    shift = (task.loss.value(f + ahead, y) + task.loss.value(f - ahead, y)) / 2 - task.loss.value(f, y)
    return error * norm * max(1.0, ALIGNED * math.sqrt(g.numel())) + abs(shift)


def difference_error(task: Task, *predicted: tuple[Tensor, float]) -> float:
    """How far the difference of two predicted losses may be off, the root of the sum of both squares.

    Args:
        task: as for :func:`loss_error`.
        predicted: outputs and their error, of each.
    """
    return math.hypot(*(loss_error(task, outputs, error) for outputs, error in predicted))
