"""Whether the gradients that an optimizer got can be those of the task's loss.

The gradient of any loss on training rows is Jᵀc, for some c, (N·C). With more parameters than N·C a gradient that lies
in the range of Jᵀ has no other origin, and that of the task's loss, on any batch of those rows, has c = w ∘ ∂L/∂f with
one weight w ≥ 0 a row: zero for rows that are not in the batch, equal for those that are, or a multiple where a row is
drawn more than once. What is not in that range (dropout, augmented rows, penalties on the parameters) tells nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whichmin.kernels.kernel import tangent_kernel
from whichmin.kernels.linearize import Tangent
from whichmin.kernels.spectrum import lazy_spectrum
from whichmin.task import Task

#: The most outputs N·C of the training rows for which a kernel is made to tell.
MOST = 600
#: The part of a gradient's square that may be outside the range of Jᵀ: rounding, of single precision through a kernel.
_INSIDE = 1e-4
#: The part of its square by which a gradient may differ from one of the task's loss: clearly more than rounding.
_SAME = 1e-3
#: The weight, relative to the largest, up to which a row is not in the batch.
_ABSENT = 1e-2
#: How often one row may be in what one step is made of: multiples up to any number would fit all weights.
_DRAWN = 5

_NOISY = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Probe:
    """What an optimizer got at one step.

    Attributes:
        step: how many steps had been made.
        state: parameters and buffers of the network there, by name.
        gradients: of the trainable parameters, by name.
    """

    step: int
    state: dict[str, Tensor]
    gradients: dict[str, Tensor]

    @classmethod
    def of(cls, step: int, model: nn.Module, named: Mapping[str, nn.Parameter]) -> Probe | None:
        """Of a model between its backward pass and the optimizer's step; None where its gradients tell nothing."""
        if any(m.training and isinstance(m, _NOISY) for m in model.modules()):
            return None
        gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for n, p in named.items()}
        if any(g.layout is not torch.strided for g in gradients.values()):
            return None
        return cls(step, {n: t.detach().clone() for n, t in model.state_dict().items()}, gradients)


def is_another_loss(probe: Probe, network: nn.Module, task: Task) -> bool:
    """Whether a gradient is that of training rows and clearly not of the task's loss on them, whatever the batch.

    Args:
        probe: the gradient, and where.
        network: a network of that kind; it is moved to where the gradient was taken.
        task: the training rows, their targets and the loss.

    Cost: a forward and a backward pass where the gradient is that of all rows; otherwise a kernel and its
    eigendecomposition, unless N·C is above ``MOST`` or has no fewer parameters.
    """
    network.load_state_dict(probe.state)
    tangent = Tangent(network)
    outputs = tangent.f0(task.X)
    c = task.loss.gradient(outputs, task.y)
    square = _dot(probe.gradients, probe.gradients)
    full = tangent.vjp(task.X, c)
    if not np.isfinite(square) or square == 0 or _outside(full, probe.gradients) < _SAME:
        return False
    if c.numel() > MOST or c.numel() >= tangent.size:
        return False
    pushed = tangent.jvp(task.X, probe.gradients).double().reshape(-1).cpu().numpy()
    K = lazy_spectrum(tangent_kernel(network, task.X))
    inside = float(np.dot(pushed, K.solve(pushed))) / square
    if not 1.0 - inside < _INSIDE:
        return False
    rows = c.double().cpu().numpy()
    kernel = K.kernel.reshape(task.n, task.outputs, task.n, task.outputs)
    gram = np.einsum("ia,iajb,jb->ij", rows, kernel, rows)
    aligned = np.einsum("ia,ia->i", rows, pushed.reshape(rows.shape))
    weights, left = _batch(gram, aligned, square)
    return left > _SAME or _unequal(weights, gram, aligned, square)


def _batch(gram: Array, aligned: Array, square: float) -> tuple[Array, float]:
    """The weights w ≥ 0 of rows whose gradients come nearest, and the part of the square that is left."""
    from scipy.optimize import nnls

    values, vectors = np.linalg.eigh(gram)
    keep = values > 1e-12 * values[-1]
    roots, vectors = np.sqrt(values[keep]), vectors[:, keep]
    weights, _ = nnls(roots[:, None] * vectors.T, vectors.T @ aligned / roots)
    return weights, _left(weights, gram, aligned, square)


def _unequal(weights: Array, gram: Array, aligned: Array, square: float) -> bool:
    """Whether the rows that have a weight need more than two different ones that are not multiples of one.

    Two are what batches that are accumulated give where the last one is smaller.
    """
    present = weights > _ABSENT * weights.max()
    used = np.sort(weights[present])
    gap = int(np.diff(used).argmax()) if len(used) > 1 else 0
    is_low = present & (weights <= used[gap])
    levels = np.stack([is_low, present & ~is_low], axis=1).astype(float)
    multiples = np.where(present, np.round(weights / used[0]), 0.0)[:, None]
    for shape in (levels, multiples) if multiples.max() <= _DRAWN else (levels,):
        heights = np.linalg.lstsq(shape.T @ gram @ shape, shape.T @ aligned, rcond=None)[0]
        if _left(np.asarray(shape @ heights, np.float64), gram, aligned, square) <= _SAME:
            return False
    return True


def _left(weights: Array, gram: Array, aligned: Array, square: float) -> float:
    return 1.0 - float(2.0 * np.dot(weights, aligned) - np.dot(weights, gram @ weights)) / square


def _outside(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """The part of b's square that is not along a, one where they point to opposite sides."""
    along, lengths = _dot(a, b), _dot(a, a) * _dot(b, b)
    return 1.0 - along**2 / lengths if along > 0 and lengths > 0 else 1.0


def _dot(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    return sum(float((a[name].double() * b[name].double()).sum()) for name in a)
