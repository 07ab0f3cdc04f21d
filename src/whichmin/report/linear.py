"""What came out of a study of a linear network, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from whichmin.linear.analysis import LinearAnalysis
from whichmin.linear.deep import DeepFlow
from whichmin.linear.flow import LinearFlow
from whichmin.linear.study import OFF, LinearStudy
from whichmin.linear.sweep import PowerFit, WidthSweep
from whichmin.report.numbers import number

#: A bound on a distance of more times the norm of the solution tells nothing.
TELLING = 100
#: A slope of more standard errors than this is clear.
ERRORS = 2.0


def finding(study: LinearStudy) -> list[str]:
    """The answer in sentences."""
    analysis, run = study.analysis, study.flows[OFF]
    end, size = float(run.solution_distances[-1]), float(analysis.least_squares.norm())
    bound = f"at most {number(analysis.tight_bound)} is guaranteed"
    if math.isinf(analysis.tight_bound):
        bound = "no bound is guaranteed"
    elif analysis.tight_bound > TELLING * size:
        bound = f"the bound that is guaranteed, {number(analysis.tight_bound, 2)}, tells nothing of that"
    text = f"Training ends {number(end)} from the minimum-norm solution, whose own norm is {number(size)}; {bound}."
    return [text] if study.sweep is None else [text, sweep_finding(study.sweep)]


def sweep_finding(sweep: WidthSweep) -> str:
    """How the distance to the minimum-norm solution falls with the width."""
    fits = sweep.fits()
    falls = [fit for fit in fits if fit.slope < -ERRORS * fit.standard_error]
    rises = [fit for fit in fits if fit.slope > ERRORS * fit.standard_error]
    unclear = [fit for fit in fits if fit not in falls and fit not in rises]
    if len(falls) == len(fits):
        return f"Wider networks end nearer: the distance falls like {_powers(falls)}."
    sentences = []
    if falls:
        sentences.append(f"With the width the distance falls like {_powers(falls)}.")
    if rises:
        sentences.append(f"With the width the distance rises like {_powers(rises)}: wider networks end further away.")
    if unclear:
        sentences.append(f"Whether it falls with the width cannot be told from {_powers(unclear, with_errors=True)}.")
    return " ".join(sentences)


def _powers(fits: Sequence[PowerFit], with_errors: bool = False) -> str:
    """The fitted powers of the width h."""
    texts = []
    for fit in fits:
        error = (
            ""
            if not with_errors
            else " of one seed"
            if math.isnan(fit.standard_error)
            else f" ± {fit.standard_error:.2f}"
        )
        texts.append(f"h^{fit.slope:.2f}{error} at a = {fit.exponent:g}")
    return ", ".join(texts).replace("^-", "^−")


def flow_finding(flow: LinearFlow | DeepFlow) -> list[str]:
    """Where one trajectory ended."""
    return [
        f"After a time of {number(float(flow.times[-1]))} the loss is {number(float(flow.gaps[-1]), 2)} above its "
        f"optimum and the network {number(float(flow.solution_distances[-1]), 2)} from the minimum-norm solution."
    ]


def analysis_finding(analysis: LinearAnalysis) -> list[str]:
    """What is guaranteed."""
    text = (
        f"Gradient flow is guaranteed to lower the loss above its optimum at a rate of {number(analysis.tight_rate, 2)}"
    )
    bound, size = analysis.tight_bound, float(analysis.least_squares.norm())
    if bound > TELLING * size:
        return [f"{text}; no bound on where it ends is smaller than {TELLING} times the minimum-norm solution itself."]
    nearest = f"to end within {number(bound, 2)} of the minimum-norm solution, whose own norm is {number(size, 2)}"
    return [f"{text}, and {nearest}."]
