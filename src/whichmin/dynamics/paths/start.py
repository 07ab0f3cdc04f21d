"""The state of training as it acts on the training outputs where a network stands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from whichmin.dynamics.motion.motion import Start
from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.kernels.modes import Spectrum
from whichmin.losses import Array, Objective
from whichmin.tangent.direction import Direction
from whichmin.tangent.features import Features


def start_at(
    network: MovingNetwork,
    rule: LinearRule,
    objective: Objective,
    features: Features,
    spectrum: Spectrum,
    steps: float,
    remembered: Sequence[Direction],
    pending: Array | None = None,
) -> Start:
    """Where an interval starts.

    Args:
        network: stands there.
        rule: what trains it.
        objective: the loss on the training set.
        features: J(X) there.
        spectrum: of K(X, X) there, in the rule's metric.
        steps: how many were made before.
        remembered: the rule's state vectors, directions in parameter space; none where nothing is remembered yet.
        pending: c of a move D Jᵀc that is made together with the interval, (N·C,); None for none.
    """
    residual = features.outputs.detach().double().reshape(-1).cpu().numpy() - objective.origin
    pushed = np.zeros((1 + rule.state_vectors, len(residual)))
    gram = np.zeros((rule.state_vectors, rule.state_vectors))
    if rule.weight_decay:
        pushed[0] = _flat(features.push(network.values()))
    if pending is not None:
        back = spectrum.apply(pending)
        residual = residual + back
        if rule.weight_decay:
            pushed[0] += back
    for i, vector in enumerate(remembered):
        pushed[1 + i] = _flat(features.push(vector))
        gram[i] = [features.inner(vector, other) for other in remembered]
    return Start(spectrum, objective, residual, steps, pushed, gram)


def remembered_by(rule: LinearRule, optimizer: torch.optim.Optimizer, network: MovingNetwork) -> tuple[Direction, ...]:
    """The rule's state vectors as the optimizer of a network's parameters remembers them; zeros of what it does not."""
    vectors: list[dict[str, torch.Tensor]] = [{} for _ in range(rule.state_vectors)]
    for name, p in network.parameters.items():
        of_parameter = rule.remembered(optimizer.state.get(p, {}))
        for vector, value in zip(vectors, of_parameter, strict=True):
            vector[name] = torch.zeros_like(p) if value is None else value.detach().clone().to(p)
    return tuple(Direction(vector) for vector in vectors)


def _flat(outputs: torch.Tensor) -> np.ndarray:
    return outputs.detach().double().reshape(-1).cpu().numpy()
