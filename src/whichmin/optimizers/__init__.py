"""Optimizers that torch lacks, as ``torch.optim.Optimizer``: for ``train``, ``predict`` and a loop of one's own."""

from whichmin.optimizers.higher_momentum import HigherMomentum
from whichmin.optimizers.metric import last_metric
from whichmin.optimizers.nesterov import Nesterov
from whichmin.optimizers.preconditioned import Preconditioned

__all__ = ["HigherMomentum", "Nesterov", "Preconditioned", "last_metric"]
