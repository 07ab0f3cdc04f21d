"""Bu, Xu, Chen, A Dynamical View on Optimization Algorithms of Overparameterized Neural Networks (arXiv 2010.13165)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from whichmin.data.load import load
from whichmin.dynamics.predict import predict
from whichmin.networks import MLP
from whichmin.papers import drawing
from whichmin.papers.claims import Claim, Table
from whichmin.papers.figure import PaperFigure, Size, by_seed, largest, measurement, paired
from whichmin.papers.measure import Measurement, predicted_measured, trained_measured
from whichmin.studies.experiment.build import build_optimizer
from whichmin.studies.experiment.optimizers import named_optimizers
from whichmin.studies.sweeping.run import Measured
from whichmin.task import Task
from whichmin.training.train import train

PAPER = "dynamical-view"
#: Heavy balls, Nesterov's schedules and pairs of higher momentum of the paper.
BETAS, EXPONENTS, PAIRS = (0.2, 0.5, 0.8), (2, 3, 4, 6, 8, 10), ((0.2, 0.2), (0.2, 0.5), (0.2, 0.8))
#: The part of the limit of stability of gradient descent that the common rate is.
PART = 0.25
#: Test points; the paper is about training.
TESTED = 20
_CHOSEN = (
    "MNIST's digits are the numbers −4.5 … 4.5 over 4.5. Both layers are trained, in the NTK parametrization; all "
    "rules of a figure have one rate, a quarter of gradient descent's limit of stability at the initialization.",
    "Predicted are the recursions of the frozen kernel, and where they are known the flows.",
)


@lru_cache(maxsize=4)
def digits_task(data: str, n_train: int, n_test: int) -> Task:
    """Digits as amounts between −1 and 1."""
    drawn = load(data, n_train=n_train, n_test=n_test, flat=True)
    assert drawn.y_test is not None
    y, y_test = ((t.argmax(1, keepdim=True).to(t.dtype) - 4.5) / 4.5 for t in (drawn.y, drawn.y_test))
    return Task(drawn.X, y, drawn.X_test, y_test)


def descent(
    *,
    kind: str,
    data: str,
    n_train: int,
    n_test: int,
    width: int,
    seed: int,
    optimizer: str,
    label: str,
    steps: int,
    flow: bool,
) -> Measured:
    """Training of a two-layer ReLU network on digits as amounts, for a number of steps.

    Numbers: ``train_loss``, ``rate`` and ``late_rate``, −d log L/d step over the third and the last quarter of the
    curve, ``power``, −d log L/d log step over the last half; of predictions ``linear``, whether the rule's convergence
    is linear. Arrays: ``curve_steps``, ``curve_losses``, as many steps each.
    """
    task = digits_task(data, n_train, n_test)
    assert isinstance(task.X, torch.Tensor)
    model = MLP((task.X[0].numel(), width, 1), seed=seed)
    first = predict(model, task, partial(torch.optim.SGD, lr=1e-3), steps=1, relinearize="never")
    factory = build_optimizer(named_optimizers(optimizer, PART * first.max_lr)[0])
    if kind == "trained":
        found = trained_measured(train(model, task, factory, until=None, steps=steps, row_span=True), task)
        linear: dict[str, Any] = {}
    else:
        prediction = predict(model, task, factory, steps=steps, flow=flow, relinearize="never")
        found = predicted_measured(prediction, task)
        rates = prediction.rates
        linear = {} if rates is None else {"linear": float(rates.kind == "linear"), "exponent": rates.exponent}
    at, losses = (found.arrays[name].double().numpy() for name in ("curve_steps", "curve_losses"))
    return Measured(found.numbers | linear | _rates(at, losses, steps), found.arrays)


def _rates(at: np.ndarray, losses: np.ndarray, steps: int) -> dict[str, float]:
    good = (at > 0) & (losses > 0)
    x, y = at[good], np.log(losses[good])

    def slope(low: float, high: float, log: bool = False) -> float:
        inside = (x >= low * steps) & (x <= high * steps)
        if inside.sum() < 3:
            return math.nan
        return -float(np.polyfit(np.log(x[inside]) if log else x[inside], y[inside], 1)[0])

    return {"rate": slope(0.5, 0.75), "late_rate": slope(0.75, 1.0), "power": slope(0.5, 1.0, log=True)}


def _grid(rules: dict[str, str], flows: bool = True) -> Callable[[Size], list[Measurement]]:
    def cells(size: Size) -> list[Measurement]:
        name = "mnist" if size.data is None else size.data
        common = {"data": name, "n_train": size.pick(60, 600), "n_test": TESTED, "steps": size.pick(150, 1000)}
        ways = [(kind, False) for kind in size.kinds] + (
            [("predicted", True)] if flows and "predicted" in size.kinds else []
        )
        return [
            measurement(descent, **common, kind=kind, flow=flow, width=width, seed=seed, optimizer=text, label=label)
            for kind, flow in ways
            for width in size.pick((256, 1024), (1000, 2500, 8500))
            for seed in range(size.pick(2, 10))
            for label, text in rules.items()
        ]

    return cells


def _wide(table: Table, flow: bool = False) -> Table:
    return table[(table["flow"] == flow) & (table["width"] == largest(table, "width"))]


def _ratio(one: str, other: str, column: str = "train_loss") -> Callable[[Table], list[float]]:
    def measure(table: Table) -> list[float]:
        rows = _wide(table)
        return paired((by_seed(rows, column, label=label) for label in (one, other)), lambda a, b: a / b)

    return measure


def _column(column: str, label: str, flow: bool = False) -> Callable[[Table], list[float]]:
    def measure(table: Table) -> list[float]:
        rows = _wide(table, flow)
        return [] if column not in rows else list(rows[rows["label"] == label][column].dropna())

    return measure


def gradient_descent_figure() -> PaperFigure:
    """Gradient descent at several widths."""
    rules = {"GD": "sgd"}
    return PaperFigure(
        PAPER,
        "gradient-descent",
        "gradient-descent",
        "gradient descent, on digits as numbers",
        "Training error of gradient descent against steps and against width, with its flow.",
        _grid(rules),
        (
            Claim(
                "Gradient descent drives the training error of an overparameterized network down.",
                "training error after all steps (targets have mean square 0.4)",
                _column("train_loss", "GD"),
                "at most",
                0.1,
            ),
            Claim(
                "Its convergence is linear.",
                "whether the frozen kernel's convergence is linear (1) or not (0)",
                _column("linear", "GD"),
                "at least",
                1.0,
                exact=True,
            ),
        ),
        drawing.curves,
        2,
        _CHOSEN,
    )


def heavy_ball() -> PaperFigure:
    """Heavy balls of several momenta."""
    rules = {"β = 0": "sgd"} | {f"β = {b:g}": f"sgd:momentum={b:g}" for b in (*BETAS, 0.6, 0.9)}
    return PaperFigure(
        PAPER,
        "heavy-ball",
        "heavy-ball",
        "the heavy ball, on digits as numbers",
        "Training error of heavy balls with several momenta against steps and against width, with their flows.",
        _grid(rules),
        (
            Claim(
                "The heavy ball converges at a linear rate.",
                "whether the frozen kernel's convergence is linear (1) or not (0), β = 0.9",
                _column("linear", "β = 0.9"),
                "at least",
                1.0,
                exact=True,
            ),
            *(
                Claim(
                    f"Momentum {b:g} speeds training up.",
                    f"training error with β = {b:g} over that without, after as many steps",
                    _ratio(f"β = {b:g}", "β = 0"),
                    "at most",
                    1.0,
                )
                for b in BETAS
            ),
        ),
        drawing.curves,
        2,
        _CHOSEN,
    )


def nesterov() -> PaperFigure:
    """Nesterov's schedules of several exponents."""
    rules = {f"r = {r}": f"nesterov:r={r}" for r in EXPONENTS}
    return PaperFigure(
        PAPER,
        "nesterov",
        "nesterov",
        "Nesterov's method, on digits as numbers",
        "Training error of Nesterov's method, momentum (k − 1)/(k + r − 1), against steps and width, with its flows.",
        _grid(rules),
        (
            *(
                Claim(
                    f"Nesterov's flow with r = {r} converges sublinearly, its loss as t to the −{r}.",
                    "exponent of the flow's convergence",
                    _column("exponent", f"r = {r}", flow=True),
                    "equal to",
                    float(r),
                    0.05 * r,
                    exact=True,
                )
                for r in (3, 6)
            ),
            Claim(
                "Nesterov's method only converges sublinearly.",
                "whether the discrete scheme's convergence is linear (1) or not (0), r = 3",
                _column("linear", "r = 3"),
                "at most",
                0.0,
                exact=True,
            ),
            Claim(
                "It converges nevertheless.",
                "training error after all steps, r = 3",
                _column("train_loss", "r = 3"),
                "at most",
                0.1,
            ),
        ),
        drawing.curves,
        2,
        _CHOSEN,
    )


def higher_momentum() -> PaperFigure:
    """Momentum of second order."""
    rules = {"β = (0, 0)": "sgd"}
    rules |= {f"β = ({a:g}, {b:g})": f"higher-momentum:betas={a:g}/{b:g}" for a, b in PAIRS[:-1]}
    return PaperFigure(
        PAPER,
        "higher-momentum",
        "higher-momentum",
        "momentum of second order, on digits as numbers",
        "Training error with momentum of second order against steps and against width.",
        _grid(rules, flows=False),
        (
            *(
                Claim(
                    f"Momentum ({a:g}, {b:g}) speeds training up.",
                    "training error over that without momentum, after as many steps",
                    _ratio(f"β = ({a:g}, {b:g})", "β = (0, 0)"),
                    "at most",
                    1.0,
                )
                for a, b in PAIRS[:-1]
            ),
        ),
        drawing.curves,
        2,
        (*_CHOSEN, "(0.2, 0.8) has a pole at 1 and is left out: its displacements never die out."),
    )


FIGURES: Sequence[PaperFigure] = (gradient_descent_figure(), heavy_ball(), nesterov(), higher_momentum())
