"""An entry made ready to be shown: parts that an explanation brings are filled in, outputs are float64 arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from whichmin.decomposition.explanation import MEANINGS, Explanation
from whichmin.dynamics.prediction import Prediction
from whichmin.studies.experiment.entry import Entry
from whichmin.task import Task
from whichmin.training.run import Run

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EntryView:
    """What is known of one entry.

    Attributes:
        label: as given.
        linearized, relinearized, run, explanation, task: as given, or else from the explanation or the run.
        optimizer, member: as given.
        target: test targets, (N_test, C), or None.
        outputs: test outputs, (N_test, C) each, at the last step count, under ``"trained"``, ``"linearized"`` and
            ``"relinearized"``; only those that are known.
    """

    label: str
    linearized: Prediction | None
    relinearized: Prediction | None
    run: Run | None
    explanation: Explanation | None
    task: Task | None
    target: Array | None
    outputs: dict[str, Array]
    optimizer: str | None = None
    member: str | None = None

    @property
    def prediction(self) -> Prediction | None:
        """The better of the predictions: the relinearized one where there is one."""
        return self.relinearized or self.linearized

    def test_mse(self, which: str) -> float | None:
        """The test mean square error of ``outputs[which]``, None where it is unknown."""
        return mse(self.outputs.get(which), self.target)

    def partial_errors(self, names: Sequence[str]) -> Array | None:
        """The test error of the partial sums of the terms taken in the order ``names``, (len(names),)."""
        if self.explanation is None or self.explanation.task.y_test is None:
            return None
        target = array(self.explanation.task.y_test)
        terms = [array(self.explanation.terms[n]) if n in self.explanation.terms else 0.0 for n in names]
        partial = np.cumsum([np.broadcast_to(term, target.shape) for term in terms], axis=0)
        return np.square(partial - target).mean(axis=(1, 2))


def entry_views(entries: Iterable[Entry]) -> list[EntryView]:
    """The entries, each completed from its explanation; without those that failed."""
    return [_view(entry) for entry in entries if entry.failure is None]


def _view(entry: Entry) -> EntryView:
    why = entry.explanation
    run = entry.run or (why.run if why else None)
    linearized = entry.linearized or (why.prediction if why else None)
    relinearized = entry.relinearized or (why.relinearized if why else None)
    task = entry.task or (run.task if run else None) or (why.task if why else None)
    tests = {
        "trained": run.test if run else None,
        "linearized": linearized.test if linearized else None,
        "relinearized": relinearized.test if relinearized else None,
    }
    return EntryView(
        label=str(entry.label),
        linearized=linearized,
        relinearized=relinearized,
        run=run,
        explanation=why,
        task=task,
        target=array(task.y_test) if task is not None and task.y_test is not None else None,
        outputs={name: array(value) for name, value in tests.items() if value is not None},
        optimizer=entry.optimizer,
        member=entry.member,
    )


def array(tensor: Tensor) -> Array:
    """A tensor as float64 on the host; of a (T, N, C) prediction the last step count."""
    values = tensor.detach().double().cpu().numpy()
    return values[-1] if values.ndim == 3 else values


def mse(a: Array | None, b: Array | None) -> float | None:
    """The mean square difference, None where a part is missing or the shapes do not belong together."""
    return None if a is None or b is None or a.shape != b.shape else float(np.square(a - b).mean())


def last_steps(prediction: Prediction) -> float:
    """The last step count of a prediction."""
    steps = prediction.steps
    return float(steps.reshape(-1)[-1]) if isinstance(steps, Tensor) else float(steps)


def by_optimizer(entries: Iterable[EntryView]) -> dict[str, list[EntryView]]:
    """The entries of each optimizer in order; empty unless there are several and every entry says its own."""
    groups: dict[str, list[EntryView]] = {}
    for view in entries:
        if view.optimizer is None:
            return {}
        groups.setdefault(view.optimizer, []).append(view)
    return groups if len(groups) > 1 else {}


def term_names(entries: Iterable[EntryView]) -> list[str]:
    """The terms of all entries: known ones in the order of ``MEANINGS``, then others as they appear."""
    seen: dict[str, None] = {}
    for view in entries:
        if view.explanation is not None:
            seen |= dict.fromkeys(view.explanation.terms)
    order = {name: rank for rank, name in enumerate(MEANINGS)}
    return sorted(seen, key=lambda name: order.get(name, len(order)))


def present(values: Iterable[float | None]) -> list[float]:
    """The values that are there."""
    return [v for v in values if v is not None and not math.isnan(v)]
