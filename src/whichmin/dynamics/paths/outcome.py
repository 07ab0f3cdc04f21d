"""Where a prediction ends, and what came of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from whichmin.dynamics.paths.leaps import Leaps
from whichmin.dynamics.prediction import Certificate
from whichmin.losses import root_mean_square

#: So many outputs tell an error by their root mean square alone.
FEW = 10

Method = Literal["linearized", "relinearized", "trained"]


@dataclass(frozen=True)
class Goal:
    """Where training ends.

    Attributes:
        times: ascending step counts at which outputs are wanted; training ends at the last, ``math.inf`` is the limit.
        until: training also ends where its loss falls below this; None for no such aim.
        eval_every: the loss is compared with ``until`` after every so many steps only, those of an epoch.
        flow: whether time is continuous, so that the loss is compared at any time.
        outputs_only: whether nothing but outputs is wanted, so that how well training losses and the number of steps
            to ``until`` are known does not matter.
    """

    times: tuple[float, ...]
    until: float | None = None
    eval_every: int = 1
    flow: bool = False
    outputs_only: bool = False

    @property
    def steps(self) -> float:
        """The last step count."""
        return self.times[-1]

    def is_evaluated(self, steps: float) -> bool:
        """Whether training looks at its loss after so many steps."""
        return self.flow or math.isinf(steps) or steps % self.eval_every == 0

    @property
    def is_reached_by_training(self) -> bool:
        """Whether training would end: not a flow, nor the limit of infinitely many steps."""
        return not self.flow and (math.isfinite(self.steps) or self.until is not None)

    @property
    def looks_by_epoch(self) -> bool:
        """Whether the loss is compared with ``until`` at the ends of epochs of several steps."""
        return self.until is not None and self.eval_every > 1 and not self.flow

    def epochs_before(self, end: float, first: float, most: int) -> list[float]:
        """The last steps between two at which the loss is compared with ``until``, where that is by epochs.

        Args:
            end: the later one.
            first: the earlier one.
            most: so many at most.
        """
        if not self.looks_by_epoch or math.isinf(end):
            return []
        last = math.ceil(end / self.eval_every) - 1
        numbers = range(max(math.floor(first / self.eval_every), last - most) + 1, last + 1)
        return [float(self.eval_every * number) for number in numbers]

    def is_reached(self, loss: float, steps: float) -> bool:
        """Whether training stops here because its loss is below ``until``."""
        return self.until is not None and loss < self.until and self.is_evaluated(steps)


def error_told_by(differences: Tensor) -> float:
    """The error that differences of two predictions at m outputs tell: their root mean square, of few 1 + 4/m² of it.

    A few of them may be small by chance. Of m = 1 the ratio of two normal numbers is beyond 12.7 in one of twenty
    cases, of m = 2 the ratio of two root mean squares beyond 4.4, of m = 4 beyond 2.5.

    Args:
        differences: (m,).
    """
    m = len(differences)
    return root_mean_square(differences) * (1.0 + 4.0 / m**2 if 0 < m < FEW else 1.0)


@dataclass(frozen=True, eq=False)
class LinearizedRun:
    """The optimizer itself, run on the network linearized at θ₀.

    Attributes:
        steps: how many steps it made.
        train: f_lin(X) at the end, (N·C,), float64.
        test: f_lin(x') at the end, (n·C,), float64.
        metric: the optimizer's last preconditioner D by parameter; None where it has none that is known.
        decay: what decoupled weight decay took off the parameters, by parameter; None without it.
    """

    steps: int
    train: Tensor
    test: Tensor
    metric: dict[str, Tensor] | None
    decay: dict[str, Tensor] | None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a prediction found.

    Attributes:
        method: with one linearization at θ₀, along a path of several, or by real training.
        train: outputs on the training inputs at the times that were asked for and passed, (N·C,) each, float64.
        test: outputs where errors are looked at, (n·C,) each, float64.
        steps: how many steps it came to.
        intervals: how many linearizations it took.
        error: the estimated root mean square error of the last ``test``; infinity where it is not known.
        loss_error: that of the training losses at several times, relative to themselves; 0 for a single time.
        steps_error: that of the number of steps to a training loss, relative to itself; 0 for a given number.
        measured_steps: the steps that the path itself came to, where ``steps`` is extrapolated from several paths.
        is_close: whether the kernel came close to the learning rate's limit of stability.
        unknowable: the part of ``error`` that no finer path would take away.
        curve: (step, training loss) pairs.
        state: the network's parameters at the end, a state dict.
        epochs: of batches, training losses that are compared with ``until``, by the step.
        notes: what the caller should know.
        edge: the step at which the kernel had outgrown the learning rate's limit of stability; None if it never did.
        swing: the root mean square by which outputs of real training swing about the path's at the edge of stability.
        outgrown: the largest eigenvalue over the limit of stability that any interval of a path ended with.
        swollen: what rounding of the outputs has grown to beyond that limit, if nothing stopped it.
        certificate: the network evaluated at the end of one linearization; None where none was made.
        training_seconds: what real training took, without the second one that tells its error; nan otherwise.
        rounding: the part of the error of one linearization that comes from the rounding of the kernel.
        leaps: of the training outputs along a path; None where they are not looked for.
        run: the linearized run of an optimizer without a motion in function space; None where none was made.
    """

    method: Method
    train: list[Tensor]
    test: list[Tensor]
    steps: float
    intervals: int
    error: float
    curve: list[tuple[float, float]]
    state: dict[str, Tensor]
    epochs: dict[float, float] = field(default_factory=dict)
    loss_error: float = 0.0
    unknowable: float = 0.0
    steps_error: float = 0.0
    measured_steps: float = math.nan
    is_close: bool = False
    notes: tuple[str, ...] = field(default_factory=tuple)
    edge: float | None = None
    swing: float = 0.0
    outgrown: float = 0.0
    swollen: float = 0.0
    certificate: Certificate | None = None
    rounding: float = 0.0
    leaps: Leaps | None = None
    run: LinearizedRun | None = None
    training_seconds: float = math.nan

    def __post_init__(self) -> None:
        """Nothing is extrapolated unless it is said."""
        if math.isnan(self.measured_steps):
            object.__setattr__(self, "measured_steps", self.steps)

    def with_notes(self, *notes: str) -> Outcome:
        """With these after its own."""
        return replace(self, notes=(*self.notes, *notes))

    def of_unknown_error(self, *notes: str) -> Outcome:
        """With an error of infinity, and these notes after its own."""
        return replace(self.with_notes(*notes), error=math.inf)

    def no_surer_than_leaps(self) -> Outcome:
        """With an error no less than how far outputs leapt on the way, and a note where some did."""
        if self.leaps is None:
            return self
        return replace(self.with_notes(*self.leaps.notes), error=max(self.error, self.leaps.size))
