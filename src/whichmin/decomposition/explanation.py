"""The result of :func:`whichmin.explain`: named terms that add up exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from whichmin.dynamics.prediction import Prediction
from whichmin.errors import ResultError
from whichmin.task import Task
from whichmin.training.run import Run

if TYPE_CHECKING:
    import os

    import pandas as pd
    from matplotlib.figure import Figure

#: What each term is, in a sentence: used by reports and tables.
MEANINGS: dict[str, str] = {
    "interpolant": "the minimum-complexity interpolator of the data: what any seed of this network shares",
    "initialization": "what the network was before training and training cannot see",
    "geometry": "the optimizer's last preconditioner in place of the identity: another way between the data",
    "history": "what a changing preconditioner leaves of the way taken, and so of the batches",
    "trajectory": "what the way of training did, as far as its end and the last preconditioner tell",
    "decay": "what weight decay took that the training outputs do not see",
    "unconverged": "what a finite number of steps left undone",
    "curvature": "the trained network minus its linearization where training ended",
    "drift": "how far the tangent features turned between the start and the end of training",
}


def ordered(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """In the order of ``MEANINGS``, which has all of them."""
    assert terms.keys() <= MEANINGS.keys()
    return {name: terms[name] for name in MEANINGS if name in terms}


@dataclass(frozen=True, eq=False)
class Explanation:
    """A network's test outputs as a sum of named terms.

    Attributes:
        terms: (N_test, C) each, in the order of ``MEANINGS``; ``total`` is their sum.
        task: the task.
        prediction: the linearized prediction the first terms come from.
        run: the real training, or None where a followed path took its place.
        relinearized: the followed path that took the place of training, or None.
    """

    terms: dict[str, Tensor]
    task: Task
    prediction: Prediction
    run: Run | None = None
    relinearized: Prediction | None = None

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
            One row per term: ``term``, ``mse`` (test mean square error of the sum of the terms up to this one) and
            ``change`` (its difference to the row before; the first row's is its own mse).

        Raises:
            ResultError: the task has no y_test.
        """
        import pandas as pd

        if self.task.y_test is None:
            raise ResultError("no test error without test targets: pass a Task with y_test.")
        target, partial, rows, before = self.task.y_test.double(), 0.0, [], 0.0
        for name, term in self.terms.items():
            partial = partial + term.double()
            mse = float((partial - target).square().mean())
            rows.append({"term": name, "mse": mse, "change": mse - before})
            before = mse
        return pd.DataFrame(rows)

    def to_frame(self) -> pd.DataFrame:
        """One row per test point and output: ``point``, ``output``, a column per term, ``total``, and ``target``."""
        import pandas as pd

        n, outputs = self.total.shape
        columns = {
            "point": torch.arange(n).repeat_interleave(outputs).numpy(),
            "output": torch.arange(outputs).repeat(n).numpy(),
        }
        for name, term in self.terms.items():
            columns[name] = term.reshape(-1).double().cpu().numpy()
        columns["total"] = self.total.reshape(-1).cpu().numpy()
        if self.task.y_test is not None:
            columns["target"] = self.task.y_test.reshape(-1).double().cpu().numpy()
        return pd.DataFrame(columns)

    def plot(self) -> Figure:
        """The waterfall of the test error and the terms per test point, a matplotlib figure."""
        from whichmin.report.plots import explanation_figure

        return explanation_figure(self)

    def report(self, path: str | os.PathLike[str], title: str | None = None) -> None:
        """Write one self-contained HTML file that opens offline."""
        from whichmin.report import Entry, write_report

        entry = Entry("run", linearized=self.prediction, relinearized=self.relinearized, run=self.run, explanation=self)
        write_report(path, [entry], title=title)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a folder: the terms, and the prediction and the run as folders within."""
        from whichmin.storage import save_folder

        task = {"X": self.task.X, "y": self.task.y, "X_test": self.task.X_test, "y_test": self.task.y_test}
        arrays = {f"term.{k}": v for k, v in self.terms.items()}
        arrays |= {f"task.{k}": v for k, v in task.items() if v is not None}
        parts = {"prediction": self.prediction, "run": self.run, "relinearized": self.relinearized}
        config = {
            "kind": "explanation",
            "terms": list(self.terms),
            "parts": [k for k, v in parts.items() if v is not None],
        }
        save_folder(path, config, arrays, parts={k: v.save for k, v in parts.items() if v is not None})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Explanation:
        """Read a folder that :meth:`save` wrote."""
        from pathlib import Path

        from whichmin.storage import load_folder

        config, arrays, _ = load_folder(path, "explanation")
        kinds = {"prediction": Prediction, "run": Run, "relinearized": Prediction}
        parts = {name: kinds[name].load(Path(path) / name) for name in config["parts"]}
        task = {k.removeprefix("task."): v for k, v in arrays.items() if k.startswith("task.")}
        return cls(terms={k: arrays[f"term.{k}"] for k in config["terms"]}, task=Task(**task), **parts)
