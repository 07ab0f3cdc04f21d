"""Linear networks: conserved imbalance, exponential convergence, distance to the minimum-norm solution."""

from whichmin.linear.analysis import LinearAnalysis, analyze, analyze_weights
from whichmin.linear.assumptions import Assumption
from whichmin.linear.deep import DeepFlow, deep_flow, deep_imbalances
from whichmin.linear.descent import descend
from whichmin.linear.flow import LinearFlow, flow
from whichmin.linear.initialize import initialize
from whichmin.linear.least_squares import least_squares
from whichmin.linear.modules import factors, layers
from whichmin.linear.study import LinearStudy, study
from whichmin.linear.sweep import PowerFit, WidthSweep, example, width_sweep

__all__ = [
    "Assumption",
    "DeepFlow",
    "LinearAnalysis",
    "LinearFlow",
    "LinearStudy",
    "PowerFit",
    "WidthSweep",
    "analyze",
    "analyze_weights",
    "deep_flow",
    "deep_imbalances",
    "descend",
    "example",
    "factors",
    "flow",
    "initialize",
    "layers",
    "least_squares",
    "study",
    "width_sweep",
]
