"""What the rounding of a kernel's entries makes of one linearization.

Entries are rounded by a part u of √(K_ii K_jj), as a few of them computed in double precision tell. With δK random and
of that size, K c changes by δK c, and training takes that back as it does any change of the residual: in the limit the
outputs change by K(x', X) K⁻¹ δK c. Modes whose eigenvalues count as zero are not known at all: they are taken to be
those that the kernel as computed has, of eigenvalues no smaller than what rounding makes of zero.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from whichmin.dynamics.motion.motion import Start
from whichmin.dynamics.paths.linearized import Linearization
from whichmin.kernels.modes import Spectrum
from whichmin.losses import root_mean_square


def rounded(theory: Linearization, c: Tensor, unit: float) -> tuple[Tensor, float]:
    """What the rounding of K makes of K c.

    Args:
        theory: one linearization.
        c: its coefficients, (N·C,).
        unit: u, the part of √(K_ii K_jj) that an entry is rounded by.

    Returns:
        A random δK c, (N·C,), and the root mean square of what the same rounding makes of K(x', X) c.
    """
    d = np.sqrt(np.maximum(theory.spectrum.diagonal, 0.0))
    size = unit * float(np.linalg.norm(d * c.numpy()))
    change = size * d * np.random.default_rng(0).standard_normal(len(d))
    return torch.from_numpy(change), size * math.sqrt(float(np.mean(d**2)))


def unresolved(theory: Linearization, t: float, unit: float, rank: int) -> float:
    """How far modes that count as zero, because rounding hides them, would move the test outputs until time t.

    Args:
        theory: one linearization of a quadratic loss.
        t: the time.
        unit: u.
        rank: no more modes than this have an eigenvalue: the number of parameters.

    Returns:
        The root mean square over the test points, less what rounding alone would make of it.
    """
    start, (values, Q) = theory.motion.start, theory.motion.hidden(rank)
    if not len(values):
        return 0.0
    entry, size = unit * float(np.mean(theory.spectrum.diagonal)), start.spectrum.size
    seen = np.maximum(values, 2.0 * entry * math.sqrt(size))  # rounding alone has eigenvalues up to that
    small = Spectrum(torch.from_numpy(np.diag(seen)), start.objective.gamma, np.finfo(np.float64).eps)
    rule = replace(theory.rule, schedule=replace(theory.rule.schedule, batches=None))  # a batch is the mean of all
    begin = Start.at_rest(small, start.objective, start.residual @ Q, rule.state_vectors)
    c = rule.motion(begin).coefficients(t - theory.first)[0] - Q.T @ theory.coefficients(t).numpy()
    moved = root_mean_square(theory.cross @ torch.from_numpy(Q @ c))
    return math.sqrt(max(0.0, moved**2 - (2.0 * entry * float(np.linalg.norm(c))) ** 2))
