"""Optimizers of the theory that torch lacks, and the preconditioner that an optimizer used last.

Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whichmin._lazy import lazily

if TYPE_CHECKING:
    from whichmin.optimizers.higher_momentum import HigherMomentum
    from whichmin.optimizers.metric import last_metric
    from whichmin.optimizers.nesterov import Nesterov
    from whichmin.optimizers.preconditioned import Preconditioned

__all__ = ["HigherMomentum", "Nesterov", "Preconditioned", "last_metric"]

__getattr__ = lazily(
    __name__,
    {
        "HigherMomentum": "whichmin.optimizers.higher_momentum",
        "Nesterov": "whichmin.optimizers.nesterov",
        "Preconditioned": "whichmin.optimizers.preconditioned",
        "last_metric": "whichmin.optimizers.metric",
    },
)
