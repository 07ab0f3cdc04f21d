"""What a report is made of: one entry per choice and seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from whichmin.decomposition.explanation import Explanation
from whichmin.dynamics.prediction import Prediction
from whichmin.errors import WhichminError
from whichmin.results import NOT_SAVED, Result
from whichmin.task import Task
from whichmin.training.run import Run


@dataclass(frozen=True, eq=False)
class Entry(Result):
    """One line of the table and what stands behind it.

    Attributes:
        label: such as ``"seed 0"``.
        linearized: the linearized prediction.
        relinearized: the prediction by the cheapest way that is right: along the path, or by training a copy.
        run: the real training.
        explanation: the terms.
        task: the task, needed only where neither a run nor an explanation brings it.
        optimizer: what the entry has in common with others, such as ``"adam"`` or ``"adam, batch 32"``; entries of
            several are summed up by it.
        member: what tells it from those, such as ``"seed 0"``.
        notes: remarks about the entry itself.
        failure: why there is nothing else.
        reused: whether it was finished before and read back.
    """

    kind: ClassVar[str] = "entry"

    label: str
    linearized: Prediction | None = None
    relinearized: Prediction | None = None
    run: Run | None = None
    explanation: Explanation | None = None
    task: Task | None = None
    optimizer: str | None = None
    member: str | None = None
    notes: tuple[str, ...] = ()
    failure: WhichminError | None = field(default=None, metadata=NOT_SAVED)
    reused: bool = field(default=False, metadata=NOT_SAVED)

    @property
    def prediction(self) -> Prediction | None:
        """The better of the predictions: the relinearized one where there is one."""
        return self.relinearized or self.linearized

    @property
    def known_task(self) -> Task | None:
        """``task``, or that of the run or the explanation."""
        parts = (self.explanation, self.run)
        return self.task or next((part.task for part in parts if part is not None), None)
