"""Everything that the theory says about one problem, beside what happens: the command line's answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from whichmin.arrays import as_tensor
from whichmin.devices import default_device_aside
from whichmin.linear.analysis import LinearAnalysis, analyze_weights
from whichmin.linear.descent import descend, largest_step
from whichmin.linear.flow import LinearFlow, flow
from whichmin.linear.initialize import initialize
from whichmin.linear.sweep import EXPONENTS, WIDTHS, WidthSweep, example, width_sweep
from whichmin.results import Result

#: Labels of the initializations of a study, whose distances to the invariant set are 0, a tenth of δ, and the δ of the
#: random one.
ON, NEAR, OFF = "on the invariant set", "near it", "random"
#: Steps of gradient descent in a study, as fractions of the largest stable one.
FRACTIONS = (0.5, 0.05, 0.005)


@dataclass(frozen=True, eq=False)
class LinearStudy(Result):
    """One network in detail, and a sweep over widths.

    ``to_frame`` has guarantee and measurement side by side, one row per quantity: ``quantity``, ``guaranteed``,
    ``tight``, ``measured``.

    Attributes:
        settings: what was asked.
        analysis: of the random initialization.
        flows: from the random initialization, from one near the invariant set (δ a tenth) and from one on it; they
            share V and what U does to the training inputs.
        descents: gradient descent from the random initialization, by step, as fractions of the largest stable one.
        sweep: over widths and exponents; None where no widths were asked for, or the minimizer is unique.
    """

    kind: ClassVar[str] = "linear_study"

    settings: Mapping[str, Any]
    analysis: LinearAnalysis
    flows: Mapping[str, LinearFlow]
    descents: Mapping[float, LinearFlow]
    sweep: WidthSweep | None

    def _columns(self) -> Mapping[str, Any]:
        known, run = self.analysis, self.flows[OFF]
        rows = [
            ("rate of the loss", known.rate, known.tight_rate, measured_rate(run)),
            ("rate of the loss near the optimum", known.rate, known.final_rate, measured_rate(run, late=True)),
            ("distance to minimum norm at the end", known.bound, known.tight_bound, float(run.solution_distances[-1])),
            ("the same, on the invariant set", 0.0, 0.0, float(self.flows[ON].solution_distances[-1])),
            ("drift of the imbalance", 0.0, 0.0, float(run.imbalance_drift.max())),
        ]
        return dict(zip(("quantity", "guaranteed", "tight", "measured"), zip(*rows, strict=True), strict=True))


@default_device_aside()
def study(
    X: Any = None,
    Y: Any = None,
    *,
    width: int = 200,
    exponent: float = 0.5,
    network_seed: int = 0,
    widths: Sequence[int] = WIDTHS,
    exponents: Sequence[float] = EXPONENTS,
    seeds: int | Sequence[int] = 20,
    progress: bool = False,
) -> LinearStudy:
    """Analyze, integrate and sweep one problem.

    Args:
        X: inputs, (N, d); random data by default, see :func:`example`.
        Y: targets, (N, m).
        width: h of the network looked at in detail.
        exponent: a of its initialization N(0, h^{−2a}).
        network_seed: of that initialization.
        widths: of the sweep; empty for none.
        exponents: of the sweep.
        seeds: of the sweep, how many, or their numbers.
        progress: whether to show progress bars on stderr.

    Raises:
        DataError: see :func:`whichmin.linear.analyze_weights` and :func:`whichmin.linear.width_sweep`.
        ModelError: see there.
    """
    if X is None:
        X, Y = example()
    inputs, targets = as_tensor(X, "X", torch.float64).flatten(1), as_tensor(Y, "Y", torch.float64)
    targets = targets.reshape(len(targets), -1)
    shape = (inputs.shape[1], width, targets.shape[1])
    U, V = initialize(*shape, exponent=exponent, seed=network_seed)
    known = analyze_weights(U, V, inputs, targets)
    run = flow(U, V, inputs, targets, progress=progress)
    flows = {}
    for label, near in {ON: 0.0, NEAR: 0.1 * known.invariant_distance}.items():
        placed = initialize(*shape, X=inputs, exponent=exponent, seed=network_seed, near=near)
        flows[label] = flow(*placed, inputs, targets, run.times)
    settings = {"points": len(inputs), "inputs": shape[0], "outputs": shape[2], "rank": known.rank}
    swept = len(widths) > 0 and known.rank < shape[0]
    return LinearStudy(
        settings=settings | {"width": width, "exponent": exponent, "network_seed": network_seed},
        analysis=known,
        flows=flows | {OFF: run},
        descents=_descents(U, V, inputs, targets, run),
        sweep=width_sweep(widths, exponents, seeds, X=inputs, Y=targets, progress=progress) if swept else None,
    )


def measured_rate(run: LinearFlow, *, late: bool = False) -> float:
    """The least mean rate −log(gap(t)/gap(0))/t of a flow, or its rate from 1e-4 to 1e-8 of the loss at the start."""
    relative = run.gaps / run.gaps[0]
    if late:
        inside = (relative < 1e-4) & (relative > 1e-8)
        if int(inside.sum()) < 2:
            return float("nan")
        logs, times = relative[inside].log(), run.times[inside]
        return float((logs[0] - logs[-1]) / (times[-1] - times[0]))
    seen = (relative > 1e-12) & (run.times > 0)
    return float((-relative[seen].log() / run.times[seen]).min()) if bool(seen.any()) else float("nan")


def _descents(U: Tensor, V: Tensor, X: Tensor, Y: Tensor, run: LinearFlow) -> dict[float, LinearFlow]:
    """Gradient descent at each of ``FRACTIONS``, over the time of the flow, but 500 largest stable steps at most."""
    limit = largest_step(run._problem, run._states[0])
    end = min(float(run.times[-1]), 500 * limit)
    return {f: descend(U, V, X, Y, lr=f * limit, steps=max(1, round(end / (f * limit)))) for f in FRACTIONS}
