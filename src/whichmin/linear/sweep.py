"""Width sweeps: how the level of imbalance, the distance to the invariant set and the end of training scale with h."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from whichmin.devices import default_device_aside
from whichmin.errors import DataError, ModelError
from whichmin.jobs.perform import Terms, in_order
from whichmin.jobs.progress import performed, progress_bar
from whichmin.jobs.store import Question, Store, versions
from whichmin.linear import _checks
from whichmin.linear._checks import Array, tensor
from whichmin.linear._problem import pose
from whichmin.linear.analysis import analyze_weights
from whichmin.linear.flow import Method, flow, horizon
from whichmin.linear.initialize import initialize
from whichmin.recipe.describe import digest
from whichmin.results import Result
from whichmin.shown import Shown
from whichmin.tangent.context import own_context

Quantity = Literal["solution_distances", "invariant_distances", "levels"]
#: Widths h of a sweep.
WIDTHS = (100, 200, 400, 800, 1600, 3200, 6400)
#: Exponents a of the initializations N(0, h^{−2a}) of a sweep, within the theory's 1/4 < a ≤ 1/2.
EXPONENTS = (0.3, 0.35, 0.4, 0.5)


@dataclass(frozen=True)
class PowerFit(Shown):
    """A least-squares line through log(quantity) against log(width), mean over seeds at each width.

    Attributes:
        exponent: a of the initialization N(0, h^{−2a}).
        slope: of the line.
        standard_error: of the slope, from the spread over seeds.
        expected: by the theory; NaN for a outside (1/4, 1/2].
        prefactor: the line at width 1.
    """

    exponent: float
    slope: float
    standard_error: float
    expected: float
    prefactor: float


@dataclass(frozen=True, eq=False)
class WidthSweep(Result):
    """What was measured over exponents (E), widths (W) and seeds (S).

    ``to_frame`` has one row per exponent, width and seed, with a column per quantity.

    Attributes:
        widths: (W,).
        exponents: (E,).
        solution_distances: ‖UVᵀ − Θ̂‖_F at the end of the flow, (E, W, S).
        invariant_distances: δ at the start, the distance to the invariant set, (E, W, S).
        levels: the level of imbalance c, (E, W, S).
        bounds: the bound on the distance, (E, W, S).
        tight_bounds: the tight bound, (E, W, S).
        remaining: (L − L*) at the end relative to the start, (E, W, S): how far each flow was followed.
    """

    kind: ClassVar[str] = "width_sweep"

    widths: Tensor
    exponents: Tensor
    solution_distances: Tensor
    invariant_distances: Tensor
    levels: Tensor
    bounds: Tensor
    tight_bounds: Tensor
    remaining: Tensor

    def fits(self, quantity: Quantity = "solution_distances") -> tuple[PowerFit, ...]:
        """A power of the width for each exponent a.

        Expected are h^{1/2−2a} for ``solution_distances`` and ``invariant_distances`` and h^{1−2a} for ``levels``, in
        the limit of large widths. Before it the distance at the end has a share of ‖U₁U₂ᵀ‖ of order ‖Θ̂‖/h^{1−2a}, which
        bends the curve for large targets; and the level of imbalance is about h^{1−2a}[(1 − √(n/h))² + (1 − √(m/h))²],
        the edge of a random spectrum, which looks steeper than its limit.
        """
        values = getattr(self, quantity).numpy()
        return tuple(
            _fit(float(a), self.widths.numpy(), values[i], quantity) for i, a in enumerate(self.exponents.tolist())
        )

    def _columns(self) -> Mapping[str, Any]:
        shape = self.solution_distances.shape
        exponents, widths = self.exponents.reshape(-1, 1, 1), self.widths.long().reshape(1, -1, 1)
        places = {"exponent": exponents, "width": widths, "seed": torch.arange(shape[2])}
        columns = {name: values.expand(shape) for name, values in places.items()}
        columns |= {name: getattr(self, name) for name in _MEASURED}
        return {name: values.reshape(-1) for name, values in columns.items()}


#: What a flow is measured by.
_MEASURED = ("solution_distances", "invariant_distances", "levels", "bounds", "tight_bounds", "remaining")


@default_device_aside()
def example(n: int = 10, d: int = 25, m: int = 3, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random data (X, Y) for experiments: X (n, d) with entries N(0, 1), Y (n, m) with entries N(0, 1)."""
    generator = np.random.default_rng(seed)
    return tensor(generator.standard_normal((n, d))), tensor(generator.standard_normal((n, m)))


@default_device_aside()
def width_sweep(
    widths: Sequence[int] = WIDTHS,
    exponents: Sequence[float] = EXPONENTS,
    seeds: int | Sequence[int] = 20,
    *,
    X: Any = None,
    Y: Any = None,
    rtol: float = 1e-8,
    method: Method | None = None,
    executor: Executor | None = None,
    progress: bool = False,
    out: str | os.PathLike[str] | None = None,
) -> WidthSweep:
    """Gradient flow to its end from random initializations N(0, h^{−2a}), for each width, exponent and seed.

    Each flow runs until the guaranteed rate has brought the loss to 1e-12 of what it was (``remaining`` says what was
    reached). Every combination has its own draw, so that the fits are independent.

    Args:
        widths: h, two or more different ones, each at least rank(X) + m − 1.
        exponents: a.
        seeds: the seeds, or how many (0, 1, …).
        X: inputs, (N, d); the data of :func:`example` by default.
        Y: targets, (N, m).
        rtol: of the integrator.
        method: the integrator, see :func:`whichmin.linear.flow`.
        executor: any ``concurrent.futures.Executor``, such as a ``ProcessPoolExecutor``; here by default.
        progress: show a bar on standard error if it takes longer than two seconds.
        out: a folder in whose ``runs`` each finished flow is kept, and read from when it is there already.

    Returns:
        A :class:`WidthSweep`. A flow takes as long at any width.

    Raises:
        DataError: data that cannot be used, X without Y, or no seeds.
        ModelError: widths that are too few or too small for the theorem.
        OutputError: ``out`` cannot be written to.
    """
    inputs, targets, needed = _data(X, Y)
    drawn = list(range(seeds)) if isinstance(seeds, int) else [int(s) for s in seeds]
    sizes = sorted({int(h) for h in widths})
    _validate(sizes, exponents, drawn, needed)
    data = digest([inputs, targets])
    jobs = [_Flow(inputs, targets, data, h, float(a), s, rtol, method) for a in exponents for h in sizes for s in drawn]
    terms = Terms(None if out is None else Store.open(out), executor=executor)
    with progress_bar(len(jobs), "flow", progress, "width sweep") as bar:
        found = [attempt.answer for _, attempt in in_order(performed(jobs, terms, bar))]
    measured = np.array(found).reshape(len(exponents), len(sizes), len(drawn), len(_MEASURED))
    columns = {name: tensor(measured[..., i]) for i, name in enumerate(_MEASURED)}
    return WidthSweep(tensor(np.array(sizes, float)), tensor(np.array(exponents, float)), **columns)


def _data(X: Any, Y: Any) -> tuple[Tensor, Tensor, int]:
    """X (N, d) and Y (N, m) in their own types, and the least width of the theorem, rank(X) + m − 1."""
    if (X is None) != (Y is None):
        raise DataError("got one of X and Y: pass both, or none for random data.")
    X, Y = (
        example() if X is None else (_checks.as_tensor(X, "X", torch.float64), _checks.as_tensor(Y, "Y", torch.float64))
    )
    data = _checks.data(X, Y)
    return X.reshape(data.inputs.shape), Y.reshape(data.targets.shape), pose(data).rank + data.targets.shape[1] - 1


def _validate(sizes: list[int], exponents: Sequence[float], seeds: list[int], needed: int) -> None:
    if len(sizes) < 2:
        raise ModelError(f"widths are {sizes}; expected two different ones at least, to fit a power.")
    if sizes[0] < needed:
        raise ModelError(
            f"width {sizes[0]} is below rank(X) + m − 1 = {needed}: the loss need not converge. Take larger widths."
        )
    if not seeds or not len(exponents):
        raise DataError(f"got {len(seeds)} seeds and {len(exponents)} exponents: pass one of each at least.")


@dataclass(frozen=True, eq=False)
class _Flow:
    """One flow, as a job: what it is measured by, in the order of ``_MEASURED``."""

    X: Tensor
    Y: Tensor
    data: str
    width: int
    exponent: float
    seed: int
    rtol: float
    method: Method | None
    failures = ()

    @property
    def question(self) -> Question:
        names = ("data", "width", "exponent", "seed", "rtol", "method")
        return Question({"kind": "flow", "versions": versions()} | {name: getattr(self, name) for name in names})

    @own_context()
    def compute(self) -> tuple[float, ...]:
        X, Y = self.X, self.Y
        drawn = (self.seed, self.width, round(1e6 * abs(self.exponent)))
        U, V = initialize(X.shape[1], self.width, Y.shape[1], exponent=self.exponent, seed=drawn)
        known = analyze_weights(U, V, X, Y)
        end = horizon(known._loss_bounds.problem, known._reduced)
        run = flow(U, V, X, Y, [0.0, end], rtol=self.rtol, atol=1e-2 * self.rtol, method=self.method)
        gap = float(run.gaps[0])
        remaining = float(run.gaps[-1]) / gap if gap > 0 else 0.0
        measured = (known.invariant_distance, known.imbalance_level, known.bound, known.tight_bound, remaining)
        return (float(run.solution_distances[-1]), *measured)

    def keep(self, store: Store, question: Question, answer: tuple[float, ...]) -> None:
        store.write(question, {"measured": list(answer)}, {})

    def read(self, place: Path, config: dict[str, Any], arrays: dict[str, Tensor]) -> tuple[float, ...]:
        return tuple(config["measured"])


def _fit(a: float, widths: Array, values: Array, quantity: Quantity) -> PowerFit:
    x, y = np.log(widths), np.log(np.maximum(values, np.finfo(np.float64).tiny))
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    mean = y.mean(axis=1)
    slope = float(weights @ mean)
    seeds = values.shape[1]
    variance = y.var(axis=1, ddof=1) / seeds if seeds > 1 else np.full(len(x), np.nan)
    theory = 1.0 - 2.0 * a if quantity == "levels" else 0.5 - 2.0 * a
    return PowerFit(
        exponent=a,
        slope=slope,
        standard_error=float(np.sqrt(weights**2 @ variance)),
        expected=theory if 0.25 < a <= 0.5 else float("nan"),
        prefactor=float(np.exp(mean.mean() - slope * x.mean())),
    )
