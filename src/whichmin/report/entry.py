"""What a report is made of: one entry per seed or choice."""

from __future__ import annotations

from dataclasses import dataclass

from whichmin.dynamics.prediction import Prediction
from whichmin.explain.explanation import Explanation
from whichmin.training.run import Run


@dataclass(frozen=True, eq=False)
class Entry:
    """One line of the table and what stands behind it.

    Attributes:
        label: such as ``"seed 0"``.
        lazy: the linearized prediction.
        followed: the prediction along the path.
        run: the real training.
        explanation: the terms.
    """

    label: str
    lazy: Prediction | None = None
    followed: Prediction | None = None
    run: Run | None = None
    explanation: Explanation | None = None
