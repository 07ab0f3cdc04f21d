"""A prediction at work: what all kinds of optimizers have in common."""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from whichmin.dynamics.paths.linearized import flat
from whichmin.dynamics.paths.outcome import Outcome, error_told_by
from whichmin.dynamics.paths.position import Position
from whichmin.dynamics.paths.problem import Problem
from whichmin.dynamics.paths.real import BudgetError, Patience, Progress, RealTraining
from whichmin.dynamics.prediction import Curve, Prediction
from whichmin.dynamics.rules.rule import Convergence
from whichmin.errors import SingularKernelError
from whichmin.jobs.threads import few_blas_threads
from whichmin.late import Later
from whichmin.losses import root_mean_square
from whichmin.tangent.context import own_context

logger = logging.getLogger(__name__)

#: What is said where the seconds of a prediction ran out.
OUT_OF_BUDGET = "the budget ran out before a path or real training was there: this is one linearization at θ₀."

#: What is said of an error that is infinite.
UNKNOWN = "how far real training ends from here is not known."
#: Half precision that swallows more than this part of a step is mentioned.
NOTICEABLE = 0.02
#: Intervals of up to so many steps, on average, are nearly training itself.
FEW_STEPS = 8

#: What is said where gradients are no longer what layers say.
OPENED = (
    "on the way a branch opened that no layer is seen through: the gradients of {} are not those that the path "
    "followed, and how far real training ends from here is not known."
)
#: Where errors are looked at in no more outputs than this, it is said.
FEW_OUTPUTS = 2

#: What the kernel at θ₀ tells beside a prediction, by its name there.
OF_KERNEL: tuple[str, ...] = ("terms", "eigenvalues", "max_lr", "best_lr", "limit", "rates")

Relinearize = Literal["auto", "path", "never"] | int


class Predictor(ABC):
    """Predicts one training. It keeps no state: each outcome holds what the next question needs.

    Attributes:
        problem: what is predicted.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.network = problem.network

    def predict(
        self,
        relinearize: Relinearize,
        tol: float,
        *,
        budget: float = math.inf,
        row_span: bool = False,
        progress: bool = False,
        started: float | None = None,
        real: RealTraining | None = None,
    ) -> Outcome:
        """By the method that is asked for; ``"auto"`` by the cheapest that meets the tolerance.

        Args:
            relinearize: see :func:`whichmin.predict`.
            tol: see there.
            budget: the seconds that it may take.
            row_span: of real training, see there.
            progress: whether to show a progress bar.
            started: when it began, on the clock of ``time.perf_counter``; now by default.
            real: the training, where the caller wants to have it as well; by default one of its own.
        """
        started = time.perf_counter() if started is None else started
        real = RealTraining(self.problem, row_span) if real is None else real
        patience = Patience(
            real if relinearize == "auto" and self.problem.goal.is_reached_by_training else None,
            started + budget,
            Progress(progress),
            started=started,
        )
        with patience.progress:
            if patience.real is not None and self.network.is_coarse:  # steps lost in rounding are seen in training only
                try:
                    return patience.real.run(patience)
                except BudgetError:
                    patience.real = None
            outcome = self._looked_over(self._predict(relinearize, tol, patience), patience)
            return outcome if outcome.method == "trained" else self._with_lost_steps(_noted(outcome), real.lost)

    @abstractmethod
    def _predict(self, relinearize: Relinearize, tol: float, patience: Patience) -> Outcome:
        """Such a prediction, no longer than patience lasts."""

    @abstractmethod
    def linearized(self, patience: Patience | None = None) -> Outcome:
        """By one linearization at θ₀.

        Args:
            patience: when it ends in any case, where steps are made one by one; then its error is unknown. And where it
                is told how far it came.
        """

    @abstractmethod
    def terms(self, outcome: Outcome) -> dict[str, Tensor]:
        """Parts of the last test outputs that add up to them, (n·C,) each."""

    @abstractmethod
    def nonlinear_terms(self, linearized: Outcome, test: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """``curvature`` f(θ_T) − f₀ − J₀(θ_T − θ₀) and ``drift``, the rest, so that all terms add up to ``test``.

        Args:
            linearized: the linearized outcome of as many steps.
            test: f(θ_T, x'), (n·C,).
            state: θ_T.
        """

    def _with_lost_steps(self, outcome: Outcome, lost: float) -> Outcome:
        """With what a model in half precision makes of outputs and steps in its error."""
        if not self.network.is_coarse:
            return outcome
        rounding = self.network.rounding(outcome.state)
        self.network.put(self.problem.origin)
        moved = root_mean_square(outcome.test[-1] - flat(self.network.outputs(self.network.X)))
        note = (
            f"the network computes in half precision, which swallows about {lost:.0%} of a step: real training goes "
            "another way than this path of single precision, and how far is a rough guess."
        )
        notes = (*outcome.notes, note) if lost > NOTICEABLE else outcome.notes
        return replace(outcome, error=math.hypot(outcome.error, rounding, min(lost, 1.0) * moved), notes=notes)

    def is_fine(self, outcome: Outcome) -> bool:
        """Whether a path is of intervals of few steps."""
        return outcome.steps - self.problem.first <= FEW_STEPS * outcome.intervals

    def _with_unknowable(self, outcome: Outcome, again: Callable[[Position], Outcome]) -> Outcome:
        """With an error no smaller than how far two paths end from each other that begin some rounding units apart.

        Where intervals are of few steps, a path is as sensitive to rounding as training is; at an edge of stability,
        too. Elsewhere the outcome stays as it is.

        Args:
            outcome: of a path from θ₀.
            again: the same path from another position.
        """
        if not (self.is_fine(outcome) or outcome.edge is not None) or not math.isfinite(outcome.error):
            return outcome
        other = again(self.network.nudged(self.problem.origin))
        self.network.put(self.problem.origin)
        apart = error_told_by(outcome.test[-1] - other.test[-1])
        unknowable = max(outcome.unknowable, apart if math.isfinite(apart) else math.inf)
        return replace(outcome, error=max(outcome.error, unknowable), unknowable=unknowable)

    def _looked_over(self, outcome: Outcome, patience: Patience) -> Outcome:
        """Of a path on which a branch opened that no layer is seen through: real training, or an unknown error.

        The error of other paths is no less than the rounding of the outputs.
        """
        if outcome.method != "relinearized":
            return outcome
        names = sorted(self.network.misread(outcome.state))
        if not names:
            rounding = self.network.eps * root_mean_square(outcome.test[-1])
            return replace(outcome, error=max(outcome.error, rounding))
        if patience.real is not None:
            with suppress(BudgetError):
                return replace(patience.real.run(patience, or_part=True), certificate=outcome.certificate)
        return replace(outcome, error=math.inf, unknowable=math.inf, notes=(OPENED.format(", ".join(names)),))

    def convergence(self) -> Convergence | None:
        """How fast the loss falls on the linearized network; None where that is not known."""
        return None

    def limit(self) -> float | None:
        """The learning rate at the limit of stability of the optimizer on K(X, X) at θ₀; None where none is known."""
        return None

    def package(
        self, outcome: Outcome, seconds: float, several: bool = False, *, needs_terms: bool = False
    ) -> Prediction:
        """The result, in the network's type.

        Args:
            outcome: what was found.
            seconds: what it took.
            several: whether outputs are wanted at several times.
            needs_terms: whether it is of no use without terms; else they are left out, with a note, where a kernel that
                is not decomposed cannot be inverted, and made when asked for, where they take long.

        Raises:
            SingularKernelError: it cannot, and they are needed.
        """
        problem, task = self.problem, self.network.task
        like = next(iter(problem.origin.values.values()))

        def shaped(outputs: list[Tensor]) -> Tensor:
            stacked = torch.stack([o.reshape(-1, task.outputs) for o in outputs]).to(like)
            return stacked if several else stacked[-1]

        facts: dict[str, Any]
        if not needs_terms and self._are_facts_made_later(outcome):
            facts, notes = dict.fromkeys(OF_KERNEL, Later(partial(_facts_of, problem.anew(outcome.steps), outcome))), ()
        else:
            facts, notes = self._facts(outcome, needs_terms)
        return Prediction(
            train=shaped(outcome.train),
            test=None if task.X_test is None else shaped(outcome.test),
            steps=torch.tensor(problem.goal.times, dtype=torch.float64) if several else outcome.steps,
            learning_rate=problem.learning_rate,
            flow=problem.goal.flow,
            method=outcome.method,
            intervals=outcome.intervals,
            error=outcome.error,
            target_std=problem.scale(outcome.train[-1]),
            certificate=outcome.certificate,
            curve=Curve(*torch.tensor(outcome.curve, dtype=torch.float64).T.contiguous()),
            seconds=seconds,
            training_seconds=outcome.training_seconds,
            optimizer=problem.optimizer,
            notes=outcome.notes + notes + ((self.network.plan,) if self.network.plan else ()),
            **facts,
            _state=outcome.state,
            _network=self.network.model,
        )

    def _are_facts_made_later(self, outcome: Outcome) -> bool:
        """Whether what the kernel at θ₀ tells takes much of what the prediction took, and is made when asked for."""
        if outcome.method == "trained" or self.network.is_held_later:
            return True
        return outcome.method == "relinearized" and not self.problem.spectrum.is_affordable

    def _facts(self, outcome: Outcome, needs_terms: bool = False) -> tuple[dict[str, Any], tuple[str, ...]]:
        """What the kernel at θ₀ tells beside a prediction, by its name there, and what is to be said of it.

        Raises:
            SingularKernelError: there are no terms, and they are needed.
        """
        spectrum, task, terms = self.problem.spectrum, self.network.task, dict[str, Tensor]()
        notes: tuple[str, ...] = ()
        if task.X_test is not None:
            try:
                terms = self.terms(outcome)
            except SingularKernelError as error:
                if needs_terms:
                    raise
                notes = (f"there are no terms: {error}",)
        facts = {
            "terms": {name: term.reshape(-1, task.outputs) for name, term in terms.items()},
            "eigenvalues": spectrum.eigenvalues,
            "max_lr": spectrum.max_lr,
            "best_lr": spectrum.best_lr,
            "limit": self.limit(),
            "rates": self.convergence(),
        }
        return facts, notes + self._rank_notes()

    def _rank_notes(self) -> tuple[str, ...]:
        spectrum, size = self.problem.spectrum, self.network.size
        outputs, rank = spectrum.size, spectrum.rank
        if size < outputs:
            unique = "the linearized minimizer is unique: it does not depend on the optimizer or the batches."
            free = f"the kernel has rank {rank}: some directions have no effect on the training outputs."
            what = f"underparameterized: {size} parameters for {outputs} training outputs; "
            if rank > size:  # of a kernel that can only be multiplied it is not known
                return (what + "whether all of them have an effect on the outputs is not known.",)
            return (what + (unique if rank == size else free),)
        if rank < outputs and not spectrum.is_affordable:
            return (f"the kernel of {outputs} outputs is singular to its precision: some targets are not reached.",)
        if rank < outputs:
            zero = f"eigenvalues up to {spectrum.discarded:.2g} were taken for zero."
            return (f"the kernel has rank {rank} of {outputs}: {zero}",)
        return ()


def _noted(outcome: Outcome) -> Outcome:
    """With a note where its error is told by very few outputs."""
    m = len(outcome.test[-1])
    if m > FEW_OUTPUTS or not math.isfinite(outcome.error) or not outcome.error > 0:
        return outcome
    at = "one test output alone" if m == 1 else f"{m} test outputs alone"
    return outcome.with_notes(f"the error is estimated at {at}, where it may be small by chance: it is rough.")


@own_context()
def _facts_of(problem: Problem, outcome: Outcome) -> dict[str, Any]:
    """What the kernel at θ₀ tells beside a prediction for which none was made."""
    task, problem.network.products = problem.network.task, math.inf
    problem.network.put(problem.origin)
    with few_blas_threads(task.n * task.outputs, scipy=not task.objective.loss.is_quadratic):
        facts, notes = problem.predictor_of(problem)._facts(outcome)
    for note in notes:
        logger.warning("%s", note)
    return facts
