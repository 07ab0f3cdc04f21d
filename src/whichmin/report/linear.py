"""What came out of a study of a linear network, in sentences."""

from __future__ import annotations

import math

from whichmin.linear.analysis import LinearAnalysis
from whichmin.linear.deep import DeepFlow
from whichmin.linear.flow import LinearFlow
from whichmin.linear.study import OFF, LinearStudy
from whichmin.linear.sweep import WidthSweep
from whichmin.report.numbers import number


def finding(study: LinearStudy) -> list[str]:
    """The answer in sentences."""
    analysis, run = study.analysis, study.flows[OFF]
    end, size = float(run.solution_distances[-1]), float(analysis.least_squares.norm())
    bound = (
        "no bound is guaranteed"
        if math.isinf(analysis.tight_bound)
        else f"at most {number(analysis.tight_bound)} is sure"
    )
    text = f"Training ends {number(end)} from the minimum-norm solution, whose own norm is {number(size)}; {bound}."
    return [text] if study.sweep is None else [text, sweep_finding(study.sweep)]


def sweep_finding(sweep: WidthSweep) -> str:
    """How the distance to the minimum-norm solution falls with the width."""
    fits = [f"h^{f.slope:.2f} at a = {f.exponent:g}" for f in sweep.fits()]
    return f"Wider networks end nearer: the distance falls like {', '.join(fits)}.".replace("^-", "^−")


def flow_finding(flow: LinearFlow | DeepFlow) -> list[str]:
    """Where one trajectory ended."""
    return [
        f"After a time of {number(float(flow.times[-1]))} the loss is {number(float(flow.gaps[-1]), 2)} above its "
        f"optimum and the network {number(float(flow.solution_distances[-1]), 2)} from the minimum-norm solution."
    ]


def analysis_finding(analysis: LinearAnalysis) -> list[str]:
    """What is guaranteed."""
    return [
        "Gradient flow is guaranteed to lower the loss above its optimum at a rate of "
        f"{number(analysis.tight_rate, 2)}, and to end within {number(analysis.tight_bound, 2)} of the minimum-norm "
        "solution."
    ]
