"""The result of :func:`whichmin.predict`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from whichmin.arrays import TensorIfKnown
from whichmin.dynamics.rules.rule import Convergence
from whichmin.errors import ResultError
from whichmin.late import late
from whichmin.results import NOT_SAVED, Result, by_point
from whichmin.shown import Shown
from whichmin.tangent.copying import private_copy


@dataclass(frozen=True)
class Certificate(Shown):
    """The network evaluated at its one-shot predicted parameters θ* = θ₀ + Jᵀc: how lazy is it?

    Attributes:
        train_loss: the training loss of f(θ*, X).
        test_deviation: mean square, over test points and outputs, of f(θ*, x') minus the linearized prediction.
    """

    train_loss: float
    test_deviation: float


@dataclass(frozen=True)
class Curve:
    """A training curve: the training loss against the number of steps.

    Attributes:
        steps: (T,), float64.
        losses: (T,), float64.
    """

    steps: Tensor
    losses: Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction(Result):
    """Where training goes, without having trained.

    What the tangent kernel at θ₀ tells beside it, ``terms``, ``eigenvalues``, ``max_lr``, ``best_lr``, ``limit`` and
    ``rates``, is made when one of them is first asked for where the prediction is by real training or by products
    J(Jᵀv), which need no kernel, or by a path of more than 4,096 outputs, where terms take long: that takes a
    linearization, a Cholesky factor for the terms, and may raise what making a kernel raises. What there is to say of
    the kernel is logged as a warning then, and not among ``notes``.

    ``to_frame`` has one row per test point and output: ``point``, ``output``, ``predicted`` and a column per term.

    Attributes:
        train: predicted training outputs, (N, C), or (T, N, C) where several step counts were asked for.
        test: predicted test outputs, (N_test, C) or (T, N_test, C); None without test inputs.
        steps: the step counts of these outputs: a number (``math.inf`` for the limit) or a (T,) tensor.
        learning_rate: the learning rate, with ``"best"`` resolved.
        flow: whether this is gradient flow at time lr·steps.
        method: ``"linearized"``, ``"relinearized"`` or ``"trained"``: by real training of a copy, where that was the
            cheapest way that is right.
        intervals: how many linearizations were used; 0 by real training.
        error: the estimated root mean square distance on the test points (training points without a test set) between
            prediction and trained network, in the units of the outputs. That of one linearization comes from how far
            the tangent features turned, and is too large far from the lazy regime, and from how the entries of the
            kernel are rounded, which is all of it for a network that is linear in its parameters; that of a followed
            path from its difference to a path of fewer intervals. By real training nothing is approximated, but
            rounding may lead it elsewhere on another machine: it is how far the same training is from it that begins
            again from parameters a few roundings apart, all of it where that takes little, else its first and its last
            steps, with a note. Where the loss does not fall steadily it is no less than how far both were apart on the
            way, and than a step more leads where rounding decides which step is the last one. Of parts, what grows more
            than thirtyfold in one grows on; and where the loss climbs or rises between them outputs may be apart as far
            as they wander in training: that is the error where what is apart was seen to grow, else the geometric mean
            of it and of what was seen.
            Where outputs leap within an interval of a path as no derivative tells (gates, comparisons in forward), it
            is no less than the largest leap of the training outputs, with a note.
            Of mini-batches, whose loss is compared with ``until`` once an epoch, it is no less than what another epoch
            leads to, with a note, where that may be the last one.
            The error of a path has a direction: it lags behind training, so that predicted losses of test points are a
            little low more often than high. For the mean square error L they are by up to 2·``error``·√L.
            Of m < 10 outputs, which may be off by little by chance, it is 1 + 4/m² times what they show, with a note
            for one or two. Infinite, with a note, where nothing is known.
        target_std: the standard deviation that ``tol`` is relative to: that of the outputs of least loss, which with
            the mean square error are the targets; where no one vector of outputs has it, as with cross-entropy, that
            of the predicted training outputs.
        terms: parts of ``test`` that add up to it, (N_test, C) each, at the last step count: ``interpolant``,
            ``initialization``, ``unconverged``; with weight decay ``decay``; with a preconditioner ``geometry`` and,
            if it changes, ``path``; for a followed path also ``curvature`` and ``drift``, or, where no linearized run
            was made, one term ``trajectory`` for all that is not of the first three. None, with a note, where the
            kernel is too large to be decomposed and cannot be inverted.
        certificate: see :class:`Certificate`; None where no linearized run was made that it would be about: of an
            adaptive optimizer's path, and of real training that came first.
        eigenvalues: of the tangent kernel at θ₀, (N·C,), float64, descending; of more than 1,024 the largest 32.
        max_lr: the limit of stability 2/(γ λ_max) of gradient descent at θ₀, whatever the optimizer.
        optimizer: the optimizer's class name.
        best_lr: 2/(γ(λ_min + λ_max)), the rate at which the slowest mode of the linearized network falls fastest.
        limit: the learning rate at the limit of stability of this optimizer, with its settings, at θ₀: beyond it the
            mode of the largest of ``eigenvalues`` does not converge. Infinite for a flow; None where it is not known.
        rates: how fast the loss falls on the linearized network
            (:class:`whichmin.dynamics.rules.rule.Convergence`): linear or sublinear, with the slowest mode; None where
            no such rate is known.
        curve: the predicted training curve.
        seconds: what the prediction took.
        training_seconds: what of this real training took, without the second one that tells its error; nan where the
            prediction is not by real training.
        notes: what the caller should know, such as a limit of stability that the path ran into.
    """

    kind: ClassVar[str] = "prediction"

    train: Tensor
    test: TensorIfKnown
    steps: float | Tensor
    learning_rate: float
    flow: bool
    method: str
    intervals: int
    error: float
    target_std: float
    terms: dict[str, Tensor] = late()
    certificate: Certificate | None
    eigenvalues: Tensor = late()
    max_lr: float = late()
    curve: Curve
    seconds: float
    optimizer: str = ""
    best_lr: float = late()
    limit: float | None = late()
    rates: Convergence | None = late()
    notes: tuple[str, ...] = ()
    training_seconds: float = math.nan
    _state: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _network: nn.Module | None = field(default=None, repr=False, metadata=NOT_SAVED)

    @property
    def relative_error(self) -> float:
        """``error`` divided by ``target_std``: what ``tol`` bounds."""
        return self.error / self.target_std

    def parameters(self) -> dict[str, Tensor]:
        """The predicted parameters θ*, a state dict that loads into the model (buffers included)."""
        return {name: value.clone() for name, value in self._state.items()}

    def model(self) -> nn.Module:
        """A copy of the network at the predicted minimizer."""
        if self._network is None:
            raise ResultError("a loaded prediction holds no network: model.load_state_dict(prediction.parameters()).")
        network = private_copy(self._network)
        network.load_state_dict(self._state)
        return network

    def _columns(self) -> Mapping[str, Any]:
        if self.test is None:
            raise ResultError("this prediction has no test points: pass a Task with X_test.")
        return by_point({"predicted": self.test if self.test.ndim == 2 else self.test[-1]} | self.terms)
