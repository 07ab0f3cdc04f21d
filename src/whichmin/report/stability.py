"""How near to the limit of stability of its optimizer a learning rate is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from whichmin.dynamics.prediction import Prediction
from whichmin.report.entry_view import EntryView, by_optimizer


@dataclass(frozen=True)
class Stability:
    """The limit of stability of one optimizer, means over its entries.

    Attributes:
        optimizer: its name, as the prediction says it.
        limit: the learning rate from which the mode of the largest eigenvalue no longer converges.
        fraction: the learning rate over that limit.
        largest_eigenvalue: the eigenvalue at which the learning rate is at its limit.
    """

    optimizer: str
    limit: float
    fraction: float
    largest_eigenvalue: float


def stabilities(entries: Sequence[EntryView]) -> dict[str, Stability]:
    """What is known of each optimizer, by the name that the entries give it, ``""`` where there is only one.

    Nothing is known of gradient flow, and of optimizers whose rule has no limit.
    """
    parts = by_optimizer(entries) or {"": list(entries)}
    means = {name: _mean([p for v in part if (p := _limited(v)) is not None]) for name, part in parts.items()}
    return {name: stability for name, stability in means.items() if stability is not None}


def _limited(view: EntryView) -> Prediction | None:
    """A prediction of the entry whose limit of stability is known."""
    p = view.linearized or view.relinearized
    if p is None or p.limit is None:
        return None
    values = (p.limit, p.learning_rate, float(p.eigenvalues.max()))
    return p if all(math.isfinite(value) and value > 0 for value in values) else None


def _mean(predictions: Sequence[Prediction]) -> Stability | None:
    if not predictions:
        return None
    limits = [p.limit for p in predictions if p.limit is not None]
    used = [p.learning_rate / limit for p, limit in zip(predictions, limits, strict=True)]
    largest = [float(p.eigenvalues.max()) / part for p, part in zip(predictions, used, strict=True)]
    return Stability(predictions[0].optimizer, fmean(limits), fmean(used), fmean(largest))
