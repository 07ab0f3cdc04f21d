"""What a check where a network stands cannot see of a way to make J: parameters that do next to nothing there.

Behind a gate that is zero, as in adapters and residual branches that begin as nothing, all gradients are zero where
training begins, and every way of making J agrees with plain autograd. Training opens the gate, and what lies behind it
counts. So ways are checked by single parameters, and at parameters beside those where the network stands.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import nn

from whichmin.tangent.copying import private_copy
from whichmin.tangent.examination import Examination
from whichmin.tangent.examine import examine
from whichmin.tangent.fallback import by_first_right_route
from whichmin.tangent.features import features_of
from whichmin.tangent.model import trainable
from whichmin.tangent.route import Route

#: How far beside it: every parameter moves at random by this part of its root mean square.
MOVED = 0.1


def examine_beside(examination: Examination) -> Examination | None:
    """The same rows of the network beside where it stands; None where every parameter has gradients where it stands.

    Args:
        examination: of the network where it stands.

    Cost: two backward passes on a few rows, which the checks need anyhow; beside it a copy of the network.
    """
    if not examination.unseen:
        return None
    return examine(_moved(examination.model), examination.X, outputs=examination.outputs)


def route_beside(examination: Examination, there: Examination | None) -> Route:
    """How J is made of a network that moves, as far as a few rows tell beside where it stands too.

    Args:
        examination: of the network where it stands.
        there: that beside it.

    Raises:
        ModelError: no way is right there.

    Cost: where parameters do next to nothing, another pass for their gradients; beside it a kernel of a few rows.
    """
    route = examination.route
    if examination.faint:
        route = replace(route, form=route.form | examination.misjudged(route, examination.faint))
    if there is None:
        return route

    def attempt(way: Route) -> Route | None:
        features = features_of(there.model, there.parameters, there.X[there.rows], route=way)
        hidden = examination.unseen - way.form  # gradients that are formed are those of plain autograd
        return way if there.agrees(features.gram()) and not there.misjudged(way, hidden) else None

    right = by_first_right_route(there, attempt)
    return Route(
        route.form | right.form, right.one_by_one, route.by_rows & right.by_rows, route.trusted & right.trusted
    )


def _moved(network: nn.Module) -> nn.Module:
    """A copy with every trainable parameter moved; those that are zero by as much as a layer's weights usually are."""
    moved, draw = private_copy(network), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in trainable(moved).values():
            size = float(p.double().square().mean().sqrt()) or 1.0 / math.sqrt(max(p[0].numel(), 1) if p.ndim else 1)
            p.add_((MOVED * size * torch.randn(p.shape, generator=draw, dtype=torch.float64)).to(p))
    return moved
