"""Back to the edge of stability, where a kernel has outgrown the learning rate."""

from __future__ import annotations

import torch

from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.kernels.spectrum import Spectrum
from whichmin.losses import Objective
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
#: So many Newton steps along ∇λ_max are made at most after an interval.
EDGE_STEPS = 3


def largest_eigenvalue(features: Features, metric: Metric | None = None) -> float:
    """λ_max of J D Jᵀ."""
    return float(torch.linalg.eigvalsh(features.gram(metric=metric).double())[-1])


def is_close(limit: float, before: float, features: Features, metric: Metric | None = None) -> bool:
    """Whether the largest eigenvalue of a kernel is, or was before, close to the limit of stability.

    Args:
        limit: the largest stable eigenvalue.
        before: λ_max of an earlier kernel; where that is far from the limit, the later one is not looked at.
        features: of the training set where the network stands.
        metric: D of a rule that moves by D Jᵀ; None for the identity.
    """
    return before > FAR_FROM_EDGE * limit and max(before, largest_eigenvalue(features, metric)) > CLOSE * limit


def back_to_the_edge(
    network: MovingNetwork,
    rule: LinearRule,
    objective: Objective,
    steps: float,
    features: Features,
    *,
    metric: Metric | None = None,
    project: bool = True,
) -> tuple[Features, Spectrum, bool]:
    """The kernel where the network stands; where it has outgrown the learning rate, the network is moved back first.

    Gradient descent whose kernel outgrows the learning rate neither diverges nor follows the flow: it oscillates at the
    edge of stability, and its average follows the flow projected onto ηγλ_max ≤ 2 (Cohen et al. 2021, Damian et al.
    2023, Cohen et al. 2025). The parameters are moved along ∇λ_max by just what that takes.

    Args:
        network: stands at the end of an interval.
        rule: what trains it.
        objective: the loss on the training set.
        steps: how many steps were made.
        features: of the training set there.
        metric: D of a rule that moves by D Jᵀ; None for the identity.
        project: whether to move the network; else only to see whether it is beyond the edge.

    Returns:
        The features and the spectrum where the network stands then, and whether its kernel had outgrown the rate.
    """
    limit = rule.largest_stable(steps, objective.gamma)
    spectrum, beyond = network.spectrum(features, metric), False
    for _ in range(EDGE_STEPS):
        largest = float(spectrum.eigenvalues[0])
        if largest <= limit * SLACK:
            break
        beyond = True
        if not project:
            break
        gradient = network.eigenvalue_gradient(spectrum.vectors[:, 0], metric)
        square = gradient.square()
        if square == 0:
            break
        network.shift(gradient, -(largest - BELOW_EDGE * limit) / square)
        features = network.features()
        spectrum = network.spectrum(features, metric)
    return features, spectrum, beyond
