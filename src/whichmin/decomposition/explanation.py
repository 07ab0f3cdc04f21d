"""The result of :func:`whichmin.explain`: named terms that add up exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from whichmin.decomposition.later import LaterLinearizations
from whichmin.dynamics.prediction import Prediction
from whichmin.errors import ResultError
from whichmin.results import Result, by_point
from whichmin.task import Task
from whichmin.training.run import Run

if TYPE_CHECKING:
    import pandas as pd

#: What each term is, in a sentence: used by reports and tables.
MEANINGS: dict[str, str] = {
    "interpolant": "the minimum-complexity interpolator of the data: what any seed of this network shares",
    "initialization": "what the network was before training and training cannot see",
    "geometry": "the optimizer's last preconditioner in place of the identity: another way between the data",
    "history": "what a changing preconditioner, or a memory of the steps before, leaves of the way taken",
    "trajectory": "what the way of training did, as far as its end and the last preconditioner tell",
    "decay": "what weight decay took that the training outputs do not see",
    "unconverged": "what a finite number of steps left undone",
    "curvature": "the trained network minus its linearization where training ended",
    "drift": "how far the tangent features turned between the start and the end of training",
    "statistics": "what buffers that moved, such as the statistics of a normalization, did to the outputs",
}


def ordered(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """In the order of ``MEANINGS``, which has all of them."""
    assert terms.keys() <= MEANINGS.keys()
    return {name: terms[name] for name in MEANINGS if name in terms}


@dataclass(frozen=True, eq=False)
class Explanation(Result):
    """A network's test outputs as a sum of named terms.

    ``to_frame`` has one row per test point and output: ``point``, ``output``, a column per term, ``total``, and
    ``target``.

    Attributes:
        terms: (N_test, C) each, in the order of ``MEANINGS``; ``total`` is their sum.
        task: the task.
        prediction: the linearized prediction the first terms come from.
        run: the real training, or None where a followed path took its place.
        relinearized: the followed path that took the place of training, or None.
        from_step: T₀, the step at which the network was linearized: all that happened before is in the initialization.
        later: how the error of one linearization falls with T₀, at the checkpoints that were kept; None where T₀ was
            not asked for.
    """

    kind: ClassVar[str] = "explanation"

    terms: dict[str, Tensor]
    task: Task
    prediction: Prediction
    run: Run | None = None
    relinearized: Prediction | None = None
    from_step: int = 0
    later: LaterLinearizations | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know: remarks of the prediction and of what trained."""
        parts = (self.prediction, self.relinearized, self.run)
        return tuple(dict.fromkeys(note for part in parts if part is not None for note in part.notes))

    @property
    def total(self) -> Tensor:
        """The sum of the terms: the network's own test output, (N_test, C), float64."""
        return torch.stack([term.double() for term in self.terms.values()]).sum(0)

    def shares(self) -> dict[str, float]:
        """The mean square of each term over test points and outputs, in squared units of the outputs."""
        return {name: float(term.double().square().mean()) for name, term in self.terms.items()}

    def test_error(self) -> pd.DataFrame:
        """The test error of the partial sums, term by term: a waterfall.

        Returns:
            One row per term: ``term``, ``loss`` (the task's loss on the test set, of the sum of the terms up to this
            one), ``change`` (its difference to the row before; the first row's is its own loss) and, where targets are
            classes, ``accuracy`` of that sum.

        Raises:
            ResultError: the task has no y_test.
        """
        import pandas as pd

        if self.task.y_test is None:
            raise ResultError("no test error without test targets: pass a Task with y_test.")
        partial, rows, before = 0.0, [], 0.0
        for name, term in self.terms.items():
            partial = partial + term.double()
            loss = self.task.test_loss(partial)
            rows.append({"term": name, "loss": loss, "change": loss - before, "accuracy": self.task.accuracy(partial)})
            before = loss
        frame = pd.DataFrame(rows)
        return frame.dropna(axis="columns", how="all")

    def _columns(self) -> Mapping[str, Any]:
        y = self.task.y_test
        target = {} if y is None else {"target": self.task.encoded(y)}
        return by_point(self.terms | {"total": self.total} | target)
