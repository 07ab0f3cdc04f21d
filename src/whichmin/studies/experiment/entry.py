"""What a report is made of: one entry per seed or choice."""

from __future__ import annotations

from dataclasses import dataclass

from whichmin.decomposition.explanation import Explanation
from whichmin.dynamics.prediction import Prediction
from whichmin.errors import WhichminError
from whichmin.task import Task
from whichmin.training.run import Run


@dataclass(frozen=True, eq=False)
class Entry:
    """One line of the table and what stands behind it.

    Attributes:
        label: such as ``"seed 0"``.
        linearized: the linearized prediction.
        relinearized: the prediction along the path.
        run: the real training.
        explanation: the terms.
        task: the task, needed only where neither a run nor an explanation brings it.
        optimizer: what the entry has in common with others, such as ``"adam"``; entries of several optimizers are
            summed up by optimizer.
        member: what tells it from those, such as ``"seed 0"``.
        failure: why there is nothing else.
    """

    label: str
    linearized: Prediction | None = None
    relinearized: Prediction | None = None
    run: Run | None = None
    explanation: Explanation | None = None
    task: Task | None = None
    optimizer: str | None = None
    member: str | None = None
    failure: WhichminError | None = None
