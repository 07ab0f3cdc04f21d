"""What the entries of an experiment say, in numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch

from whichmin.decision import Decision
from whichmin.decomposition.explanation import MEANINGS
from whichmin.studies.experiment.entry import Entry
from whichmin.task import Task

if TYPE_CHECKING:
    import pandas as pd

    from whichmin.dynamics.prediction import Prediction
    from whichmin.training.run import Run

Quantity = Callable[[Entry], float]

#: How predictions that are no single linearization are made.
ALONG, BY_TRAINING = "along the path", "by training"


def way_of(predictions: Iterable[Prediction | None]) -> str:
    """How relinearized predictions were made, as tables and legends say it: along the path, by training, or either."""
    trained = {prediction.method == "trained" for prediction in predictions if prediction is not None}
    return f"{ALONG} or {BY_TRAINING}" if len(trained) > 1 else BY_TRAINING if True in trained else ALONG


def column_groups(way: str) -> dict[str, dict[str, str]]:
    """The groups of a table's columns with their titles, and what each column is called: on a page and in the terminal.

    Args:
        way: that of the relinearized predictions, see :func:`way_of`.
    """
    return {
        "test error": {
            "test_loss_trained": "trained network",
            "test_loss_linearized": "predicted, one linearization",
            "test_loss_relinearized": f"predicted, {way}",
        },
        "accuracy": {
            "accuracy_trained": "trained network",
            "accuracy_linearized": "predicted, one linearization",
            "accuracy_relinearized": f"predicted, {way}",
        },
        "distance of the prediction to the trained network (mean square of outputs)": {
            "mse_to_trained_linearized": "one linearization, measured",
            "estimated_linearized": "one linearization, estimated",
            "mse_to_trained_relinearized": f"{way}, measured",
            "estimated_relinearized": f"{way}, estimated",
        },
        "training": {
            "learning_rate": "learning rate",
            "steps_trained": "steps, trained",
            "steps_predicted": "steps, predicted",
        },
        "seconds": {
            "seconds_train": "to train",
            "seconds_predict": f"to predict, {way}",
            "speedup": "training time over prediction time",
        },
        "mean square of each term": {f"share_{name}": name for name in MEANINGS},
    }


def column_labels(way: str) -> dict[str, str]:
    """The same names by column."""
    return {column: label for group in column_groups(way).values() for column, label in group.items()}


def table(entries: Sequence[Entry]) -> pd.DataFrame:
    """A row per entry, then ``mean`` and ``sd``, the sample standard deviation; NaN where a number is unknown.

    With entries of several optimizers a mean and an sd of each, ``"adam, mean"`` and ``"adam, sd"``, in their place.
    A row of NaN is an entry that failed.

    Columns: ``learning_rate``; ``steps_trained``, ``steps_predicted``; ``test_loss_trained``, ``test_loss_linearized``,
    ``test_loss_relinearized``, the task's loss on the test set; where targets are classes ``accuracy_trained``,
    ``accuracy_linearized``, ``accuracy_relinearized``, the part of the test points that is decided rightly;
    ``mse_to_trained_linearized`` and ``mse_to_trained_relinearized``, the mean square on the test points of the
    prediction's outputs minus the trained network's, each with ``estimated_…``, what the prediction said it would be;
    ``share_…``, the mean square of each term; ``seconds_predict`` (of the relinearized prediction),
    ``seconds_train`` and their ratio ``speedup``.

    Args:
        entries: such as :func:`whichmin.studies.experiment.run` returns.

    Returns:
        The data frame, indexed by the entries' labels.
    """
    import pandas as pd

    columns = quantities(entries)
    frame = pd.DataFrame(
        {name: [quantity(entry) for entry in entries] for name, quantity in columns.items()},
        index=pd.Index([entry.label for entry in entries], name="entry"),
        dtype=float,
    )
    groups = {name: [e.label for e in entries if e.optimizer == name] for name in optimizers(entries)}
    sums = {}
    for name, labels in groups.items() if len(groups) > 1 else [("", list(frame.index))]:
        start = f"{name}, " if name else ""
        sums |= {f"{start}mean": frame.loc[labels].mean(), f"{start}sd": frame.loc[labels].std(ddof=1)}
    return pd.concat([frame, pd.DataFrame(sums).T])


def optimizers(entries: Sequence[Entry]) -> list[str]:
    """The optimizers that the entries name, in order."""
    return list(dict.fromkeys(e.optimizer for e in entries if e.optimizer is not None))


def quantities(entries: Sequence[Entry]) -> dict[str, Quantity]:
    """The columns of the table by name: accuracies where there are classes, a share for every term of any entry."""
    present = {name for e in entries if e.explanation is not None for name in e.explanation.terms}
    terms = [name for name in MEANINGS if name in present] + sorted(present - set(MEANINGS))
    shares = {f"share_{name}": _share(name) for name in terms}
    return _STEPS | _LOSSES | (_ACCURACIES if _any_classes(entries) else {}) | _DISTANCES | shares | _SECONDS


def _any_classes(entries: Sequence[Entry]) -> bool:
    tasks = [task for e in entries if (task := _task(e)) is not None]
    return any(task.y_test is not None and Decision.of(task).classes for task in tasks)


def _task(entry: Entry) -> Task | None:
    return entry.explanation.task if entry.explanation is not None else None


def _loss(of: Run | Prediction | None, entry: Entry) -> float:
    task = _task(entry)
    return math.nan if of is None or of.test is None or task is None else task.test_loss(of.test.double())


def _accuracy(of: Run | Prediction | None, entry: Entry) -> float:
    task = _task(entry)
    return math.nan if of is None or of.test is None or task is None else task.accuracy(of.test)


def _mse_to_trained(prediction: Prediction | None, entry: Entry) -> float:
    one, other = (None if part is None else part.test for part in (prediction, entry.run))
    if one is None or other is None:
        return math.nan
    return float((one.double().cpu() - other.double().cpu()).square().mean())


def _steps(prediction: Prediction | None) -> float:
    return math.nan if prediction is None else float(torch.as_tensor(prediction.steps).reshape(-1)[-1])


def _estimate(prediction: Prediction | None) -> float:
    return math.nan if prediction is None else prediction.error**2


def _share(name: str) -> Quantity:
    def share(entry: Entry) -> float:
        return math.nan if entry.explanation is None else entry.explanation.shares().get(name, math.nan)

    return share


def _speedup(entry: Entry) -> float:
    if entry.run is None or entry.relinearized is None or entry.relinearized.seconds <= 0:
        return math.nan
    return entry.run.seconds / entry.relinearized.seconds


_STEPS: dict[str, Quantity] = {
    "learning_rate": lambda e: math.nan if e.linearized is None else e.linearized.learning_rate,
    "steps_trained": lambda e: math.nan if e.run is None else float(e.run.steps),
    "steps_predicted": lambda e: _steps(e.relinearized),
}
_LOSSES: dict[str, Quantity] = {
    "test_loss_trained": lambda e: _loss(e.run, e),
    "test_loss_linearized": lambda e: _loss(e.linearized, e),
    "test_loss_relinearized": lambda e: _loss(e.relinearized, e),
}
_ACCURACIES: dict[str, Quantity] = {
    "accuracy_trained": lambda e: _accuracy(e.run, e),
    "accuracy_linearized": lambda e: _accuracy(e.linearized, e),
    "accuracy_relinearized": lambda e: _accuracy(e.relinearized, e),
}
_DISTANCES: dict[str, Quantity] = {
    "mse_to_trained_linearized": lambda e: _mse_to_trained(e.linearized, e),
    "estimated_linearized": lambda e: _estimate(e.linearized),
    "mse_to_trained_relinearized": lambda e: _mse_to_trained(e.relinearized, e),
    "estimated_relinearized": lambda e: _estimate(e.relinearized),
}
_SECONDS: dict[str, Quantity] = {
    "seconds_predict": lambda e: math.nan if e.relinearized is None else e.relinearized.seconds,
    "seconds_train": lambda e: math.nan if e.run is None else e.run.seconds,
    "speedup": _speedup,
}
