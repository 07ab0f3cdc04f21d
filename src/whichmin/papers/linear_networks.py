"""Min, Tarmoun, Vidal, Mallada, On the Explicit Role of Initialization on the Convergence and … (arXiv 2105.06351)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from whichmin.linear import analyze_weights, example, flow, initialize
from whichmin.linear.flow import horizon
from whichmin.papers import drawing
from whichmin.papers.claims import Claim, Table
from whichmin.papers.figure import PaperFigure, Size, measurement
from whichmin.papers.measure import Measurement
from whichmin.studies.sweeping.run import Measured

PAPER = "linear-networks"
EXPONENTS = (0.3, 0.4, 0.5)
#: Points of a trajectory.
POINTS = 101


def gradient_flow(*, width: int, exponent: float, seed: int, place: str) -> Measured:
    """Gradient flow of a linear network with one hidden layer on random data, to its end.

    Numbers: ``level`` c, ``guaranteed`` and ``rate``, the guaranteed rate and the slowest measured one, ``distance`` to
    the minimum-norm solution at the end, ``bound`` on it, ``drift`` of the imbalance. Array: ``path``, that distance
    along the flow. ``place`` is "on the invariant set" or "random".
    """
    X, Y = example(seed=0)
    on = place != "random"
    U, V = initialize(
        X.shape[1], width, Y.shape[1], X=X if on else None, orthogonal=on, exponent=exponent, seed=(seed, width)
    )
    known = analyze_weights(U, V, X, Y)
    end = horizon(known._loss_bounds.problem, known._reduced)
    run = flow(U, V, X, Y, np.linspace(0.0, end, POINTS), rtol=1e-9, atol=1e-11)
    gaps, times = run.gaps.numpy(), run.times.numpy()
    seen = gaps > 1e-9 * gaps[0]
    decay = -(np.log(gaps[seen][1:]) - np.log(gaps[0])) / times[seen][1:]
    numbers = {
        "level": float(known.imbalance_level),
        "guaranteed": float(known.rate),
        "rate": float(decay.min()) if len(decay) else float("nan"),
        "distance": float(run.solution_distances[-1]),
        "bound": float(known.bound),
        "drift": float(run.imbalance_drift.max()),
    }
    return Measured(numbers, {"path": torch.as_tensor(run.solution_distances)})


def _flows(place: Sequence[str], exponents: Sequence[float]) -> Callable[[Size], list[Measurement]]:
    def cells(size: Size) -> list[Measurement]:
        return [
            measurement(gradient_flow, width=width, exponent=exponent, seed=seed, place=where)
            for where in place
            for exponent in exponents
            for width in size.pick((100, 400, 1600), (100, 200, 400, 800, 1600, 3200, 6400))
            for seed in range(size.pick(4, 20))
        ]

    return cells


def _slopes(exponent: float) -> Callable[[Table], list[float]]:
    def measure(table: Table) -> list[float]:
        rows = table[table["exponent"] == exponent]
        parts = [part.sort_values("width") for _, part in rows.groupby("seed")]
        return [float(np.polyfit(np.log(p["width"]), np.log(p["distance"]), 1)[0]) for p in parts]

    return measure


def imbalance() -> PaperFigure:
    """Convergence against the level of imbalance."""
    return PaperFigure(
        PAPER,
        "convergence",
        "imbalance",
        "convergence and imbalance",
        "Rate of convergence of gradient flow against the level of imbalance c of random initializations, with the "
        "rate that is guaranteed.",
        _flows(("random",), EXPONENTS),
        (
            Claim(
                "The loss falls at least as fast as the level of imbalance guarantees.",
                "slowest measured rate over the guaranteed one",
                lambda table: [float((table["rate"] / table["guaranteed"]).min())],
                "at least",
                1.0,
                1e-3,
                exact=True,
            ),
            Claim(
                "Imbalance is conserved.",
                "largest change of it along a flow",
                lambda table: [float(table["drift"].max())],
                "at most",
                0.0,
                1e-5,
                exact=True,
            ),
        ),
        drawing.rates,
        1,
        ("Random data of 10 points, 25 inputs and 3 outputs.",),
    )


def width() -> PaperFigure:
    """Distance to the minimum-norm solution against width."""
    return PaperFigure(
        PAPER,
        "width",
        "minimum-norm",
        "distance to the minimum-norm solution",
        "Distance of the trained network to the minimum-norm solution against width, for initializations N(0, h^−2a).",
        _flows(("random",), EXPONENTS),
        (
            *(
                Claim(
                    f"With a = {a:g} the distance falls as the width to the power {0.5 - 2 * a:.1f}.",
                    "fitted power of the width",
                    _slopes(a),
                    "equal to",
                    0.5 - 2 * a,
                    0.15,
                )
                for a in EXPONENTS
            ),
            Claim(
                "The distance stays below the bound.",
                "largest distance over its bound",
                lambda table: [float((table["distance"] / table["bound"]).max())],
                "at most",
                1.0,
                exact=True,
            ),
        ),
        drawing.distances,
        1,
        ("Random data of 10 points, 25 inputs and 3 outputs. The powers are those of the limit of large widths.",),
    )


def invariant_set() -> PaperFigure:
    """Trajectories on and off the invariant set."""
    return PaperFigure(
        PAPER,
        "trajectories",
        "invariant-set",
        "trajectories on and off the invariant set",
        "Distance to the minimum-norm solution along gradient flow, started on the invariant set and at random.",
        _flows(("on the invariant set", "random"), (0.5,)),
        (
            Claim(
                "On the invariant set gradient flow ends at the minimum-norm solution.",
                "largest distance at the end",
                lambda table: [float(table[table["place"] != "random"]["distance"].max())],
                "at most",
                0.0,
                1e-4,
                exact=True,
            ),
            Claim(
                "Off it there is a distance left.",
                "smallest distance at the end",
                lambda table: [float(table[table["place"] == "random"]["distance"].min())],
                "at least",
                1e-2,
                exact=True,
            ),
        ),
        drawing.trajectories,
        1,
        ("Random data of 10 points, 25 inputs and 3 outputs, a = 1/2.",),
    )


FIGURES: Sequence[PaperFigure] = (imbalance(), width(), invariant_set())
