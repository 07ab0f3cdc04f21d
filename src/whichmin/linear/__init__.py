"""Linear networks: conserved imbalance, exponential convergence, and how far from the minimum-norm solution they end."""

from whichmin.linear.analysis import LinearAnalysis, analyze
from whichmin.linear.assumptions import Assumption
from whichmin.linear.descent import descend
from whichmin.linear.flow import LinearFlow, flow
from whichmin.linear.initialize import initialize
from whichmin.linear.minimum_norm import minimum_norm

__all__ = [
    "Assumption",
    "LinearAnalysis",
    "LinearFlow",
    "analyze",
    "descend",
    "flow",
    "initialize",
    "minimum_norm",
]
