"""Back to the edge of stability, where a kernel has outgrown the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whichmin.dynamics.paths.linearized import flat
from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.kernels.lanczos import LanczosSpace, beside, probe
from whichmin.kernels.modes import Spectrum, rounding_unit
from whichmin.kernels.spectrum import undecomposed
from whichmin.losses import Array, Objective
from whichmin.tangent.features import Features
from whichmin.tangent.metric import Metric

#: A largest eigenvalue of up to this many times the limit of stability counts as within it.
SLACK = 1 + 1e-4
#: A largest eigenvalue of more than this part of the limit of stability is close to it: real training may linger there.
CLOSE = 0.98
#: Whether a kernel has come close is looked at where it was beyond this part of the limit before.
FAR_FROM_EDGE = 0.5
#: The largest eigenvalue is brought back to this part of the limit of stability.
BELOW_EDGE = 0.99
#: Below so many outputs the largest eigenvalue is taken from all of them.
SMALL = 12
#: Its relative precision otherwise.
PRECISION = 1e-3
#: Kernels of more outputs are not formed for their largest eigenvalue alone; nor those of more than the other number
#: where its vector is nearly known, so that few products with J will do.
FORMED, FORMED_BESIDE = 12_288, 2048
#: Nor those of more outputs where two products with J tell that it is beyond the limit.
FORMED_FIRST = 4096
#: So many steps along ∇λ_max are made at most after an interval.
EDGE_STEPS = 3
#: The secant of two eigenvalues takes the place of a new gradient where it is no less than this part of the slope.
BENT = 0.5


def largest_eigenvalue(features: Features, metric: Metric | None = None, near: Array | None = None) -> float:
    """λ_max of J D Jᵀ; of many outputs to ``PRECISION``, from products with J and Jᵀ.

    Args:
        features: J.
        metric: D; None for the identity.
        near: the eigenvector of the largest eigenvalue of a kernel like that, (N·C,); None where none is known.
    """
    n = features.outputs.numel()
    if n <= (FORMED if near is None else FORMED_BESIDE):
        K = features.gram(metric=metric)
        return undecomposed(K.double(), 0.0, rounding_unit(K.dtype)).largest if bool(K.any()) else 0.0

    def product(v: Array) -> Array:
        return np.stack([_product(features, metric, c) for c in v.T], 1)

    begin, size = (probe(n), SMALL) if near is None else (beside(near), SMALL // 4)
    space, before = LanczosSpace.of(product, begin[None], size), 0.0
    while True:
        now = float(np.linalg.eigvalsh(space.projected)[-1])
        if now - before <= PRECISION * now or space.is_invariant:
            return now
        space, before = space.grown(product, 2 * space.size), now


def _product(features: Features, metric: Metric | None, c: Array) -> Array:
    """J D Jᵀc, (N·C,)."""
    return flat(features.push(features.pull(torch.from_numpy(c), metric=metric))).numpy()


def _nearly_largest(features: Features, metric: Metric | None, near: Tensor) -> tuple[float, Tensor]:
    """No more than λ_max of J D Jᵀ, and nearly its eigenvector, (N·C,), by two products from a vector near that."""
    once = _product(features, metric, near.numpy())
    once /= max(float(np.linalg.norm(once)), 1e-300)
    twice = _product(features, metric, once)
    return float(once @ twice), torch.from_numpy(twice / max(float(np.linalg.norm(twice)), 1e-300))


def steepness(spectrum: Spectrum, objective: Objective, features: Features, enough: float = 0.0) -> float:
    """λ_max of K ∂²L/∂f²/γ, the eigenvalue that the limit of stability is about; λ_max of K where L is quadratic.

    Args:
        spectrum: of K(X, X), in the rule's metric.
        objective: the loss on the training set.
        features: of the training set where K was taken.
        enough: where it is below this, some bound of it below this will do.
    """
    if objective.loss.is_quadratic:
        return spectrum.largest
    if not objective.gamma:
        return 0.0
    if spectrum.bound <= enough:
        return spectrum.bound
    K, r = spectrum.matrix, flat(features.outputs).numpy() - objective.origin
    if len(r) < SMALL:
        dense = np.stack([K @ objective.curve(r, e) for e in np.eye(len(r))])
        return float(np.abs(np.linalg.eigvals(dense)).max()) / objective.gamma
    return _largest(lambda v: K @ objective.curve(r, v), len(r)) / objective.gamma


def _largest(product: Callable[[Array], Array], n: int) -> float:
    """The largest eigenvalue of an operator, by ARPACK; infinity where it does not converge."""
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs  # is slow to import

    operator: Any = LinearOperator
    start = np.ones(n) + np.arange(n) / n
    if not product(start).any():  # ARPACK takes no operator that is zero: of a loss without curvature there
        return 0.0
    of = operator((n, n), matvec=lambda v: product(np.asarray(v).reshape(-1)), dtype=np.float64)
    find: Any = eigs
    try:
        return float(np.abs(find(of, k=1, tol=PRECISION, return_eigenvectors=False, v0=start)).max())
    except ArpackNoConvergence:
        return math.inf


def is_close(limit: float, before: float, after: Callable[[], float]) -> bool:
    """Whether the steepness is, or was before, close to the limit of stability.

    Args:
        limit: the largest stable eigenvalue.
        before: the steepness at an earlier point; where that is far from the limit, the later one is not looked at.
            Infinite where it is not known.
        after: that at a later one.
    """
    if before <= FAR_FROM_EDGE * limit:
        return False
    return after() > CLOSE * limit or CLOSE * limit < before < math.inf


@dataclass(frozen=True, eq=False)
class Looked:
    """What was found where a kernel may have outgrown the learning rate.

    Attributes:
        features: of the training set where the network stands then.
        spectrum: of their kernel.
        outgrown: the largest eigenvalue over the limit of stability, before anything was moved; of a loss that is not
            quadratic its steepness.
        taken_back: how far along −D ∇λ_max, in units of it, training must have moved to keep to the edge: what λ_max
            was brought back by over ∇λ_max·D ∇λ_max; 0 where nothing was moved.
    """

    features: Features
    spectrum: Spectrum
    outgrown: float
    taken_back: float = 0.0

    @property
    def is_beyond(self) -> bool:
        """Whether the kernel had outgrown the rate."""
        return self.outgrown > SLACK


def back_to_the_edge(
    network: MovingNetwork,
    rule: LinearRule,
    objective: Objective,
    steps: float,
    features: Features,
    *,
    metric: Metric | None = None,
    project: bool = True,
    near: Tensor | None = None,
) -> Looked:
    """The kernel where the network stands; where it has outgrown the learning rate, the network is moved back first.

    Gradient descent whose kernel outgrows the learning rate neither diverges nor follows the flow: it oscillates at the
    edge of stability, and its average follows the flow projected onto ηγλ_max ≤ 2 (Cohen et al. 2021, Damian et al.
    2023, Cohen et al. 2025). The parameters are moved along ∇λ_max by just what that takes: by Newton's step, and by
    secants of the same gradient after it.

    Args:
        network: stands at the end of an interval.
        rule: what trains it.
        objective: the loss on the training set.
        steps: how many steps were made.
        features: of the training set there.
        metric: D of a rule that moves by D Jᵀ; None for the identity.
        project: whether to move the network; else only to see whether it is beyond the edge. Where the loss is not
            quadratic it is not moved.
        near: the eigenvector of the largest eigenvalue of the kernel before, where one is known.
    """
    limit = rule.largest_stable(steps, objective.gamma)
    if not objective.loss.is_quadratic:
        spectrum = network.spectrum(features, metric, near)
        return Looked(features, spectrum, steepness(spectrum, objective, features, limit) / limit)
    spectrum, largest, top = None, 0.0, None
    if project and near is not None and features.outputs.numel() > FORMED_FIRST:
        largest, top = _nearly_largest(features, metric, near)
    if top is None or largest <= limit * SLACK:  # it may be a little more than that
        spectrum = network.spectrum(features, metric, near)
        largest, top = spectrum.largest, spectrum.top_vector
    outgrown, taken_back = largest / limit, 0.0
    gradient, slope, share, before, by = None, 0.0, 1.0, 0.0, 0.0
    for _ in range(EDGE_STEPS if project else 0):
        if largest <= limit * SLACK:
            break
        secant = (before - largest) / by if by else 0.0
        if gradient is not None and secant > BENT * slope:
            slope = secant
        else:
            gradient = network.eigenvalue_gradient(top, metric)
            slope = gradient.square()
            share = 1.0 if metric is None or not slope else gradient.square(metric) / slope
        if slope == 0:
            break
        before, by = largest, (largest - BELOW_EDGE * limit) / slope
        taken_back += by / share
        network.shift(gradient, -by)
        features = network.features()
        spectrum = network.spectrum(features, metric, near)
        largest, top = spectrum.largest, spectrum.top_vector
    return Looked(features, spectrum or network.spectrum(features, metric, near), outgrown, taken_back)
