"""An entry made ready to be shown: parts that an explanation brings are filled in, outputs are float64 arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from whichmin.decomposition.explanation import MEANINGS, Explanation
from whichmin.dynamics.prediction import Prediction
from whichmin.studies.experiment.entry import Entry
from whichmin.studies.experiment.summary import way_of
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
        outputs: test outputs, (N_test, C) each, at the last step count, under ``"trained"``, ``"linearized"`` and
            ``"relinearized"``; only those that are known.
    """

    label: str
    linearized: Prediction | None
    relinearized: Prediction | None
    run: Run | None
    explanation: Explanation | None
    task: Task | None
    outputs: dict[str, Array]
    optimizer: str | None = None
    member: str | None = None

    @property
    def prediction(self) -> Prediction | None:
        """The better of the predictions: the relinearized one where there is one."""
        return self.relinearized or self.linearized

    @property
    def lowest(self) -> float:
        """The training loss that no outputs get below; 0 where none is known."""
        lowest = 0.0 if self.task is None else self.task.objective.lowest
        return lowest if math.isfinite(lowest) else 0.0

    def test_error(self, which: str) -> float | None:
        """The task's loss on the test set of ``outputs[which]``, None where it is unknown."""
        return self._judged(which, Task.test_loss)

    def accuracy(self, which: str) -> float | None:
        """The part of the test points that ``outputs[which]`` decides rightly, None where it is unknown."""
        return self._judged(which, Task.accuracy)

    def partial_errors(self, names: Sequence[str]) -> Array | None:
        """The test error of the partial sums of the terms taken in the order ``names``, (len(names),)."""
        return self._partial(names, Task.test_loss)

    def partial_accuracies(self, names: Sequence[str]) -> Array | None:
        """The accuracy of the same sums, None where test targets are no classes."""
        return self._partial(names, Task.accuracy)

    def _judged(self, which: str, judge: Callable[[Task, Tensor], float]) -> float | None:
        outputs, task = self.outputs.get(which), self.task
        if task is None or outputs is None or outputs.shape != (task.n_test, task.outputs):
            return None
        return _known(judge(task, from_numpy(outputs)))

    def _partial(self, names: Sequence[str], judge: Callable[[Task, Tensor], float]) -> Array | None:
        if self.explanation is None:
            return None
        task, terms = self.explanation.task, self.explanation.terms
        shape = (task.n_test, task.outputs)
        partial = np.cumsum([array(terms[name]) if name in terms else np.zeros(shape) for name in names], axis=0)
        values = np.array([judge(task, from_numpy(outputs)) for outputs in partial])
        return None if np.isnan(values).any() else values


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
        outputs={name: array(value) for name, value in tests.items() if value is not None},
        optimizer=entry.optimizer,
        member=entry.member,
    )


def way_of_all(entries: Iterable[EntryView]) -> str:
    """How their relinearized predictions were made, such as ``along the path``."""
    return way_of(view.relinearized for view in entries)


def loss_label(entries: Iterable[EntryView]) -> str:
    """What the entries' tasks minimize, such as ``MSE``; nothing where no task is known."""
    return ", ".join(dict.fromkeys(v.task.loss.label for v in entries if v.task is not None))


def labelled(text: str, entries: Iterable[EntryView]) -> str:
    """A text about a loss with its name in brackets: ``test error (MSE)``."""
    label = loss_label(entries)
    return f"{text} ({label})" if label else text


def scale_of(entries: Iterable[EntryView]) -> str:
    """Whose standard deviation ``Prediction.target_std`` is, in the genitive; the targets' where no task is known."""
    names = dict.fromkeys(v.task.objective.scale_of for v in entries if v.task is not None)
    return " or ".join(f"{name}’" for name in names) or "targets’"


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


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def present(values: Iterable[float | None]) -> list[float]:
    """The values that are there."""
    return [v for v in values if v is not None and not math.isnan(v)]
